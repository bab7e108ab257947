"""Soft Dice against loops over images, classes and pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import lossmith
from lossmith.properties import certify

RNG = np.random.default_rng(0)
N, C, H, W = 4, 3, 5, 6
LOGITS = RNG.normal(size=(N, C, H, W))
TARGET = RNG.integers(0, C, (N, H, W))
TARGET[0][TARGET[0] == 2] = 1  # absent
TARGET[1, :2] = -100
TARGET[3] = -100  # an image without a pixel that counts


def brute_force(weight: list[float], scale: list[float] | None = None) -> list[float]:
    losses = []
    for z, y in zip(LOGITS, TARGET, strict=True):
        total = mass = 0.0
        for c in range(C):
            pq = pp = qq = 0.0
            for i in range(H):
                for j in range(W):
                    if y[i, j] == -100:
                        continue
                    p = np.exp(z[c, i, j]) / np.exp(z[:, i, j]).sum()
                    q = float(y[i, j] == c)
                    pq, pp, qq = pq + p * q, pp + p * p, qq + q * q
            if qq:
                total += weight[c] * (1 if scale is None else scale[c]) * (1 - 2 * pq / (pp + qq))
                mass += weight[c]
        losses.append(total / mass if mass else 0.0)
    return losses


def tensors() -> tuple[Tensor, Tensor]:
    return torch.tensor(LOGITS, requires_grad=True), torch.tensor(TARGET)


@pytest.mark.parametrize("weight", [None, [0.5, 2.0, 1.0]])
def test_each_image_is_a_sample(weight: list[float] | None) -> None:
    expected = brute_force(weight or [1.0] * C)
    loss = lossmith.create("soft_dice", weight=weight)
    assert loss.per_sample(*tensors()).tolist() == pytest.approx(expected)
    assert loss(*tensors()).item() == pytest.approx(sum(expected) / 3)
    assert lossmith.create("soft_dice", weight=weight, reduction="sum")(*tensors()).item() == pytest.approx(
        sum(expected)
    )


def test_weights_of_images_and_of_a_schedule() -> None:
    plain = brute_force([1.0] * C)
    loss, s = lossmith.create("soft_dice"), [1.0, 3.0, 0.5, 9.0]
    weighted = sum(a * b for a, b in zip(s, plain, strict=True)) / sum(s[:3])
    assert loss(*tensors(), sample_weight=torch.tensor(s)).item() == pytest.approx(weighted)
    assert loss(*tensors(), normalizer=7).item() == pytest.approx(sum(plain) / 7)
    dynamical = lossmith.create("dynamical(soft_dice):amplitude=5,period=4")
    dynamical.step()
    scale = dynamical.class_weights(C).tolist()
    assert dynamical(*tensors()).item() == pytest.approx(sum(brute_force([1.0] * C, scale)) / 3)


def test_perfect_and_hopeless_predictions() -> None:
    target = torch.tensor(TARGET[:3])
    right = 60 * torch.nn.functional.one_hot(target.clamp(min=0), C).movedim(-1, 1).double()
    loss = lossmith.create("soft_dice")
    assert loss(right, target).item() == pytest.approx(0, abs=1e-12)
    elsewhere = right.roll(1, 1)  # every pixel is given to another class
    assert loss(elsewhere, target).item() == pytest.approx(1, abs=1e-12)
    assert loss(right, torch.full_like(target, -100)).item() == 0


def test_ignored_pixels_get_no_gradient_and_the_gradient_is_right() -> None:
    z, y = tensors()
    loss = lossmith.create("soft_dice")
    (gradient,) = torch.autograd.grad(loss(z, y), z)
    assert not gradient.movedim(1, -1)[y == -100].any()
    assert gradient.isfinite().all()
    assert torch.autograd.gradcheck(lambda z: loss(z, y), z)


def test_one_hot_probabilities_are_class_indices() -> None:
    z, y = tensors()
    z, y = z[:1], y[:1]
    onehot = torch.nn.functional.one_hot(y, C).movedim(-1, 1).double()
    for smoothing in (0.0, 0.1):
        loss = lossmith.create("soft_dice", label_smoothing=smoothing)
        torch.testing.assert_close(loss(z, onehot), loss(z, y))


def test_halves_compute_in_float32_and_certain_predictions_stay_finite() -> None:
    y = torch.tensor(TARGET)
    for scale in (1.0, 1e4):
        z = (scale * torch.tensor(LOGITS)).half().requires_grad_()
        value = lossmith.create("soft_dice")(z, y)
        assert value.dtype == torch.float32
        assert torch.autograd.grad(value, z)[0].isfinite().all()


def test_what_makes_no_sense_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="areas"):
        lossmith.create("soft_dice")(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="each image"):
        lossmith.create("soft_dice")(*tensors(), sample_weight=torch.ones(N, H, W))
    with pytest.raises(ValueError, match="two classes"):
        lossmith.create("soft_dice", task="binary")
    with pytest.raises(ValueError, match="whole images"):
        certify(lossmith.create("cross_entropy+soft_dice"), 3)
    with pytest.raises(IndexError):
        lossmith.create("soft_dice", validate=True)(torch.zeros(1, 2, 3, 3), torch.full((1, 3, 3), 5))
