"""What the filters let through, and what they stop."""

from __future__ import annotations

import gc
import math

import numpy as np
import pytest
import torch

import lossmith
from lossmith.evolution.filters import FILTERS, Screen, Sifted, flip
from lossmith.evolution.grammar import Grammar, ramped
from lossmith.formulas import Expression, FormulaError, apply, constant, digest, evaluate, parse, terminal

GRAMMAR = Grammar()
TIMED = Grammar(terminals=("p", "y", "c", "n", "t"))
NAMED = {
    info.name: loss.formula
    for info in lossmith.available("classification")
    if info.name != "formula" and (loss := lossmith.create(info.name)).formula is not None
}
PUBLISHED = {
    "NGL": "exp(2.4092 - p*(1 + y)) - cos(cos(sin(p)))",
    "Baikal": "c + y/p",  # -log p + t/p (GLO)
    "CSE-Autoloss, Z the probability": "y*(1 + sin(p))*c",
    "CSE-Autoloss, Z = 1, the overlap of a sure detection": "y*(1 + sin(1))*c",
}


def sift(*texts: str, classes: int = 10, grammar: Grammar = GRAMMAR) -> list[Sifted]:
    return Screen(classes, grammar).sift([parse(text) for text in texts])


def logit_gradient(formula: Expression, logits: torch.Tensor, target: int, t: float = 1.0) -> torch.Tensor:
    """By autograd in float64, from the definition of the loss: the sum over the classes."""
    logits = logits.double().clone().requires_grad_()
    y = torch.zeros_like(logits)
    y[..., target] = 1.0
    log_p = logits.log_softmax(-1)
    value = evaluate(formula, p=log_p.exp(), c=-log_p, y=y, n=float(logits.shape[-1]), t=t).sum()
    return torch.autograd.grad(value, logits)[0]


def accuracy_after_adam(formula: Expression, seed: int) -> float:
    """The best accuracy within 100 steps of torch's Adam on free logits, which start at random."""
    logits = torch.randn(64, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    scale = 1.0 / max(float(logit_gradient(formula, torch.zeros(10), 0).norm()), 1e-12)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    best = 0.0
    for _ in range(100):
        logits.grad = scale * logit_gradient(formula, logits, 0)
        optimizer.step()
        best = max(best, float((logits.argmax(-1) == 0).double().mean()))
    return best


@pytest.mark.parametrize("formula", [*NAMED.values(), *PUBLISHED.values()], ids=[*NAMED, *PUBLISHED])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_known_losses_pass(formula: str, classes: int) -> None:
    """NGL's minimum is not one-hot, and that of label smoothing neither."""
    (result,) = sift(formula, classes=classes)
    assert result.rejected is None
    assert not result.flipped
    assert result.strictness > 0
    (result,) = sift(formula, classes=classes, grammar=TIMED)
    assert result.rejected is None


@pytest.mark.parametrize("formula", [*NAMED.values(), *PUBLISHED.values()], ids=[*NAMED, *PUBLISHED])
@pytest.mark.parametrize("classes", [3, 10])
def test_strictness_is_the_pull_at_the_uniform_prediction(formula: str, classes: int) -> None:
    gradient = logit_gradient(parse(formula), torch.zeros(classes), 0)
    expected = -float(gradient[0]) / (1 - 1 / classes)
    assert sift(formula, classes=classes)[0].strictness == pytest.approx(expected, rel=1e-9)


def test_cross_entropy_has_strictness_1() -> None:
    for classes in (2, 7, 100, 5000):
        assert sift("y*c", classes=classes)[0].strictness == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("p + sin(c)", "ignores p or y"),
        ("y*n", "ignores p or y"),
        ("p*c + y", "ignores p or y"),
        ("p*(y - y)", "ignores p or y"),
        ("exp(exp(c*c))*y", "not finite"),
        ("y*log(p - 0.5)", "not finite"),
        ("y*c/(n - 100)", "not finite"),
        ("y*c/square(n - 5)", "not finite"),  # for a number of classes that the data do not have
        ("1e308*y*c*exp(p - 1) + 1e308*y*(1 - p)", "not finite"),  # finite itself, but not its gradient by the logits
        ("y*c + 1/(n - 100)", "not finite"),  # the value alone
        ("y*c + y*log(p - 3e-9)", "not finite"),  # below p = 3e-9
        ("y*c + y*log(1 - 1e-5 - p)", "not finite"),  # above p = 1 - 1e-5
        ("p*p + 0*y + max(y, 2)*p", "wrong way"),  # y is there, and the gradient does not know it
        ("square(p)*(square(sin(y + 0.7)) + square(cos(y + 0.7)))", "wrong way"),  # 1 but for rounding
        ("y*c*(5 - n)", "wrong way"),  # up for two classes, down for ten
    ],
)
def test_each_filter_stops_what_it_names(text: str, why: str) -> None:
    screen = Screen(10, GRAMMAR)
    assert screen.sift([parse(text)])[0].rejected == why
    assert screen.counts[why] == 1


@pytest.mark.parametrize("factor", ["1e-12", "-1e-12", "1e12"])
def test_the_scale_of_a_loss_does_not_matter(factor: str) -> None:
    assert sift(f"{factor}*y*c")[0].rejected is None


def test_a_loss_of_log_of_1_minus_p_knows_p() -> None:
    assert sift("y*log(1 - p)")[0].rejected is None


@pytest.mark.parametrize(("classes", "wanted"), [(10, None), (100, None), (2, "does not learn")])
def test_what_a_loss_is_for_the_classes_of_the_data_decides(classes: int, wanted: str | None) -> None:
    """Cross-entropy from six classes on, and below them waves in which it gets stuck."""
    many = "min(max(n - 5, 0), 1)"
    assert sift(f"y*c*{many} + y*cos(65*p)*(1 - {many})", classes=classes)[0].rejected == wanted


def test_large_formulas_are_stopped_before_they_cost_anything() -> None:
    deep = terminal("p")
    for _ in range(3000):
        deep = apply("add", deep, constant(1.0))
    screen = Screen(10, GRAMMAR)
    (result,) = screen.sift([deep])
    assert result.rejected == "too large"
    assert not result.digest


def test_a_formula_without_a_canonical_form_is_stopped() -> None:
    """A number of it would have more digits than can be written."""
    text = "y*(sin(p + 1e308)*1e-308/3*1e-308*p + 1e300*p*sin(p + 1e308))"
    with pytest.raises(FormulaError):
        digest(parse(text))
    assert sift(text)[0].rejected == "too large"


def test_a_loss_that_pulls_away_is_turned_round() -> None:
    (result,) = sift("y*log(p)")
    assert result.rejected is None
    assert result.flipped
    assert result.digest == digest(result.expression) == digest(parse("y*c"))
    assert result.strictness == pytest.approx(1.0)
    (result,) = sift("p*y - y*c")
    assert str(result.expression) == "y*c - p*y"


def test_turning_round_does_not_make_a_duplicate() -> None:
    first, second = sift("y*c", "-(y*c)")
    assert first.rejected is None
    assert second.rejected == "duplicate"
    assert second.flipped


def test_duplicates_are_found_within_a_batch_and_later() -> None:
    screen = Screen(10, GRAMMAR)
    texts = ["y*c", "-y*log(p)", "y*c", "c*y + y"]
    results = screen.sift([parse(text) for text in texts])
    assert [each.rejected for each in results] == [None, "duplicate", "duplicate", "duplicate"]
    assert len({each.digest for each in results}) == 1
    assert screen.sift([parse("c*y")])[0].rejected == "duplicate"
    assert screen.counts == dict.fromkeys(FILTERS, 0) | {"duplicate": 4, "passed": 1, "rescued": 0}
    assert screen.seen == 5


@pytest.mark.parametrize("text", ["y*(1 - p)**2*c", PUBLISHED["NGL"], "square(p - y)"])
@pytest.mark.parametrize("same", ["2*({}) + 3*y", "({})/n", "0.001*({}) + 5*p", "p + ({})*sqrt(n)"])
def test_losses_with_proportional_logit_gradients_are_one(text: str, same: str) -> None:
    """A factor is matched away, and the sum of p over the classes is 1, so that 5p has no gradient."""
    first, second = sift(text, same.format(text))
    assert first.rejected is None
    assert second.rejected == "same gradient"
    assert second.digest != first.digest


def test_different_losses_have_different_gradients() -> None:
    """Tempered and param_m are one up to a factor; so are cross-entropy and itself in a wrapper."""
    different = [text for name, text in NAMED.items() if name not in {"param_m", "scaled"}]
    assert [each.rejected for each in sift(*different)] == [None] * len(different)


def test_a_schedule_must_pull_to_the_target_at_first_and_never_away() -> None:
    verdicts = {
        "t*y*c + (1 - t)*y*(1 - p)": None,
        "(1 - t)*y*c": None,
        "t*y*c": "wrong way",
        "(1 - 2*t)*y*c": "wrong way",
        "(square(t - 0.5) - 0.1)*y*c": "wrong way",  # half-way through
        "(t - 2)*y*c": None,  # turned round
    }
    for text, expected in verdicts.items():
        assert sift(text, grammar=TIMED)[0].rejected == expected, text
    assert sift("(4 - t)*y*c", grammar=TIMED)[0].strictness == pytest.approx(4.0)
    both = sift("y*c", "(2 - t)*y*c", grammar=TIMED)
    assert [each.rejected for each in both] == [None, None]  # a schedule of the scale is not the same loss


def test_survivors_of_random_trees_train_and_the_rejected_do_not() -> None:
    """Judged by torch's Adam, other logits and exact gradients."""
    candidates = ramped(np.random.default_rng(3), GRAMMAR, 500, deepest=5)
    results = Screen(10, GRAMMAR).sift(candidates)
    passed = [each.expression for each in results if each.rejected is None][:12]
    failed = [each.expression for each in results if each.rejected == "does not learn"][:8]
    assert len(passed) == 12
    assert len(failed) == 8
    assert sum(accuracy_after_adam(each, 0) >= 0.9 for each in passed) >= 11
    assert sum(accuracy_after_adam(each, 0) < 0.95 for each in failed) >= 7


def test_named_losses_train_under_torch_as_they_do_here() -> None:
    for text in (NAMED["cross_entropy"], PUBLISHED["NGL"], NAMED["mae"], NAMED["m_full"]):
        assert accuracy_after_adam(parse(text), 1) >= 0.9


def test_the_order_decides_and_nothing_else() -> None:
    candidates = ramped(np.random.default_rng(5), GRAMMAR, 300)
    whole = Screen(10, GRAMMAR)
    expected = whole.sift(candidates)
    pieces = Screen(10, GRAMMAR)
    found = [each for start in range(0, 300, 37) for each in pieces.sift(candidates[start : start + 37])]
    assert [each[:4] for each in found] == [each[:4] for each in expected]
    assert pieces.counts == whole.counts
    np.testing.assert_array_equal([each.strictness for each in found], [each.strictness for each in expected])


def test_giving_up_memory_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = ramped(np.random.default_rng(6), GRAMMAR, 200)
    expected = [each[:4] for each in Screen(10, GRAMMAR).sift(candidates)]
    monkeypatch.setattr("lossmith.evolution.filters._MOST_KEPT", 5)
    monkeypatch.setattr("lossmith.formulas.identity._MOST_FORMS", 5)
    assert [each[:4] for each in Screen(10, GRAMMAR).sift(candidates)] == expected


def test_every_candidate_is_counted_once() -> None:
    screen = Screen(4, TIMED)
    candidates = ramped(np.random.default_rng(8), TIMED, 300, deepest=6)
    results = screen.sift(candidates)
    assert screen.seen == 300 == sum(count for name, count in screen.counts.items() if name != "rescued")
    assert screen.counts["rescued"] == sum(each.flipped and each.rejected is None for each in results) > 0
    for each in results:
        if each.rejected is None:
            assert each.strictness > 0
            assert digest(each.expression) == each.digest
        elif each.rejected in {"duplicate", "ignores p or y", "not finite"}:
            assert math.isnan(each.strictness)
    assert screen.sift([]) == []


def test_flipping_is_exact_and_short() -> None:
    for text, expected in (("p - y", "y - p"), ("-p", "p"), ("p*y", "-(p*y)"), ("p + y", "-(p + y)")):
        assert str(flip(parse(text))) == expected


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(enabled: bool) -> None:
    try:
        (gc.enable if enabled else gc.disable)()
        sift("y*c")
        assert gc.isenabled() is enabled
        with pytest.raises(AttributeError):
            Screen(10, GRAMMAR).sift(["no formula"])  # type: ignore[list-item]
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
