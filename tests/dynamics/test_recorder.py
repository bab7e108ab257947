from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian

import lossmith
from lossmith.dynamics import MEASUREMENTS, Hessian, Moment, Recorder, eigenvalues, measurements
from lossmith.dynamics import recorder as recorder_module


def problem() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3))
    return model, torch.randn(20, 3), torch.randint(3, (20,))


def trained(probes: tuple[str, ...], steps: int = 7) -> tuple[nn.Module, Recorder | None]:
    model, x, y = problem()
    loss = lossmith.create("dynamical:amplitude=5,period=4")
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    recorder = Recorder(model, loss, (x, y), optimizer, probes=probes, every=3) if probes else None
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
        loss.step()
        if recorder is not None:
            recorder.step()
            assert model.training
            assert all(p.grad is not None for p in model.parameters())
    return model, recorder


def test_recording_changes_no_bit_of_a_training() -> None:
    (plain, _), (watched, recorder) = trained(()), trained(tuple(MEASUREMENTS))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
    assert recorder is not None
    assert recorder.steps == [0, 3, 6]
    assert {name: rows.shape for name, rows in recorder.series.items()} == {
        name: (3, len(of.columns)) for name, of in MEASUREMENTS.items()
    }
    assert recorder.seconds > 0


def test_what_is_recorded_is_that_of_the_model_in_evaluation_mode() -> None:
    """Against the dense Hessian, Jacobians row by row, margins by hand, and the threshold 2 (1 + m) / lr."""
    model, recorder = trained(tuple(MEASUREMENTS), steps=3)
    _, x, y = problem()
    assert recorder is not None
    model = copy.deepcopy(model).double().eval()
    weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    gamma = lossmith.losses.dynamical.gamma(3, 3, 5, 4)

    def outputs(vector: Tensor) -> Tensor:
        parts, start = {}, 0
        for name, p in model.named_parameters():
            parts[name] = vector[start : start + p.numel()].view_as(p)
            start += p.numel()
        return torch.func.functional_call(model, parts, (x.double(),))

    def loss(vector: Tensor) -> Tensor:
        return (gamma[y] * nn.functional.cross_entropy(outputs(vector), y, reduction="none")).mean()

    sharpness = torch.linalg.eigvalsh(hessian(loss, weights))[-1]
    np.testing.assert_allclose(recorder.series["sharpness"][-1], [sharpness, 38.0], rtol=2e-3)
    jacobian = torch.autograd.functional.jacobian(outputs, weights)
    kernel = torch.einsum("icp,jcp->ij", jacobian, jacobian) / 3
    np.testing.assert_allclose(recorder.series["ntk"][-1], [torch.linalg.eigvalsh(kernel)[-1]], rtol=2e-3)
    z = outputs(weights)
    gaps = torch.stack([z[i, y[i]] - max(z[i, j] for j in range(3) if j != y[i]) for i in range(20)])
    wanted = [gaps.min(), gaps.median(), (z.argmax(1) == y).double().mean()]
    np.testing.assert_allclose(recorder.series["margin"][-1], [float(v) for v in wanted], rtol=1e-4)


def test_a_training_that_diverged_is_recorded_as_no_number() -> None:
    model, x, y = problem()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(math.nan)
    recorder = Recorder(model, nn.CrossEntropyLoss(), (x, y), torch.optim.SGD(model.parameters(), 0.5))
    np.testing.assert_array_equal(recorder.series["sharpness"], [[math.nan, 4.0]])
    assert np.isnan(MEASUREMENTS["ntk"].take(Moment(model.eval(), nn.CrossEntropyLoss(), x, y))).all()


def test_without_an_optimiser_there_is_no_threshold() -> None:
    model, x, y = problem()
    (row,) = Recorder(model, nn.CrossEntropyLoss(), (x, y)).series["sharpness"]
    assert row[0] > 0
    assert math.isnan(row[1])


def test_what_cannot_be_recorded_is_refused() -> None:
    model, x, y = problem()
    for options, words in (
        ({"probes": ["sharp"]}, "unknown probe 'sharp'"),
        ({"every": 0}, "at least 1"),
        ({"every": 2.5}, "whole number"),
    ):
        with pytest.raises(ValueError, match=words):
            Recorder(model, nn.CrossEntropyLoss(), (x, y), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="margins need"):
        Recorder(model, nn.MSELoss(), (x, torch.randn(20, 3)), probes=["margin"])
    for data in ((x, y, y), [(x, y)]):
        with pytest.raises(ValueError, match="not a batch"):
            Recorder(model, nn.CrossEntropyLoss(), data)  # type: ignore[arg-type]


def test_one_name_will_do_and_a_learning_rate_of_0() -> None:
    """As a schedule may begin or end with; also where gradients are switched off."""
    model, x, y = problem()
    with torch.no_grad():
        recorder = Recorder(
            model, nn.CrossEntropyLoss(), (x, y), torch.optim.SGD(model.parameters(), 0.0), probes="sharpness"
        )
    (row,) = recorder.series["sharpness"]
    assert row[0] > 0
    assert row[1] == math.inf


def test_what_is_measured_has_the_columns_and_examples_that_are_documented() -> None:
    assert {name: (of.columns, of.rows) for name, of in MEASUREMENTS.items()} == {
        "sharpness": (("sharpness", "threshold"), 1024),
        "ntk": (("largest eigenvalue",), 64),
        "margin": (("smallest", "median", "accuracy"), 1024),
    }


def test_adams_sharpness_is_that_of_the_preconditioned_hessian_after_its_first_step() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randint(3, (30,))
    model = nn.Linear(4, 3).double()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    recorder = Recorder(model, nn.CrossEntropyLoss(), (x, y), optimizer, every=1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        recorder.step()
    series = recorder.series["sharpness"]
    assert np.isnan(series[0, 0])
    assert recorder.steps == [0, 1, 2, 3]

    def loss(weight: Tensor, bias: Tensor) -> Tensor:
        return nn.functional.cross_entropy(x @ weight.T + bias, y)

    blocks = hessian(loss, (model.weight.detach(), model.bias.detach()))
    matrix = torch.cat([torch.cat([b.reshape(n, -1) for b in row], 1) for row, n in zip(blocks, (12, 3), strict=True)])
    states = [optimizer.state[p] for p in (model.weight, model.bias)]
    scale = torch.cat([((s["exp_avg_sq"] / (1 - 0.999**3)).sqrt() + 1e-8).flatten() for s in states]) ** -0.5
    wanted = torch.linalg.eigvalsh(scale[:, None] * matrix * scale)[-1]
    np.testing.assert_allclose(series[-1], [wanted, 38 / 0.01], rtol=2e-3)


def test_a_tie_is_no_success_and_outputs_of_images_have_no_kernel() -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    x, y = torch.randn(6, 2), torch.zeros(6, dtype=torch.int64)
    assert MEASUREMENTS["margin"].take(Moment(model, nn.CrossEntropyLoss(), x, y)) == (0.0, 0.0, 0.0)
    dense = nn.Conv2d(1, 2, 1)
    with pytest.raises(ValueError, match=r"shape \(N, C\), not \(3, 2, 4, 4\)"):
        MEASUREMENTS["ntk"].take(Moment(dense, nn.CrossEntropyLoss(), torch.randn(3, 1, 4, 4), y))


def test_a_number_that_has_not_converged_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = problem()
    found = eigenvalues(Hessian(model.eval(), nn.CrossEntropyLoss(), (x, y)), most=3, tol=1e-12)
    assert not found.converged
    asked = []

    def stopped(operator: object, tol: float) -> object:
        asked.append(tol)
        return found

    monkeypatch.setattr(measurements, "eigenvalues", stopped)
    assert math.isnan(MEASUREMENTS["sharpness"].take(Moment(model, nn.CrossEntropyLoss(), x, y))[0])
    assert asked == [1e-3]


def test_looks_come_every_25_steps_and_their_time_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = problem()
    clock = iter(range(0, 1000, 3))  # each look takes three seconds by it
    monkeypatch.setattr(recorder_module.time, "perf_counter", lambda: next(clock))
    recorder = Recorder(model, nn.CrossEntropyLoss(), (x, y), probes=["margin"])
    for _ in range(51):
        recorder.step()
    assert recorder.steps == [0, 25, 50]
    assert recorder.seconds == 9.0
