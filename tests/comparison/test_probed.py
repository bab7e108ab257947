"""A comparison that measures its final trainings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import PLAN
from rich.console import Console

from lossmith.comparison.estimate import estimate
from lossmith.comparison.options import Options
from lossmith.comparison.plan import make_plan, write_plan
from lossmith.comparison.rows import Summary
from lossmith.comparison.session import carry_out
from lossmith.comparison.shown import probes_of
from lossmith.comparison.tuning import Setting
from lossmith.report.page import render
from lossmith.report.run import load_run
from lossmith.report.terminal import Leaderboard
from lossmith.trials import timing
from lossmith.trials.result import Curve, Series, TrialResult
from lossmith.trials.timing import Timing, time_looks
from lossmith.trials.trial import Sources, Trial

ASKED = {"data": "iris", "model": "mlp:width=8", "losses": ("rooted",), "lrs": 3, "steps": 30, "folds": 0, "repeats": 2}
MEASURED = {"probe": "sharpness,margin:rows=40", "every": 10}
RESULT = TrialResult(Curve((1,), {}, {"accuracy": (0.5,)}), {}, {}, {}, 1.0, 0.0, False, (), 0.1)


def carried(folder: Path, **probes: object) -> Summary:
    sources = Sources()
    plan = make_plan(Options(**ASKED, **probes), sources)  # type: ignore[arg-type]
    write_plan(plan, folder)
    return carry_out(plan, sources, folder, workers=0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    base = tmp_path_factory.mktemp("probed")
    carried(base / "alone" / "plain")
    return base, carried(base / "measured" / "run", **MEASURED)


def test_measuring_changes_no_result(runs: tuple[Path, Summary]) -> None:
    base, _ = runs
    for name in ("results.csv", "runs.csv", "recommendation.toml"):
        assert (base / "alone/plain" / name).read_bytes() == (base / "measured/run" / name).read_bytes()


def test_every_loss_has_its_sharpness_against_its_own_threshold(runs: tuple[Path, Summary]) -> None:
    """Adam's: 38 over the learning rate, which falls by a cosine; 19 w less with AdamW's weight decay w.

    There is no sharpness before the first step.
    """
    for row in runs[1].rows:
        found = row.training.probes
        assert set(found) == {"sharpness", "margin"}
        assert found["margin"].columns.keys() == {"smallest", "median", "accuracy"}
        last = found["sharpness"].steps[-1]
        assert found["sharpness"].steps == tuple(sorted({*range(0, last, 10), last}))
        columns = {name: np.array(of) for name, of in found["sharpness"].columns.items()}
        assert np.isnan(columns["sharpness"][0])
        assert (columns["ratio"][1:] > 0).all()
        decays = [of.get("weight_decay", 0.0) for of in row.tuning.values]
        starts = np.array([38 / lr - 19 * decay for lr, decay in zip(row.tuning.lrs, decays, strict=True)])
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
    plan = make_plan(Options(**ASKED, **MEASURED), sources)  # type: ignore[arg-type]
    arm = plan.arms[0]
    uses = {use: plan.training(arm, 0, 0, Setting(0.01), use).probes for use in ("tuning", "speed", "final")}  # type: ignore[arg-type]
    assert uses == {"tuning": (), "speed": (), "final": ("sharpness:every=10", "margin:every=10,rows=40")}
    assert time_looks(plan.trial, sources) > 0
    assert "probes" not in make_plan(Options(**ASKED), Sources()).text  # type: ignore[arg-type]


def test_what_is_shown_are_medians_over_the_final_trainings() -> None:
    """Of the ratios too: the ratio of the medians is another number."""
    plan = replace(PLAN, trial=replace(PLAN.trial, probes=("sharpness:every=10",)))
    sharpness, threshold = (
        np.array([[1.0, 8.0], [6.0, 9.0], [2.0, 5.0]]),
        np.array([[4.0, 2.0], [3.0, 3.0], [8.0, 10.0]]),
    )
    steps = np.array([0, 10])
    results = [
        replace(RESULT, series={"sharpness:every=10": Series(steps, np.stack([s, t], 1))})
        for s, t in zip(sharpness, threshold, strict=True)
    ]
    found = probes_of(plan, results)["sharpness"]
    assert found.steps == (0, 10)
    assert found.columns == {"sharpness": (2.0, 8.0), "threshold": (4.0, 3.0), "ratio": (0.25, 3.0)}


def test_the_estimate_counts_every_look_of_every_final_training() -> None:
    timings = {arm.name: Timing(0.0, 0.001, 0.0, 0.0) for arm in PLAN.arms}
    plain, probed = (estimate(PLAN, timings, 1, looks=looks).seconds for looks in (0.0, 2.0))
    assert probed - plain == pytest.approx(2.0 * len(PLAN.arms) * len(PLAN.pipelines))


def test_looks_are_timed_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two looks of 30 ms each, of a probe that looks twelve times in a training of 110 steps."""
    asked = []

    def train(trial: Trial, *_: object) -> TrialResult:
        asked.append((trial.steps, trial.probes))
        return replace(RESULT, probe_seconds=0.06)

    monkeypatch.setattr(timing, "train", train)
    trial = make_plan(Options(**ASKED), Sources()).trial  # type: ignore[arg-type]
    probes = ("ntk:every=10", "instability", "margin")
    assert time_looks(replace(trial, steps=110, probes=probes), Sources()) == pytest.approx(0.03 * (12 + 0 + 5))
    assert asked == [(1, (text,)) for text in probes]


def test_a_damaged_row_of_probes_is_refused(runs: tuple[Path, Summary], tmp_path: Path) -> None:
    source = runs[0] / "measured/run"
    (tmp_path / "plan.toml").write_bytes((source / "plan.toml").read_bytes())
    whole = json.loads((source / "summary.json").read_text())
    unknown = {"sharp": {"steps": [], "columns": {}}}
    lacking = {"sharpness": {"steps": [0], "columns": {"sharpness": [1]}}}
    for fault in (unknown, lacking):
        whole["rows"][0]["training"]["probes"] = fault
        (tmp_path / "summary.json").write_text(json.dumps(whole))
        with pytest.raises(ValueError, match=r"is damaged \(the probe sharp"):
            load_run(tmp_path)
