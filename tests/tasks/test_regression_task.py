"""Regression: what a row scores, against scikit-learn and the textbook, and trials that train it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from lossmith.data import DataSpec, Examples
from lossmith.tasks import Judged, Regression, task_for
from lossmith.trials.models import can_be_stacked
from lossmith.trials.options import Request
from lossmith.trials.request import draft
from lossmith.trials.training import splits_of, train, train_many
from lossmith.trials.trial import OptimizerSpec, Sources
from made_trials import changed, made

TRIAL = made(
    DataSpec("diabetes", task="regression"),
    "linear",
    "mse",
    OptimizerSpec("adam", 0.05),
    steps=400,
    batch_size=32,
    seed=0,
    evaluations=4,
    final=True,
)


def judge(prediction: np.ndarray, target: np.ndarray, unit: float = 1.0) -> Judged:
    index = torch.arange(len(target))
    examples = Examples(index, torch.tensor(target)[:, None], index)
    return Regression(unit).judge(torch.tensor(prediction)[:, None], examples)


def test_the_mean_score_is_r2_and_columns_are_in_the_targets_unit() -> None:
    """Of standardised targets, whose variance is 1."""
    rng = np.random.default_rng(0)
    target = rng.normal(size=500)
    target = (target - target.mean()) / target.std()
    prediction = target + 0.3 * rng.normal(size=500)
    task, judged = Regression(7.0), judge(prediction, target, 7.0)
    assert task.metrics(judged)["R2"] == pytest.approx(r2_score(target, prediction))
    told = task.columns(judged)
    assert told["mae"] == pytest.approx(7 * mean_absolute_error(target, prediction))
    assert told["rmse"] == pytest.approx(7 * root_mean_squared_error(target, prediction))
    assert task.metrics(judge(np.zeros(500), target))["R2"] == pytest.approx(task.guess)
    outputs, targets = (torch.tensor(values).expand(2, 500)[..., None] for values in (prediction, target))
    r2 = r2_score(target, prediction)
    assert task.curve_point(outputs, targets).numpy() == pytest.approx(
        np.array([[r2] * 2, [told["mae"]] * 2]), rel=1e-6
    )


def test_what_is_no_prediction_counts_as_ten_standard_deviations_off() -> None:
    judged = judge(np.array([np.nan, np.inf, 1e30, 0.5]), np.zeros(4), 2.0)
    assert judged.score.tolist() == [-99, -99, -99, 0.75]
    assert judged.columns["absolute_error"].tolist() == [20, 20, 20, 1]


def test_a_linear_model_trained_with_squared_error_comes_to_least_squares() -> None:
    splits = splits_of(TRIAL, Sources())
    x, y = splits.train.inputs.numpy(), splits.train.targets.numpy()
    best = LinearRegression().fit(x, y).predict(splits.test.inputs.numpy())
    result = train(changed(TRIAL, batch_size=len(x)), Sources())
    assert result.test is not None
    expected = 1 - (best - splits.test.targets.numpy()) ** 2
    assert result.test.score.mean() == pytest.approx(expected.mean(), abs=0.01)
    assert task_for(splits).metrics(result.test)["R2"] == pytest.approx(expected.mean(), abs=0.01)


def test_layers_that_do_not_fill_vectors_are_not_stacked() -> None:
    """Their products round by where they lie in memory."""
    assert not can_be_stacked("mlp", outputs=1)
    assert not can_be_stacked("mlp:depth=2,width=1", outputs=3)
    assert not can_be_stacked("mlp:width=9", outputs=3)
    assert can_be_stacked("mlp:depth=1,width=16", outputs=2)
    assert draft(Request(data="diabetes"), Sources()).trial.ours.engine == "single"


@pytest.mark.parametrize("loss", ["mse", "huber:delta=0.5", "log_cosh", "quantile:q=0.3"])
def test_stacked_models_train_as_single_ones_do(loss: str) -> None:
    trials = [changed(TRIAL, loss=loss, batch_size=7, steps=20, seed=seed, engine="stacked") for seed in range(3)]
    for trial, result in zip(trials, train_many(trials, Sources()), strict=True):
        alone = train(changed(trial, engine="single"), Sources())
        assert result.curve.score == pytest.approx(alone.curve.score, rel=1e-4, abs=1e-5)
        assert result.gradient_ratio == pytest.approx(alone.gradient_ratio, rel=1e-4)


def test_outliers_hurt_squared_error_more_than_huber() -> None:
    noisy = changed(TRIAL, data=replace(TRIAL.ours.data, outliers=0.2), model="mlp", steps=300)
    squared, huber = (train(changed(noisy, loss=loss), Sources()) for loss in ("mse", "huber:delta=0.2"))
    assert squared.test is not None
    assert huber.test is not None
    assert huber.test.score.mean() > squared.test.score.mean() + 0.05


@pytest.mark.parametrize("loss, words", [("ngl", "classification, not for regression"), ("rooted_gan", "gan")])
def test_losses_of_other_tasks_are_refused(loss: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        train(changed(TRIAL, loss=loss), Sources())
