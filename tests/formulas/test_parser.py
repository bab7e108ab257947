"""Text to formulas and back; what is refused, and in which words."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
from formula_trees import ANY_NUMBER, FORMULAS, trees
from hypothesis import given, settings

from lossmith.formulas import Expression, FormulaError, apply, constant, evaluate, parse, terminal

P, Y = terminal("p"), terminal("y")


@settings(deadline=None, max_examples=400)
@given(trees(ANY_NUMBER))
def test_what_is_printed_reads_back(tree: Expression) -> None:
    assert parse(str(tree)) == tree
    assert hash(parse(str(tree))) == hash(tree)


@pytest.mark.parametrize(
    "text, tree",
    [
        ("p - y - 1", (P - Y) - 1),
        ("p - (y - 1)", P - (Y - 1)),
        ("p/y/2", (P / Y) / 2),
        ("p/y*2", (P / Y) * 2),
        ("p**y**2", P ** (Y**2)),
        ("-p**2", -(P**2)),
        ("-2**p", -(2**P)),
        ("(-2)**p", (-2) ** P),
        ("2**-p", 2 ** (-P)),
        ("-p*y", (-P) * Y),
        ("p - -3", P - (-3)),
        ("--p", apply("neg", -P)),
        ("+p", P),
        ("-(2)", -constant(2)),
        ("-2", constant(-2)),
        (" 1.5e1\t*\n.5 ", constant(15) * 0.5),
        ("pi", constant(math.pi)),
        ("max(p, min(y, 2))", apply("max", P, apply("min", Y, constant(2)))),
        ("pow(p, 2)", P**2),
        ("((((p))))", P),
    ],
)
def test_reads_as_python_does(text: str, tree: Expression) -> None:
    assert parse(text) == tree


def test_differently_written_trees_differ() -> None:
    assert parse("p + y") != parse("y + p")
    assert parse("(p + y) + 1") != parse("p + (y + 1)")
    assert parse("-(2)") != parse("-2")


@pytest.mark.parametrize("text", FORMULAS)
def test_values_are_those_of_python(text: str) -> None:
    """Python's own arithmetic as the oracle."""
    names = {name: getattr(math, name) for name in ("exp", "log", "expm1", "log1p", "sin", "cos", "tanh", "sqrt", "pi")}
    names |= {
        "abs": abs,
        "min": min,
        "max": max,
        "square": lambda a: a * a,
        "sigmoid": lambda a: 1 / (1 + math.exp(-a)),
        "softplus": lambda a: math.log(1 + math.exp(a)),
        "sign": lambda a: (a > 0) - (a < 0),
        "aq": lambda a, b: a / math.sqrt(1 + b * b),
        "plog": lambda a: math.log(abs(a) + 1e-7),
        "psqrt": lambda a: math.sqrt(abs(a) + 1e-7),
        "neg": lambda a: -a,
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a / b,
        "pow": pow,
    }
    for p in (0.01, 0.25, 0.5, 0.93):
        for y in (0.0, 1.0):
            values = {"p": p, "y": y, "c": -math.log(p), "n": 10.0, "t": 0.3}
            expected = eval(text, names | values)
            assert evaluate(parse(text), **values).item() == pytest.approx(expected, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize(
    "text, position, words",
    [
        ("", 1, "operand is missing"),
        ("p +", 4, "operand is missing"),
        ("p + * y", 5, "operand is missing before '*'"),
        ("2p", 2, "operator is missing before 'p'"),
        ("p y", 3, "operator is missing before 'y'"),
        ("(p + y", 1, "never closed"),
        ("p + y)", 6, "no opening bracket"),
        ("exp(p, y)", 1, "exp takes one operand, not 2"),
        ("1 + max(p)", 5, "max takes 2 operands, not 1"),
        ("exp()", 5, "operand is missing before ')'"),
        ("exp + 1", 1, "exp needs its operands in brackets"),
        ("p(1)", 1, "unknown function 'p'"),
        ("sigmod(p)", 1, "did you mean 'sigmoid'?"),
        ("p + q", 5, "unknown name 'q'"),
        ("__import__", 1, "unknown name '__import__'"),
        ("p^2", 2, "write ** for powers"),
        ("p, y", 2, "comma"),
        ("(p, y)", 3, "comma"),
        ("1e999", 1, "too large"),
        ("p + ½", 5, "'½'"),
        ("p + ٣", 5, "'٣'"),
        ("p\u00a0+ 1", 2, "'\\xa0'"),
        ("p\x00", 2, "'\\x00'"),
        ("p.real", 2, "'.'"),
        ("p if y else 1", 3, "operator is missing before 'if'"),
        ("d", 1, "unknown name 'd'"),
    ],
)
def test_errors_say_what_and_where(text: str, position: int, words: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(text)
    message = str(caught.value)
    assert words in message
    assert f"position {position}" in message
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize(
    "text, message",
    [
        ("p^2", "unexpected character '^' at position 2: write ** for powers"),
        ("p$2", "unexpected character '$' at position 2"),
        ("1 + Logarithm(p)", "unknown function 'Logarithm' at position 5: did you mean 'log'?"),
        ("sigmod", "unknown name 'sigmod' at position 1: did you mean 'sigmoid'?"),
        ("1 + PI", "unknown name 'PI' at position 5: did you mean 'pi'?"),
        (f"p*1{'0' * 399}", f"the number 1{'0' * 26}... is too large at position 3"),
        (f"p*1e{'9' * 28}", f"the number 1e{'9' * 28} is too large at position 3"),
        (f"p*1e{'9' * 29}", f"the number 1e{'9' * 25}... is too large at position 3"),
    ],
)
def test_errors_suggest_what_is_near_and_stay_short(text: str, message: str) -> None:
    """What is quoted keeps to 30 characters."""
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert str(caught.value) == message


def balanced(leaves: int) -> str:
    """A sum of so many p, nested as little as can be; brackets where the left part would take them all."""
    if leaves == 1:
        return "p"
    return f"({balanced(leaves // 2)}+{balanced(leaves - leaves // 2)})"


TOO_MANY = "the formula has more than 2000 nodes, exceeded at position"


@pytest.mark.parametrize(
    "text, message",
    [
        ("p" + " " * 9_999, ""),
        ("p" + " " * 10_000, "the formula is 10001 characters long, more than 10000"),
        ("-" + balanced(1_000), ""),
        ("--" + balanced(1_000), f"{TOO_MANY} 1"),
        ("p*" + balanced(1_000), f"{TOO_MANY} 2"),
        *(("-" + balanced(1_000) + f"+{leaf}", f"{TOO_MANY} 4000") for leaf in ("1", "-1", "p", "pi")),
        ("exp(" * 199 + "p" + ")" * 199, ""),
        ("exp(" * 200 + "p" + ")" * 200, "the formula is nested more than 200 levels deep at position 1"),
        ("p**" * 199 + "p", ""),
        ("p**" * 200 + "p", "the formula is nested more than 200 levels deep at position 2"),
        ("-" * 199 + "p", ""),
        ("-" * 300 + "p", "the formula is nested more than 200 levels deep at position 101"),
        ("+".join(["p"] * 2_000), "the formula is nested more than 200 levels deep at position 400"),
    ],
)
def test_limits(text: str, message: str) -> None:
    """What is within them is read, what is one beyond is refused."""
    if not message:
        assert parse(text).size <= 2_000
        return
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_the_largest_formula_has_2000_nodes() -> None:
    assert parse("-" + balanced(1_000)).size == 2_000


def test_brackets_alone_are_no_depth() -> None:
    assert parse("(" * 4_000 + "p" + ")" * 4_000) == P


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_constants_are_finite(value: float) -> None:
    with pytest.raises(FormulaError, match="finite"):
        constant(value)


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(FormulaError, match="no terminal 'x'"):
        terminal("x")
    with pytest.raises(FormulaError, match="no operator 'eval'"):
        apply("eval", P)
    with pytest.raises(FormulaError, match="exp takes 1 operand, not 2"):
        apply("exp", P, P)
    with pytest.raises(FormulaError, match="not int"):
        parse(3)  # type: ignore[arg-type]


def test_immutable_hashable_copied_and_pickled() -> None:
    tree = parse(FORMULAS[0])
    with pytest.raises(AttributeError):
        tree.op = "add"  # type: ignore[misc]
    assert copy.deepcopy(tree) is tree
    assert pickle.loads(pickle.dumps(tree)) == tree
    assert {tree: 1}[parse(str(tree))] == 1
    assert (tree.size, tree.depth, tree.terminals) == (13, 6, {"p", "y"})


def test_shared_parts_cost_nothing() -> None:
    """A tree of 2**61 nodes that are 61 objects: comparing, hashing and evaluating walk the objects."""
    a, b = P, terminal("p")
    for _ in range(60):
        a, b = apply("mul", a, a), apply("mul", b, b)
    assert a.size == 2**61 - 1
    assert a == b
    assert evaluate(a, p=1.0).item() == 1
