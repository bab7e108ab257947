"""Weighted sums of losses by name."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import lossmith
from lossmith.catalog import canonical
from lossmith.comparison.arms import make_arms
from lossmith.export import loss_source
from lossmith.losses import SumLoss
from lossmith.losses.text import parse_loss, split_losses, terms_of
from lossmith.tasks import Classification

Z = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
Y = torch.tensor([0, 1, 2, 3, -100, 1])
TASK = Classification(("a", "b", "c", "d"))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("cross_entropy + soft_dice", "cross_entropy+soft_dice"),
        ("0.5*cross_entropy+.50 * soft_dice", "0.5*cross_entropy+0.5*soft_dice"),
        ("1*gce", "gce"),
        ("2 * rooted:k=3.0", "2*rooted"),
        ("1e+20*mae+1e-3*ngl", "1e+20*mae+0.001*ngl"),
        ("rooted:k=5e+1+focal:gamma=?", "rooted:k=50+focal:gamma=?"),
        ("symmetric:beta=2,alpha=0.1+mae", "symmetric:beta=2+mae"),
        ("dynamical( gce+ 2*mae ):period=4", "dynamical(gce+2*mae):period=4"),
        ("cross_entropy+formula(y*c + p)", "cross_entropy+formula(y*c + p)"),
    ],
)
def test_canonical_texts_are_read_back(text: str, expected: str) -> None:
    assert canonical(text) == expected == canonical(expected)
    if "?" not in text:
        assert lossmith.create(text).text == expected


@given(st.lists(st.tuples(st.floats(1e-300, 1e300), st.sampled_from(["gce:q=0.5", "m", "x(a+b)"])), min_size=1))
def test_any_factor_survives(terms: list[tuple[float, str]]) -> None:
    text = "+".join(f"{factor!r}*{loss}" for factor, loss in terms)
    assert [(term.factor, term.text) for term in terms_of(text)] == terms
    assert terms_of(str(parse_loss(text))) == terms_of(text)


def test_lists_hold_sums() -> None:
    text = "cross_entropy+0.5*symmetric:alpha=1,beta=2,ngl,a+b"
    assert split_losses(text) == ["cross_entropy+0.5*symmetric:alpha=1,beta=2", "ngl", "a+b"]


def test_each_term_is_reduced_as_if_it_stood_alone() -> None:
    w = [1.0, 2.0, 0.5, 1.0]
    loss = lossmith.create("2*cross_entropy+0.5*gce:q=1", weight=w)
    weight = torch.tensor(w, dtype=torch.float64)
    p = Z.softmax(1)[Y >= 0].gather(1, Y[Y >= 0, None])[:, 0]
    one_minus_p = (weight[Y[Y >= 0]] * (1 - p)).sum() / weight[Y[Y >= 0]].sum()
    expected = 2 * F.cross_entropy(Z, Y, weight) + 0.5 * one_minus_p
    torch.testing.assert_close(loss(Z, Y), expected)
    mean = sum(values.sum() / masses.sum() for values, masses in loss.fractions(Z, Y))
    torch.testing.assert_close(mean, expected)
    terms = lossmith.create("2*cross_entropy+0.5*gce:q=1").per_sample(Z, Y)
    torch.testing.assert_close(terms[0], -2 * Z.log_softmax(1)[0, 0] + 0.5 * (1 - Z.softmax(1)[0, 0]))
    assert terms[4] == 0


def test_pixels_and_images_are_averaged_apart() -> None:
    z, y = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    y[0, :3] = -100
    dice = lossmith.create("soft_dice")
    loss = lossmith.create("cross_entropy+0.25*soft_dice")
    torch.testing.assert_close(loss(z, y), F.cross_entropy(z, y) + 0.25 * dice(z, y))
    assert loss.kind == "segmentation"
    with pytest.raises(ValueError, match="losses of images to losses of pixels"):
        loss.per_sample(z, y)


def test_a_sum_of_formulas_is_a_formula_and_a_schedule_goes_around_it() -> None:
    loss = lossmith.create("cross_entropy+0.5*gce")
    twin = lossmith.create(f"formula({loss.formula})")
    torch.testing.assert_close(twin(Z, Y), loss(Z, Y))
    assert "class Loss" in loss_source(loss)
    assert lossmith.create("cross_entropy+label_smoothing").formula is None
    dynamical = lossmith.create("dynamical(cross_entropy+gce):amplitude=9,period=4")
    parts = [lossmith.create(f"dynamical({name}):amplitude=9,period=4") for name in ("cross_entropy", "gce")]
    for each in (dynamical, *parts):
        each.step()
    torch.testing.assert_close(dynamical(Z, Y), parts[0](Z, Y) + parts[1](Z, Y))


def test_a_sum_is_as_steep_as_its_steepest_term() -> None:
    loss = lossmith.create("rooted+cross_entropy")
    z = torch.tensor([[-300.0, 0.0, 0.0]])
    assert bool(loss.extended(z, torch.tensor([0]))) == bool(lossmith.create("rooted").extended(z, torch.tensor([0])))
    assert loss(z, torch.tensor([0])).isfinite()


@pytest.mark.parametrize("implementation", ["auto", "reference"])
def test_scaled_is_a_sum_of_one_term(implementation: str) -> None:
    z, y = torch.randn(4096, 64), torch.randint(0, 64, (4096,))
    values = [lossmith.create(text, implementation=implementation)(z, y) for text in ("scaled(ngl):factor=3", "3*ngl")]
    torch.testing.assert_close(values[0], values[1])


@pytest.mark.parametrize(
    "text, words",
    [
        ("cross_entropy+", "term without a loss"),
        ("gce++mae", "term without a loss"),
        ("cross_entropy+mse", "'mse' cannot be added"),
        ("dynamical+mae", "'dynamical' cannot be added"),
        ("gce+maee", "did you mean 'mae'"),
        ("0*mae", "factor"),
        ("gce+mae:reduction=sum", "one reduction"),
        ("gce+focal:gamma=?", "only `lossmith compare` does"),
    ],
)
def test_what_does_not_add_up_is_refused_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lossmith.create(text)
    with pytest.raises(ValueError, match="sum has no argument 'gamma'"):
        lossmith.create("gce+focal", gamma=1)
    with pytest.raises(ValueError, match="factor for each"):
        SumLoss([lossmith.create("gce")], [1.0, 2.0])


def test_values_inside_terms_are_tuned() -> None:
    arm = make_arms(TASK, ["0.5*cross_entropy+2*focal:gamma=?"], "adam")[-1]
    assert [d.name for d in arm.tuned] == ["gamma"]
    assert arm.loss_with((1.5,)) == "0.5*cross_entropy+2*focal:gamma=1.5"
    assert arm.loss_with() == "0.5*cross_entropy+2*focal"
    assert all(math.isfinite(position) and position >= 0 for position in arm.default_positions)
    with pytest.raises(ValueError, match="twice"):
        make_arms(TASK, ["gce:q=?+gce:q=?"], "adam")
