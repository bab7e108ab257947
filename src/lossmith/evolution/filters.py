"""Filters: which formulas are worth a training."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np

from lossmith.evolution.descent import CLASSES, Array, Grid, learns
from lossmith.evolution.grammar import Grammar
from lossmith.formulas import Expression, apply
from lossmith.formulas.arithmetic import folded
from lossmith.formulas.forward import Memo, dual
from lossmith.formulas.identity import Identifier

FILTERS: Final = (
    "too large",
    "duplicate",
    "ignores p or y",
    "not finite",
    "wrong way",
    "same gradient",
    "does not learn",
)
"""The names of the filters, in the order in which they are applied."""

STAGES: Final = ("canonical form", "grid", "signature", "descent")
"""What the filters compute, for `Screen.seconds`."""

_GRID: Final = Grid(-20.0, 12.0, 129)
_COUNTS: Final = (2, 10, 100)  # of classes, besides those of the data
_TIMES: Final = (0.0, 0.5, 1.0)
_FLAT: Final = 1e-9  # a pull to the target below this share of the slopes is rounding
_SIGNATURE: Final = {2: 8, 5: 8, 10: 8}  # classes: samples
_SPREAD: Final = 2.0  # of the logits of the signature
_DIGITS: Final = 1000.0
_OFFSET: Final = 0.137  # keeps components that are 0 or 1/2 by symmetry away from where rounding changes
_SEED: Final = 20241112
_MOST_KEPT: Final = 4_000  # results of subexpressions; the memory of a search stays bounded


class Sifted(NamedTuple):
    """What the filters found about a candidate.

    Attributes:
        expression: the candidate, with its sign flipped where that was needed.
        digest: its `lossmith.formulas.digest`; empty if it is too large.
        rejected: the name of the filter that rejected it; ``None`` if it passed all.
        flipped: whether the sign was flipped.
        strictness: the pull on the target's logit at the uniform prediction, relative to that of cross-entropy; with t,
            at the beginning of training. NaN if an earlier filter rejected the candidate.
    """

    expression: Expression
    digest: str
    rejected: str | None = None
    flipped: bool = False
    strictness: float = math.nan


class Screen:
    """Filters candidates, and remembers all it has seen.

    A candidate is rejected as

    * *too large*: beyond the limits of the grammar, or without a canonical form;
    * *duplicate*: its canonical form was seen before;
    * *ignores p or y*: its canonical form lacks p (and c) or y;
    * *not finite*: its value or slope is infinite or NaN for some p between 2e-9 and 1 - 6e-6, y in {0, 1} and 2, 10,
      100 or ``classes`` classes;
    * *wrong way*: at the uniform prediction of one of these numbers of classes, a step against the gradient does not
      raise the target's probability. If it lowers it for all of them, the sign is flipped first. A formula with t must
      raise it at t = 0, and must not lower it at t = .5 and t = 1;
    * *same gradient*: the gradient at fixed logits was seen before, up to a factor and to three digits;
    * *does not learn*: Adam on free logits (`lossmith.evolution.descent.learns`, with ``classes`` classes, 10 at most)
      stays below an accuracy of .9.

    No filter asks where the minimum lies: that of NGL is not one-hot.

    Args:
        classes: the number of classes of the data.
        grammar: the limits, and whether there is t.

    Attributes:
        counts: how many candidates each filter rejected, how many passed (``"passed"``), and how many of these with
            their sign flipped (``"rescued"``).
        seen: how many candidates there were.
        seconds: the processor time that each of `STAGES` took.
    """

    def __init__(self, classes: int, grammar: Grammar) -> None:
        self.grammar, self._classes = grammar, min(classes, CLASSES)
        self.counts = dict.fromkeys((*FILTERS, "passed", "rescued"), 0)
        self.seen = 0
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._identifier = Identifier()
        self._digests: set[str] = set()
        self._trees: dict[Expression, str] = {}
        self._signatures: set[bytes] = set()
        times = np.array(_TIMES if grammar.has_time else (1.0,))
        self._grid = _Grid(sorted({*_COUNTS, classes}), classes, times)
        self._signature = _Signature(times)

    def sift(self, candidates: Sequence[Expression]) -> list[Sifted]:
        """Filter a batch of candidates.

        Args:
            candidates: formulas. Of two that are duplicates the first one stays.

        Returns:
            One `Sifted` per candidate, in the same order.
        """
        results: list[Sifted] = []
        tables: dict[int, Array] = {}
        with np.errstate(all="ignore"), _without_collector():
            for candidate in candidates:
                sifted, table = self._examine(candidate)
                if table is not None:
                    tables[len(results)] = table
                results.append(sifted)
        if tables:
            with self._timed("descent"):
                learned = learns(np.stack(list(tables.values())), _GRID, self._classes)
            for place, good in zip(tables, learned, strict=True):
                if not good:
                    results[place] = results[place]._replace(rejected="does not learn")
        self.seen += len(results)
        for each in results:
            self.counts[each.rejected or "passed"] += 1
            self.counts["rescued"] += each.flipped and each.rejected is None
        return results

    def _examine(self, candidate: Expression) -> tuple[Sifted, Array | None]:
        """All filters but the last one, which needs the slopes that are returned."""
        sifted = self._identify(candidate)
        if sifted.rejected:
            return sifted, None
        with self._timed("grid"):
            slopes = self._grid.slopes(candidate)
        if slopes is None:
            return sifted._replace(rejected="not finite"), None
        pull, strictness, table = self._grid.read(slopes)
        if pull < 0:
            flipped = self._identify(flip(candidate))
            if flipped.rejected:
                return flipped._replace(flipped=True), None
            sifted, strictness, table = flipped._replace(flipped=True), -strictness, -table
        if pull == 0:
            return sifted._replace(rejected="wrong way"), None
        sifted = sifted._replace(strictness=strictness)
        with self._timed("signature"):
            signature = self._signature.of(sifted.expression)
        if signature is None:
            return sifted._replace(rejected="not finite"), None
        if signature in self._signatures:
            return sifted._replace(rejected="same gradient"), None
        self._signatures.add(signature)
        return sifted, table / strictness

    def _identify(self, candidate: Expression) -> Sifted:
        """The filters that look at the formula alone."""
        if candidate in self._trees:
            return Sifted(candidate, self._trees[candidate], "duplicate")
        if not self.grammar.holds(candidate):
            return Sifted(candidate, "", "too large")
        try:
            with self._timed("canonical form"):
                form = self._identifier.canonical(candidate)
                digest = self._identifier.hash_of(form)
        except (ValueError, ArithmeticError):  # a `FormulaError`, or a number that cannot be computed with
            return Sifted(candidate, "", "too large")
        self._trees[candidate] = digest
        if digest in self._digests:
            return Sifted(candidate, digest, "duplicate")
        self._digests.add(digest)
        if not (form.depends_on("p", "c", "d") and form.depends_on("y")):
            return Sifted(candidate, digest, "ignores p or y")
        return Sifted(candidate, digest)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.thread_time()
        yield
        self.seconds[stage] += time.thread_time() - began


@contextmanager
def _without_collector() -> Iterator[None]:
    """Pause the search for reference cycles, a third of the time; the filters make many objects, and no cycle."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def flip(expression: Expression) -> Expression:
    """The formula with its sign changed, as short as it can be."""
    if expression.op == "sub":
        return apply("sub", *reversed(expression.args))
    return folded("neg", expression)


class _Grid:
    """Slopes of formulas at a grid of p, and at the uniform prediction of each number of classes."""

    def __init__(self, counts: Sequence[int], classes: int, times: Array) -> None:
        self._n = np.array(counts, dtype=float)[:, None]
        self._u = np.concatenate([_GRID.points, -np.log(self._n[:, 0] - 1)])
        self._y = np.array([0.0, 1.0])[:, None, None]
        self._t = times[:, None, None, None]
        self._own, self._free = counts.index(classes), counts.index(min(classes, CLASSES))
        self._memo: Memo = {}

    def slopes(self, expression: Expression) -> Array | None:
        """The slopes, of shape (times, 2, numbers of classes, points); ``None`` if something is not finite."""
        if len(self._memo) > _MOST_KEPT:
            self._memo = {}
        value, slope = dual(expression, self._u, self._y, self._n, self._t, self._memo)
        if slope is None:
            slope = np.zeros(())
        if not (np.isfinite(value).all() and np.isfinite(slope).all()):
            return None
        return np.broadcast_to(slope, (len(self._t), 2, len(self._n), len(self._u)))

    def read(self, slopes: Array) -> tuple[int, float, Array]:
        """The direction in which a formula pulls, its strictness, and its table for the descent.

        The direction is 1 to the target, -1 away from it, and 0 if it depends on the number of classes or the time.
        """
        place = np.arange(len(self._n))
        others, target = np.moveaxis(slopes[:, :, place, _GRID.size + place], 1, 0)
        pull = others - target
        pull = np.where(np.abs(pull) > _FLAT * (np.abs(others) + np.abs(target)), pull, 0.0)
        direction = next((sign for sign in (1, -1) if (sign * pull[0] > 0).all() and (sign * pull >= 0).all()), 0)
        return direction, float(pull[0, self._own]), slopes[:, :, self._free, : _GRID.size]


class _Signature:
    """The gradient of formulas at fixed logits."""

    def __init__(self, times: Array) -> None:
        rng = np.random.default_rng(_SEED)
        logits = [_SPREAD * rng.standard_normal((samples, classes)) for classes, samples in _SIGNATURE.items()]
        self._p = [_softmax(each) for each in logits]
        self._u = np.concatenate([(np.log(p) - np.log1p(-p)).ravel() for p in self._p])
        self._y = np.concatenate([(np.arange(p.size) % p.shape[1] == 0).astype(float) for p in self._p])
        self._n = np.concatenate([np.full(p.size, float(p.shape[1])) for p in self._p])
        self._t = times[:, None]
        self._memo: Memo = {}

    def of(self, expression: Expression) -> bytes | None:
        """The gradient for each number of classes divided by its norm, rounded to three digits.

        ``None`` if it is not finite or zero.
        """
        if len(self._memo) > _MOST_KEPT:
            self._memo = {}
        _, slope = dual(expression, self._u, self._y, self._n, self._t, self._memo)
        slopes = np.broadcast_to(0.0 if slope is None else slope, (len(self._t), len(self._u)))
        parts = []
        start = 0
        for p in self._p:
            h = slopes[:, start : start + p.size].reshape(-1, *p.shape)
            gradient = h - p * h.sum(axis=-1, keepdims=True)
            norm = math.sqrt(float((gradient * gradient).sum()))
            if not (0.0 < norm < math.inf):
                return None
            parts.append((gradient / norm).ravel())
            start += p.size
        return np.floor(np.concatenate(parts) * _DIGITS + _OFFSET).astype(np.int16).tobytes()


def _softmax(logits: Array) -> Array:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result
