"""Digits with 40 % of the training labels wrong and 200 clean examples to learn the loss from."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.learned import AdaptiveLoss, OnlineLossLearner

datasets = pytest.importorskip("sklearn.datasets")

BATCH = 64


def accuracy_after(steps: int, meta_lr: float | None, seed: int) -> float:
    """On the clean test part; ``None`` trains with cross-entropy."""
    generator = torch.Generator().manual_seed(seed)
    digits = datasets.load_digits()
    x, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    test, clean, train = torch.randperm(len(x), generator=generator).split([360, 200, len(x) - 560])
    wrong = torch.rand(len(train), generator=generator) < 0.4
    y[train] = (y[train] + wrong * torch.randint(1, 10, (len(train),), generator=generator)) % 10

    def batch(part: Tensor) -> tuple[Tensor, Tensor]:
        rows = part[torch.randint(len(part), (BATCH,), generator=generator)]
        return x[rows], y[rows]

    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    loss = AdaptiveLoss()
    learner = OnlineLossLearner(model, loss, optimizer, torch.optim.Adam(loss.parameters(), meta_lr or 0.0))
    for _ in range(steps):
        inputs, target = batch(train)
        if meta_lr is not None:
            learner.step((inputs, target), batch(clean))
        else:
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), target).backward()
            optimizer.step()
    with torch.no_grad():
        return float((model(x[test]).argmax(1) == y[test]).float().mean())


def test_a_loss_that_learns_fast_does_not_run_away() -> None:
    """Its scale, free, is 13 by then and the accuracy between .25 and .6."""
    assert accuracy_after(400, 1e-2, seed=0) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_training_to_the_end_survives_every_meta_rate(seed: int) -> None:
    """Cross-entropy has by then learned the wrong labels: a loss that learns at once ends far above it."""
    plain = accuracy_after(3000, None, seed)
    assert plain < 0.75
    assert accuracy_after(3000, 1e-4, seed) > plain - 0.05
    for meta_lr in (1e-3, 3e-3, 1e-2):
        assert accuracy_after(3000, meta_lr, seed) > plain + 0.15
