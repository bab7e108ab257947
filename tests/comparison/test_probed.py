"""A comparison that measures its final trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lossmith.comparison.options import Options
from lossmith.comparison.plan import make_plan, write_plan
from lossmith.comparison.rows import Summary
from lossmith.comparison.session import carry_out
from lossmith.comparison.tuning import Setting
from lossmith.report.page import render
from lossmith.report.run import load_run
from lossmith.report.terminal import Leaderboard
from lossmith.trials.timing import time_looks
from lossmith.trials.trial import Sources

ASKED = {"data": "iris", "model": "mlp:width=8", "losses": ("rooted",), "lrs": 3, "steps": 30, "folds": 0, "repeats": 2}
PROBES = {"probe": "sharpness,margin:rows=40", "every": 10}


def carried(folder: Path, **probes: object) -> Summary:
    sources = Sources()
    plan = make_plan(Options(**ASKED, **probes), sources)  # type: ignore[arg-type]
    write_plan(plan, folder)
    return carry_out(plan, sources, folder, workers=0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    base = tmp_path_factory.mktemp("probed")
    carried(base / "alone" / "plain")
    return base, carried(base / "measured" / "run", **PROBES)


def test_measuring_changes_no_result(runs: tuple[Path, Summary]) -> None:
    base, _ = runs
    for name in ("results.csv", "runs.csv", "recommendation.toml"):
        assert (base / "alone/plain" / name).read_bytes() == (base / "measured/run" / name).read_bytes()


def test_every_loss_has_its_sharpness_against_its_own_threshold(runs: tuple[Path, Summary]) -> None:
    """Adam's: 38 over the learning rate, which falls by a cosine; there is no sharpness before the first step."""
    for row in runs[1].rows:
        found = row.training.probes
        assert set(found) == {"sharpness", "margin"}
        assert found["margin"].columns.keys() == {"smallest", "median", "accuracy"}
        last = found["sharpness"].steps[-1]
        assert found["sharpness"].steps == tuple(sorted({*range(0, last, 10), last}))
        columns = {name: np.array(band.median) for name, band in found["sharpness"].columns.items()}
        assert np.isnan(columns["sharpness"][0])
        assert (columns["ratio"][1:] > 0).all()
        starts = np.array([38 / lr for lr in row.tuning.lrs])
        np.testing.assert_allclose(columns["threshold"][0], np.median(starts), rtol=1e-6)
    assert runs[1].probe_share is not None
    assert 0 < runs[1].probe_share < 1


def test_page_and_terminal_show_it(runs: tuple[Path, Summary]) -> None:
    run = load_run(runs[0] / "measured/run")
    page = render(run)
    assert 'id="sharpness"' in page
    assert 'id="margin"' in page
    assert 'id="ntk"' not in page
    assert 'id="sharpness"' not in render(load_run(runs[0] / "alone/plain"))
    console = Console(width=80)
    with console.capture() as printed:
        console.print(Leaderboard(run))
    assert "of the time of the final trainings" in printed.get()


def test_only_final_trainings_are_measured_and_their_looks_are_announced() -> None:
    sources = Sources()
    plan = make_plan(Options(**ASKED, **PROBES), sources)  # type: ignore[arg-type]
    arm = plan.arms[0]
    uses = {use: plan.training(arm, 0, 0, Setting(0.01), use).probes for use in ("tuning", "speed", "final")}  # type: ignore[arg-type]
    assert uses == {"tuning": (), "speed": (), "final": ("sharpness:every=10", "margin:every=10,rows=40")}
    assert time_looks(plan.trial, sources) > 0
    assert "probes" not in make_plan(Options(**ASKED), Sources()).text  # type: ignore[arg-type]
