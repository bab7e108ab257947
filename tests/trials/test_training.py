from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.data import DataSpec
from lossmith.kernels import rows
from lossmith.tasks import task_for
from lossmith.trials.batches import batches
from lossmith.trials.models import build_model, canonical_model
from lossmith.trials.stacks import StackedModels
from lossmith.trials.steppers import PlainStepper
from lossmith.trials.training import splits_of, stacks, train, train_many, train_model
from lossmith.trials.trial import OptimizerSpec, Sources
from made_trials import changed, made

SOURCES = Sources({"iris": "iris", "digits": "digits"})
IRIS = made(DataSpec("iris"), "mlp:width=8", "cross_entropy", OptimizerSpec("adam", 0.01), 12, 16, 3, 6)


def test_a_single_trial_is_the_plain_training_loop() -> None:
    """The oracle is a loop as anybody would write it."""
    trial = changed(IRIS, optimizer=OptimizerSpec("adam", 0.01, schedule="none"))
    task = splits_of(trial, SOURCES)
    model = build_model(trial.ours.model, task, task_for(task).outputs, SOURCES, trial.seed)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    order = batches(len(task.train), 16, trial.seed)
    for _ in range(trial.steps):
        rows = next(order)
        optimizer.zero_grad()
        F.cross_entropy(model(task.train.inputs[rows]), task.train.targets[rows]).backward()
        optimizer.step()
    logits = model(task.valid.inputs)
    result, trained, _ = train_model(trial, SOURCES)
    for ours, plain in zip(trained.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, plain)
    assert result.columns["nll"] == pytest.approx(F.cross_entropy(logits, task.valid.targets).item(), rel=1e-5)
    assert result.scores["accuracy"] == (logits.argmax(1) == task.valid.targets).double().mean()


def test_stacked_and_single_agree_to_rounding() -> None:
    for loss in ("cross_entropy", "ngl", "cross_entropy:weight=[1,2,3]", "dynamical:amplitude=5,period=4"):
        single = train(changed(IRIS, loss=loss), SOURCES)
        stacked = train(changed(IRIS, loss=loss, engine="stacked"), SOURCES)
        assert stacked.columns["nll"] == pytest.approx(single.columns["nll"], rel=1e-4)
        assert stacked.gradient_ratio == pytest.approx(single.gradient_ratio, rel=1e-4)


@pytest.mark.parametrize("engine", ["single", "stacked"])
def test_the_cosine_schedule_and_the_clipping_are_torchs(engine: str) -> None:
    trial = changed(IRIS, optimizer=OptimizerSpec("sgd", 0.5, momentum=0.9, clip=0.3), engine=engine)
    task = splits_of(trial, SOURCES)
    model = build_model(trial.ours.model, task, task_for(task).outputs, SOURCES, trial.seed)
    optimizer = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=trial.steps)
    order = batches(len(task.train), trial.ours.batch_size, trial.seed)
    for _ in range(trial.steps):
        rows = next(order)
        optimizer.zero_grad()
        F.cross_entropy(model(task.train.inputs[rows]), task.train.targets[rows]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        optimizer.step()
        schedule.step()
    expected = F.cross_entropy(model(task.valid.inputs), task.valid.targets).item()
    assert train(trial, SOURCES).columns["nll"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("engine", ["single", "stacked"])
def test_a_weighted_mean_divides_by_the_weights_of_its_labels(engine: str) -> None:
    """SGD, unlike Adam, notices a wrong divisor."""
    weight = torch.tensor([0.2, 1.0, 5.0])
    spec = OptimizerSpec("sgd", 0.2, schedule="none")
    trial = changed(IRIS, loss="cross_entropy:weight=[0.2,1,5]", optimizer=spec, batch_size=7, engine=engine)
    task = splits_of(trial, SOURCES)
    model = build_model(trial.ours.model, task, task_for(task).outputs, SOURCES, trial.seed)
    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    order = batches(len(task.train), trial.ours.batch_size, trial.seed)
    for _ in range(trial.steps):
        rows = next(order)
        optimizer.zero_grad()
        F.cross_entropy(model(task.train.inputs[rows]), task.train.targets[rows], weight).backward()
        optimizer.step()
    expected = F.cross_entropy(model(task.valid.inputs), task.valid.targets).item()
    _, result, _ = train_many([changed(trial, seed=seed) for seed in (2, 3, 4)], SOURCES)
    assert result.columns["nll"] == pytest.approx(expected, rel=1e-5)


def test_each_loss_of_a_stack_has_its_own_slices_and_notes() -> None:
    """Two slices of each of three losses, of which the schedule of one is cut inside a cycle and says so."""
    losses = ("m", "dynamical:amplitude=20,period=5", "ngl")
    trials = [changed(IRIS, loss=loss, seed=seed, engine="stacked") for loss in losses for seed in (3, 4)]
    for trial, result in zip(trials, train_many(trials, SOURCES), strict=True):
        assert replace(result, seconds=0.0) == replace(train(trial, SOURCES), seconds=0.0)
        assert bool(result.notes) == ("dynamical" in trial.loss)


def test_no_fused_kernel_takes_part_in_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves large logits only, so that what a slice computes would depend on the size of the stack."""
    monkeypatch.setattr(rows, "SMALLEST", 0)
    monkeypatch.setattr(rows, "forward", lambda *_: pytest.fail("the kernels ran"))
    for loss in ("rooted", "brier", "dynamical(scaled(focal)):amplitude=2,period=2"):
        train(changed(IRIS, loss=loss, steps=3), SOURCES)


@pytest.mark.parametrize("loss", ["m", "brier", "tempered:kappa=[0.3,0.5,-0.7]", "label_smoothing"])
def test_padding_a_stack_changes_no_result(loss: str) -> None:
    """A batch of 5 is padded to 32 rows in a stack, and not padded alone."""
    trial = changed(IRIS, loss=loss, batch_size=5, optimizer=OptimizerSpec("sgd", 0.1))
    single, stacked = (train(changed(trial, engine=engine), SOURCES) for engine in ("single", "stacked"))
    assert stacked.curve.train["nll"] == pytest.approx(single.curve.train["nll"], rel=1e-4)
    assert stacked.columns["nll"] == pytest.approx(single.columns["nll"], rel=1e-4)
    assert stacked.gradient_ratio == pytest.approx(single.gradient_ratio, rel=1e-4)
    assert stacked.extended_share == single.extended_share


def test_continued_losses_are_counted_among_losses_that_are_not() -> None:
    """At a rate of 10,000 logits are so large that m is continued; tempered at a small rate never is."""
    wild, calm = OptimizerSpec("sgd", 1e4, schedule="none"), OptimizerSpec("sgd", 0.01, schedule="none")
    stack = [
        changed(IRIS, loss=loss, optimizer=optimizer, steps=30, engine="stacked")
        for loss, optimizer in (("m", wild), ("m", calm), ("l", calm), ("cross_entropy", wild))
    ]
    shares = [result.extended_share for result in train_many(stack, SOURCES)]
    assert shares == [train(trial, SOURCES).extended_share for trial in stack]
    assert shares[0] > 0
    assert shares[1:] == [0, 0, 0]


def test_a_stack_gives_back_each_of_its_models() -> None:
    task = splits_of(IRIS, SOURCES)
    models = [build_model("mlp:width=5", task, task_for(task).outputs, SOURCES, seed) for seed in range(3)]
    stack = StackedModels(models, [IRIS.optimizer] * 3)
    logits = torch.cat(list(stack.predict(task.valid.inputs)), 1)
    for i, model in enumerate(models):
        torch.testing.assert_close(model(task.valid.inputs), logits[i])
        for given, back in zip(model.parameters(), stack.module(i).parameters(), strict=True):
            assert torch.equal(given, back)


def test_rows_that_pad_a_batch_get_no_gradient() -> None:
    """With M's slopes of up to e^20 the smallest share of a padding row would show."""
    task = splits_of(IRIS, SOURCES)
    model = build_model("linear", task, task_for(task).outputs, SOURCES, 0)
    stack = StackedModels([model, model], [IRIS.optimizer] * 2)
    trials = [changed(IRIS, loss="m", batch_size=5, seed=seed, engine="stacked", steps=1) for seed in (0, 1)]
    padded: list[Tensor] = []
    logits_of = stack.logits

    def logits(inputs: Tensor) -> Tensor:
        values = 30 * logits_of(inputs)
        values.retain_grad()
        padded.append(values)
        return values

    stack.logits = logits  # type: ignore[method-assign]
    PlainStepper(trials, stack, task, task_for(task), "cpu").step(0)
    (values,) = padded
    assert values.shape == (2, 32, 3)
    assert values.grad is not None
    assert (values.grad[:, 5:] == 0).all()
    assert (values.grad[:, :5] != 0).any(2).all()


def test_seeds_not_losses_decide_initial_weights_and_order() -> None:
    """Paired comparisons rest on this: at step 0 two losses see the same model and the same batch."""
    a, b = (train(changed(IRIS, loss=loss), SOURCES) for loss in ("cross_entropy", "rooted:k=inf"))
    assert a.curve == b.curve
    assert train(changed(IRIS, seed=4), SOURCES).curve != a.curve


def test_a_diverged_trial_is_a_result() -> None:
    wild = changed(IRIS, optimizer=OptimizerSpec("sgd", 1e30, schedule="none"), final=True)
    result = train(wild, SOURCES)
    assert result.diverged
    assert result.test is not None
    assert math.isinf(result.test.columns["nll"].max())
    neighbours = [
        changed(w, engine="stacked")
        for w in (wild, changed(wild, optimizer=OptimizerSpec("sgd", 0.1, schedule="none")))
    ]
    assert [r.diverged for r in train_many(neighbours, SOURCES)] == [True, False]


@pytest.mark.parametrize("engine", ["single", "stacked"])
def test_best_val_hands_out_the_best_point_of_the_curve(engine: str) -> None:
    trial = changed(IRIS, optimizer=OptimizerSpec("sgd", 3.0, schedule="none"), steps=40, evaluations=40, engine=engine)
    last, best = train(trial, SOURCES), train(changed(trial, select="best-val"), SOURCES)
    assert last.curve == best.curve
    assert best.scores["accuracy"] == max(best.curve.score)
    assert last.scores["accuracy"] == last.curve.score[-1]


def test_the_first_gradient_of_rooted_is_c_to_the_one_over_k_times_cross_entropys() -> None:
    """At the start p is about 1/C, and strictness is p^(-1/k)."""
    trial = made(DataSpec("digits"), "mlp", "rooted:k=2", OptimizerSpec("adam", 1e-9), 1, 64, 0, 1)
    assert train(trial, SOURCES).gradient_ratio == pytest.approx(10**0.5, rel=0.1)


def test_extensions_are_counted() -> None:
    """With logits in the thousands M is continued for most wrong predictions and no right one."""
    trial = changed(IRIS, loss="m", optimizer=OptimizerSpec("sgd", 1e4, schedule="none"), steps=30, evaluations=30)
    share = train(trial, SOURCES).extended_share
    assert 0.01 < share < 1
    assert train(changed(trial, loss="brier"), SOURCES).extended_share == 0


def test_a_dynamical_run_cut_inside_a_cycle_is_noted_and_its_schedule_moves() -> None:
    cut = train(changed(IRIS, loss="dynamical:amplitude=20,period=5"), SOURCES)
    assert "static_after=10" in " ".join(cut.notes)
    whole = train(changed(IRIS, loss="dynamical:amplitude=20,period=6"), SOURCES)
    assert whole.notes == ()
    assert whole.curve != train(IRIS, SOURCES).curve


def test_logit_adjustment_learns_the_class_counts_of_its_training_part() -> None:
    trial = changed(IRIS, data=DataSpec("iris", imbalance=4.0), loss="logit_adjusted")
    counts = splits_of(trial, SOURCES).class_counts.tolist()
    given = ",".join(str(count) for count in counts)
    assert (
        train(trial, SOURCES).curve
        == train(changed(trial, loss=f"logit_adjusted:class_counts=[{given}]"), SOURCES).curve
    )


def test_what_a_trial_cannot_train_is_refused_in_a_sentence() -> None:
    for loss, word in (
        ("smooth_absolute_error", "regression"),
        ("cross_entropy:reduction=sum", "reduction"),
        ("m:task=binary", "task"),
    ):
        with pytest.raises(ValueError, match=word):
            train(changed(IRIS, loss=loss), SOURCES)


def test_banks_hold_what_may_share_a_stack() -> None:
    stacked = changed(IRIS, engine="stacked")
    losses = [changed(stacked, loss=name, seed=s) for name in ("m", "l", "cos") for s in range(5)]
    longer = changed(stacked, steps=13)
    cut = stacks([*losses, longer, IRIS, losses[0]], size=8)
    assert sorted(map(len, cut)) == [1, 1, 7, 8]
    assert {trial for stack in cut for trial in stack} == {*losses, longer, IRIS}


def test_the_hash_of_a_trial_depends_on_everything() -> None:
    changes = [
        {"loss": "m"},
        {"seed": 9},
        {"steps": 13},
        {"engine": "stacked"},
        {"final": True},
        {"data": DataSpec("iris", fold=1, folds=5)},
        {"optimizer": OptimizerSpec("adam", 0.02)},
    ]
    assert len({IRIS.hash, *(changed(IRIS, **change).hash for change in changes)}) == len(changes) + 1
    assert copy.deepcopy(IRIS).hash == IRIS.hash


DROPOUT = """
import torch
from torch import nn

def make(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, num_classes))
"""


def test_dropout_draws_from_the_trials_seed_and_rests_in_evaluation(tmp_path: Path) -> None:
    """What the process drew before does not matter."""
    (tmp_path / "net.py").write_text(DROPOUT)
    sources = Sources({"iris": "iris"})
    trial = changed(IRIS, model=canonical_model(f"{tmp_path}/net.py:make", sources), steps=30)
    result, model, _ = train_model(trial, sources)
    torch.rand(5)
    assert train(trial, sources).curve == result.curve
    valid = splits_of(trial, sources).valid
    expected = F.cross_entropy(model.eval()(valid.inputs), valid.targets).item()
    assert result.columns["nll"] == pytest.approx(expected, rel=1e-5)
