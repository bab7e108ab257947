"""The time of a comparison is measured before it begins, and what does not fit is left out."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from made_up import PLAN
from rich.console import Console

from lossmith.cli import main
from lossmith.comparison.estimate import Estimate, duration, estimate, measure
from lossmith.comparison.fitting import fit, fitted_plan
from lossmith.comparison.options import Options
from lossmith.comparison.plan import make_plan
from lossmith.progress import ConsoleProgress
from lossmith.trials.ledger import Ledger
from lossmith.trials.models import canonical_model
from lossmith.trials.result import Curve, TrialResult
from lossmith.trials.timing import Timing, time_trials
from lossmith.trials.trial import Sources
from made_trials import changed

RESULT = TrialResult(Curve((1,), {}, {"accuracy": (0.5,)}), {}, {}, {}, 1.0, 0.0, False, (), 0.1)
SLOW = """
import time
from torch import nn
class Slow(nn.Linear):
    def forward(self, x):
        time.sleep(0.02 if self.training else 0.05)
        return super().forward(x)
def make(input_shape, outputs):
    return Slow(input_shape[0], outputs)
"""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (44.6, "45 s"),
        (90, "1.5 min"),
        (247, "4.1 min"),
        (600, "10 min"),
        (7200, "2 h"),
        (2e5, "2.3 days"),
    ],
)
def test_durations_have_no_more_digits_than_an_estimate_deserves(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_steps_and_evaluations_are_timed_apart(tmp_path: Path) -> None:
    """A model that sleeps 20 ms in a step and 50 ms in an evaluation, whose validation part is one batch."""
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    sources = Sources({"iris": "iris"})
    model = canonical_model(f"{tmp_path}/slow.py:make", sources)
    trial = changed(replace(PLAN.trial, steps=30), model=model)
    state = torch.get_rng_state()
    found = time_trials([trial], sources)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.step >= 0.02
    assert found.point >= 0.05
    assert found.end >= 0.05
    assert found.begin < 10 * found.point, "no step and no evaluation belongs to the beginning"
    assert found.whole(30, 10) == pytest.approx(found.begin + 30 * found.step + 10 * found.point + found.end)
    assert found.evaluation(10) == pytest.approx(10 * found.point + found.end)


def test_an_estimate_is_of_what_is_left(tmp_path: Path) -> None:
    """Every arm, fold and repeat takes its budget and a final training; what the ledger holds is done."""
    timings = {arm.name: Timing(0.0, 0.01, 0.1, 1.0) for arm in PLAN.arms}  # 3 s of steps, 2 s of evaluation
    whole = estimate(PLAN, timings, workers=1)
    trainings = len(PLAN.arms) * 2 * 2 * (6 + 1)
    assert trainings <= whole.trainings <= 1.5 * trainings
    assert whole.evaluation == pytest.approx(2 / 5)
    assert whole.seconds == pytest.approx(5 * whole.trainings, rel=0.05)
    assert estimate(replace(PLAN, repeats=4), timings, 1).trainings == 2 * whole.trainings
    assert str(replace(whole, seconds=240.0)).startswith("about 4 min; ")
    assert str(whole).endswith("trainings of 300 steps; evaluation 40 % of it")
    tuning = [
        PLAN.training(arm, *pipeline, setting, "tuning")
        for arm in PLAN.arms
        for pipeline in PLAN.pipelines
        for setting in PLAN.bracket(arm)
    ]
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put([(trial, RESULT) for trial in tuning[: len(tuning) // 2]])
        half = estimate(PLAN, timings, 1, ledger)
        assert half.trainings == pytest.approx(whole.trainings / 2, rel=0.02)
        ledger.put([(trial, RESULT) for trial in tuning])
        assert estimate(PLAN, timings, 1, ledger).trainings == 0


@pytest.fixture(scope="module")
def full() -> tuple[Options, object]:
    options = Options(data="iris", model="mlp:width=8", steps=None, device="cpu")
    return options, make_plan(options, Sources())


def test_less_time_leaves_out_more_and_says_what(full) -> None:
    options, plan = full
    timings = {arm.name: Timing(0.0, 0.001, 0.0, 0.0) for arm in plan.arms}
    whole = estimate(plan, timings, 1).seconds
    assert fit(options, plan, timings, whole + 1, 1) == (options, ())
    sizes = []
    for share in (1.0, 0.8, 0.5, 0.2, 0.05, 0.001):
        smaller, notes = fit(options, plan, timings, share * whole + 1, 1)
        losses = len(smaller.losses) if smaller.losses is not None else 99
        sizes.append((losses, smaller.lrs or 8, smaller.folds or 5, smaller.steps or plan.trial.steps))
        said = " ".join(notes)
        assert ("learning rates to save time" in said) == (smaller.lrs is not None)
        assert ("steps per training to save time" in said) == (smaller.steps is not None)
        assert ("left out to save time" in said) == (smaller.losses is not None)
        if smaller.folds is not None:
            factor = re.search(r"grows to as much as ([\d.]+) times", said)
            assert factor is not None
            assert float(factor[1]) == pytest.approx((5 / smaller.folds) ** 0.5, abs=0.05)
    assert all(all(b <= a for a, b in zip(*pair, strict=True)) for pair in pairwise(sizes))
    assert sizes[-1] == (3, 4, 2, 100)
    assert "even so it takes about" in said


def test_what_the_user_asked_for_is_not_left_out(full) -> None:
    options, plan = full
    timings = {arm.name: Timing(0.0, 1.0, 0.0, 0.0) for arm in plan.arms}
    asked = replace(options, losses=("m", "ngl"), lrs=8, folds=5, steps=300)
    assert fit(asked, plan, timings, 1.0, 1)[0] == asked


def test_a_fitted_plan_names_the_options_that_make_it_again(tmp_path: Path) -> None:
    asked = Options(data="iris", model="mlp:width=8", losses=("m",), device="cpu")
    found, said = fitted_plan(asked, Sources(), 0.01, 1, tmp_path)
    again = said[-1]
    assert "--lrs 4" in again
    assert "--folds 2" in again
    same = make_plan(replace(asked, lrs=4, folds=2, steps=found.trial.steps), Sources())
    assert found == same  # measured times are no part of a plan


def test_a_request_is_cut_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times vary: the same command finds the cuts of the first time, unless it was a dry run, and resumes."""
    asked = Options(data="iris", model="mlp:width=8", losses=("m",), device="cpu")
    dry, _ = fitted_plan(asked, Sources(), 0.01, 1, tmp_path, keep=False)
    assert not list(tmp_path.iterdir())
    first, said = fitted_plan(asked, Sources(), 0.01, 1, tmp_path)
    assert first == dry
    monkeypatch.setattr("lossmith.comparison.fitting.measure", lambda *_: pytest.fail("it is not measured again"))
    assert fitted_plan(asked, Sources(), 0.01, 8, tmp_path) == (first, said)


def test_one_arm_of_each_kind_is_timed() -> None:
    """Losses that learn cost more and are timed alone; a replay is as long as what it replays."""
    losses = ("m", "adaptive", "adaptive:control=scale")
    plan = make_plan(Options(data="iris", model="mlp:width=8", losses=losses, device="cpu", steps=30), Sources())
    found = measure(plan, Sources({"iris": "iris"}))
    assert found.keys() == {arm.name for arm in plan.arms}
    assert found["m"] == found["cross_entropy"]
    assert found["adaptive"].step > found["m"].step


def test_progress_tells_the_time_left_of_the_whole_run_off_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("lossmith.progress.time.monotonic", lambda: now[0])
    file = io.StringIO()
    with ConsoleProgress(Console(file=file, width=100), Estimate(1000, 300, 2000.0, 0.1)) as progress:
        progress.start("learning rates", 400, 0)
        assert progress.left == "about 33 min left"
        now[0] = 400.0  # twice as fast as was thought
        progress.advance(400)
        assert progress.left == "about 12 min left"  # (100 * 2 s + 400 s) / 500 for each of 600
        progress.start("final trainings", 100, 0)
        progress.advance(100)
        progress.start("speed", 900, 0)  # more than was thought
        assert "left" in progress.left
        progress.advance(900)
        assert progress.left == ""
    told = file.getvalue()
    assert "learning rates: 400 trainings, about 33 min left" in told
    assert "learning rates: 400 of 400, about 12 min left" in told


def test_a_dry_run_says_how_long_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shape = ("compare", "iris", "--model", "mlp:width=8", "--losses", "m", "--steps", "30", "--dry-run")
    monkeypatch.setattr(sys, "argv", ["lossmith", *shape])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert re.search(
        r"about [\d.]+ (s|min); [\d,]+ trainings of 30 steps; evaluation \d+ % of it", capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []
