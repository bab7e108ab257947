"""The catalog: names and text forms to losses, and back."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lossmith
from lossmith.catalog import canonical
from lossmith.losses import ClassificationLoss, Loss

ALL = [info.name for info in lossmith.available()]
CLASSIFICATION = [info.name for info in lossmith.available("classification")]
NEEDS_BRACKETS = {"formula": "formula(y*c)"}
COMMON = {
    "weight": [1.5, 0.5, 2.0],
    "ignore_index": 255,
    "reduction": "sum",
    "label_smoothing": 0.1,
    "validate": True,
}


# --- the list --------------------------------------------------------------------------------------------------------


def test_the_losses_of_the_issue_are_there() -> None:
    expected = """cross_entropy rooted tempered m param_m l parabolic circle cos m_full l_full ngl focal poly1 gce mae
        taylor symmetric bi_tempered brier label_smoothing sparse_label_smoothing logit_adjusted dynamical scaled
        formula"""
    assert set(CLASSIFICATION) == set(expected.split())
    assert {info.name for info in lossmith.available("regression")} >= {"mse", "huber", "smooth_absolute_error"}
    assert {info.name for info in lossmith.available("gan")} == {"rooted_gan"}
    assert {info.name for info in lossmith.available("learned")} == {"adaptive", "ml3"}
    assert len(ALL) == len(set(ALL))


@pytest.mark.parametrize("info", lossmith.available(), ids=ALL)
def test_a_line_of_the_list(info: Any) -> None:
    """Its text makes the loss at its defaults, and is that of the issue's table."""
    name = NEEDS_BRACKETS.get(info.name, info.name)
    loss = lossmith.create(info.text.replace("(LOSS)", "(cross_entropy)").replace("(EXPR)", "(y*c)"))
    assert isinstance(loss, info.loss_class)
    assert loss.text == name
    assert lossmith.create(name).text == name
    assert info.summary.endswith((".", ":"))


@pytest.mark.parametrize(
    "text, arguments",
    [
        ("rooted", {"k": 3, "form": "convex", "m": None}),
        ("tempered", {"kappa": 0.5}),
        ("param_m", {"alpha": 0.5}),
        ("ngl", {"alpha": 2.4092, "scaling": "none", "class_reduction": "mean"}),
        ("focal", {"gamma": 2}),
        ("poly1", {"epsilon": 1}),
        ("gce", {"q": 0.7}),
        ("taylor", {"order": 2}),
        ("symmetric", {"alpha": 0.1, "beta": 1, "A": -4}),
        ("bi_tempered", {"t1": 0.8, "t2": 1}),
        ("label_smoothing", {"epsilon": 0.1}),
        ("sparse_label_smoothing", {"epsilon": 0.1}),
        ("logit_adjusted", {"tau": 1}),
        ("dynamical", {"amplitude": 20, "period": 250, "period_mode": "exact"}),
    ],
)
def test_defaults_of_the_issue(text: str, arguments: dict[str, Any]) -> None:
    loss = lossmith.create(text)
    assert {name: getattr(loss, name) for name in arguments} == arguments
    assert lossmith.create(text, **{name: value for name, value in arguments.items() if value is not None}).text == text


@pytest.mark.parametrize("name", [NEEDS_BRACKETS.get(name, name) for name in CLASSIFICATION])
def test_every_classification_loss_takes_the_common_arguments(name: str) -> None:
    """A loss is swapped in one line, whatever stands in the text."""
    own = {"class_counts": [1.0, 2.0, 3.0]} if name == "logit_adjusted" else {}
    common = {key: value for key, value in COMMON.items() if name != "label_smoothing" or key != "label_smoothing"}
    loss = lossmith.create(name, **own, **common)
    value = loss(torch.zeros(3, 3), torch.tensor([0, 255, 2]))
    one = lossmith.create(name, **own, **(common | {"reduction": "none"}))(torch.zeros(3, 3), torch.tensor([0, 255, 2]))
    torch.testing.assert_close(value, one.sum())
    again = lossmith.create(loss.text)
    assert torch.equal(again(torch.zeros(3, 3), torch.tensor([0, 255, 2])), value)


# --- canonical text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected",
    [
        ("rooted:k=3", "rooted"),
        ("rooted:k=3.0,form=convex", "rooted"),
        (" rooted : k = 5e0 ", "rooted:k=5"),
        ("rooted:m=3,k=3,form=released", "rooted:form=released,m=3"),
        ("rooted:k=inf", "rooted:k=inf"),
        ("rooted:k=0.1", "rooted:k=0.1"),
        ("symmetric:beta=2,alpha=0.1,A=-6", "symmetric:A=-6,beta=2"),
        ("tempered:kappa=[0.5,0,-1]", "tempered:kappa=[0.5,0,-1]"),
        ("taylor:order=2.0", "taylor"),
        ("ngl:scaling=none,class_reduction=sum", "ngl:class_reduction=sum"),
        ("cross_entropy:reduction=none", "cross_entropy:reduction=none"),
        ("cross_entropy:weight=none,validate=true", "cross_entropy:validate=true"),
        ("dynamical(cross_entropy)", "dynamical"),
        ("dynamical( rooted:k=3 ):period=250,amplitude=70", "dynamical(rooted):amplitude=70"),
        (
            "dynamical(focal:gamma=1):order=[1,0],static_after=10",
            "dynamical(focal:gamma=1):order=[1,0],static_after=10",
        ),
        ("rooted:k=?", "rooted:k=?"),
        ("symmetric:beta=?,alpha=0.1,A=-6", "symmetric:A=-6,beta=?"),
        ("dynamical(rooted:k=?):amplitude=?", "dynamical(rooted:k=?):amplitude=?"),
    ],
)
def test_canonical_text(text: str, expected: str) -> None:
    assert canonical(text) == expected
    assert canonical(expected) == expected
    if "?" not in text:
        assert lossmith.create(text).text == expected


@settings(deadline=None)
@given(
    name=st.sampled_from(["rooted:k", "focal:gamma", "poly1:epsilon", "param_m:alpha", "gce:q", "tempered:kappa"]),
    x=st.floats(1e-3, 1.0) | st.floats(1e-3, 1e2),
)
def test_numbers_round_trip_exactly(name: str, x: float) -> None:
    name, _, argument = name.partition(":")
    try:
        loss = lossmith.create(name, **{argument: x})
    except ValueError:
        return
    assert getattr(lossmith.create(loss.text), argument) == x


@settings(deadline=None)
@given(st.lists(st.floats(-1e9, 1e9, width=32), min_size=1, max_size=5))
def test_values_per_class_round_trip_exactly(values: list[float]) -> None:
    for dtype in (torch.float32, torch.float64):
        weight = torch.tensor(values, dtype=dtype)
        again = lossmith.create(lossmith.create("rooted", weight=weight).text)
        assert torch.equal(again.weight.to(dtype), weight)


# --- suggestions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, meant",
    [
        ("roted", "'rooted'"),
        ("foccal:gamma=2", "'focal'"),
        ("crossentropy", "'cross_entropy'"),
        ("CrossEntropy", "'cross_entropy'"),
        ("cross-entropy", "'cross_entropy'"),
        ("label_smoothin", "'label_smoothing'"),
        ("bitempered", "'bi_tempered'"),
        ("dynamic(rooted)", "'dynamical'"),
        ("dynamical(rotted)", "'rooted'"),
        ("focal:gama=2", "'gamma'"),
        ("rooted:kk=2", "'k'"),
        ("cross_entropy:wieght=[1,2]", "'weight'"),
        ("cross_entropy:smoothing=0.1", "'label_smoothing'"),
        ("dynamical:amplitud=3", "'amplitude'"),
        ("rooted:gammma=?", "gammma"),
    ],
)
def test_misspelt_names_and_arguments(text: str, meant: str) -> None:
    for read in (lossmith.create, canonical):
        with pytest.raises(ValueError, match=meant):
            read(text)


def test_a_name_like_none_lists_them_all() -> None:
    with pytest.raises(ValueError, match="unknown loss 'xyzzy': choose one of cross_entropy, rooted"):
        lossmith.create("xyzzy")
    with pytest.raises(ValueError, match="has no argument 'qqqqqqq': choose one of"):
        lossmith.create("focal", qqqqqqq=3)


# --- refusals --------------------------------------------------------------------------------------------------------

PYTHON_SPEAK = (
    "invalid literal",
    "not iterable",
    "infer dtype",
    "NoneType",
    "math range",
    "convert float",
    "unhashable",
)


@pytest.mark.parametrize(
    "text, names",
    [
        ("rooted:k=banana", "k"),
        ("rooted:k=0", "k"),
        ("rooted:k=-1", "k"),
        ("rooted:k=true", "k"),
        ("rooted:k=[1,2]", "k"),
        ("rooted:k=none", "k"),
        ("rooted:k=-inf", "k"),
        ("rooted:form=concave", "form"),
        ("rooted:form=[convex]", "form"),
        ("rooted:form=3", "form"),
        ("rooted:m=3", "m"),
        ("rooted:form=released,m=0", "m"),
        ("rooted:form=released,k=inf,m=2", "m"),
        ("rooted_gan:k=banana", "k"),
        ("tempered:kappa=banana", "kappa"),
        ("tempered:kappa=inf", "kappa"),
        ("tempered:kappa=none", "kappa"),
        ("tempered:kappa=[1,banana]", "kappa"),
        ("tempered:kappa=[1,[2]]", "kappa"),
        ("tempered:kappa=[1,inf]", "kappa"),
        ("tempered:kappa=[true,false]", "kappa"),
        ("tempered:kappa=[1,?]", "kappa"),
        ("param_m:alpha=0", "alpha"),
        ("focal:gamma=-1", "gamma"),
        ("poly1:epsilon=-2", "epsilon"),
        ("gce:q=0", "q"),
        ("gce:q=1.5", "q"),
        ("taylor:order=0", "order"),
        ("taylor:order=2.5", "order"),
        ("taylor:order=inf", "order"),
        ("symmetric:alpha=-1", "alpha"),
        ("symmetric:A=1", "A"),
        ("symmetric:alpha=0,beta=0", "alpha"),
        ("bi_tempered:t1=1.5", "t1"),
        ("bi_tempered:t2=0", "t2"),
        ("ngl:scaling=softmax", "scaling"),
        ("ngl:class_reduction=none", "class_reduction"),
        ("label_smoothing:epsilon=1.5", "epsilon"),
        ("sparse_label_smoothing:epsilon=-0.1", "epsilon"),
        ("logit_adjusted:tau=-1", "tau"),
        ("logit_adjusted:class_counts=[1,0]", "class_counts"),
        ("logit_adjusted:class_counts=5", "class_counts"),
        ("cross_entropy:weight=3", "weight"),
        ("cross_entropy:weight=[[1],[2]]", "weight"),
        ("cross_entropy:weight=[1,inf]", "weight"),
        ("cross_entropy:reduction=average", "reduction"),
        ("cross_entropy:reduction=[mean]", "reduction"),
        ("cross_entropy:label_smoothing=2", "label_smoothing"),
        ("cross_entropy:ignore_index=banana", "ignore_index"),
        ("cross_entropy:ignore_index=1.5", "ignore_index"),
        ("cross_entropy:ignore_index=inf", "ignore_index"),
        ("cross_entropy:ignore_index=none", "ignore_index"),
        ("cross_entropy:ignore_index=[1]", "ignore_index"),
        ("cross_entropy:validate=banana", "validate"),
        ("cross_entropy:validate=3", "validate"),
        ("cross_entropy:task=regression", "task"),
        ("label_smoothing:label_smoothing=0.1", "label_smoothing"),
        ("smooth_absolute_error:reduction=average", "reduction"),
        ("dynamical:amplitude=0.5", "amplitude"),
        ("dynamical:amplitude=inf", "amplitude"),
        ("dynamical:period=1", "period"),
        ("dynamical:period=2.5", "period"),
        ("dynamical:period=banana", "period"),
        ("dynamical:period_mode=fast", "period_mode"),
        ("dynamical:static_after=-1", "static_after"),
        ("dynamical:order=3", "order"),
        ("dynamical:order=banana", "order"),
        ("dynamical:order=[0,0]", "order"),
        ("dynamical:order=[0.5,1]", "order"),
        ("dynamical:order=[a,b]", "order"),
        ("dynamical(rooted:k=banana)", "k"),
        ("dynamical(smooth_absolute_error)", "smooth_absolute_error"),
        ("dynamical(dynamical)", "dynamical"),
        ("rooted(m)", "rooted"),
        ("@somewhere/best.json", "@somewhere/best.json"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_that_names_it(text: str, names: str) -> None:
    with pytest.raises(ValueError) as refusal:
        lossmith.create(text)
    sentence = str(refusal.value)
    assert names in sentence
    assert "\n" not in sentence
    assert not any(phrase in sentence for phrase in PYTHON_SPEAK), sentence


@pytest.mark.parametrize("text", ["rooted:k=?", "focal:gamma=?", "dynamical(focal:gamma=?)", "dynamical:amplitude=?"])
def test_a_value_to_be_tuned_makes_no_loss(text: str) -> None:
    with pytest.raises(ValueError, match=r"=\? in .* asks for tuning"):
        lossmith.create(text)


@pytest.mark.parametrize("spec", [3, None, ["rooted"], torch.nn.CrossEntropyLoss()])
def test_what_is_no_text_is_refused(spec: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"text|str"):
        lossmith.create(spec)


# --- arguments beside the text ---------------------------------------------------------------------------------------


def test_arguments_override_the_text() -> None:
    assert lossmith.create("rooted:k=3", k=5).text == "rooted:k=5"
    assert lossmith.create("rooted:k=3", weight=torch.tensor([1.0, 2.0])).text == "rooted:weight=[1,2]"


def test_the_text_is_shown_when_the_loss_is_printed() -> None:
    assert repr(lossmith.create("rooted:k=5")) == "RootedLogisticLoss(rooted:k=5)"
    assert "dynamical(focal:gamma=1):period=9" in repr(lossmith.create("dynamical(focal:gamma=1):period=9"))


def test_every_loss_is_exported_and_documented() -> None:
    for info in lossmith.available():
        home = lossmith.learned if issubclass(info.loss_class, lossmith.learned.LearnedLoss) else lossmith.losses
        assert getattr(home, info.loss_class.__name__) is info.loss_class
        assert issubclass(info.loss_class, Loss)
        assert "Source:" in (info.loss_class.__doc__ or "") or info.name == "cross_entropy"
    assert issubclass(lossmith.losses.CrossEntropyLoss, ClassificationLoss)


# --- importing -------------------------------------------------------------------------------------------------------


def test_importing_lossmith_brings_in_torch_alone() -> None:
    """Whatever torch does not import itself; and every loss can be made with that."""
    script = """
import sys, torch
before = set(sys.modules)
import lossmith
for info in lossmith.available():
    lossmith.create("formula(y*c)" if info.name == "formula" else info.name)
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
print(*(name for name in sys.modules if name.startswith("lossmith.")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    new, own = done.stdout.splitlines()
    assert new.split() == ["lossmith"]
    assert not {"scipy", "sklearn", "matplotlib", "pandas", "jinja2", "rich", "typer"} & set(new.split())
    parts = {"losses", "catalog", "autodiff", "formulas", "kernels", "learned", "properties"}
    assert {name.split(".")[1] for name in own.split()} <= parts
