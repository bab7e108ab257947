"""What a comparison is judged by: chosen by the data or the user, said, and part of the plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lossmith.comparison.metric import with_metric
from lossmith.comparison.options import Options
from lossmith.comparison.plan import make_plan
from lossmith.data import DataError
from lossmith.tasks import MetricError
from lossmith.trials.request import Request, draft
from lossmith.trials.training import train
from lossmith.trials.trial import Sources
from lossmith.trials.user_code import UserCodeError

MINE = """
import numpy as np

def saved(label, probabilities):
    said = probabilities[:, 0] > 0.2
    return np.where(said, np.where(label == 0, 1.0, -0.1), 0.0)

def youden(label, probabilities):
    said = probabilities[:, 0] > 0.5
    return said[label == 0].mean() - said[label == 1].mean()

def broken(label, probabilities):
    return probabilities["b"]
"""


@pytest.fixture
def table(tmp_path: Path) -> str:
    """400 rows, of which 60 are of the rarer class."""
    rng = np.random.default_rng(0)
    label = np.arange(400) % 20 < 3
    x = rng.normal(size=(400, 2)) + 1.5 * label[:, None]
    rows = [f"{a:.3f},{b:.3f},{'ill' if y else 'well'}" for (a, b), y in zip(x, label, strict=True)]
    (tmp_path / "rare.csv").write_text("\n".join(["u,v,state", *rows]))
    (tmp_path / "mine.py").write_text(MINE)
    return str(tmp_path / "rare.csv")


def chosen(data: str, metric: str | None = None, **more: object) -> tuple[str, str, float]:
    sources = Sources()
    drafted, reason = with_metric(draft(Request(data=data, **more), sources), metric, sources)
    return drafted.task.metric, reason, drafted.task.guess


def test_classes_of_unequal_size_ask_for_balanced_accuracy(table: str) -> None:
    metric, reason, guess = chosen(table)
    assert (metric, guess) == ("balanced accuracy", 0.5)
    assert reason.startswith(
        "because the largest class (well) has 5.67 times the training examples of the smallest (ill)"
    )
    assert chosen("iris")[:2] == ("accuracy", "because no class has 2 times the training examples of another")
    assert chosen("iris", imbalance=5.0)[0] == "balanced accuracy"
    assert chosen("diabetes")[0] == "R2"


@pytest.mark.parametrize(
    "text, metric",
    [
        *(("balanced_accuracy", "balanced accuracy"), ("macro-f1", "macro F1"), ("AUC", "AUC"), ("auc", "AUC")),
        *(("average_precision", "average precision"), ("nll", "NLL skill"), ("brier", "Brier skill")),
        ("Balanced Accuracy", "balanced accuracy"),
    ],
)
def test_a_metric_may_be_asked_for(table: str, text: str, metric: str) -> None:
    assert chosen(table, text)[:2] == (metric, "as asked for")


def test_a_metric_is_one_of_the_tasks_own() -> None:
    assert chosen("diabetes", "r2")[0] == "R2"
    assert chosen("diabetes", "mae")[0] == "MAE skill"
    with pytest.raises(MetricError, match=r"--metric auk: there is no such metric of classification.*auc"):
        chosen("iris", "auk")
    with pytest.raises(MetricError, match=r"no such metric of regression.*r2"):
        chosen("diabetes", "auc")
    with pytest.raises(MetricError, match="is for classification, and this is regression"):
        chosen("diabetes", "cost.py:cost")


def test_imbalance_adds_its_controls_whether_it_is_natural_or_made(table: str) -> None:
    for data, imbalance, adds in ((table, 1.0, True), ("iris", 1.0, False), ("iris", 5.0, True)):
        options = Options(data=data, losses=("focal",), imbalance=imbalance, model="linear")
        plan = make_plan(options, Sources())
        assert {"cross_entropy (class-weighted)", "logit_adjusted"} <= {arm.name for arm in plan.arms} or not adds
        assert (len(plan.arms) == 7) == adds
    weighted = plan.arm("cross_entropy (class-weighted)").loss
    assert weighted.startswith("cross_entropy:weight=[")


def test_a_metric_of_ones_own_is_in_the_plan_and_in_every_result(table: str) -> None:
    sources, file = Sources(), Path(table).with_name("mine.py")
    options = Options(data=table, losses=("focal",), metric=f"{file}:saved", model="linear", steps=300)
    plan = make_plan(options, sources)
    text = plan.metric
    assert text.startswith("mine.py:saved#")
    assert text in plan.text
    assert "class 0 is ill, 1 is well" in plan.task.meaning
    # Guessing gives all rows the chance .15 < .2 of being ill, and so nothing is said and nothing saved.
    assert plan.task.guess == 0
    result = train(plan.trial, sources)
    assert -0.1 < result.scores[text] < 0.15
    assert str(file.parent) not in plan.text
    file.write_text(MINE + "# changed")
    assert make_plan(options, Sources()).digest != plan.digest


def test_what_a_metric_from_a_file_does_wrong_is_found_before_training(table: str) -> None:
    file = Path(table).with_name("mine.py")
    with pytest.raises(UserCodeError, match="no function 'absent'"):
        chosen(table, f"{file}:absent")
    with pytest.raises((UserCodeError, DataError), match="no file"):
        chosen(table, "nowhere.py:cost")
    assert chosen(table, f"{file}:youden")[2] == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("[os.chdir('/'), 0.5][1]", ["line 4", "changes the working directory"]),
        ("exit()", ["line 4", "SystemExit", "leave out"]),
        ("p['b']", ["line 4", "IndexError"]),
        ("1 / 0", ["line 4", "ZeroDivisionError"]),
        ("None", ["line 3", "returned None for"]),
        ("(p.argmax(1) == label) + 0j", ["line 3", "complex numbers"]),
        ("'much'", ["line 3", "a str, not real numbers"]),
        ("p", ["line 3", "shape (", ", 2)"]),
        ("float('nan')", ["line 3", "not finite"]),
        ("[[1.0], [1.0, 2.0]]", ["ValueError"]),
    ],
)
def test_a_fault_of_a_metric_is_told_with_file_and_line(
    table: str, monkeypatch: pytest.MonkeyPatch, code: str, words: list[str]
) -> None:
    monkeypatch.chdir(Path(table).parent)
    Path("cost.py").write_text(f"import os\n\ndef cost(label, p):\n    return {code}\n")
    with pytest.raises(UserCodeError) as caught:
        chosen(table, "cost.py:cost")
    said = str(caught.value)
    assert said.startswith("the metric cost.py:cost")
    assert all(word in said for word in words), said
    assert Path.cwd() == Path(table).parent


def test_too_few_test_examples_of_a_class_are_told(table: str) -> None:
    """One split of 400 rows tests 80, of which 12 are ill; five folds test all 60."""
    sources = Sources()
    notes = with_metric(draft(Options(data=table, folds=0), sources), None, sources)[0].notes
    assert any("the class ill has about 12 test examples" in note for note in notes)
    for folds, metric in ((5, None), (0, "accuracy"), (0, "nll")):
        drafted = with_metric(draft(Options(data=table, folds=folds), sources), metric, sources)[0]
        assert not any("test examples" in note for note in drafted.notes)


def test_a_loss_that_is_asked_for_gets_a_verdict_though_it_is_a_control(table: str) -> None:
    plan = make_plan(Options(data=table, losses=("logit_adjusted",), model="linear"), Sources())
    assert [arm.role for arm in plan.arms if arm.loss.startswith("logit_adjusted")] == ["candidate"]
