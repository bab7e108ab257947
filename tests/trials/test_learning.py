from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lossmith
from lossmith.data import DataSpec
from lossmith.learned import OnlineLossLearner, strictness_curve
from lossmith.trials.batches import batches
from lossmith.trials.ledger import Ledger
from lossmith.trials.models import build_model
from lossmith.trials.result import TrialResult, series_to_bytes, summary_to_json
from lossmith.trials.texts import REPLAY_STREAM
from lossmith.trials.training import splits_of, train, train_model
from lossmith.trials.trial import OptimizerSpec, Sources, Trial
from made_trials import changed, made

SOURCES = Sources({"iris": "iris"})
IRIS = made(DataSpec("iris"), "mlp:width=8", "adaptive", OptimizerSpec("sgd", 0.1, 0.9, True), 24, 16, 3, 6, final=True)


def test_a_trial_is_the_loop_a_user_would_write() -> None:
    """With the next batch as meta batch."""
    trial = changed(IRIS, loss="adaptive:meta_data=next", optimizer=OptimizerSpec("adamw", 0.01, schedule="none"))
    task = splits_of(trial, SOURCES)
    model, loss = build_model(trial.ours.model, task, 3, SOURCES, trial.seed), lossmith.create("adaptive")
    learner = OnlineLossLearner(
        model,
        loss,
        torch.optim.AdamW(model.parameters(), 0.01, weight_decay=0.0),
        torch.optim.Adam(loss.parameters(), 1e-3),
        meta_data="next",
    )
    order = batches(len(task.train), 16, trial.seed)
    for _ in range(trial.steps):
        rows = next(order)
        learner.step((task.train.inputs[rows], task.train.targets[rows]))
    result, trained, learned = train_model(trial, SOURCES)
    torch.testing.assert_close(list(trained.parameters()), list(model.parameters()))
    torch.testing.assert_close(list(learned.parameters()), list(loss.parameters()))
    pull = result.series["pull"]
    assert pull.steps.tolist() == [0, 6, 12, 18, 24]
    last = strictness_curve(loss.freeze().double(), 3, torch.from_numpy(pull.axis))
    assert pull.values[-1] == pytest.approx(last.numpy(), rel=1e-5)
    assert pull.values[0] == pytest.approx(np.ones(len(pull.axis)), rel=1e-9)


def test_held_out_examples_never_train_the_model() -> None:
    """With no steps of the loss, holding out a part is training on the rest: the labels of that part change nothing."""
    trial = changed(IRIS, loss="adaptive:meta_lr=0,meta_part=0.3")
    task = splits_of(trial, SOURCES)
    _, model, _ = train_model(trial, SOURCES)
    held_out = round(0.3 * len(task.train))
    kept = task.train.targets.clone()
    try:
        task.train.targets[:held_out] = (kept[:held_out] + 1) % 3
        _, other, _ = train_model(trial, SOURCES)
    finally:
        task.train.targets.copy_(kept)
    assert all((a == b).all() for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("control", ["none", "scale"])
def test_a_loss_that_stays_as_it_is_trains_like_its_base(control: str) -> None:
    adaptive = train(changed(IRIS, loss=f"adaptive:control={control},meta_data=same,meta_lr=0"), SOURCES)
    plain = train(changed(IRIS, loss="cross_entropy"), SOURCES)
    assert adaptive.curve.valid["nll"] == pytest.approx(plain.curve.valid["nll"], rel=1e-4)
    assert adaptive.series["scale"].values == pytest.approx(np.ones(IRIS.steps), rel=1e-4)


def test_replaying_the_rate_of_a_scale_is_that_training_again() -> None:
    """For M = s CE the course of the scale is all there is to replay."""
    scale = train(changed(IRIS, loss="adaptive:control=scale,meta_data=next,meta_lr=0.05"), SOURCES)
    learned = "meta_data=next,meta_lr=0.01,scale=learned"
    network = train(changed(IRIS, loss=f"adaptive:{learned}"), SOURCES)
    replay = train(changed(IRIS, loss=f"adaptive:control=rate_replay,{learned}"), SOURCES)
    scales = {name: run.series["scale"].values for name, run in {"n": network, "r": replay, "s": scale}.items()}
    assert scales["r"] == pytest.approx(scales["n"], rel=1e-4)
    assert scales["n"][-1] != pytest.approx(1.0, rel=1e-3)
    assert scales["s"][-1] != pytest.approx(1.0, rel=1e-2)


def test_replaying_the_rate_of_a_fixed_scale_is_training_with_the_base() -> None:
    replay = train(changed(IRIS, loss="adaptive:control=rate_replay,meta_data=next,meta_lr=0.01"), SOURCES)
    plain = train(changed(IRIS, loss="cross_entropy"), SOURCES)
    assert replay.curve.valid["nll"] == pytest.approx(plain.curve.valid["nll"], rel=1e-4)


def shape(result: TrialResult, moment: int) -> np.ndarray:
    """The strictness curve at a moment, whatever the batch that the loss was last normalised on."""
    curve = result.series["pull"].values[moment]
    return curve / curve[-1]


def test_replaying_a_loss_is_the_course_of_another_seed() -> None:
    own, other = (
        train(changed(IRIS, loss="adaptive:meta_data=next,meta_lr=0.003", seed=seed), SOURCES)
        for seed in (IRIS.seed, IRIS.seed + REPLAY_STREAM)
    )
    replay = train(changed(IRIS, loss="adaptive:control=loss_replay,meta_data=next,meta_lr=0.003"), SOURCES)
    assert shape(replay, -1) == pytest.approx(shape(other, -1), rel=1e-6)
    assert shape(replay, -1) != pytest.approx(shape(own, -1), rel=0.005)


@pytest.mark.parametrize("text", ["ml3:offline=20", "adaptive:offline=20,online=false"])
def test_offline_losses_stand_still_in_training(text: str) -> None:
    result = train(changed(IRIS, loss=text), SOURCES)
    assert result.facts["offline_steps"] == 20
    assert shape(result, 0) == pytest.approx(shape(result, -1), rel=1e-9)
    assert shape(result, 0) != pytest.approx(np.ones(49))


def test_the_same_trial_gives_the_same_result() -> None:
    for text in ("adaptive:offline=10", "ml3:offline=10", "adaptive:control=loss_replay"):
        first, second = (train(changed(IRIS, loss=text), SOURCES) for _ in range(2))
        assert _timeless(first) == _timeless(second)
        assert series_to_bytes(first.series) == series_to_bytes(second.series)


def _timeless(result: TrialResult) -> str:
    return summary_to_json(replace(result, seconds=0.0, probe_seconds=0.0))


def test_the_course_of_a_loss_survives_the_ledger(tmp_path: Path) -> None:
    result = train(IRIS, SOURCES)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put([(IRIS, result)])
        back = ledger.get(IRIS)
    assert back is not None
    assert back.series.keys() == result.series.keys() == {"scale", "pull"}
    for name, series in result.series.items():
        for part, values in vars(series).items():
            np.testing.assert_array_equal(vars(back.series[name])[part], values)
    assert back.facts == result.facts
    assert lossmith.create(f"formula({back.facts['formula']})")


def by_hand(trial: Trial, gradient_of: Callable[[int, Tensor, Tensor], Tensor]) -> list[Tensor]:
    """Train on all training examples as anybody would, with a given loss at each step; the weights."""
    splits = splits_of(trial, SOURCES)
    model = build_model(trial.ours.model, splits, 3, SOURCES, trial.seed)
    spec = trial.optimizer
    optimizer = torch.optim.SGD(model.parameters(), spec.lr, spec.momentum, nesterov=spec.nesterov)
    order = batches(len(splits.train), trial.ours.batch_size, trial.seed)
    for step in range(trial.steps):
        optimizer.param_groups[0]["lr"] = spec.lr * (1 + math.cos(math.pi * step / trial.steps)) / 2
        rows = next(order)
        optimizer.zero_grad()
        gradient_of(step, model(splits.train.inputs[rows]), splits.train.targets[rows]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.clip)
        optimizer.step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("how", ["meta_data=next", "meta_data=held_out,every=3", "meta_data=fresh,offline=5"])
def test_replays_are_the_plain_loop_with_what_was_recorded(how: str) -> None:
    """By hand: the base times the recorded scale, or the learned loss with the recorded parameters."""
    base = changed(IRIS, optimizer=OptimizerSpec("sgd", 0.1, 0.9, True, clip=0.5), final=False)
    text = f"adaptive:{how},max_scale=inf,meta_lr=0.02,scale=learned"
    rate, loss = (changed(base, loss=f"{text},control={kind}_replay") for kind in ("rate", "loss"))
    scales = torch.from_numpy(train(rate.source, SOURCES).series["scale"].values)
    assert scales.max() > 1.05 * scales.min()
    expected = by_hand(base, lambda step, z, y: scales[step] * F.cross_entropy(z, y))
    torch.testing.assert_close(list(train_model(rate, SOURCES).model.parameters()), expected, rtol=2e-4, atol=1e-6)
    course = torch.from_numpy(train(loss.source, SOURCES).series["parameters"].values)
    assert course.shape[0] == base.steps + 1
    learned = lossmith.create("adaptive")

    def with_parameters(step: int, z: Tensor, y: Tensor) -> Tensor:
        row = step + 1 if "next" in how else step
        torch.nn.utils.vector_to_parameters(course[row], learned.parameters())
        return learned(z, y)

    expected = by_hand(base, with_parameters)
    torch.testing.assert_close(list(train_model(loss, SOURCES).model.parameters()), expected, rtol=2e-4, atol=1e-6)
