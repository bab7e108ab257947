from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lossmith.data import DataSpec
from lossmith.trials.models import build_model, canonical_model
from lossmith.trials.probes import PROBES, Probe, View, canonical_probe
from lossmith.trials.request import Request, draft
from lossmith.trials.training import splits_of, train_many, train_model
from lossmith.trials.trial import OptimizerSpec, Sources, Trial
from made_trials import changed, made

SOURCES = Sources({"iris": "iris"})
IRIS = made(DataSpec("iris"), "mlp:width=8", "m", OptimizerSpec("adam", 0.01), 12, 16, 3, 6, final=True)
DROPOUT = """
import random
import numpy as np
import torch
from torch import nn

class Noise(nn.Module):
    def forward(self, x):
        return x + random.gauss(0, 0.1) + np.random.normal() if self.training else x

def make(input_shape, num_classes):
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), Noise(), nn.Linear(8, num_classes))
"""


def meddle(view: View) -> np.ndarray:
    """Draw random numbers, run a backward pass, take steps, overwrite what it is shown, leave gradients behind."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    noise = torch.rand(3)
    inputs, targets = view.splits.train.inputs[:32], view.splits.train.targets[:32]
    loss = view.loss(view.model.train()(inputs), targets)
    loss.backward()
    torch.optim.SGD(view.model.parameters(), 10.0).step()
    with torch.no_grad():
        for value in [*view.model.state_dict().values(), *view.loss.parameters()]:
            value.fill_(7)
    return np.array([loss.item(), *noise.tolist()])


@pytest.fixture
def meddler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROBES, "meddler", Probe(meddle))


def trials(tmp_path: Path) -> dict[str, Trial]:
    (tmp_path / "net.py").write_text(DROPOUT)
    model = canonical_model(f"{tmp_path}/net.py:make", SOURCES)
    return {
        "single": IRIS,
        "stacked": changed(IRIS, engine="stacked"),
        "dropout and batch norm": changed(IRIS, model=model),
        "a loss with a schedule": changed(IRIS, loss="dynamical:amplitude=5,period=4"),
        "a loss that learns": changed(IRIS, model=model, loss="adaptive:meta_data=next"),
        "best on validation": changed(IRIS, model=model, select="best-val"),
    }


@pytest.mark.usefixtures("meddler")
def test_a_probe_changes_no_bit_of_a_training(tmp_path: Path) -> None:
    for name, trial in trials(tmp_path).items():
        results, models = {}, {}
        measured = () if "adaptive" in trial.loss else ("instability", "margin", "ntk", "sharpness:every=5,rows=50")
        for probes in ((), ("meddler:every=1", "pull", *measured)):
            probed = replace(trial, probes=probes)
            results[probes], (of, *_) = train_many([probed, replace(probed, seed=4)], SOURCES)[0], [probed]
            if not trial.is_stacked:
                models[probes] = train_model(of, SOURCES).model.state_dict()
        (plain, looked), weights = results.values(), list(models.values())
        assert looked.curve == plain.curve, name
        np.testing.assert_array_equal(looked.test.columns["nll"], plain.test.columns["nll"], name)
        for key, value in weights[0].items() if weights else ():
            assert torch.equal(value, weights[1][key]), name
        assert looked.series["meddler:every=1"].values.shape == (trial.steps + 1, 4)
        assert looked.series["pull"].steps.tolist() == [0, 3, 6, 9, 12]


@pytest.mark.usefixtures("meddler")
def test_what_a_probe_finds_does_not_depend_on_the_stack() -> None:
    members = [changed(IRIS, engine="stacked", seed=seed, loss=loss) for loss in ("m", "focal") for seed in (3, 4)]
    members = [replace(trial, probes=("meddler", "pull:every=5")) for trial in members]
    for trial, together in zip(members, train_many(members, SOURCES), strict=True):
        (alone,) = train_many([trial], SOURCES)
        for name, series in alone.series.items():
            np.testing.assert_array_equal(together.series[name].values, series.values)
    assert series.steps.tolist() == [0, 5, 10, 12]


def test_the_pull_of_focal_is_its_strictness() -> None:
    """-d/dz of (1 - p)^2 c over 1 - p."""
    (result,) = train_many([replace(changed(IRIS, loss="focal"), probes=("pull",))], SOURCES)
    series = result.series["pull"]
    p = series.axis
    expected = (1 - p) ** 2 - 2 * p * (1 - p) * np.log(p)
    np.testing.assert_allclose(series.values, np.tile(expected, (5, 1)), rtol=1e-9)


def test_the_pull_of_a_regression_is_the_slope_over_that_of_the_squared_error() -> None:
    trial = made(
        DataSpec("diabetes", task="regression"), "linear", "huber:delta=0.5", OptimizerSpec("adam", 0.01), 4, 16, 0, 2
    )
    (result,) = train_many([replace(trial, probes=("pull",))], Sources())
    e = result.series["pull"].axis
    expected = np.where(abs(e) <= 0.5, e, 0.5 * np.sign(e)) / (2 * e)
    np.testing.assert_allclose(result.series["pull"].values[0], expected, rtol=1e-9)


def hessian_of(weights: list[torch.Tensor], loss: Callable[..., torch.Tensor]) -> torch.Tensor:
    """The Hessian of a loss of separate weights as one matrix, by PyTorch's own function."""
    blocks = torch.autograd.functional.hessian(loss, tuple(weights))
    sizes = [w.numel() for w in weights]
    return torch.cat([torch.cat([b.reshape(n, -1) for b in row], 1) for row, n in zip(blocks, sizes, strict=True)])


@pytest.mark.parametrize("engine", ["single", "stacked"])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_sharpness_and_threshold_are_those_of_the_weights_and_the_optimiser(name: Any, engine: Any) -> None:
    """Of the whole training part, before the next step; a cosine schedule lowers the rate and lifts the threshold."""
    spec = OptimizerSpec(name, 0.05, 0.9 if name == "sgd" else 0.0, nesterov=name == "sgd", schedule="cosine")
    trial = changed(IRIS, loss="cross_entropy", model="linear", optimizer=spec, engine=engine)
    trial = replace(trial, probes=("sharpness:every=4",))
    result = train_many([trial], SOURCES)[0]
    series = result.series["sharpness:every=4"]
    assert series.steps.tolist() == [0, 4, 8, 12]
    rates = [0.05 * 0.5 * (1 + np.cos(np.pi * step / 12)) for step in (0, 4, 8, 11)]
    wanted = [2 * 1.9 / (2.8 * lr) if name == "sgd" else 38 / lr for lr in rates]
    np.testing.assert_allclose(series.values[:, 1], wanted, rtol=1e-6)
    model = train_model(changed(trial, engine="single"), SOURCES).model
    train = splits_of(trial, SOURCES).train
    x, y = train.inputs.double(), train.targets

    def loss(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(x @ weight.T + bias, y)

    if name == "sgd":
        matrix = hessian_of([p.detach().double() for p in model.parameters()], loss)
        np.testing.assert_allclose(series.values[-1, 0], torch.linalg.eigvalsh(matrix)[-1], rtol=2e-3)
    else:
        assert np.isnan(series.values[0, 0])
        assert (series.values[1:, 0] > 0).all()


def test_adams_sharpness_is_that_of_the_preconditioned_hessian() -> None:
    """Against Adam's second moments, summed up by hand from the gradients of full batches."""
    spec = OptimizerSpec("adam", 0.05, schedule="none")
    trial = changed(IRIS, loss="cross_entropy", model="linear", optimizer=spec, batch_size=500, steps=6)
    results = {
        engine: train_many([replace(changed(trial, engine=engine), probes=("sharpness:every=1",))], SOURCES)[0]
        for engine in ("single", "stacked")
    }
    train = splits_of(trial, SOURCES).train
    x, y = train.inputs.double(), train.targets

    def loss(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(x @ weight.T + bias, y)

    splits = splits_of(trial, SOURCES)
    model = build_model("linear", splits, 3, SOURCES, trial.seed)
    weights = [p.detach().double().requires_grad_() for p in model.parameters()]
    first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    for step in range(1, 7):
        gradients = torch.autograd.grad(loss(*weights), weights)
        for w, g, m, v in zip(weights, gradients, first, second, strict=True):
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            w.data -= 0.05 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        divisor = torch.cat([((v / (1 - 0.999**step)).sqrt() + 1e-8).flatten() for v in second])
        matrix = hessian_of([w.detach() for w in weights], loss) / (divisor.sqrt()[:, None] * divisor.sqrt())
        wanted = float(torch.linalg.eigvalsh(matrix)[-1])
        for result in results.values():
            found = result.series["sharpness:every=1"].values
            np.testing.assert_allclose(found[step], [wanted, 38 / 0.05], rtol=5e-3)


def test_instability_keeps_the_loss_of_every_step_and_margin_sees_the_training_part() -> None:
    """Gradient descent on all examples, once more with plain torch."""
    spec = OptimizerSpec("sgd", 0.1, schedule="none")
    trial = changed(IRIS, loss="cross_entropy", model="linear", optimizer=spec, batch_size=500, steps=9)
    (result,) = train_many([replace(trial, probes=("instability", "margin:every=3"))], SOURCES)
    splits = splits_of(trial, SOURCES)
    model = build_model("linear", splits, 3, SOURCES, trial.seed)
    optimizer, losses, margins = torch.optim.SGD(model.parameters(), 0.1), [], []
    x, y = splits.train.inputs, splits.train.targets
    for step in range(10):
        z = model(x)
        if step % 3 == 0:
            own = z[torch.arange(len(y)), y]
            gaps = torch.stack([own - z[:, k] for k in range(3)], 1)[torch.arange(3) != y[:, None]].view(-1, 2).amin(1)
            accuracy = (z.argmax(1) == y).double().mean()
            margins.append([gaps.min().item(), gaps.median().item(), accuracy.item()])
        loss = torch.nn.functional.cross_entropy(z, y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(result.series["instability"].values, losses[:9], rtol=1e-5)
    np.testing.assert_allclose(result.series["margin:every=3"].values, margins, rtol=1e-3, atol=1e-5)
    assert 0 < result.probe_seconds < result.seconds


def test_texts_of_probes() -> None:
    assert [canonical_probe(t) for t in ("pull", "pull: every=7", "parameters:every=1", "ntk:rows=64")] == [
        "pull", "pull:every=7", "parameters", "ntk",
    ]  # fmt: skip
    assert [canonical_probe(t, 25) for t in ("sharpness", "ntk:every=5", "instability", "parameters")] == [
        "sharpness:every=25", "ntk:every=5", "instability", "parameters:every=25",
    ]  # fmt: skip
    for text, words in {
        "pull:rows=3": "takes every, and nothing else",
        "instability:every=3": "takes no argument",
        "sharpness:rows=0": "rows of probe sharpness must be a whole number",
        "pul": "did you mean 'pull'",
        "pull:every=0": "at least 1",
        "pull:each=2": "takes every, and nothing else",
    }.items():
        with pytest.raises(ValueError, match=words):
            canonical_probe(text)


def test_probes_that_a_task_has_no_use_for_are_refused_before_training() -> None:
    for data, probes, words in (
        ("diabetes", ("margin",), "margin is not for regression"),
        ("iris", ("sharpness:every=3", "sharpness"), "sharpness is named twice"),
    ):
        with pytest.raises(ValueError, match=words):
            draft(Request(data=data, steps=9, device="cpu", probe=probes), Sources())


def test_a_model_without_second_derivatives_is_named_in_a_sentence() -> None:
    """`EmbeddingBag` has none."""
    rows = [f"some words of {['good', 'bad', 'fine'][i % 3]} kind,{i % 2}" for i in range(40)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mail.csv")
        file.write_text("\n".join(["text,label", *rows]) + "\n")
        sources = Sources()
        drafted = draft(Request(data=str(file), steps=4, device="cpu", probe=("sharpness",), optimizer="gd"), sources)
        with pytest.raises(ValueError, match="needs second derivatives, which the model lacks"):
            train_many([drafted.trial], sources)
