"""Evaluating a training costs little of it, and sees all of the validation part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lossmith.data import DataSpec, Examples, load_dataset, make_splits
from lossmith.trials.evaluation import SHARE, affordable_evaluation
from lossmith.trials.options import Request
from lossmith.trials.request import draft
from lossmith.trials.training import train
from lossmith.trials.trial import Sources

COUNTING = """
from torch import nn
met = {True: 0, False: 0}  # examples, in training mode and out of it
class Counting(nn.Linear):
    def forward(self, x):
        met[self.training] += len(x)
        return super().forward(x)
def make(input_shape, outputs):
    import sys
    sys.modules["met"] = met
    return Counting(input_shape[0], outputs)
"""


def part(size: int, *shape: int) -> Examples:
    return Examples(torch.zeros(size, 1), torch.zeros(size, *shape, dtype=torch.int64), torch.arange(size))


def sorted_by_class(file: Path, sizes: tuple[int, int, int], classes: int = 4) -> Path:
    """Parts of a data set whose examples come class by class, as many are stored."""
    parts = {}
    for name, size in zip(("train", "val", "test"), sizes, strict=True):
        labels = np.arange(size) * classes // size
        parts |= {f"x_{name}": np.eye(classes, dtype=np.float32)[labels], f"y_{name}": labels}
    np.savez(file, **parts)  # type: ignore[arg-type]
    return file


def test_the_model_is_evaluated_on_few_examples_beside_those_it_is_trained_on(tmp_path: Path) -> None:
    """12,000 validation examples beside 100 steps: a model that counts what it is given in either mode."""
    file = sorted_by_class(tmp_path / "many.npz", (2000, 12000, 100))
    (tmp_path / "net.py").write_text(COUNTING, encoding="utf-8")
    sources = Sources()
    drafted = draft(Request(data=str(file), model=f"{tmp_path}/net.py:make", steps=100, batch_size=64), sources)
    train(drafted.trial, sources)
    import met  # type: ignore[import-not-found]

    assert met[True] == 100 * 64
    cost = 0.6 * (met[False] - 2)  # two examples were shown to it before
    assert cost / (cost + met[True]) <= SHARE
    (note,) = drafted.notes
    assert "12,000 validation examples" in note
    assert "--valid-size" in note
    chosen = draft(Request(data=str(file), model="mlp", steps=100, valid_size=5000), Sources())
    assert (len(chosen.splits.valid), chosen.notes) == (5000, ())


@pytest.mark.parametrize("engine, cost", [("single", 0.6), ("stacked", 0.35)])
@pytest.mark.parametrize("valid", [24, 287, 12_000])
def test_what_is_evaluated_stays_within_its_share(engine: str, cost: float, valid: int) -> None:
    for steps, batch_size in ((300, 16), (340, 64), (620, 64), (1875, 128), (5000, 512)):
        found = affordable_evaluation(engine, steps, batch_size, part(valid))  # type: ignore[arg-type]
        rows = found.points * found.rows + found.valid
        if steps * batch_size >= 10_000:
            assert cost * rows <= SHARE * (cost * rows + steps * batch_size) * (1 + 1e-9)
        assert 10 <= found.points <= 60
        assert found.rows <= min(valid, 1024)
        assert min(valid, 500) <= found.valid <= valid


def test_points_of_masks_hold_a_bounded_number_of_pixels() -> None:
    found = affordable_evaluation("single", 5000, 64, part(60, 256, 256))
    assert found.rows == 2**21 // 256**2


def test_a_learning_curve_sees_every_class_of_a_sorted_validation_part(tmp_path: Path) -> None:
    """A model that has learned one class of four scores a quarter, not one."""
    file = sorted_by_class(tmp_path / "sorted.npz", (400, 4000, 100))
    code = (
        "from torch import nn\n"
        "def make(input_shape, outputs):\n"
        "    model = nn.Linear(input_shape[0], outputs)\n"
        "    nn.init.zeros_(model.weight)\n"
        "    model.bias.data[:] = 0; model.bias.data[0] = 100.\n"
        "    return model\n"
    )
    (tmp_path / "one.py").write_text(code, encoding="utf-8")
    sources = Sources()
    drafted = draft(Request(data=str(file), model=f"{tmp_path}/one.py:make", steps=40, batch_size=8), sources)
    from made_trials import changed

    trial = changed(drafted.trial, optimizer=drafted.trial.optimizer.__class__("sgd", 1e-6))
    assert trial.ours.evaluation_rows < 1000, "the first class fills the first thousand"
    assert set(train(trial, sources).curve.score) == {0.25}


def test_valid_size_keeps_at_most_so_many_by_class_share_and_leaves_the_rest_alone() -> None:
    digits = load_dataset("digits")
    whole, small, all_of_it = (
        make_splits(digits, DataSpec("digits", folds=5, valid_size=size)) for size in (None, 100, 5000)
    )
    assert len(small.valid) == 100
    assert set(small.valid.index.tolist()) < set(whole.valid.index.tolist())
    shares = [torch.bincount(each.valid.targets, minlength=10) / len(each.valid) for each in (small, whole)]
    assert (shares[0] - shares[1]).abs().max() <= 1 / 100
    assert torch.equal(all_of_it.valid.index, whole.valid.index)
    for name in ("train", "test"):
        assert torch.equal(getattr(small, name).index, getattr(whole, name).index)
