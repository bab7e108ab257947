"""Forward passes without side effects: at other weights, with repeated or separate random numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.autograd.forward_ad as fwd
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call

from lossmith.autodiff.calls import call
from lossmith.learned.tangents import Tangents

State = dict[str, Tensor]


class Model:
    """A module as a function of its weights, buffers and inputs.

    Args:
        module: a module that returns logits, or an object with ``.logits``. It may be wrapped in
            `torch.nn.parallel.DistributedDataParallel`.
        autocast: autocast dtype of its forward passes, or ``None``.
    """

    def __init__(self, module: nn.Module, autocast: torch.dtype | None = None) -> None:
        self.module, self.autocast = module, autocast
        self.inner = module
        self.is_parallel = isinstance(module, nn.parallel.DistributedDataParallel)
        if isinstance(module, nn.parallel.DistributedDataParallel):
            self.inner = module.module
        self.names = {id(parameter): name for name, parameter in self.inner.named_parameters()}

    def forward(self, inputs: Any, leaves: State | None = None) -> Tensor:
        """Compute the logits by an ordinary forward pass, which updates buffers and draws random numbers.

        ``leaves`` are tensors to use in place of parameters, by name.
        """
        with self._casting(inputs):
            return call(self.module if leaves is None else self._with(leaves), inputs)

    def isolated_forward(self, inputs: Any) -> Tensor:
        """Run a forward pass that changes no buffer or random state and takes no part in distributed training."""
        with Draws.separate(_first(inputs).device), self._casting(inputs):
            return call(self._with(self.buffers()), inputs)

    def at(self, weights: State, buffers: State, inputs: Any) -> Tensor:
        """Compute logits at other weights and buffers, given by name, without a graph."""
        with torch.no_grad(), self._casting(inputs):
            return call(self._with(weights | _copies(buffers)), inputs)

    def slope_at(self, weights: State, buffers: State, direction: State, inputs: Any) -> tuple[Tensor, Tensor]:
        """Compute logits at other weights and buffers, and their derivative along a direction, by forward mode.

        The direction, of weights by name, is 0 for missing names.

        Raises:
            ValueError: if an operation of the model does not support forward mode.
        """
        with torch.no_grad(), fwd.dual_level(), Tangents(), self._casting(inputs):
            dual = {name: fwd.make_dual(weights[name], tangent) for name, tangent in direction.items()}
            try:
                logits = call(self._with(weights | _copies(buffers) | dual), inputs)
            except NotImplementedError as error:
                raise ValueError(
                    f"the model cannot be differentiated in forward mode ({str(error).splitlines()[0][:100]}): use "
                    "gradient='unroll' or 'difference'"
                ) from None
            primal, tangent = fwd.unpack_dual(logits)
            return primal.clone(), torch.zeros_like(primal) if tangent is None else tangent.clone()

    def buffers(self) -> State:
        """Copies of the buffers, by name."""
        return _copies(dict(self.inner.named_buffers()))

    def total(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes of distributed training."""
        if self.is_parallel:
            dist.all_reduce(tensor, group=self.module.process_group)
        return tensor

    def mean(self, tensors: list[Tensor]) -> list[Tensor]:
        """Average each tensor over all processes of distributed training, in one exchange."""
        if not self.is_parallel:
            return tensors
        flat = self.total(torch.cat([tensor.flatten() for tensor in tensors]))
        flat /= self.total(torch.ones_like(flat[:1]))
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def _with(self, weights: State) -> Callable[..., Any]:
        return lambda *args, **kwargs: functional_call(self.inner, weights, args, kwargs)

    def _casting(self, inputs: Any) -> contextlib.AbstractContextManager[Any]:
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(_first(inputs).device.type, self.autocast, cache_enabled=False)


class Draws:
    """A snapshot of the random number generators, from which the same numbers (dropout masks) can be drawn again.

    Args:
        device: the model's device.
        states: states of the CPU's and the device's generator; ``None`` takes the current ones.
    """

    def __init__(self, device: torch.device, states: list[Tensor] | None = None) -> None:
        self.devices = [device] if device.type == "cuda" else []
        self.states = states or [torch.get_rng_state(), *(torch.cuda.get_rng_state(each) for each in self.devices)]

    @classmethod
    @contextlib.contextmanager
    def separate(cls, device: torch.device) -> Iterator[None]:
        """Draw from a separate stream within this context, seeded by the next number of torch's global generator.

        The global generators are left as they were.
        """
        now = cls(device)
        with now.again():
            seed = int(torch.randint(2**63 - 1, ()))
        devices = [torch.device("cpu"), *now.devices]
        with cls(device, [torch.Generator(each).manual_seed(seed).get_state() for each in devices]).again():
            yield

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """Draw the numbers that followed the snapshot again within this context, then restore the generators."""
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(self.states[0])
            for each, state in zip(self.devices, self.states[1:], strict=True):
                torch.cuda.set_rng_state(state, each)
            yield


def first_rows(inputs: Any, target: Tensor, share: float) -> tuple[Any, Tensor]:
    """The first rows of a batch, at least one: a share in (0, 1] of inputs that are a tensor, or hold tensors."""
    count = max(1, round(share * len(target)))
    return _rows(inputs, count), target[:count]


def _rows(batch: Any, count: int) -> Any:
    if isinstance(batch, Tensor):
        return batch[:count]
    if isinstance(batch, Mapping):
        return {key: _rows(value, count) for key, value in batch.items()}
    return tuple(_rows(value, count) for value in batch)


def _first(inputs: Any) -> Tensor:
    if isinstance(inputs, Tensor):
        return inputs
    return _first(next(iter(inputs.values() if isinstance(inputs, Mapping) else inputs)))


def _copies(tensors: State) -> State:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
