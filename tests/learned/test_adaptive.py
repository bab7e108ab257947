from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lossmith
from lossmith.learned import AdaptiveLoss, AdaptiveRegressionLoss, LossNetwork, ML3Loss, smooth_leaky_relu

N, C = 6, 5
LOGITS = torch.randn(N, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGET = torch.tensor([0, 4, 2, 2, 1, 3])


def test_the_activation_is_the_formula_of_the_paper() -> None:
    x = np.linspace(-3, 3, 121)
    for beta, gamma in ((10.0, 0.01), (2.0, 0.25)):
        right = np.log(np.exp(beta * x) + 1) / beta * (1 - gamma) + gamma * x
        found = smooth_leaky_relu(torch.from_numpy(x), beta, gamma).numpy()
        np.testing.assert_allclose(found, right, rtol=1e-13, atol=1e-15)
        leaky = np.where(x > 0, x, gamma * x)
        assert np.abs(found - leaky).max() == pytest.approx((1 - gamma) * math.log(2) / beta)


@pytest.mark.parametrize(("hidden", "bias", "count"), [(40, False, 1720), (40, True, 1801), (50, False, 2650)])
def test_the_network_has_as_many_parameters_as_the_papers(hidden: int, bias: bool, count: int) -> None:
    assert sum(p.numel() for p in LossNetwork(hidden, bias=bias).parameters()) == count


def by_classes(loss: AdaptiveLoss, p: Tensor, y: Tensor) -> Tensor:
    """The paper's sum, a loop over classes, from the network's weights alone."""
    assert loss.residual is not None
    weights = [w.detach() for w in loss.residual.network.parameters()]
    total = torch.zeros(len(p), dtype=p.dtype)
    for j in range(p.shape[1]):
        h = torch.stack([y[:, j], p[:, j]], 1)
        for w in weights:
            x = h @ w.T
            h = 0.99 * torch.log1p(torch.exp(10 * x)) / 10 + 0.01 * x
        total += h[:, 0]
    return total / p.shape[1]


def test_the_random_start_is_the_papers_loss() -> None:
    loss = AdaptiveLoss(start="random").double()
    y = F.one_hot(TARGET, C).double()
    right = by_classes(loss, LOGITS.softmax(1), y).mean()
    torch.testing.assert_close(loss(LOGITS, TARGET).detach(), right)
    torch.testing.assert_close(loss(LOGITS, y).detach(), right)


@pytest.mark.parametrize("output", ["smooth_leaky_relu", "identity", "softplus"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("text", ["cross_entropy", "rooted:k=5", "ngl", "label_smoothing"])
def test_the_anchored_start_is_the_base_in_value_and_gradient(text: str, bias: bool, output: str) -> None:
    base = lossmith.create(text)
    loss = AdaptiveLoss(base, output=output, bias=bias).double()
    found, right = ([z, f(z, TARGET)] for z, f in ((LOGITS.clone().requires_grad_(), f) for f in (loss, base)))
    torch.testing.assert_close(found[1].detach(), right[1].detach())
    for each in (found, right):
        each[1].backward()
    torch.testing.assert_close(found[0].grad, right[0].grad)


def test_the_base_that_learns_can_learn_anything_of_the_class() -> None:
    """From the anchored start, the gradient reaches every layer after one step."""
    loss = AdaptiveLoss().double()
    for _ in range(2):
        loss(LOGITS, TARGET).backward()
        torch.optim.SGD(loss.parameters(), 0.1).step()
    assert all(bool((p.grad != 0).any()) for p in loss.parameters() if p.grad is not None)


def test_the_gauge_changes_no_gradient() -> None:
    """l(y, p) + a(y) + lambda p has the gradient of l(y, p), since probabilities sum to 1."""

    class Shifted(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, y: float, p: Tensor) -> Tensor:
            return self.network(y, p) + 3 * y - 1 + 7 * p

    z = LOGITS.clone().requires_grad_()
    loss = AdaptiveLoss(start="random").double()
    (plain,) = torch.autograd.grad(loss(z, TARGET), z)
    loss.residual.network = Shifted(loss.residual.network)
    (shifted,) = torch.autograd.grad(loss(z, TARGET), z)
    torch.testing.assert_close(plain, shifted)


def test_common_arguments_reach_base_and_network() -> None:
    """Weights, ignored labels and smoothing act on the whole loss."""
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    plain = AdaptiveLoss(lossmith.create("cross_entropy", reduction="none"), start="base").double()
    loss = lossmith.create("adaptive", weight=weight, ignore_index=4).double()
    for each in (plain, loss):
        with torch.no_grad():
            for p in each.parameters():
                p.copy_(torch.linspace(-1, 1, p.numel(), dtype=torch.float64).view_as(p))
    terms, kept = plain(LOGITS, TARGET), TARGET != 4
    mass = weight[TARGET] * kept
    torch.testing.assert_close(loss(LOGITS, TARGET), (terms * mass).sum() / mass.sum())


def test_the_scale_control_is_a_factor() -> None:
    loss = lossmith.create("adaptive(focal):control=scale").double()
    with torch.no_grad():
        loss.log_scale.fill_(math.log(3))
    torch.testing.assert_close(loss(LOGITS, TARGET), 3 * lossmith.create("focal")(LOGITS, TARGET))
    assert sum(p.numel() for p in loss.parameters()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "adaptive",
        "adaptive:control=scale",
        "adaptive(rooted:k=5):hidden=8",
        "adaptive:bias=true,init_seed=3,start=random",
        "ml3",
        "ml3:init_seed=4",
        "adaptive_regression:control=scale",
        "adaptive_regression:hidden=8,start=random",
    ],
)
def test_text_forms_round_trip(text: str) -> None:
    assert lossmith.create(text).text == text


def test_freeze_is_a_copy_that_learns_no_more() -> None:
    loss = AdaptiveLoss(start="random").double()
    frozen = loss.freeze()
    value = frozen(LOGITS, TARGET)
    with torch.no_grad():
        for p in loss.parameters():
            p.zero_()
    assert frozen(LOGITS, TARGET) == value
    assert not any(p.requires_grad for p in frozen.parameters())
    z = LOGITS.clone().requires_grad_()
    frozen(z, TARGET).backward()
    assert z.grad is not None


def test_a_saved_loss_comes_back_by_its_path(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    loss = AdaptiveLoss(lossmith.create("rooted:k=5"), start="base", hidden=6)
    with torch.no_grad():
        for p in loss.parameters():
            p.normal_()
    loss.save(tmp_path / "mine.safetensors")
    back = lossmith.create(f"@{tmp_path / 'mine.safetensors'}")
    assert not any(p.requires_grad for p in back.parameters())
    z = LOGITS.float()
    torch.testing.assert_close(back(z, TARGET), loss(z, TARGET).detach(), rtol=0, atol=0)
    assert isinstance(back, lossmith.losses.ClassificationLoss)
    assert lossmith.create(back.text).text == back.text
    again = lossmith.create(f"dynamical({back.text}):amplitude=1")
    torch.testing.assert_close(again(z, TARGET), back(z, TARGET))
    loss.save(tmp_path / "mine.safetensors")
    assert lossmith.create(back.text).text == back.text
    AdaptiveLoss().save(tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match="has changed since"):
        lossmith.create(back.text)


def test_a_learned_loss_is_described_as_it_is() -> None:
    """A certificate of the loss itself: focal loss's strictness for a frozen loss that has learned nothing of it."""
    from lossmith.properties import certify

    of_base, of_frozen = (
        dict(certify(loss, 4).strictness.at)
        for loss in (lossmith.create("focal"), AdaptiveLoss(lossmith.create("focal")).freeze())
    )
    assert of_frozen == pytest.approx(of_base)
    loss = AdaptiveLoss(control="scale")
    with torch.no_grad():
        loss.log_scale.fill_(math.log(2))
    assert dict(certify(loss.freeze(), 4).strictness.at)[0.5] == pytest.approx(2.0)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_frozen_loss_honours_the_common_arguments(reduction: str) -> None:
    weight = [1.0, 2.0, 0.5, 1.0, 3.0]
    loss = lossmith.create("adaptive(logit_adjusted)", weight=weight, ignore_index=4, reduction=reduction).double()
    loss.bind(class_counts=[5, 1, 2, 2, 9])
    with torch.no_grad():
        for p in loss.parameters():
            p.normal_()
    sample_weight = torch.rand(N, dtype=torch.float64)
    found, right = (f(LOGITS, TARGET, sample_weight=sample_weight) for f in (loss.freeze(), loss))
    torch.testing.assert_close(found, right.detach())


def test_a_file_that_is_no_saved_loss_is_refused(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    (tmp_path / "text").write_text("nothing")
    safetensors.save_file({"a": torch.zeros(1)}, tmp_path / "other")
    safetensors.save_file({"a": torch.zeros(1)}, tmp_path / "wrong", {"loss": "adaptive"})
    safetensors.save_file({"a": torch.zeros(1)}, tmp_path / "focal", {"loss": "focal"})
    for name in ("text", "other", "wrong", "focal", "absent"):
        with pytest.raises(ValueError, match=name):
            lossmith.create(f"@{tmp_path / name}")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"start": "zero"}, "start"),
        ({"start": "random", "control": "scale"}, "random"),
        ({"hidden": 0}, "hidden"),
        ({"beta": 0}, "beta"),
        ({"gamma": 2}, "gamma"),
        ({"bias": 1}, "bias"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        AdaptiveLoss(**arguments)


def test_ml3_is_the_released_network() -> None:
    loss = ML3Loss().double()
    network = loss.residual.network
    w1, w2, w3 = (w.detach() for w in network.parameters())
    assert w1.shape == (50, 2)
    y = F.one_hot(TARGET, C).double()
    inputs = torch.stack([y, LOGITS.softmax(1)], -1)
    right = F.softplus(((inputs @ w1.T).relu() @ w2.T).relu() @ w3.T)
    torch.testing.assert_close(loss(LOGITS, TARGET).detach(), right.sum((1, 2)).mean())


def test_the_regression_form() -> None:
    prediction, target = torch.randn(7, 2, dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)
    anchored = AdaptiveRegressionLoss().double()
    torch.testing.assert_close(anchored(prediction, target).detach(), F.mse_loss(prediction, target))
    random = AdaptiveRegressionLoss(start="random", reduction="none").double()
    weights = [w.detach() for w in random.parameters()]
    h = torch.stack([target, prediction], -1)
    for w in weights:
        x = h @ w.T
        h = 0.99 * torch.log1p(torch.exp(-(10 * x).abs())) / 10 + 0.99 * x.clamp(min=0) + 0.01 * x
    torch.testing.assert_close(random(prediction, target).detach(), h[..., 0])
    with pytest.raises(ValueError, match="one shape"):
        anchored(prediction, target[0])


def test_a_saved_regression_loss_comes_back_frozen(tmp_path: Path) -> None:
    loss = AdaptiveRegressionLoss(hidden=6)
    with torch.no_grad():
        for p in loss.parameters():
            p.normal_()
        loss.gain.fill_(0.25)
    loss.save(tmp_path / "mine.safetensors")
    back = lossmith.create(f"@{tmp_path / 'mine.safetensors'}")
    prediction, target = torch.randn(7, 1), torch.randn(7, 1)
    torch.testing.assert_close(back(prediction, target), 0.25 * loss(prediction, target).detach())
    assert lossmith.create(back.text).text == back.text
    assert not any(p.requires_grad for p in back.parameters())


def test_a_regression_loss_learns_online() -> None:
    """Noise of heavy tails: the learner runs with the squared error as task loss, and changes the loss."""
    from lossmith.learned import OnlineLossLearner

    torch.manual_seed(0)
    model, loss = torch.nn.Linear(3, 1), AdaptiveRegressionLoss()
    learner = OnlineLossLearner(
        model,
        loss,
        torch.optim.SGD(model.parameters(), 0.05),
        torch.optim.Adam(loss.parameters(), 1e-3),
        task_loss=F.mse_loss,
        meta_data="next",
    )
    x = torch.randn(64, 3)
    y = x.sum(1, keepdim=True)
    first = learner.step((x, y))
    for _ in range(200):
        last = learner.step((x, y))
    assert last.task_loss < 0.1 * F.mse_loss(first.logits, y)
    z = last.logits.clone().requires_grad_()
    frozen, base = (torch.autograd.grad(f(z, y), z)[0] for f in (loss.freeze(), F.mse_loss))
    # The last step changed the network once more, after the loss was normalised.
    assert float(frozen.norm()) == pytest.approx(float(base.norm()), rel=0.05)
    assert float(last.gain) != pytest.approx(1.0, rel=0.1)
