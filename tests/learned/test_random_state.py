"""Learning a loss leaves torch's global random state alone: models and their dropout come out as without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lossmith
from lossmith.learned import (
    AdaptiveLoss,
    AdaptiveRegressionLoss,
    LossNetwork,
    ML3Loss,
    OnlineLossLearner,
    distil,
    learn_offline,
    strictness_curve,
)

Batch = tuple[Tensor, Tensor]


def batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 3, generator=generator), torch.randint(4, (8,), generator=generator)


def linear(i: int) -> nn.Module:
    model = nn.utils.skip_init(nn.Linear, 3, 4)
    nn.init.constant_(model.weight, 0.1 * i)
    nn.init.zeros_(model.bias)
    return model


def offline(loss: nn.Module) -> None:
    learn_offline(loss, linear, [(batch(0), batch(1))] * 3, steps=3)


PUBLIC: dict[str, Callable[[Path], Any]] = {
    "AdaptiveLoss": lambda _: AdaptiveLoss(),
    "AdaptiveLoss with biases": lambda _: AdaptiveLoss(start="random", bias=True),
    "AdaptiveLoss, a scale": lambda _: AdaptiveLoss(control="scale"),
    "AdaptiveRegressionLoss": lambda _: AdaptiveRegressionLoss(),
    "ML3Loss": lambda _: ML3Loss(),
    "LossNetwork": lambda _: LossNetwork(),
    "create adaptive": lambda _: lossmith.create("adaptive(rooted:k=3):hidden=8"),
    "create ml3": lambda _: lossmith.create("ml3"),
    "create @file": lambda path: lossmith.create(f"@{path}"),
    "save": lambda path: AdaptiveLoss().save(path.with_name("another")),
    "freeze": lambda _: AdaptiveLoss().freeze(),
    "distil": lambda _: distil(AdaptiveLoss().freeze(), 3, max_terms=1),
    "strictness_curve": lambda _: strictness_curve(AdaptiveLoss().freeze(), 3, torch.linspace(0.1, 0.9, 3)),
    "learn_offline": lambda _: offline(AdaptiveLoss()),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_global_random_state_stands_where_it_stood(name: str, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "saved.safetensors"
    AdaptiveLoss().save(path)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    PUBLIC[name](path)
    assert (torch.get_rng_state() == before).all()


def test_a_loss_made_before_the_model_does_not_change_its_weights() -> None:
    torch.manual_seed(0)
    alone = nn.Linear(3, 4)
    torch.manual_seed(0)
    lossmith.create("adaptive")
    beside = nn.Linear(3, 4)
    assert (alone.weight == beside.weight).all()


def test_the_network_is_a_function_of_its_seed_alone() -> None:
    torch.manual_seed(1)
    one = LossNetwork(seed=3, bias=True).state_dict()
    torch.manual_seed(2)
    same, other = LossNetwork(seed=3, bias=True).state_dict(), LossNetwork(seed=4, bias=True).state_dict()
    assert all((one[name] == same[name]).all() for name in one)
    assert (one["layers.0.weight"] != other["layers.0.weight"]).all()


@pytest.mark.parametrize(
    "options",
    [
        {"meta_data": "given"},
        {"meta_data": "same"},
        {"meta_data": "next"},
        {"meta_data": "same", "meta_share": 0.5},
        {"meta_data": "next", "meta_share": 0.5},
        {"meta_data": "given", "gradient": "unroll"},
        {"meta_data": "same", "gradient": "difference", "audit": 2},
    ],
)
def test_after_a_step_the_random_state_is_what_a_plain_step_leaves(options: dict[str, Any]) -> None:
    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.5), nn.Linear(16, 4))
        return model, torch.optim.SGD(model.parameters(), 0.1)

    plain, optimizer = make()
    states = []
    for i in range(3):
        F.cross_entropy(plain(batch(i)[0]), batch(i)[1]).backward()
        optimizer.step()
        optimizer.zero_grad()
        states.append(torch.get_rng_state())
    model, optimizer = make()
    loss = AdaptiveLoss()
    learner = OnlineLossLearner(model, loss, optimizer, torch.optim.SGD(loss.parameters(), 0.0), **options)
    for i in range(3):
        learner.step(batch(i), *([batch(9)] if options["meta_data"] == "given" else []))
        assert (torch.get_rng_state() == states[i]).all()
    # So the masks of its steps are those of the plain ones, and a loss held still trains the model as its base does.
    torch.testing.assert_close(list(model.parameters()), list(plain.parameters()))


def test_the_meta_pass_has_masks_of_its_own() -> None:
    """On the training batch again it sees other masks than the step did, and others at every step."""
    seen: list[Tensor] = []

    class Watched(nn.Dropout):
        def forward(self, x: Tensor) -> Tensor:
            value = super().forward(x)
            seen.append((value != 0).detach())
            return value

    torch.manual_seed(0)
    model = nn.Sequential(Watched(0.5), nn.Linear(64, 4))
    loss = AdaptiveLoss()
    learner = OnlineLossLearner(
        model,
        loss,
        torch.optim.SGD(model.parameters(), 0.1),
        torch.optim.SGD(loss.parameters(), 0.1),
        meta_data="same",
        gradient="unroll",  # one pass of the step, one of the meta batch
    )
    x, y = torch.ones(16, 64), torch.arange(16) % 4
    for _ in range(3):
        learner.step((x, y))
    assert len(seen) == 6
    for i in range(6):
        for j in range(i):
            assert 0.4 < (seen[i] == seen[j]).float().mean() < 0.6
