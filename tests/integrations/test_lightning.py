"""Losses in Lightning against a plain loop."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossmith

lightning = pytest.importorskip("lightning.pytorch", reason="needs lossmith[lightning]")

from lossmith.integrations.lightning import LossCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # other libraries' own

DYNAMICAL = "dynamical(m):amplitude=9,period=2"
ROWS, BATCH, LR = 48, 4, 0.05


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(ROWS, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (ROWS,), generator=generator)


class Module(lightning.LightningModule):
    """A linear classifier; the loss is a part of the module, or only called by it."""

    def __init__(self, loss: nn.Module, *, part: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Linear(5, 3, dtype=torch.float64)
        if part:
            self.loss = loss
        else:
            self.call = [loss]

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, y = batch
        return (self.loss if hasattr(self, "loss") else self.call[0])(self.model(x), y)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        x, y = batch
        self.log("val_acc", (self.model(x).argmax(1) == y).double().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.model.parameters(), LR)


def fit(
    module: Module, callback: Any, folder: Path, *, resume: str | None = None, validate: bool = False, **options: Any
) -> Any:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    settings = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False, "accelerator": "cpu"}
    settings |= {"default_root_dir": str(folder), "enable_checkpointing": False, "callbacks": [callback]}
    trainer = lightning.Trainer(**(settings | options))
    x, y = data()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=BATCH)
    trainer.fit(module, loader, loader if validate else None, ckpt_path=resume)
    return trainer


def by_hand(loss: Any, steps: int, accumulated: int = 1) -> dict[str, Tensor]:
    """A plain loop on batches that are as large as those accumulated."""
    torch.manual_seed(0)
    model = nn.Linear(5, 3, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), LR)
    x, y = data()
    size = BATCH * accumulated
    for step in range(steps):
        rows = torch.arange(step * size, (step + 1) * size) % ROWS
        optimizer.zero_grad()
        loss(model(x[rows]), y[rows]).backward()
        optimizer.step()
        loss.step()
    return {name: value.detach() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("part", [True, False])
@pytest.mark.parametrize("accumulated", [1, 3])
def test_a_schedule_moves_with_the_optimiser(part: bool, accumulated: int, tmp_path: Path) -> None:
    loss = lossmith.create(DYNAMICAL)
    module = Module(loss, part=part)
    fit(module, LossCallback(loss), tmp_path, max_steps=7, accumulate_grad_batches=accumulated)
    assert int(loss.steps_taken) == 7
    exact = by_hand(lossmith.create(DYNAMICAL), 7, accumulated)
    torch.testing.assert_close(module.model.state_dict(), exact, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("part", [True, False])
def test_a_checkpoint_keeps_the_schedule(part: bool, tmp_path: Path) -> None:
    """The loss is always where the optimiser is, whichever batches Lightning begins with."""
    first = lossmith.create(DYNAMICAL)
    trainer = fit(Module(first, part=part), LossCallback(first), tmp_path, max_steps=12)
    trainer.save_checkpoint(tmp_path / "twelve.ckpt")
    loss, seen = lossmith.create(DYNAMICAL), []
    module = Module(loss, part=part)
    loss.register_forward_pre_hook(lambda *_: seen.append((int(loss.steps_taken), module.trainer.global_step)))
    fit(module, LossCallback(loss), tmp_path, max_steps=17, resume=str(tmp_path / "twelve.ckpt"))
    assert seen == [(step, step) for step in range(12, 17)]


class Noted:
    steps = 99

    def __init__(self, stop_after: int | None = None) -> None:
        self.points: list[tuple[int, float]] = []
        self.stop_after = stop_after

    @property
    def should_stop(self) -> bool:
        return len(self.points) == self.stop_after

    def log(self, step: int, score: float) -> None:
        assert not self.points or step > self.points[-1][0]
        self.points.append((step, score))


@pytest.mark.parametrize("stop_after", [None, 2])
def test_validations_of_the_training_are_logged_and_end_it(stop_after: int | None, tmp_path: Path) -> None:
    run, loss = Noted(stop_after), lossmith.create("m")
    module = Module(loss)
    trainer = fit(module, LossCallback(loss, run), tmp_path, validate=True, max_steps=9, val_check_interval=3)
    assert [step for step, _ in run.points] == ([3, 6, 9] if stop_after is None else [3, 6])
    x, y = data()
    assert run.points[-1][1] == pytest.approx(float((module.model(x).argmax(1) == y).double().mean()))
    trainer.validate(module, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y)), verbose=False)
    assert len(run.points) == (stop_after or 3)
