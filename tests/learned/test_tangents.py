from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from lossmith.learned import passes
from lossmith.learned.passes import Model

MODELS = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 7), nn.Tanh(), nn.Linear(7, 3, bias=False)),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.Tanh(), nn.Conv2d(6, 6, 3, groups=3, bias=False), nn.Flatten()
    ),
    "batch norm": lambda: nn.Sequential(
        nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5, affine=False), nn.Flatten(), nn.BatchNorm1d(5 * 16)
    ),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("some", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_the_rules_of_forward_mode_are_pytorchs(
    name: str, some: bool, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Along all weights, and along every other one."""
    torch.manual_seed(0)
    model = MODELS[name]().double().train(training)
    weights = {key: p.detach() for key, p in model.named_parameters()}
    along = {key: torch.randn_like(p) for i, (key, p) in enumerate(weights.items()) if not some or i % 2}
    x = torch.randn(8, 4, 6, 6, dtype=torch.float64)
    before = Model(model).buffers()
    found = Model(model).slope_at(weights, before, along, x)
    assert all((value == before[key]).all() for key, value in model.named_buffers())  # it leaves no trace
    monkeypatch.setattr(passes, "Tangents", contextlib.nullcontext)
    right = Model(model).slope_at(weights, before, along, x)
    assert right[1].norm() > 0
    torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)
