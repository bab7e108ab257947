"""Slices of the loss, interpolation and flatness, against parabolas, symmetries and plain evaluation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lossmith
from lossmith.dynamics import Hessian, dense, flatness, interpolate, loss_slice


class Linear(nn.Module):
    """Outputs that are linear in the parameters, so that the squared error is a parabola."""

    def __init__(self, rows: int = 3, columns: int = 4, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(rows, columns, generator=generator, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(rows, generator=generator, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.bias


def problem(rows: int = 20) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(rows, n, generator=generator, dtype=torch.float64) for n in (4, 3))  # type: ignore[return-value]


def network(seed: int = 0) -> nn.Sequential:
    """Convolution, batch norm, ReLU and two linear layers."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, eps=1e-12), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)).double()


def images(rows: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 1, 4, 4, generator=generator, dtype=torch.float64), torch.arange(rows) % 3


def whole(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().reshape(-1) for value in model.parameters()])


def test_directions_are_as_long_as_filters_and_leave_biases() -> None:
    model = network()
    found = loss_slice(model, F.cross_entropy, images(), dimensions=2, positions=[0.0])
    assert found.directions.shape == (2, len(whole(model)))
    for vector in found.directions:
        pieces = vector.split([value.numel() for value in model.parameters()])
        for (name, value), piece in zip(model.named_parameters(), pieces, strict=True):
            if value.dim() == 1:
                assert not piece.any(), name
            else:
                lengths = piece.view(len(value), -1).norm(dim=1)
                torch.testing.assert_close(lengths, value.detach().reshape(len(value), -1).norm(dim=1))
    a, b = found.directions
    assert abs(float(F.cosine_similarity(a, b, dim=0))) < 0.5
    assert found.losses.shape == (1, 1)
    x, y = images()
    assert float(found.losses) == float(F.cross_entropy(network()(x), y).detach())


@pytest.mark.parametrize("parts", [1, 3])
def test_slices_of_a_parabola_in_closed_form(parts: int) -> None:
    """L(w + s d) = L + s g.d + s^2 d.H.d / 2, on the whole batch and on batches of unequal size."""
    model, (x, y) = Linear(), problem()
    data: Any = (x, y) if parts == 1 else list(zip(x.split(8), y.split(8), strict=True))
    steps = [-2.0, -0.5, 0.0, 1.0, 3.0]
    F.mse_loss(model(x), y).backward()
    slope = torch.cat([value.grad.reshape(-1) for value in model.parameters() if value.grad is not None])
    start, bend = float(F.mse_loss(model(x), y).detach()), dense(Hessian(model, F.mse_loss, (x, y)))
    line = loss_slice(model, F.mse_loss, data, positions=steps)
    plane = loss_slice(model, lossmith.create("mse"), data, positions=steps, dimensions=2)
    assert torch.equal(line.directions[0], plane.directions[0])
    for i, s in enumerate(steps):
        move = s * line.directions[0]
        assert float(line.losses[i]) == pytest.approx(start + float(slope @ move + move @ bend @ move / 2))
        for j, t in enumerate(steps):
            both = move + t * plane.directions[1]
            assert float(plane.losses[i, j]) == pytest.approx(start + float(slope @ both + both @ bend @ both / 2))


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_filters_of_other_lengths_and_the_same_function_have_the_same_slices(scale: float) -> None:
    """Batch norm undoes the length of a convolution's filters, and a linear layer that of the ReLU layer before it."""
    model = network().train()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight *= torch.tensor([scale, 1.0, 2.0])[:, None, None, None]  # type: ignore[operator]
        other[0].bias *= torch.tensor([scale, 1.0, 2.0])  # type: ignore[operator]
        for value in other[4].parameters():
            value *= scale
        other[6].weight /= scale  # type: ignore[operator]
    a, b = (
        loss_slice(each, F.cross_entropy, images(), dimensions=2, positions=[-1, 0.5, 1]) for each in (model, other)
    )
    torch.testing.assert_close(a.losses, b.losses)
    assert not torch.allclose(a.directions, b.directions)
    rises = [flatness(each, F.cross_entropy, images()).rise for each in (model, other)]
    assert rises[0] == pytest.approx(rises[1])


def test_the_flatness_of_a_parabola_in_closed_form() -> None:
    """The mean of d.H.d over directions uniform in each filter is the sum of |w_f|^2 tr(H_ff) / n_f."""
    model, data, radius = Linear(), problem(), 0.3
    bend = dense(Hessian(model, F.mse_loss, data))
    blocks = [bend[4 * k : 4 * k + 4, 4 * k : 4 * k + 4].trace() for k in range(3)]
    wanted = radius**2 / 2 * float(sum(w.dot(w) * b / 4 for w, b in zip(model.weight.detach(), blocks, strict=True)))
    found = flatness(model, F.mse_loss, data, radius=radius, pairs=400)
    assert 0 < found.error < 0.05 * wanted
    assert abs(found.rise - wanted) < 4 * found.error
    off = [flatness(model, F.mse_loss, data, radius=radius, pairs=12, seed=seed) for seed in range(60)]
    share = sum(abs(each.rise - wanted) > 2.2 * each.error for each in off) / 60  # Student's t, 11 degrees: 5 %
    assert share < 0.2
    assert flatness(model, F.mse_loss, data, radius=2 * radius, pairs=400).rise == pytest.approx(4 * found.rise)


@pytest.mark.parametrize("training", [False, True])
def test_interpolation_ends_at_both_models_and_is_plain_evaluation_between(training: bool) -> None:
    first, second, (x, y) = network(0), network(1), images()
    for each, factor in ((first, 1.0), (second, 3.0)):
        each.train()
        for _ in range(3):
            each(factor * x)  # statistics of their own
        each.train(training)
        each[6].bias.requires_grad_(False)
    kept = [copy.deepcopy(each) for each in (first, second)]
    found = interpolate(first, second, F.cross_entropy, (x, y), points=5)
    with torch.no_grad():
        ends = [float(F.cross_entropy(copy.deepcopy(each)(x), y)) for each in kept]
        middle = copy.deepcopy(kept[0])
        for part, a, b in zip(*[each.state_dict().values() for each in (middle, *kept)], strict=True):
            if part.is_floating_point():
                part.copy_((3 * a + b) / 4)
        wanted = float(F.cross_entropy(middle(x), y))
    assert found.positions.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert [float(found.losses[0]), float(found.losses[-1])] == ends
    assert float(found.losses[1]) == pytest.approx(wanted)
    straight = torch.tensor([ends[0] + t * (ends[1] - ends[0]) for t in found.positions.tolist()])
    assert found.barrier == pytest.approx(max(0.0, float((found.losses - straight).max())))
    assert interpolate(first, second, F.cross_entropy, (x, y), points=2).barrier == 0


def test_barriers() -> None:
    """A convex loss has none; |w| of a network that is a product of two weights rises between its two minima."""
    assert interpolate(Linear(seed=0), Linear(seed=1), F.mse_loss, problem()).barrier == 0

    class Product(nn.Module):
        def __init__(self, sign: float) -> None:
            super().__init__()
            self.a, self.b = (nn.Parameter(torch.tensor(sign, dtype=torch.float64)) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            return self.a * self.b * x

    x = torch.ones(4, 1, dtype=torch.float64)
    found = interpolate(Product(1.0), Product(-1.0), F.mse_loss, (x, x))
    assert found.barrier == pytest.approx(1.0)  # (1 - a b)^2 at a = b = 0
    torch.testing.assert_close(found.losses, (1 - (1 - 2 * found.positions) ** 2) ** 2)


@pytest.mark.parametrize("training", [False, True])
def test_models_and_random_state_stay_as_they_are(training: bool) -> None:
    first, second, data = network(0).train(training), network(1).train(not training), images()
    F.cross_entropy(first(data[0]), data[1]).backward()
    kept = [copy.deepcopy(each.state_dict()) for each in (first, second)]
    gradients = [value.grad.clone() for value in first.parameters() if value.grad is not None]
    drawn = torch.get_rng_state()
    found = (
        loss_slice(first, F.cross_entropy, data, dimensions=2, positions=[-1, 1]),
        flatness(first, F.cross_entropy, data),
    )
    interpolate(first, second, F.cross_entropy, data)
    assert torch.equal(torch.get_rng_state(), drawn)
    for each, state in zip((first, second), kept, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in each.state_dict().items())
    assert [first.training, second.training] == [training, not training]
    now = [value.grad for value in first.parameters()]
    assert all(a is not None and torch.equal(a, b) for a, b in zip(now, gradients, strict=True))
    again = loss_slice(first, F.cross_entropy, data, dimensions=2, positions=[-1, 1])
    assert torch.equal(found[0].losses, again.losses)
    assert found[1] == flatness(first, F.cross_entropy, data)
    other = loss_slice(first, F.cross_entropy, data, positions=[-1, 1], seed=1)
    assert not torch.equal(other.directions[0], again.directions[0])


def test_frozen_parameters_have_no_direction() -> None:
    model = network()
    model[0].requires_grad_(False)
    found = loss_slice(model, F.cross_entropy, images(), positions=[0, 1])
    assert found.directions.shape[1] == len(whole(model)) - 30


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    model, data = network(), images()
    with pytest.raises(ValueError, match="dimensions is 3: give 1 for a line or 2 for a plane"):
        loss_slice(model, F.cross_entropy, data, dimensions=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there are no positions"):
        loss_slice(model, F.cross_entropy, data, positions=[])
    with pytest.raises(ValueError, match="points is 1"):
        interpolate(model, network(1), F.cross_entropy, data, points=1)
    with pytest.raises(ValueError, match=r"0\.weight is \(3, 1, 3, 3\) in the first and missing in the second"):
        interpolate(model, Linear(), F.cross_entropy, data)
    with pytest.raises(ValueError, match="radius is -1"):
        flatness(model, F.cross_entropy, data, radius=-1)
    with pytest.raises(ValueError, match="pairs is 1"):
        flatness(model, F.cross_entropy, data, pairs=1)
