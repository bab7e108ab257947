"""Operators against dense matrices by other means: `torch.func.hessian`, loops over samples, finite sums."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

import lossmith
from lossmith.dynamics import Fisher, GaussNewton, Hessian, Scaled, TangentKernel, dense, tangent_kernel

LOSSES = (
    "cross_entropy",
    "rooted:k=3",
    "ngl",
    "dynamical:amplitude=5,period=10",
    "focal",
    "gce",
    "symmetric",
    "brier",
    "m_full",
    "poly1",
    "label_smoothing",
    "cross_entropy+brier",
)


def network(*, dtype: torch.dtype = torch.float64, inputs: int = 3, classes: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, classes)).to(dtype)


def batch(rows: int = 11, inputs: int = 3, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, inputs, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, (rows,), generator=generator)


def in_parts(x: Tensor, y: Tensor, parts: int) -> Any:
    """One batch, or three of unequal size."""
    return (x, y) if parts == 1 else list(zip(x.split(4), y.split(4), strict=True))


def bound(text: str) -> Any:
    loss = lossmith.create(text)
    loss.bind(total_steps=20, class_counts=[3.0, 3.0, 3.0, 2.0])
    return loss


def unflat(model: nn.Module, vector: Tensor) -> dict[str, Tensor]:
    found, start = {}, 0
    for name, value in model.named_parameters():
        found[name] = vector[start : start + value.numel()].view_as(value)
        start += value.numel()
    return found


def whole(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().reshape(-1) for value in model.parameters()])


def hessian_by_functions(model: nn.Module, loss: Any, x: Tensor, y: Tensor) -> Tensor:
    """Forward mode over reverse mode of the whole batch at once."""
    found = hessian(lambda vector: loss(functional_call(model, unflat(model, vector), (x,)), y))(whole(model))
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("text", LOSSES)
@pytest.mark.parametrize("parts", [1, 3])
def test_hessian(text: str, parts: int) -> None:
    (x, y), model, loss = batch(), network(), bound(text)
    data = in_parts(x, y, parts)
    found = dense(Hessian(model, loss, data))
    wanted = hessian_by_functions(model, loss, x, y)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    assert torch.linalg.eigvalsh(found)[-1] == pytest.approx(float(torch.linalg.eigvalsh(wanted)[-1]), rel=1e-6)


def test_batches_of_unequal_weight_are_as_one() -> None:
    """Class weights and ignored labels enter the divisor of the mean: batches of means are not averaged."""
    model, (x, y) = network(), batch()
    y[[0, 5, 6]] = -100
    loss = lossmith.create("focal", weight=[1.0, 5.0, 0.5, 2.0])
    parts = list(zip(x.split([2, 7, 2]), y.split([2, 7, 2]), strict=True))
    for kind in (Hessian, GaussNewton, Fisher):
        torch.testing.assert_close(dense(kind(model, loss, parts)), dense(kind(model, loss, (x, y))))
    torch.testing.assert_close(dense(Hessian(model, loss, parts)), hessian_by_functions(model, loss, x, y))


def test_losses_of_torch_and_soft_targets_and_regression() -> None:
    model, (x, y) = network(), batch()
    halves = list(zip(x.split(6), y.split(6), strict=True))
    wanted = hessian_by_functions(model, F.cross_entropy, x, y)
    torch.testing.assert_close(dense(Hessian(model, nn.CrossEntropyLoss(), halves)), wanted)
    soft = torch.softmax(torch.randn(11, 4, dtype=torch.float64), 1)
    halves = list(zip(x.split(6), soft.split(6), strict=True))
    wanted = hessian_by_functions(model, F.cross_entropy, x, soft)
    torch.testing.assert_close(dense(Hessian(model, lossmith.create("cross_entropy"), halves)), wanted)
    goal = torch.randn(11, 4, dtype=torch.float64)
    halves = list(zip(x.split(6), goal.split(6), strict=True))
    wanted = hessian_by_functions(model, F.mse_loss, x, goal)
    torch.testing.assert_close(dense(Hessian(model, lossmith.create("mse"), halves)), wanted)
    torch.testing.assert_close(dense(Hessian(model, nn.MSELoss(), halves)), wanted)


def jacobian_of(model: nn.Module, x: Tensor) -> Tensor:
    """Shape (N, C, P)."""
    found = jacrev(lambda vector: functional_call(model, unflat(model, vector), (x,)))(whole(model))
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("text", LOSSES)
@pytest.mark.parametrize("parts", [1, 3])
def test_gauss_newton(text: str, parts: int) -> None:
    (x, y), model, loss = batch(), network(), bound(text)
    jacobian = jacobian_of(model, x)
    curvature = hessian(lambda z: loss(z, y))(model(x).detach())
    wanted = torch.einsum("ncp,ncmd,mdq->pq", jacobian, curvature, jacobian)
    data = in_parts(x, y, parts)
    torch.testing.assert_close(dense(GaussNewton(model, loss, data)), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("text", LOSSES)
@pytest.mark.parametrize("parts", [1, 3])
def test_fisher(text: str, parts: int) -> None:
    (x, y), model, loss = batch(), network(), bound(text)
    wanted = torch.zeros(44, 44, dtype=torch.float64)
    for row, label in zip(x, y, strict=True):
        model.zero_grad()
        loss(model(row[None]), label[None]).backward()
        gradient = torch.cat([value.grad.reshape(-1) for value in model.parameters() if value.grad is not None])
        wanted += torch.outer(gradient, gradient) / len(x)
    data = in_parts(x, y, parts)
    torch.testing.assert_close(dense(Fisher(model, loss, data)), wanted, rtol=1e-9, atol=1e-14)
    plain = dense(Fisher(model, lambda z, t: loss(z, t), data))
    torch.testing.assert_close(plain, wanted, rtol=1e-9, atol=1e-14)


def test_gauss_newton_of_cross_entropy_is_the_fisher_matrix_of_the_models_own_labels() -> None:
    """The expectation of g g^T over labels drawn from the model."""
    model, (x, y) = network(), batch()
    p = model(x).softmax(1).detach()
    wanted = torch.zeros(44, 44, dtype=torch.float64)
    for label in range(4):
        for k in range(len(x)):
            fisher = dense(Fisher(model, nn.CrossEntropyLoss(), (x[[k]], torch.tensor([label]))))
            wanted += p[k, label] * fisher / len(x)
    torch.testing.assert_close(dense(GaussNewton(model, nn.CrossEntropyLoss(), (x, y))), wanted)


def test_the_gauss_newton_matrix_of_a_linear_model_is_the_hessian() -> None:
    torch.manual_seed(0)
    model, data = nn.Linear(3, 4).double(), batch()
    loss = lossmith.create("rooted:k=3")
    torch.testing.assert_close(dense(GaussNewton(model, loss, data)), dense(Hessian(model, loss, data)))


class Small(nn.Module):
    """A convolutional network with batch norm, which keeps buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.norm(self.convolution(x))).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("training", [False, True])
def test_a_network_with_buffers_keeps_them_and_its_gradients(training: bool) -> None:
    torch.manual_seed(0)
    model = Small().double().train(training)
    x, y = torch.randn(6, 1, 5, 5, dtype=torch.float64), torch.arange(6) % 3
    F.cross_entropy(model(x), y).backward()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [value.grad.clone() for value in model.parameters() if value.grad is not None]
    drawn = torch.get_rng_state()
    operator = Hessian(model, lossmith.create("cross_entropy"), (x, y))
    found = dense(operator)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    kept = [value.grad for value in model.parameters()]
    assert all(a is not None and torch.equal(a, b) for a, b in zip(kept, gradients, strict=True))
    buffers = {name: value.clone() for name, value in model.named_buffers()}

    def loss_at(vector: Tensor) -> Tensor:
        fresh = {name: value.clone() for name, value in buffers.items()}
        return F.cross_entropy(functional_call(model, unflat(model, vector) | fresh, (x,)), y)

    wanted = torch.autograd.functional.hessian(loss_at, whole(model))
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)


def test_frozen_parameters_are_left_out_and_none_is_an_error() -> None:
    model, data = network(), batch()
    for value in model[0].parameters():
        value.requires_grad_(False)
    loss = nn.CrossEntropyLoss()
    found = dense(Hessian(model, loss, data))
    for value in model[0].parameters():
        value.requires_grad_(True)
    torch.testing.assert_close(found, dense(Hessian(model, loss, data))[20:, 20:])
    for value in model.parameters():
        value.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the model requires a gradient"):
        Hessian(model, loss, data)


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    model, data = nn.Sequential(nn.Dropout(0.5), network()), batch()
    with pytest.raises(ValueError, match=r"0 is dropout in training mode.*model\.eval"):
        Hessian(model, nn.CrossEntropyLoss(), data)
    Hessian(model.eval(), nn.CrossEntropyLoss(), data)
    with pytest.raises(ValueError, match="the data hold no batch"):
        Hessian(network(), nn.CrossEntropyLoss(), [])
    with pytest.raises(ValueError, match="once only"):  # the second product would be zero
        Hessian(network(), nn.CrossEntropyLoss(), iter([data]))
    with pytest.raises(ValueError, match="44 rows"):
        Scaled(Hessian(network(), nn.CrossEntropyLoss(), data), torch.ones(3))


def test_a_linear_loss_has_no_curvature() -> None:
    torch.manual_seed(0)
    model, (x, y) = nn.Linear(3, 4).double(), batch()
    for kind in (Hessian, GaussNewton):
        assert not dense(kind(model, lambda z, t: z.sum() / len(t), (x, y))).any()


def test_tangent_kernel_of_one_hidden_layer_in_closed_form() -> None:
    """Theta = h.h' + 1 + (1/C) (x.x' + 1) sum_c sum_j m_j m'_j W2_jc^2, with hidden units h and their ReLU masks m."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 7), nn.ReLU(), nn.Linear(7, 3)).double()
    x = torch.randn(9, 2, dtype=torch.float64)
    hidden = model[:2](x)
    mask, outgoing = (hidden > 0).double(), (model[2].weight ** 2).sum(0)  # type: ignore[operator]
    wanted = hidden @ hidden.T + 1 + (x @ x.T + 1) * ((mask * outgoing) @ mask.T) / 3
    torch.testing.assert_close(tangent_kernel(model, x), wanted.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dense(TangentKernel(model, x)), wanted.detach(), rtol=1e-12, atol=1e-12)


def test_tangent_kernels_are_products_of_jacobians() -> None:
    model, (x, _) = network(), batch()
    jacobian = jacobian_of(model, x)
    full = torch.einsum("ncp,mdp->ncmd", jacobian, jacobian)
    torch.testing.assert_close(tangent_kernel(model, x, kind="full"), full)
    torch.testing.assert_close(dense(TangentKernel(model, x, "full")), full.reshape(44, 44))
    each = torch.einsum("ncmc->cnm", full)
    torch.testing.assert_close(tangent_kernel(model, x, kind="class"), each)
    torch.testing.assert_close(tangent_kernel(model, x), each.mean(0))
    torch.testing.assert_close(tangent_kernel(model, x[:4], x[4:]), each.mean(0)[:4, 4:])


def test_an_operator_follows_the_weights_and_the_loss() -> None:
    (x, y), model, loss = batch(), network(), lossmith.create("dynamical:amplitude=9,period=4")
    operator = Hessian(model, loss, (x, y))
    dense(operator)
    for change in ("weights", "replaced", "loss"):
        with torch.no_grad():
            if change == "weights":
                next(model.parameters()).mul_(2)
            elif change == "replaced":
                old = torch.nn.utils.parameters_to_vector(model.parameters())
                torch.nn.utils.vector_to_parameters(1.5 * old, model.parameters())
            else:
                loss.step()
        torch.testing.assert_close(dense(operator), dense(Hessian(model, loss, (x, y))), rtol=0, atol=0)


@pytest.mark.parametrize("parts", [1, 3])
def test_class_weights_and_ignored_labels_of_pytorchs_cross_entropy(parts: int) -> None:
    """As if all samples were one batch; the Fisher matrix has the weighted gradients of the samples."""
    (x, y), model = batch(), network()
    weight, y = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64), y.clone()
    y[::4] = -100
    loss, data = nn.CrossEntropyLoss(weight), in_parts(x, y, parts)
    torch.testing.assert_close(dense(Hessian(model, loss, data)), hessian_by_functions(model, loss, x, y))
    kept, mass = y >= 0, weight[y[y >= 0]].sum()
    gradients = []
    for row, label in zip(x[kept], y[kept], strict=True):
        value = weight[label] * nn.functional.cross_entropy(model(row[None]), label[None]) / mass * len(y)
        parts_of = torch.autograd.grad(value, list(model.parameters()))
        gradients.append(torch.cat([g.reshape(-1) for g in parts_of]))
    wanted = torch.stack(gradients).T @ torch.stack(gradients) / len(y)
    torch.testing.assert_close(dense(Fisher(model, loss, data)), wanted)


def test_losses_that_return_no_mean_and_random_models_are_refused() -> None:
    (x, y), model = batch(), network()
    for loss in (nn.CrossEntropyLoss(reduction="sum"), lossmith.create("rooted:reduction=sum")):
        with pytest.raises(ValueError, match="reduction='sum': give one that returns the mean"):
            Hessian(model, loss, (x, y))
    lstm = nn.LSTM(3, 4, num_layers=2, dropout=0.5).double()
    for random in (nn.Sequential(nn.Linear(3, 4), nn.RReLU()).double(), lstm):
        with pytest.raises(ValueError, match="draws random numbers"):
            Hessian(random, nn.CrossEntropyLoss(), (x, y))
