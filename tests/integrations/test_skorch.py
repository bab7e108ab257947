"""Losses in skorch against a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lossmith
from lossmith.losses import MLoss

skorch = pytest.importorskip("skorch", reason="needs lossmith[skorch]")

from lossmith.integrations.skorch import LossCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # other libraries' own

DYNAMICAL = "dynamical(m):amplitude=9,period=2"
X = np.random.default_rng(0).standard_normal((40, 5))
Y = np.random.default_rng(1).integers(3, size=40)
LR, BATCH = 0.05, 8


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(5, 3, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def net_of(criterion: Any, callback: Any, **options: Any) -> Any:
    settings = {"lr": LR, "batch_size": BATCH, "max_epochs": 3, "train_split": None, "verbose": 0}
    softmax = nn.Softmax(dim=1)
    return skorch.NeuralNetClassifier(
        Model, criterion=criterion, predict_nonlinearity=softmax, callbacks=[callback], **(settings | options)
    )


class Noted:
    def __init__(self, steps: int, stop_after: int | None = None) -> None:
        self.steps = steps
        self.points: list[tuple[int, float]] = []
        self.stop_after = stop_after

    @property
    def should_stop(self) -> bool:
        return len(self.points) == self.stop_after

    def log(self, step: int, score: float) -> None:
        assert not self.points or step > self.points[-1][0]
        self.points.append((step, score))


@pytest.mark.parametrize("steps", [None, 7])
def test_a_schedule_moves_with_the_optimiser(steps: int | None) -> None:
    """For as many steps as the run has; else for three epochs of five."""
    loss = lossmith.create(DYNAMICAL)
    net = net_of(loss, LossCallback(None if steps is None else Noted(steps), metric="train_loss")).fit(X, Y)
    exact, model = lossmith.create(DYNAMICAL), Model()
    optimizer = torch.optim.SGD(model.parameters(), LR)
    for step in range(steps or 15):
        rows = torch.arange(step * BATCH, (step + 1) * BATCH) % 40
        optimizer.zero_grad()
        exact(model(torch.tensor(X)[rows]), torch.tensor(Y)[rows]).backward()
        optimizer.step()
        exact.step()
    assert int(loss.steps_taken) == (steps or 15)
    torch.testing.assert_close(net.module_.linear.weight, model.linear.weight, rtol=1e-11, atol=1e-13)


def test_probabilities_are_those_of_the_logits() -> None:
    net = net_of(MLoss, LossCallback()).fit(X, Y)
    with torch.no_grad():
        logits = net.module_(torch.tensor(X))
    np.testing.assert_allclose(net.predict_proba(X), logits.softmax(1))
    np.testing.assert_array_equal(net.predict(X), logits.argmax(1))


def test_validation_scores_are_logged_and_end_a_training() -> None:
    run = Noted(99, stop_after=2)
    net = net_of(MLoss(), LossCallback(run), train_split=skorch.dataset.ValidSplit(5, stratified=True))
    net.fit(X, Y)
    assert [step for step, _ in run.points] == [4, 8]
    assert [score for _, score in run.points] == [row["valid_acc"] for row in net.history[:2]]
    assert len(net.history) == 3, "the third epoch ends with its first batch"
