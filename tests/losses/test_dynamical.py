"""The schedule of dynamical losses against the paper's golden numbers, and what a training loop relies on."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import seeded
from reference import gamma as counted_gamma

import lossmith
from lossmith.losses import CrossEntropyLoss, DynamicalLoss, FocalLoss, gamma, static_tail

LOGITS = torch.randn(12, 3, generator=seeded(30))
TARGET = torch.randint(0, 3, (12,), generator=seeded(31))


def dynamical(
    steps: int = 0, base: lossmith.losses.ClassificationLoss | None = None, **schedule: object
) -> DynamicalLoss:
    loss = DynamicalLoss(base, **schedule)
    for _ in range(steps):
        loss.step()
    return loss


@pytest.mark.parametrize(
    "classes, amplitude, focus, others",
    [(3, 70, 2.917, 0.0417), (10, 70, 8.861, 0.127), (10, 20, 6.897, 0.345)],
)
def test_peak_weights(classes: int, amplitude: float, focus: float, others: float) -> None:
    weights = gamma(2500, classes, amplitude, 5000)
    assert weights[0].item() == pytest.approx(focus, abs=5e-4)
    assert weights[1:].tolist() == pytest.approx([others] * (classes - 1), abs=5e-4)
    assert (weights[0] / weights[1]).item() == pytest.approx(amplitude)


@settings(deadline=None)
@given(
    step=st.integers(0, 500),
    classes=st.integers(2, 6),
    amplitude=st.floats(1, 300),
    period=st.integers(2, 40),
    static_after=st.none() | st.integers(0, 400),
    period_mode=st.sampled_from(["exact", "released"]),
    data=st.data(),
)
def test_weights_are_those_counted_out_step_by_step(
    step: int,
    classes: int,
    amplitude: float,
    period: int,
    static_after: int | None,
    period_mode: str,
    data: st.DataObject,
) -> None:
    order = data.draw(st.none() | st.permutations(range(classes)))
    rest = {"order": order, "static_after": static_after, "period_mode": period_mode}
    found = gamma(step, classes, amplitude, period, **rest)
    assert found.tolist() == pytest.approx(counted_gamma(step, classes, amplitude, period, **rest), rel=1e-12)
    assert found.sum().item() == pytest.approx(classes)
    assert (found > 0).all()
    assert torch.equal(found, gamma(torch.tensor(step), classes, amplitude, period, **rest))


def test_weights_are_one_between_turns_and_classes_take_turns_in_order() -> None:
    turns = [int(gamma(50 + 100 * i, 3, 70, 100).argmax()) for i in range(7)]
    assert turns == [0, 1, 2, 0, 1, 2, 0]
    assert [int(gamma(50 + 100 * i, 3, 70, 100, order=[2, 0, 1]).argmax()) for i in range(4)] == [2, 0, 1, 2]
    for step in (0, 100, 200, 300, 12_300):
        assert gamma(step, 3, 70, 100).tolist() == [1, 1, 1]
    assert gamma(1234, 3, 1, 100).tolist() == [1, 1, 1]


def test_released_periods_are_one_step_longer() -> None:
    """T = 0..T, both ends with weights 1: boundaries at 5001 k, as the notebook prints."""
    released = {"period_mode": "released"}
    for k in range(1, 4):
        assert gamma(5001 * k, 3, 70, 5000, **released).tolist() == [1, 1, 1]
        assert gamma(5001 * k - 1, 3, 70, 5000, **released).tolist() == [1, 1, 1]
        assert int(gamma(5001 * k + 1, 3, 70, 5000, **released).argmax()) == k % 3
    # Fig. 4: 70,000 updates, the first boundary beyond 65,000 begins the static tail.
    assert static_tail(70_000, 5000, "released") == 65_013
    assert static_tail(70_000, 5000) == 70_000
    assert static_tail(70_001, 5000) == 70_000


def test_weights_multiply_and_stay_out_of_the_denominator() -> None:
    loss = dynamical(7, amplitude=70, period=10)
    weights = gamma(7, 3, 70, 10).float()
    expected = (F.cross_entropy(LOGITS, TARGET, reduction="none") * weights[TARGET]).mean()
    assert loss(LOGITS, TARGET).item() == pytest.approx(expected.item())
    static = torch.tensor([1.0, 2.0, 3.0])
    weighted = dynamical(7, CrossEntropyLoss(weight=static), amplitude=70, period=10)
    terms = F.cross_entropy(LOGITS, TARGET, reduction="none") * weights[TARGET] * static[TARGET]
    assert weighted(LOGITS, TARGET).item() == pytest.approx((terms.sum() / static[TARGET].sum()).item())
    ignored = TARGET.clone()
    ignored[:4] = -100
    kept = F.cross_entropy(LOGITS[4:], TARGET[4:], reduction="none") * weights[TARGET[4:]]
    assert loss(LOGITS, ignored).item() == pytest.approx(kept.mean().item())


def test_in_eval_it_is_its_base() -> None:
    loss = dynamical(7, FocalLoss(), amplitude=70, period=10)
    assert not torch.equal(loss(LOGITS, TARGET), FocalLoss()(LOGITS, TARGET))
    assert torch.equal(loss.eval()(LOGITS, TARGET), FocalLoss()(LOGITS, TARGET))
    assert torch.equal(dynamical(5, FocalLoss(), static_after=5)(LOGITS, TARGET), FocalLoss()(LOGITS, TARGET))


def test_only_step_advances_and_a_resumed_run_goes_on_where_it_stopped() -> None:
    loss = dynamical(6, amplitude=20, period=5)
    before = loss(LOGITS, TARGET)
    for _ in range(3):
        loss.eval()(LOGITS, TARGET)
        loss.train()(LOGITS, TARGET)
    assert torch.equal(loss(LOGITS, TARGET), before)
    saved = copy.deepcopy(loss.state_dict())
    assert [value.item() for value in saved.values()] == [6]
    resumed = DynamicalLoss(amplitude=20, period=5)
    resumed.load_state_dict(saved)
    for _ in range(12):
        assert torch.equal(resumed(LOGITS, TARGET), loss(LOGITS, TARGET))
        resumed.step()
        loss.step()


def test_micro_batches_add_up_to_the_batch() -> None:
    loss = dynamical(4, amplitude=20, period=10)
    parts = [loss(z, y, normalizer=12) for z, y in zip(LOGITS.split([5, 5, 2]), TARGET.split([5, 5, 2]), strict=True)]
    torch.testing.assert_close(sum(parts), loss(LOGITS, TARGET))


def test_a_run_that_would_end_inside_a_cycle_warns() -> None:
    with pytest.warns(UserWarning, match="inside a cycle"):
        DynamicalLoss(period=10).bind(total_steps=95)
    with pytest.warns(UserWarning, match="static_after=80"):
        DynamicalLoss(period=10, static_after=200).bind(total_steps=85)
    with pytest.warns(UserWarning, match="inside a cycle"):
        DynamicalLoss(period=10, period_mode="released").bind(total_steps=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DynamicalLoss(period=10).bind(total_steps=100)
        DynamicalLoss(period=10, period_mode="released").bind(total_steps=110)
        DynamicalLoss(period=10, static_after=80).bind(total_steps=95)
        DynamicalLoss(period=10).bind(total_steps=None)


def test_the_warning_names_a_tail_that_mends_it() -> None:
    for total, period in ((95, 10), (85, 10), (1009, 100), (30, 7), (9, 10)):
        with pytest.warns(UserWarning, match="static_after") as caught:
            DynamicalLoss(period=period).bind(total_steps=total)
        named = int(str(caught[0].message).partition("static_after=")[2].split()[0])
        assert named <= total
        assert gamma(named, 3, 20, period).tolist() == [1, 1, 1]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            DynamicalLoss(period=period, static_after=named).bind(total_steps=total)


def test_static_tail_boundaries_are_within_the_run() -> None:
    for total in range(1, 200):
        for period in (2, 7, 50):
            tail = static_tail(total, period)
            assert tail % period == 0
            assert total - period < tail
