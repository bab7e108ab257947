"""A classifier's last layer and a loss of the target's cross-entropy in one: the logits are never whole in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import torch
from torch import Tensor

from lossmith.kernels.head_chunks import Gradients, chunks

PerRow = Callable[[Tensor, slice], Tensor]
"""Maps the cross-entropies c of some rows, and which rows these are, to their terms of the sum."""
_FIRST_ONLY: Final = (
    "linear_loss has first derivatives only, in reverse mode: for others apply the loss, made with "
    "implementation='reference', to the whole logits"
)


def linear_sum(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignore_index: int, per_row: PerRow
) -> Tensor:
    """``sum_i per_row(c)_i`` for the cross-entropies c of the logits ``hidden weight^T + bias``.

    The logits of a chunk of rows are computed, overwritten by their own gradient and multiplied into the gradients of
    hidden (N, D), weight (C, D) and bias (C,) at once; the backward pass only scales these. It costs the three matrix
    products of the plain way. Whatever else `per_row` depends on, which is elementwise and differentiable once, gets
    its gradient from autograd as usual. The sum is of at least float32.

    Raises:
        IndexError: if a target is out of range.
        RuntimeError: if a second derivative or a forward-mode one is asked for.
    """
    if torch.compiler.is_compiling():  # which can trace registered operations only; one matrix product more
        c = _linear_cross_entropy(hidden, weight, bias, target, ignore_index)
        return per_row(c, slice(0, len(hidden))).sum()
    differentiable = torch.is_grad_enabled()
    head = (hidden, weight, bias)
    gradients = [
        torch.zeros_like(of) if differentiable and of is not None and of.requires_grad else None for of in head
    ]
    wanted = any(of is not None for of in gradients)
    totals = []
    with torch.no_grad():
        # detach() drops forward-mode tangents, which are refused below.
        plain = hidden.detach(), weight.detach(), None if bias is None else bias.detach()
        for part, chunk in chunks(*plain, target, ignore_index):
            with torch.set_grad_enabled(differentiable):
                totals.append(per_row(chunk.c, part).sum())
            if wanted:
                chunk.accumulate(_slope(per_row, chunk.c, part), _rows_of(gradients, part))
    total = torch.stack(totals).sum() if totals else hidden.new_zeros(())
    attached: Tensor = _Attached.apply(total, *head, *gradients)  # type: ignore[no-untyped-call]
    return attached


def _slope(per_row: PerRow, c: Tensor, part: slice) -> Tensor:
    with torch.enable_grad():
        c = c.detach().requires_grad_()
        (slope,) = torch.autograd.grad(per_row(c, part).sum(), c)
    return slope


class _Attached(torch.autograd.Function):
    """A scalar, with the gradients of hidden, weight and bias that are known already."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, *head_and_gradients: Tensor | None) -> Tensor:
        ctx.save_for_backward(*head_and_gradients[3:])
        ctx.used = False
        return total.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(_FIRST_ONLY)
        if ctx.used:
            raise RuntimeError("linear_loss gives its gradients once: call it again in place of retain_graph")
        ctx.used = True  # they are handed over, not copied: weight's is as large as weight
        scaled = (None if made is None else made.mul_(upstream.to(made.dtype)) for made in ctx.saved_tensors)
        return (upstream, *scaled, None, None, None)

    @staticmethod
    def jvp(*_: Any) -> NoReturn:
        raise RuntimeError(_FIRST_ONLY)


@torch.library.custom_op("lossmith::linear_cross_entropy", mutates_args=())
def _linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignore_index: int
) -> Tensor:
    parts = [chunk.c for _, chunk in chunks(hidden, weight, bias, target, ignore_index)]
    return torch.cat(parts) if parts else hidden.new_zeros(0)


@_linear_cross_entropy.register_fake
def _(hidden: Tensor, *_: object) -> Tensor:
    return hidden.new_empty(hidden.shape[0], dtype=torch.promote_types(hidden.dtype, torch.float32))


@torch.library.custom_op("lossmith::linear_cross_entropy_backward", mutates_args=())
def _linear_cross_entropy_backward(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignore_index: int, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    gradients = [torch.zeros_like(of) for of in (hidden, weight, weight[:, 0].contiguous())]
    for part, chunk in chunks(hidden, weight, bias, target, ignore_index):
        chunk.accumulate(slope[part].contiguous(), _rows_of(gradients, part))
    of_hidden, of_weight, of_bias = gradients
    return of_hidden, of_weight, of_bias


@_linear_cross_entropy_backward.register_fake
def _(hidden: Tensor, weight: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(hidden), torch.empty_like(weight), weight.new_empty(weight.shape[0])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.ignore_index = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError(_FIRST_ONLY)
    hidden, weight, bias, target = ctx.saved_tensors
    of_hidden, of_weight, of_bias = _linear_cross_entropy_backward(
        hidden, weight, bias, target, ctx.ignore_index, slope
    )
    return of_hidden, of_weight, None if bias is None else of_bias, None, None


_linear_cross_entropy.register_autograd(_backward, setup_context=_keep)


def _rows_of(gradients: Sequence[Tensor | None], part: slice) -> Gradients:
    of_hidden, of_weight, of_bias = gradients
    return Gradients(None if of_hidden is None else of_hidden[part], of_weight, of_bias)
