from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unroll import Unroll, sgd

from lossmith.learned import AdaptiveLoss, ML3Loss, learn_offline

C = 3


def make_model(i: int) -> nn.Module:
    torch.manual_seed(i)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, C)).double()


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    return x, x[:, :C].argmax(1)


def pairs() -> Iterator[tuple[Any, Any]]:
    for i in itertools.count():
        yield batch(2 * i), batch(2 * i + 1)


def test_each_step_is_algorithm_1() -> None:
    """Against a full unroll from fresh weights, and Adam as torch has it."""
    ours, theirs = (AdaptiveLoss(start="random", hidden=6).double() for _ in range(2))
    learn_offline(ours, make_model, pairs(), steps=5, lr=0.3, meta_lr=1e-2)
    optimizer = torch.optim.Adam(theirs.parameters(), 1e-2)
    for i, (first, second) in enumerate(itertools.islice(pairs(), 5)):
        unroll = Unroll(make_model(i), theirs, sgd(0.3))
        gradients = unroll.phi_gradient(*first, *second)
        for p, g in zip(theirs.parameters(), gradients, strict=True):
            p.grad = g
        optimizer.step()
    torch.testing.assert_close(list(ours.parameters()), list(theirs.parameters()), rtol=1e-9, atol=1e-10)


def test_it_makes_one_step_better() -> None:
    """One step of the learned loss on models never seen lowers cross-entropy more than one of cross-entropy itself."""
    loss = AdaptiveLoss().double()
    log = learn_offline(loss, make_model, pairs(), steps=300, lr=0.1, scale="learned")

    def after(criterion: nn.Module) -> float:
        total = 0.0
        for i in range(1000, 1020):
            model = make_model(i)
            criterion(model(batch(i)[0]), batch(i)[1]).backward()
            torch.optim.SGD(model.parameters(), 0.1).step()
            total += float(F.cross_entropy(model(batch(9000 + i)[0]), batch(9000 + i)[1]).detach())
        return total

    assert after(loss.freeze()) < after(nn.CrossEntropyLoss()) - 0.1
    assert log.scale[0] == pytest.approx(1.0)
    assert log.scale[-1] > 1.2


def test_it_stops_at_the_cap() -> None:
    loss = AdaptiveLoss().double()
    log = learn_offline(loss, make_model, pairs(), steps=2000, lr=0.1, meta_lr=3e-2, scale="learned", max_scale=12.0)
    assert log.stopped == "scale"
    assert len(log.scale) < 2000
    assert 12.0 < log.scale[-1] < 24.0


def test_a_fixed_scale_stays_that_of_the_base() -> None:
    log = learn_offline(AdaptiveLoss().double(), make_model, pairs(), steps=60, lr=0.1, meta_lr=1e-2)
    assert log.scale == pytest.approx([1.0] * 60, rel=1e-9)
    assert log.stopped == "done"


def test_it_goes_back_to_the_best_when_nothing_is_gained() -> None:
    """With a step size of nothing the task loss stays where it is."""
    loss = ML3Loss().double()
    log = learn_offline(loss, make_model, pairs(), steps=500, lr=1e-6, patience=60)
    assert log.stopped == "stalled"
    assert log.kept + 60 == len(log.task_loss)
    other = ML3Loss().double()
    learn_offline(other, make_model, pairs(), steps=log.kept, lr=1e-6, patience=500)
    assert all((a == b).all() for a, b in zip(loss.parameters(), other.parameters(), strict=True))
