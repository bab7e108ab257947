"""The metrics of classification by scikit-learn, the scores of guessing, and metrics of users."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    d2_log_loss_score,
    f1_score,
    roc_auc_score,
)

from lossmith.data import Examples
from lossmith.tasks import Classification, Judged, OwnMetric

SHARES = {2: (0.1, 0.9), 3: (0.5, 0.3, 0.2)}


def task_of(classes: int) -> Classification:
    return Classification(tuple("abc"[:classes]), SHARES[classes])


def sample(classes: int, n: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Labels with exactly the shares of training, and float32 logits that know something of them."""
    rng = np.random.default_rng(classes)
    label = np.repeat(np.arange(classes), [round(share * n) for share in SHARES[classes]])
    logits = rng.normal(size=(n, classes)) + np.eye(classes)[label]
    return label, logits.astype(np.float32)


def judge(task: Classification, label: np.ndarray, logits: np.ndarray, *, final: bool = True) -> Judged:
    index = torch.arange(len(label))
    judged = task.judge(torch.tensor(logits), Examples(index, torch.tensor(label), index))
    valid, test, _ = task.conclude(judged, judged if final else None)
    return valid if test is None else test


@pytest.mark.parametrize("classes", [2, 3])
def test_metrics_agree_with_scikit_learn(classes: int) -> None:
    """Of two classes the rarer one, here the first, counts for the average precision."""
    (label, logits), task = sample(classes), task_of(classes)
    p, one_hot = softmax(logits.astype(float), axis=1), np.eye(classes)[label]
    two = classes == 2
    expected = {
        "accuracy": (p.argmax(1) == label).mean(),
        "balanced accuracy": balanced_accuracy_score(label, p.argmax(1)),
        "macro F1": f1_score(label, p.argmax(1), average="macro"),
        "AUC": roc_auc_score(label, p[:, 1] if two else p, multi_class="ovr"),
        "average precision": average_precision_score(label == 0, p[:, 0])
        if two
        else average_precision_score(one_hot, p),
        "NLL skill": d2_log_loss_score(label, p),  # 1 - log loss / that of the shares
    }
    told = task.metrics(judge(task, label, logits))
    assert {name: told[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    brier = task.columns(judge(task, label, logits))["brier"]
    assert brier == pytest.approx(brier_score_loss(label, p[:, 1]) if two else ((p - one_hot) ** 2).sum(1).mean())
    of_shares = ((np.array(SHARES[classes]) - one_hot) ** 2).sum(1).mean() / (2 if two else 1)
    assert told["Brier skill"] == pytest.approx(1 - brier / of_shares)


@pytest.mark.parametrize("classes", [2, 3])
def test_guessing_scores_what_the_task_says(classes: int) -> None:
    """The shares of the classes as probabilities for every unit; no other constant does better."""
    label, task = sample(classes)[0], task_of(classes)
    constants = [np.log(SHARES[classes]), *(4 * np.eye(classes)), np.zeros(classes)]
    told = [task.metrics(judge(task, label, np.tile(each, (len(label), 1)).astype(np.float32))) for each in constants]
    for name in task.metric_names:
        guess = replace(task, metric=name).guess
        best = max(scores[name] for scores in told)
        if name == "macro F1":  # drawing classes by their shares does better than any constant
            rng = np.random.default_rng(0)
            drawn = [f1_score(label, rng.permutation(label), average="macro") for _ in range(30)]
            assert best <= guess == pytest.approx(np.mean(drawn), abs=0.01)
        else:
            assert guess == pytest.approx(told[0][name], abs=1e-5), name
            assert best <= guess + 1e-5, name


def test_a_diverged_model_scores_finitely_in_all_metrics() -> None:
    (label, _), task = sample(2), task_of(2)
    told = task.metrics(judge(task, label, np.full((len(label), 2), np.nan, dtype=np.float32)))
    assert np.isfinite(list(told.values())).all()
    assert told["AUC"] == 0.5
    assert told["NLL skill"] < -50


def test_confident_models_are_ranked_where_probabilities_round_to_one() -> None:
    """Logits of 60 and 40: both probabilities are 1 in float64, and the higher one is right."""
    logits = np.array([[0, 60], [0, 40], [60, 0], [40, 0]], dtype=np.float32)
    label = np.array([1, 0, 0, 0])
    assert task_of(2).metrics(judge(task_of(2), label, logits))["AUC"] == 1


def test_pooled_metrics_are_those_of_all_folds_together_and_others_are_averaged() -> None:
    (label, logits), task = sample(3), task_of(3)
    parts = np.array_split(np.random.default_rng(0).permutation(len(label)), [300])
    folds = [[judge(task, label[rows], logits[rows])] for rows in parts]
    means = {
        name: np.concatenate([fold[0] for fold in task.unit_scores(folds, name)]).mean() for name in task.metric_names
    }
    assert means["macro F1"] == pytest.approx(f1_score(label, logits.argmax(1), average="macro"))
    aucs = [roc_auc_score(label[rows], softmax(logits[rows], axis=1), multi_class="ovr") for rows in parts]
    assert means["AUC"] == pytest.approx(np.average(aucs, weights=list(map(len, parts))), abs=1e-6)


def test_whether_anything_was_learned_shows_in_the_auc_of_imbalanced_classes() -> None:
    assert task_of(2).of_progress.metric == "AUC"
    assert replace(task_of(2), metric="balanced accuracy").of_progress.guess == 0.5
    assert replace(task_of(2), metric="NLL skill").of_progress.metric == "NLL skill"
    assert Classification(("a", "b"), (0.4, 0.6)).of_progress.metric == "accuracy"


def own(function: object) -> Classification:
    return replace(task_of(2), own=OwnMetric("mine.py:cost#0", function=function))


def test_a_metric_of_ones_own_may_give_a_value_for_each_example() -> None:
    label, logits = sample(2)
    judged = judge(own(lambda label, p: p[np.arange(len(label)), label]), label, logits)
    expected = softmax(logits.astype(float), axis=1)[np.arange(len(label)), label]
    assert own(None).unit_scores([[judged]], "mine.py:cost#0")[0][0] == pytest.approx(expected)


def test_a_metric_of_ones_own_may_give_one_number() -> None:
    """The share of right units is their mean: leaving out blocks finds its variance."""
    label, logits = sample(2)
    task = own(lambda label, p: (p.argmax(1) == label).mean())
    values = task.unit_scores([[judge(task, label, logits)]], "mine.py:cost#0")[0][0]
    right = logits.argmax(1) == label
    assert values.mean() == pytest.approx(right.mean())
    assert values.var() == pytest.approx(right.var(), rel=0.3)  # 200 blocks: standard error 10 %
    tuned = judge(task, label, logits, final=False)
    assert np.ptp(tuned.columns["own"]) == 0
    assert task.metrics(tuned)["mine.py:cost#0"] == pytest.approx(right.mean())
