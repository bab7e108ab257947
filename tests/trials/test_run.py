"""What a training function is given is what its trial says, and what it may log and return."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lossmith.tasks import Classification, Regression, ScoredClassification
from lossmith.trials.function import make_run
from lossmith.trials.returned import judge_returned
from lossmith.trials.trial import FunctionTrainer, OptimizerSpec, Trial

SHARES = (0.6, 0.3, 0.1)
CLASSES = Classification(("a", "b", "c"), SHARES)
TRAINER = FunctionTrainer("mine.py:train#0", CLASSES, folds=3, fold=1, repeat=2, split_seed=5)
TRIAL = Trial(TRAINER, "focal:gamma=1.5", OptimizerSpec("adamw", 0.25, weight_decay=0.125), 40, 7, final=True)


def test_a_run_is_what_the_trial_says() -> None:
    run, notes = make_run(TRIAL)
    assert (run.lr, run.weight_decay, run.steps, run.seed) == (0.25, 0.125, 40, 7)
    assert (run.fold, run.folds, run.repeat, run.final) == (1, 3, 2, True)
    assert (run.values, run.device, notes) == ({"gamma": 1.5}, "cpu", ())
    logits, labels = torch.randn(9, 3), torch.arange(9) % 3
    p = logits.softmax(1)[torch.arange(9), labels]
    torch.testing.assert_close(run.loss(logits, labels), (-((1 - p) ** 1.5) * p.log()).mean())


def test_the_loss_knows_the_shares_of_the_classes() -> None:
    run, _ = make_run(replace(TRIAL, loss="logit_adjusted"))
    logits, labels = torch.randn(9, 3), torch.arange(9) % 3
    exact = F.cross_entropy(logits + torch.tensor(SHARES).log(), labels)
    torch.testing.assert_close(run.loss(logits, labels), exact)


def test_parts_follow_from_the_seed_of_the_comparison_and_not_from_that_of_the_training() -> None:
    labels = np.arange(90) % 3

    def parts(trial: Trial) -> list[list[int]]:
        return [part.tolist() for part in make_run(trial)[0].split(labels)]

    assert parts(TRIAL) == parts(replace(TRIAL, seed=8))
    assert parts(TRIAL)[2] != parts(replace(TRIAL, trainer=replace(TRAINER, split_seed=6)))[2]


@pytest.mark.parametrize("step", [3, 2])
def test_points_are_logged_in_order(step: int) -> None:
    run, _ = make_run(TRIAL)
    run.log(3, 0.5)
    with pytest.raises(ValueError, match="comes after step 3"):
        run.log(step, 0.5)
    assert run.curve == [(3, 0.5)]


def test_a_score_that_is_not_finite_and_the_end_of_the_time_ask_for_an_end() -> None:
    run, _ = make_run(TRIAL)
    assert not run.should_stop
    run.log(1, 0.5)
    assert not run.should_stop
    run.log(2, math.nan)
    assert run.should_stop
    late, _ = make_run(TRIAL, time_limit=0.0)
    assert late.should_stop
    with pytest.raises(TimeoutError):
        late.log(1, 0.5)


def test_many_outputs_are_judged_as_few_are() -> None:
    """Accuracy and cross-entropy of 1,000 rows, in order."""
    logits, labels = torch.randn(1000, 3, dtype=torch.float64), torch.arange(1000) % 3
    valid, test, finite = judge_returned(((logits, labels), None), CLASSES, final=False)
    assert (test, finite) == (None, True)
    assert valid.index.tolist() == list(range(1000))
    np.testing.assert_array_equal(valid.score, (logits.argmax(1) == labels).double().numpy())
    exact = F.cross_entropy(logits, labels, reduction="none").numpy()
    np.testing.assert_allclose(CLASSES.conclude(valid, None)[0].columns["nll"], exact, rtol=1e-4)


@pytest.mark.parametrize("part", [0, 1])
def test_what_is_not_finite_in_either_part_is_a_training_that_diverged(part: int) -> None:
    good, labels = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])
    bad = good.clone()
    bad[1, 2] = math.nan
    pairs = [(good, labels), (good, labels)]
    pairs[part] = bad, labels
    assert not judge_returned(tuple(pairs), CLASSES, final=True)[2]
    scores = [np.array([0.5, 1.0]), np.array([0.5, 1.0])]
    scores[part][1] = math.inf
    assert not judge_returned(tuple(scores), ScoredClassification(("a", "b")), final=True)[2]
    numbers = [(torch.zeros(4), torch.ones(4)), (torch.zeros(4), torch.ones(4))]
    numbers[part] = bad[:, 2], torch.ones(4)
    assert not judge_returned(tuple(numbers), Regression(1.0), final=True)[2]
