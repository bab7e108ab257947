"""Every classification loss in every combination of its options, against the reference."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from loss_cases import CASES, IDS, C, Case, seeded
from reference import Result, Table, evaluate, tabulate
from torch import Tensor

import lossmith

SAMPLES = 12
SHAPES = ((12, C), (3, C, 4), (2, C, 3, 2))
KINDS = ("index", "one_hot", "soft", "binary")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
WEIGHT = [1.5, 0.0, 0.5, 2.0]
SAMPLE_WEIGHT = [0.5, 1.0, 2.0, 0.0, 1.25, 3.0, 0.75, 1.0, 0.25, 1.0, 4.0, 1.5]
LABELS = [0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 0]
# Relative and absolute, of the value and of the gradient: half precision is computed in float32, and its gradient
# rounded to the logits' dtype; absolute, because a slope of p^2 at p = 1e-9 is lost in 1 - (1 - p^2).
TOLERANCE = {
    torch.float64: ((1e-11, 1e-13), (1e-11, 1e-13)),
    torch.float32: ((3e-5, 1e-6), (1e-4, 1e-5)),
    torch.bfloat16: ((3e-5, 1e-6), (1e-2, 1e-5)),
    torch.float16: ((3e-5, 1e-6), (2e-3, 1e-5)),
}


class Options(NamedTuple):
    """One point of the grid; `sample_weight` is of the samples' full shape or one per row of the batch."""

    target: str
    shape: tuple[int, ...]
    reduction: str
    weight: bool
    sample_weight: str
    ignore_index: int
    label_smoothing: float


MULTICLASS = {"ngl", "logit_adjusted"}
TWICE = {"m_full", "l_full", "brier"}  # the binary form is one class's part, softmax over no and yes counts both


class Exclusion(NamedTuple):
    """What a loss cannot honour: it must say so in a sentence that names the argument."""

    reason: str
    applies: Callable[[Case, Options], bool]
    names: str


EXCLUSIONS = (
    Exclusion(
        "floating targets have no index to ignore, as in torch",
        lambda case, options: options.target not in {"index", "binary"} and options.ignore_index >= 0,
        "ignore_index",
    ),
    Exclusion(
        "ngl needs softmax's competition, logit adjustment class counts, a tempered softmax classes",
        lambda case, options: (
            options.target == "binary" and (case.name in MULTICLASS or case.arguments.get("t2", 1) != 1)
        ),
        "task",
    ),
    Exclusion(
        "a binary task has no classes to weigh or to ignore",
        lambda case, options: options.target == "binary" and (options.weight or options.ignore_index >= 0),
        "weight|ignore_index",
    ),
    Exclusion(
        "one kappa per class needs classes",
        lambda case, options: options.target == "binary" and isinstance(case.arguments.get("kappa"), list),
        "kappa",
    ),
    Exclusion(
        "an order of four classes is none of two",
        lambda case, options: options.target == "binary" and case.schedule is not None and "order" in case.schedule,
        "order names 4 classes",
    ),
    Exclusion(
        "label_smoothing is that loss's own epsilon",
        lambda case, options: case.name == "label_smoothing" and options.label_smoothing != 0,
        "label_smoothing",
    ),
)


def grid(target: str) -> Iterator[Options]:
    ignored = (-100, 2) if target == "index" else (-100, 0)
    for shape, reduction, weight, sample_weight, ignore_index, label_smoothing in itertools.product(
        SHAPES, ("mean", "sum", "none"), (False, True), ("", "full", "rows"), ignored, (0.0, 0.3)
    ):
        if sample_weight == "rows" and len(shape) != 3:
            continue  # one shape shows it
        yield Options(target, shape, reduction, weight, sample_weight, ignore_index, label_smoothing)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_every_loss_equals_the_reference(
    case: Case, target: str, dtype: torch.dtype, record_property: Callable[[str, int], None]
) -> None:
    compared, excluded, wrong = 0, 0, list[str]()
    for options in grid(target):
        exclusion = next((row for row in EXCLUSIONS if row.applies(case, options)), None)
        if exclusion is not None:
            with pytest.raises(ValueError, match=exclusion.names):
                _call(case, options, dtype)
            excluded += 1
            continue
        problem = _difference(
            _call(case, options, dtype), _expected(CASES.index(case), options, dtype == torch.float16), dtype
        )
        compared += 1
        if problem:
            wrong.append(f"{options}: {problem}")
    record_property("cases", compared)
    record_property("excluded", excluded)
    assert not wrong, f"{len(wrong)} of {compared} differ:\n" + "\n".join(wrong[:4])


def test_the_grid_has_thousands_of_cases_and_no_idle_exclusion() -> None:
    points = [(case, options) for case in CASES for target in KINDS for options in grid(target)]
    left = [point for point in points if not any(row.applies(*point) for row in EXCLUSIONS)]
    print(f"{len(DTYPES) * len(left)} cases run, {len(DTYPES) * (len(points) - len(left))} excluded")
    assert len(DTYPES) * len(left) > 5000
    assert all(any(row.applies(*point) for point in points) for row in EXCLUSIONS)


def test_the_grid_holds_every_classification_loss() -> None:
    tested = {case.name for case in CASES} | {"dynamical" for case in CASES if case.schedule is not None}
    # A formula's parts are tested against the losses it can spell.
    assert tested | {"formula"} == {info.name for info in lossmith.available("classification")}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_result_is_float32_for_half_precision_and_else_of_the_logits_dtype(case: Case, dtype: torch.dtype) -> None:
    expected = torch.float32 if dtype in {torch.float16, torch.bfloat16} else dtype
    for target, weight, smoothed in itertools.product(("index", "soft"), (False, True), (False, True)):
        smoothing = 0.1 if smoothed and case.name != "label_smoothing" else 0.0
        value, _ = _call(case, Options(target, (12, C), "none", weight, "full", -100, smoothing), dtype)
        assert value.dtype == expected


# --- the library's side ----------------------------------------------------------------------------------------------


def _call(case: Case, options: Options, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """The value and its gradient; that of "none" would be that of "sum" again, bfloat16's is float32's rounded."""
    loss = _made(CASES.index(case), *options._replace(shape=(), sample_weight=""))
    logits = _input(options.shape, dtype).detach().requires_grad_()
    target, sample_weight = _target(options.target, options.shape, options.ignore_index, dtype), None
    if options.sample_weight:
        sample_weight = _weights(options.target, options.shape, options.sample_weight)
    value = loss(logits, target, sample_weight=sample_weight)
    if options.reduction == "none" or dtype == torch.bfloat16:
        return value.detach(), None
    return value.detach(), torch.autograd.grad(value, logits)[0]


@functools.lru_cache(maxsize=256)
def _made(
    index: int, target: str, _: object, reduction: str, weight: bool, __: object, ignore_index: int, smoothing: float
) -> Callable[..., Tensor]:
    common: dict[str, Any] = {"reduction": reduction, "ignore_index": ignore_index}
    if weight:
        common["weight"] = WEIGHT
    if smoothing:
        common["label_smoothing"] = smoothing
    if target == "binary":
        common["task"] = "binary"
    return CASES[index].make(**common)


@functools.cache
def _input(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return _batch(torch.tensor(_logits(), dtype=dtype), shape)


@functools.cache
def _target(kind: str, shape: tuple[int, ...], ignore_index: int, dtype: torch.dtype) -> Tensor:
    if kind == "index":
        return torch.tensor(_labels(ignore_index)).view(shape[:1] + shape[2:])
    return _batch(torch.tensor(_probabilities(kind), dtype=dtype), shape)


@functools.cache
def _weights(target: str, shape: tuple[int, ...], kind: str) -> Tensor:
    """One weight per sample; "rows": one per row of the batch, for all its samples."""
    if kind == "rows":
        return torch.tensor(SAMPLE_WEIGHT[:: SAMPLES // shape[0]])
    weights = torch.tensor(_sample_weight(target, shape, kind))
    return _batch(weights.view(SAMPLES, C), shape) if target == "binary" else weights.view(shape[:1] + shape[2:])


def _sample_weight(target: str, shape: tuple[int, ...], kind: str) -> list[float]:
    """The same in a list; of a binary task every logit is a sample."""
    per_row = SAMPLES // shape[0]
    of_rows = [SAMPLE_WEIGHT[n // per_row * per_row if kind == "rows" else n] for n in range(SAMPLES)]
    if target != "binary":
        return of_rows
    return [
        of_rows[n] if kind == "rows" else SAMPLE_WEIGHT[(n + 5 * k) % SAMPLES] for n in range(SAMPLES) for k in range(C)
    ]


def _batch(samples: Tensor, shape: tuple[int, ...]) -> Tensor:
    """12 rows of C numbers in the shape (N, C, ...)."""
    return samples.view(shape[0], *shape[2:], C).movedim(-1, 1).contiguous()


@functools.cache
def _logits() -> list[list[float]]:
    """Multiples of 1/16, the same numbers in all dtypes; the last samples lie where exploding losses go on linearly."""
    drawn = torch.randn(SAMPLES, C, generator=seeded(3), dtype=torch.float64)
    logits = (drawn * 24).round().clamp(-48, 48) / 16
    logits[-3:] = torch.tensor([[0.5, -11.5, 1.0, 0.0], [12.5, 11.5, -13.0, 3.0], [-25.0, 4.0, -2.0, 4.5]])
    return logits.tolist()


@functools.cache
def _probabilities(kind: str) -> list[list[float]]:
    if kind == "one_hot":
        return [[float(k == label) for k in range(C)] for label in LABELS]
    cuts = torch.randint(0, 17, (SAMPLES, C - 1), generator=seeded(5)).sort(1).values
    edges = torch.cat([torch.zeros(SAMPLES, 1), cuts, torch.full((SAMPLES, 1), 16.0)], 1)
    return (edges.diff(dim=1) / 16).tolist()


def _labels(ignore_index: int) -> list[int]:
    """With the default ignore_index every fifth sample is ignored; else those that carry that label."""
    return [ignore_index if n % 5 == 4 and ignore_index < 0 else y for n, y in enumerate(LABELS)]


# --- the reference's side --------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4)
def _table(index: int, half: bool, binary: bool) -> Table:
    """Of a binary task every logit z makes two classes, with logits 0 and z."""
    rows = [[0.0, z] for row in _logits() for z in row] if binary else _logits()
    return tabulate(CASES[index].formula(len(rows[0]), 8 if half else 20), rows)


@functools.lru_cache(maxsize=512)
def _reference(index: int, half: bool, options: Options, sample_weight: tuple[float, ...] | None) -> Result:
    case, binary = CASES[index], options.target == "binary"
    target = _labels(options.ignore_index) if options.target == "index" else _probabilities(options.target)
    if binary:
        target = [[1 - y, y] for row in target for y in row]
    return evaluate(
        _table(index, half, binary),
        target,
        weight=WEIGHT if options.weight else None,
        sample_weight=sample_weight,
        ignore_index=options.ignore_index,
        label_smoothing=options.label_smoothing,
        reduction=options.reduction,
        class_scale=case.class_scale(2 if binary else C),
    )


@functools.lru_cache(maxsize=512)
def _expected(index: int, options: Options, half: bool) -> tuple[Tensor, Tensor]:
    shape = options.shape
    weights = tuple(_sample_weight(options.target, shape, options.sample_weight)) if options.sample_weight else None
    result = _reference(index, half, options._replace(shape=(), sample_weight=""), weights)
    value = torch.tensor(result.value, dtype=torch.float64)
    gradient = torch.tensor(result.gradient, dtype=torch.float64)
    if options.target == "binary":
        factor = 0.5 if CASES[index].name in TWICE else 1.0
        value = factor * (_batch(value.view(SAMPLES, C), shape) if options.reduction == "none" else value)
        return value, factor * _batch(gradient[:, 1].view(SAMPLES, C), shape)
    return value.view(shape[:1] + shape[2:]) if options.reduction == "none" else value, _batch(gradient, shape)


def _difference(found: tuple[Tensor, Tensor | None], expected: tuple[Tensor, Tensor], dtype: torch.dtype) -> str:
    for what, a, b, (relative, absolute) in zip(("value", "gradient"), found, expected, TOLERANCE[dtype], strict=True):
        if a is None:
            continue
        if a.shape != b.shape:
            return f"{what} has shape {tuple(a.shape)}, not {tuple(b.shape)}"
        # Against each number's own size, and for a gradient against the largest of its sample, whose parts add up to 0.
        scale = b.abs() if what == "value" else b.abs().amax(1, keepdim=True)
        excess = (a.double() - b).abs() - (relative * scale + absolute)
        if not bool((excess <= 0).all()):
            worst = int(excess.nan_to_num(nan=float("inf")).argmax())
            return f"{what} {a.flatten()[worst].item()!r}, reference {b.flatten()[worst].item()!r}"
    return ""
