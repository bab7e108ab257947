from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lossmith.data import DataSpec
from lossmith.trials.models import canonical_model
from lossmith.trials.probes import PROBES, Probe, View, canonical_probe
from lossmith.trials.training import train_many, train_model
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
        for probes in ((), ("meddler:every=1", "pull")):
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


def test_texts_of_probes() -> None:
    assert [canonical_probe(t) for t in ("pull", "pull: every=7", "parameters:every=1")] == [
        "pull", "pull:every=7", "parameters",
    ]  # fmt: skip
    for text, words in {
        "pul": "did you mean 'pull'",
        "pull:every=0": "at least 1",
        "pull:each=2": "one argument",
    }.items():
        with pytest.raises(ValueError, match=words):
            canonical_probe(text)
