"""The text form of losses: what is read, what is printed, what is refused."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lossmith
from lossmith.catalog import canonical
from lossmith.losses.text import TUNE, LossText, LossTextError, Value, parse_loss, split_losses

# --- round trips -----------------------------------------------------------------------------------------------------

CONSTANTS = {"inf", "true", "false", "none", "nan", "infinity"}
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,12}", fullmatch=True).filter(lambda w: w.lower() not in CONSTANTS)
scalars = st.one_of(
    st.floats(allow_nan=False),
    st.integers(-(10**18), 10**18).map(float),
    st.booleans(),
    st.none(),
    st.just(TUNE),
    words,
)
values = st.recursive(scalars, lambda inner: st.lists(inner, min_size=1, max_size=4).map(tuple), max_leaves=6)


def _loss(inner: st.SearchStrategy[str | None]) -> st.SearchStrategy[LossText]:
    arguments = st.dictionaries(names, values, max_size=4).map(lambda given: tuple(sorted(given.items())))
    return st.builds(LossText, names, inner, arguments)


loss_texts = st.recursive(_loss(st.none()), lambda deeper: _loss(deeper.map(str)), max_leaves=4)


def same(a: Value, b: Value) -> bool:
    """Equal, and of one type: 1 is not true."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@settings(deadline=None)
@given(loss_texts)
def test_what_is_printed_reads_back(loss: LossText) -> None:
    found = parse_loss(str(loss))
    assert (found.name, found.inner) == (loss.name, loss.inner)
    assert [name for name, _ in found.arguments] == [name for name, _ in loss.arguments]
    assert all(same(a, b) for (_, a), (_, b) in zip(found.arguments, loss.arguments, strict=True))
    assert str(found) == str(loss)


@settings(deadline=None)
@given(st.lists(loss_texts.map(str), min_size=1, max_size=5))
def test_a_list_splits_into_what_was_joined(texts: list[str]) -> None:
    assert split_losses(",".join(texts)) == texts
    assert split_losses("  " + " , ".join(texts) + " ") == texts


@pytest.mark.parametrize(
    "text, pieces",
    [
        ("rooted:k=3", ["rooted:k=3"]),
        ("cross_entropy,ngl", ["cross_entropy", "ngl"]),
        ("symmetric:alpha=0.1,beta=1,A=-4,ngl", ["symmetric:alpha=0.1,beta=1,A=-4", "ngl"]),
        ("a:x=[1,2],b", ["a:x=[1,2]", "b"]),
        ("dynamical(symmetric:alpha=1,beta=2):amplitude=20,period=5,m", None),
        ("formula(exp(-p*(1+y)), p),m", ["formula(exp(-p*(1+y)), p)", "m"]),
        ("a, b = 1 ,c", ["a, b = 1", "c"]),
        ("@runs/best.json,m", ["@runs/best.json", "m"]),
    ],
)
def test_splitting(text: str, pieces: list[str] | None) -> None:
    expected = pieces or ["dynamical(symmetric:alpha=1,beta=2):amplitude=20,period=5", "m"]
    assert split_losses(text) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("rooted", LossText("rooted")),
        ("  rooted : k = 3 , form = convex ", LossText("rooted", None, (("form", "convex"), ("k", 3.0)))),
        ("x:a=inf,b=-inf,c=INF", LossText("x", None, (("a", math.inf), ("b", -math.inf), ("c", math.inf)))),
        ("x:a=true,b=False,c=none", LossText("x", None, (("a", True), ("b", False), ("c", None)))),
        ("x:a=1e-3,b=-.5,c=+2", LossText("x", None, (("a", 1e-3), ("b", -0.5), ("c", 2.0)))),
        ("x:a=?", LossText("x", None, (("a", TUNE),))),
        ("x:a=[1, [2,3], w]", LossText("x", None, (("a", (1.0, (2.0, 3.0), "w")),))),
        ("dynamical( rooted:k=3 ):period=5", LossText("dynamical", "rooted:k=3", (("period", 5.0),))),
        ("formula(a(b)[c] + d)", LossText("formula", "a(b)[c] + d")),
        ("@a/b c,d.json", LossText("@a/b c,d.json")),
    ],
)
def test_reading(text: str, expected: LossText) -> None:
    assert parse_loss(text) == expected


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        ":k=3",
        "3",
        "-x",
        "rooted:",
        "rooted:k",
        "rooted:k=",
        "rooted:=3",
        "rooted:k=3,",
        "rooted:k=3,,form=convex",
        "rooted:k=3,k=4",
        "rooted:k=3;form=convex",
        "rooted k=3",
        "rooted:k=1_000",
        "rooted:k=nan()",
        "rooted:k=[1,2",
        "rooted:k=1]",
        "rooted:k=[]",
        "rooted:k=[1,]",
        "rooted:k={1}",
        "rooted:k='3'",
        "rooted:k=3 4",
        "rooted:k.x=3",
        "dynamical(",
        "dynamical(rooted",
        "dynamical(rooted))",
        "dynamical(rooted]",
        "dynamical()",
        "dynamical( )",
        "dynamical(rooted)x",
        "dynamical(rooted)period=3",
        "x:a=" + "[" * 50 + "1" + "]" * 50,
        "x" + "(" * 50 + ")" * 50,
        "x:a=" + "1" * 20_000,
        "x:a=" + "[" * 20_000,
    ],
)
def test_malformed_texts_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(LossTextError) as refusal:
        parse_loss(text)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) > 20


@pytest.mark.parametrize("text", ["", ",", "m,", ",m", "m,,l", "m,(", "m,l)", "x:a=[1,m"])
def test_malformed_lists_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(LossTextError) as refusal:
        split_losses(text)
    assert "\n" not in str(refusal.value)


# --- fuzz ------------------------------------------------------------------------------------------------------------

VALID = [
    "rooted:form=released,k=3,m=2",
    "dynamical(tempered:kappa=[0.5,-1]):order=[1,0],period=5",
    "symmetric:A=-4,alpha=0.1,beta=1",
    "cross_entropy:ignore_index=-1,label_smoothing=0.1,reduction=sum,weight=[1,2]",
    "taylor:order=3",
    "bi_tempered:t1=0.5,t2=2",
    "logit_adjusted:class_counts=[1,2],tau=2",
]
TOKENS = [
    *"()[]:,=?@.-_ \n\t'\"{}",
    "inf",
    "-inf",
    "nan",
    "none",
    "true",
    "1e400",
    "1e-400",
    "-1",
    "0",
    "k",
    "rooted",
    "é",
]


def only_value_errors(text: str) -> None:
    for read in (parse_loss, split_losses, lossmith.create, canonical):
        with contextlib.suppress(ValueError):
            read(text)


@settings(deadline=None)
@given(st.text(max_size=40) | st.lists(st.sampled_from(TOKENS), max_size=25).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    only_value_errors(text)


@settings(deadline=None)
@given(text=st.sampled_from(VALID), cut=st.tuples(st.integers(0, 80), st.integers(0, 8)), token=st.sampled_from(TOKENS))
def test_any_damaged_text_is_read_or_refused(text: str, cut: tuple[int, int], token: str) -> None:
    start, length = cut
    only_value_errors(text[:start] + token + text[start + length :])


COMMON = lossmith.losses.CrossEntropyLoss.defaults()
ARGUMENTS = [("cross_entropy", argument) for argument in COMMON] + [
    ("formula(y*c*t)" if info.name == "formula" else info.name, argument)
    for info in lossmith.available()
    for argument in info.loss_class.defaults()
    if argument not in {"base", *COMMON}
]
WRONG = [
    "none",
    "true",
    "inf",
    "-inf",
    "nan",
    "0",
    "-1",
    "1e-320",
    "1.5",
    "3",
    "banana",
    "[1,2,3]",
    "[banana]",
    "[[1],2]",
]
WRONG += ["[true,none]", "[inf]", "[0.5,1.5]", "[?]", "1e300"]


@pytest.mark.parametrize("value", WRONG)
def test_any_value_of_any_argument_is_taken_or_refused(value: str) -> None:
    failures = []
    for name, argument in ARGUMENTS:
        text = f"{name}:{argument}={value}"
        try:
            loss = lossmith.create(text)
            assert lossmith.create(loss.text).text == loss.text
        except ValueError as error:
            if argument not in str(error) or "\n" in str(error):
                failures.append(f"{text}: does not name the argument: {error}")
        except Exception as error:
            failures.append(f"{text}: {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)
