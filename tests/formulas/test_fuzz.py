"""Strings that no one should write: a formula or one sentence, never a crash, a hang or an escape."""

from __future__ import annotations

import contextlib
import random
import time

import pytest
from formula_trees import FORMULAS

from lossmith.formulas import FormulaError, canonical, derivative, evaluate, latex, parse, substitute
from lossmith.formulas.expression import ARITY
from lossmith.formulas.parser import MAX_DEPTH, MAX_NODES

SIGNS = "p y c n t d pi e x ( ) ( ) , , + - * / ** ^ = == . .. : ; [ ] { } < > ! @ # $ % & | ~ ` ' \" \\ _ __"
NUMBERS = "0 1 2.5 .5 5. 1e5 1e-5 1e999 1e-999 0x10 1_000 00 1e 1e+ 1.2.3 inf nan -inf 99999999999999999999999999"
WORDS = "import eval exec lambda __import__('os') p.__class__ open True None if else for in not and or"
FOREIGN = "½ ² ٣ ３ π ∞ − × ÷ ｐ рсу \u200b \ufeff \ud800 \x00 \x1b[31m é 𝑝"
PIECES = [
    *(piece for pieces in (SIGNS, NUMBERS, WORDS, FOREIGN) for piece in pieces.split()),
    *(" ", "\t", "\n", "\r", "\u00a0", "\u2028", "\v", "\f"),
    *ARITY,
    *(f"{op}(" for op in ARITY),
]
ALPHABET = "pycnt0123456789.eE+-*/(), \n^_xylogsin"


def fuzzed(rng: random.Random) -> str:
    """One string, of one of nine kinds."""
    kind = rng.randrange(18)
    if kind >= 16:
        return written(rng, rng.randint(1, 6))
    if kind < 6:
        return mutated(rng, rng.choice(FORMULAS))
    if kind < 9:
        return "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 25)))
    if kind < 11:
        return " ".join(rng.choice(PIECES) for _ in range(rng.randint(1, 12)))
    if kind < 13:
        return "".join(rng.choice(ALPHABET) for _ in range(rng.randint(0, 40)))
    if kind == 13:
        return "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randint(0, 12)))
    if kind == 14:
        return bytes(rng.randrange(256) for _ in range(rng.randint(0, 30))).decode("latin-1")
    return extreme(rng)


def written(rng: random.Random, depth: int) -> str:
    """A formula, most likely; now and then with one wrong piece."""
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(["p", "p", "y", "c", "n", "t", "2", "0.5", "1e-300", "1e300", rng.choice(PIECES)])
    kind = rng.randrange(4)
    if kind == 0:
        op = rng.choice(list(ARITY))
        return f"{op}({','.join(written(rng, depth - 1) for _ in range(ARITY[op]))})"
    if kind == 1:
        return f"({written(rng, depth - 1)})"
    if kind == 2:
        return f"-{written(rng, depth - 1)}"
    return written(rng, depth - 1) + rng.choice([" + ", "-", "*", "/", "**"]) + written(rng, depth - 1)


def mutated(rng: random.Random, text: str) -> str:
    for _ in range(rng.randint(1, 4)):
        at, to = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        action = rng.randrange(5)
        if action == 0:
            text = text[:at] + text[to:]
        elif action == 1:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif action == 2:
            text = text[:at] + text[at:to] * 2 + text[to:]
        elif action == 3 and text:
            at = min(at, len(text) - 1)
            text = text[:at] + rng.choice(ALPHABET) + text[at + 1 :]
        else:
            other = rng.choice(FORMULAS)
            text = text[:at] + other[rng.randint(0, len(other)) :]
    return text


def extreme(rng: random.Random) -> str:
    """Deep nests, long chains, huge numbers; most of them short, so that millions can be had."""
    size = rng.choice([30, 60, 190, 210]) if rng.random() < 0.98 else rng.choice([1_000, 3_000, 9_999, 20_000])
    opened, closed = rng.choice([
        ("(", ")"),
        ("exp(", ")"),
        ("-", ""),
        ("p**", ""),
        ("aq(p,", ")"),
        ("[", "]"),
        ("", "+p"),
    ])
    inner = rng.choice(["p", "", "1e308", "9" * size, "p" * size, "p," * size, "1." + "0" * size + "1"])
    return opened * size + inner + closed * rng.choice([size, size - 1, size + 1])


def check(text: str, rng: random.Random) -> bool:
    """Whether the text is a formula; if so, everything that can be done with one is, now and then."""
    try:
        tree = parse(text)
    except FormulaError as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 400, message
        message.encode()  # prints on any terminal
        return False
    assert tree.depth <= MAX_DEPTH
    assert tree.size <= MAX_NODES
    assert parse(str(tree)) == tree
    if rng.random() < 0.05:
        evaluate(tree, p=0.3, y=1.0, n=10, t=0.5)
        substitute(tree, y=0.0)
        latex(tree)
        for work in (canonical, lambda each: derivative(each, "p")):
            with contextlib.suppress(FormulaError):
                work(tree)
    return True


def fuzz(count: int, seed: int) -> int:
    """How many of so many strings were formulas; each took less than ten seconds of the processor."""
    rng = random.Random(seed)
    formulas = 0
    for _ in range(count):
        text = fuzzed(rng)
        began = time.process_time()
        try:
            formulas += check(text, rng)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error} for {text[:2000]!r}") from error
        assert time.process_time() - began < 10, text[:2000]
    return formulas


def test_no_string_does_harm() -> None:
    formulas = fuzz(20_000, seed=1)
    assert 2_000 < formulas < 18_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_no_string_of_millions_does_harm(seed: int) -> None:
    began = time.monotonic()
    formulas = fuzz(500_000, seed)
    print(f"500,000 strings, {formulas:,} of them formulas, in {time.monotonic() - began:.0f} s")
    assert formulas > 50_000
