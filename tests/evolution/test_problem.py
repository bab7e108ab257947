"""Problems: what one training of a candidate is, and the reference's learning rates."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lossmith.evolution.problem import CHOICE, LADDER, Rung, mean_units, strictness, tuned_rates
from lossmith.formulas import evaluate, parse
from lossmith.trials.result import TrialResult
from lossmith.trials.trial import SearchTrainer, Trial
from made_problems import problem, scored

GUIDE = Path(__file__).parents[2] / "docs" / "evolve.md"
NGL = "exp(2.4092 - p*(1 + y)) - cos(cos(sin(p)))"


class Landscape:
    """A runner whose trainings score what a function of the trial says."""

    def __init__(self, score: Callable[[Trial], float]) -> None:
        self.score, self.trained = score, list[Trial]()

    def run_all(self, trials: Sequence[Trial], label: str) -> dict[Trial, TrialResult]:
        assert label == "tuning cross-entropy"
        self.trained += trials
        return {trial: scored(self.score(trial)) for trial in trials}


def best_at(lr: float) -> Callable[[Trial], float]:
    return lambda trial: abs(math.log(trial.optimizer.lr / lr))


@pytest.mark.parametrize(
    ("optimizer", "best", "found"),
    [
        ("adam", 2.0**-7, 2.0**-7),
        ("adam", 2.0**-11, 2.0**-11),  # on the edges of the grid
        ("adam", 2.0**-4, 2.0**-4),
        ("adam", 2.0**-13, 2.0**-13),  # beyond them
        ("adam", 2.0**-1, 2.0**-1),
        ("adam", 1e-9, 2.0**-15),  # halved and doubled four times at most
        ("adam", 1e9, 2.0**0),
        ("adam", 1.1 * 2.0**-7, 2.0**-7),
        ("sgd", 0.1 / 2**6, 0.1 / 2**6),
        ("sgd", 0.2, 0.2),
        ("sgd", 1e9, 3.2),
    ],
)
def test_the_best_rate_is_sought_beyond_the_edges_of_the_grid(optimizer, best, found):
    ((rate, *_),), ((score, *_),) = tuned_rates([problem(optimizer)], LADDER[:1], Landscape(best_at(best)))
    assert rate == pytest.approx(found)
    assert score == pytest.approx(abs(math.log(found / best)), abs=1e-4)


def test_of_equally_good_rates_the_smaller_one_is_taken():
    flat = Landscape(lambda trial: 0.0 if -9 <= round(math.log2(trial.optimizer.lr)) <= -6 else 1.0)
    assert tuned_rates([problem()], LADDER[:1], flat)[0] == [[2.0**-9]]


def test_no_rate_is_trained_twice_and_each_with_two_seeds_at_least():
    for rung, seeds in ((LADDER[0], 2), (LADDER[2], 2), (CHOICE, 3)):
        runner = Landscape(best_at(1e-9))
        tuned_rates([problem()], [rung], runner)
        assert len(set(runner.trained)) == len(runner.trained) == (8 + 4) * seeds
        assert {trial.loss for trial in runner.trained} == {"formula(-y*log(p))"}


def test_the_mean_over_seeds_decides():
    """Each seed has another best rate: one is bad at 2^-9, the other one at 2^-6, and neither is very bad at 2^-7."""
    seeds = [problem().training("y*c", 1.0, LADDER[0], repeat).seed for repeat in range(2)]
    nats = {seeds[0]: {-9: 9.0, -7: 2.0, -6: 0.0}, seeds[1]: {-9: 0.0, -7: 2.0, -6: 9.0}}
    runner = Landscape(lambda trial: nats[trial.seed].get(round(math.log2(trial.optimizer.lr)), 20.0))
    assert tuned_rates([problem()], LADDER[:1], runner) == ([[2.0**-7]], [[2.0]])


def test_rates_are_found_for_each_problem_on_each_rung():
    problems = [problem(), problem(steps=2000)]
    rates, scores = tuned_rates(
        problems, LADDER[:3], Landscape(lambda t: best_at(2.0**-4 * 200 / t.steps)(t) + t.steps)
    )
    wanted = [[200 / steps for steps in of] for of in ([200, 500, 1000], [400, 1000, 2000])]
    for found, of in zip(rates, wanted, strict=True):
        assert np.abs(np.log2(np.divide(found, of)) + 4).max() <= 0.5  # the nearest power of two
    assert np.array(scores).round().astype(int).tolist() == [[200, 500, 1000], [400, 1000, 2000]]


def test_the_ladder_is_the_one_that_the_guide_describes():
    table = re.findall(
        r"^\| (\d) \| (.+) \| (.+) \| (\d).* \| (.+) \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE
    )
    shares = {"a fifth": 0.2, "half": 0.5, "all": 1.0}
    factors = {"cross-entropy's": (1.0,), "half of it and twice": (0.5, 2.0), "the better one": (), "the same": ()}
    exact = {"by table": False, "of the loss itself": True}
    assert [number for number, *_ in table] == ["1", "2", "3", "4"]
    told = [Rung(shares[steps], int(seeds), factors[rates], exact[by]) for _, steps, rates, seeds, by in table]
    assert tuple(told) == LADDER
    assert Rung(1.0, 3, (0.5, 1.0, 2.0), exact=True) == CHOICE  # three seeds and learning rates, in full


def test_a_training_is_the_references_but_for_what_a_search_changes():
    of = problem()
    for stage, rows in (("search", 900), ("choice", 4000)):
        for rung, tabulated in ((LADDER[1], True), (CHOICE, False)):
            trial = of.training("y*c", 0.123456789, rung, 1, stage)
            trainer = trial.trainer
            assert isinstance(trainer, SearchTrainer)
            assert trainer.data == replace(of.trial.ours.data, stage=stage, valid_size=rows)
            assert (trainer.model, trainer.batch_size, trainer.select) == ("mlp", 32, "last")
            assert (trainer.evaluations, trainer.evaluation_rows) == (1, 1)  # there is no learning curve
            assert (trainer.tabulated, trainer.scaled, trainer.balanced) == (tabulated, False, True)
            assert trial.optimizer == replace(of.trial.optimizer, lr=0.123457)
            assert trial.loss == "formula(y*c)"
            assert trial.steps == round(1000 * rung.share)
    assert of.training("y*c", 0.1, LADDER[0], 0).ours.data.stage == "search"
    assert replace(of, trial=replace(of.trial, steps=2)).steps(LADDER[0]) == 1


def test_each_training_of_a_candidate_has_a_seed_of_its_own_whatever_the_formula():
    of = problem()
    places = [("search", rung, k) for rung in LADDER for k in range(rung.seeds)]
    places += [("choice", CHOICE, k) for k in range(CHOICE.seeds)]
    seeds = [of.training("y*c", 0.1, rung, k, stage).seed for stage, rung, k in places]
    assert len(set(seeds)) == len(places) == 9
    assert [of.training("y*p", 0.2, rung, k, stage).seed for stage, rung, k in places] == seeds
    other = replace(of, seed=12)
    assert not {other.training("y*c", 0.1, rung, k, stage).seed for stage, rung, k in places} & set(seeds)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("text", ["y*c", "square(p - y)", NGL, "-y*c", "y*c*(1 - t) + t*y/p", "y*c*n"])
def test_strictness_is_the_pull_on_the_target_over_cross_entropys(text, classes):
    """By autograd from the definition: the sum over the classes, at logits 0 and t = 0."""
    logits = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    log_p = logits.log_softmax(0)
    y = torch.eye(classes, dtype=torch.float64)[0]
    evaluate(parse(text), p=log_p.exp(), c=-log_p, y=y, n=float(classes), t=0.0).sum().backward()
    assert logits.grad is not None
    assert strictness(parse(text), classes) == pytest.approx(-logits.grad[0].item() / (1 - 1 / classes))


def test_the_first_step_of_sgd_is_as_long_as_the_references():
    assert problem("sgd").scale(parse("-5*y*c")) == pytest.approx(5.0)
    assert problem("sgd").scale(parse("y*c/4")) == pytest.approx(0.25)
    assert problem("adam").scale(parse("-5*y*c")) == 1.0
    for text in ("y*(p - p)", "y*c/(n - 3)", "c/(n - 3)"):  # 0, infinite, NaN
        assert problem("sgd").scale(parse(text)) == 1.0


def test_units_are_means_over_trainings_and_missing_where_one_failed():
    trials = [problem().training("y*c", 0.1, LADDER[2], repeat) for repeat in range(2)]
    results = {trials[0]: scored(1.0, [0.0, 2.0, 4.0]), trials[1]: scored(2.0, [2.0, 3.0, 1.0])}
    units = mean_units(trials, results)
    assert units is not None
    assert units.dtype == np.float32
    assert units.tolist() == [1.0, 2.5, 2.5]
    for bad in (scored(math.inf, [0.0, 1.0, 2.0]), scored(math.nan, [0.0, 1.0, 2.0]), scored(1.0)):
        assert mean_units(trials, results | {trials[1]: bad}) is None
    assert mean_units(trials, {trials[0]: results[trials[0]]}) is None
