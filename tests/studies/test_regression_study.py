from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lossmith.comparison.arms import make_arms
from lossmith.studies.regression import LOSSES, main
from lossmith.tasks.regression import Regression

TASK = Regression(1.0)


def table(folder: Path) -> Path:
    """A line with a few gross errors."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(120, 3))
    y = x @ [1.0, -2.0, 0.5] + 0.1 * draw.normal(size=120)
    file = folder / "table.csv"
    np.savetxt(file, np.column_stack([x, y]), delimiter=",", header="a,b,c,y", comments="")
    return file


def test_every_way_of_learning_is_compared_with_its_controls() -> None:
    arms = make_arms(TASK, [TASK.loss_text(loss) for loss in LOSSES], "sgd")
    names = {arm.name for arm in arms}
    assert len(arms) == len(names) == 5 + len(LOSSES)
    assert {"mse", "mse (again)", "mse + weight decay", "huber (tuned)", "mse (3 times the steps)"} < names
    replayed = {(arm.replays, arm.replay) for arm in arms if arm.replay}
    online = "adaptive_regression:meta_data=next,meta_lr=?,scale=learned"
    assert replayed == {(online, "rate"), (online, "loss")}
    assert sum(arm.role == "candidate" for arm in arms) == len(LOSSES) - 3


def test_a_bad_request_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.csv"), "--label", "y"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert main([str(table(tmp_path)), "--label", "z"]) == 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_study_runs_and_says_whether_the_loss_adapts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--folds", "2", "--repeats", "2", "--steps", "60", "--workers", "2", "--out", str(tmp_path / "run")]
    assert main([str(table(tmp_path)), "--label", "y", *out]) == 0
    assert "adapts" in " ".join(capsys.readouterr().out.split())
