"""The stacked optimiser against `torch.optim`, slice by slice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lossmith.trials.optimizers import StackedOptimizer, row_norms, schedule_factor, torch_optimizer
from lossmith.trials.trial import OptimizerSpec

SPECS = [
    OptimizerSpec("sgd", 0.1),
    OptimizerSpec("sgd", 0.1, momentum=0.9, weight_decay=0.01),
    OptimizerSpec("sgd", 0.1, momentum=0.9, nesterov=True, clip=0.5),
    OptimizerSpec("adam", 0.01),
    OptimizerSpec("adam", 0.01, weight_decay=0.1),
    OptimizerSpec("adamw", 0.01, weight_decay=0.1, clip=0.1),
]
TORCHS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def torchs_own(parameters: list[Tensor], spec: OptimizerSpec) -> torch.optim.Optimizer:
    own = {"momentum": spec.momentum, "nesterov": spec.nesterov} if spec.name == "sgd" else {}
    return TORCHS[spec.name](parameters, lr=spec.lr, weight_decay=spec.weight_decay, **own)


def slices_of(spec: OptimizerSpec) -> list[OptimizerSpec]:
    """Three slices that share what a stack shares and differ in all else; the first does not decay."""
    clips = (spec.clip, 4 * spec.clip, 1e3) if spec.clip is not None else (None, None, None)
    return [
        replace(spec, lr=spec.lr * lr, momentum=spec.momentum * keep, weight_decay=spec.weight_decay * decay, clip=clip)
        for lr, keep, decay, clip in zip((1, 0.5, 2), (1, 0.8, 0.5), (0, 1, 3), clips, strict=True)
    ]


@pytest.mark.parametrize("scale", [1.0, 1e-5])
@pytest.mark.parametrize("spec", SPECS)
def test_each_slice_follows_torch_optim(spec: OptimizerSpec, scale: float) -> None:
    """With gradients of order 1 and, where eps and the clip's 1e-6 show, of order 1e-5."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 13, generator=generator)
    specs = slices_of(spec if spec.clip is None else replace(spec, clip=spec.clip * scale))
    stacked = start.clone()
    ours = StackedOptimizer(stacked, specs)
    alone = [row.clone().requires_grad_() for row in start]
    theirs = [torchs_own([parameter], s) for parameter, s in zip(alone, specs, strict=True)]
    for factor in (1.0, 0.7, 0.7, 0.4, 0.4, 0.1):
        gradient = scale * torch.randn(start.shape, generator=generator)
        given = gradient.clone()
        ours.step(given, factor)
        assert torch.equal(given, gradient)
        for parameter, optimizer, row, s in zip(alone, theirs, gradient, specs, strict=True):
            parameter.grad = row.clone()
            if s.clip is not None:
                torch.nn.utils.clip_grad_norm_(parameter, s.clip)
            optimizer.param_groups[0]["lr"] = s.lr * factor
            optimizer.step()
    for row, single, first in zip(stacked, alone, start, strict=True):
        moved = (single - first).abs().max().item()
        torch.testing.assert_close(row, single.detach(), rtol=2e-7, atol=1e-4 * moved)


def test_clipping_is_by_the_norm_of_each_slice() -> None:
    parameters = torch.zeros(2, 2)
    optimizer = StackedOptimizer(parameters, [OptimizerSpec("sgd", 1.0, clip=1.0), OptimizerSpec("sgd", 2.0, clip=9.0)])
    optimizer.step(torch.tensor([[3.0, 4.0], [0.0, 5.0]]), 0.5)
    torch.testing.assert_close(parameters, torch.tensor([[-0.3, -0.4], [0.0, -5.0]]))


@pytest.mark.parametrize("spec", SPECS)
def test_a_stack_of_one_is_updated_where_it_lies(spec: OptimizerSpec) -> None:
    """A device that computes nothing, and refuses operands that lie elsewhere."""
    there = torch.zeros(1, 3, device="meta")
    StackedOptimizer(there, [spec]).step(torch.zeros(1, 3, device="meta"), 1.0)


def test_the_norm_is_that_of_a_row() -> None:
    assert row_norms(torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])).tolist() == [3.0, 0.0]


@pytest.mark.parametrize("spec", SPECS)
def test_the_optimiser_of_a_model_trained_alone_is_torchs_with_these_settings(spec: OptimizerSpec) -> None:
    parameters = [torch.zeros(2, requires_grad=True)]
    made, plain = torch_optimizer(parameters, spec), torchs_own(parameters, spec)
    assert type(made) is type(plain)
    assert made.defaults == plain.defaults


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_cosine_is_that_of_torch_and_no_schedule_is_one(steps: int) -> None:
    """Full at step 0; half of it halfway; at the last step not yet zero, where training would stand still."""
    spec = OptimizerSpec("sgd", 1.0, schedule="cosine")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for step in range(steps):
        assert schedule_factor(spec, step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        assert schedule_factor(replace(spec, schedule="none"), step, steps) == 1.0
        optimizer.step()
        schedule.step()
    assert schedule_factor(spec, 0, steps) == 1.0
    assert schedule_factor(spec, 1, 2) == pytest.approx(0.5)
    assert schedule_factor(spec, steps - 1, steps) == pytest.approx(math.cos(math.pi * (steps - 1) / steps / 2) ** 2)
