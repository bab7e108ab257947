"""Forward passes of a model that leave no trace: at other weights, with the random numbers of before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.autograd.forward_ad as fwd
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call

from lossmith.learned.tangents import Tangents

State = dict[str, Tensor]


class Model:
    """A module seen as a function of its weights, buffers and inputs.

    Args:
        module: any module whose output is logits, or has them as ``.logits``; may be wrapped in
            `torch.nn.parallel.DistributedDataParallel`.
        autocast: dtype of autocast in its forward passes, or ``None``.
    """

    def __init__(self, module: nn.Module, autocast: torch.dtype | None = None) -> None:
        self.module, self.autocast = module, autocast
        self.inner = module
        self.is_parallel = isinstance(module, nn.parallel.DistributedDataParallel)
        if isinstance(module, nn.parallel.DistributedDataParallel):
            self.inner = module.module
        self.names = {id(parameter): name for name, parameter in self.inner.named_parameters()}

    def forward(self, inputs: Any, leaves: State | None = None) -> Tensor:
        """An ordinary forward pass: buffers move on, random numbers are drawn.

        Args:
            inputs: a batch.
            leaves: tensors in place of parameters, by name.

        Returns:
            Logits.
        """
        with self._casting(inputs):
            return _call(self.module if leaves is None else self._with(leaves), inputs)

    def aside(self, inputs: Any) -> Tensor:
        """A forward pass that leaves buffers and random state as they are and is no part of distributed training."""
        with Draws.apart(_first(inputs).device), self._casting(inputs):
            return _call(self._with(self.buffers()), inputs)

    def at(self, weights: State, buffers: State, inputs: Any) -> Tensor:
        """Logits at other weights and buffers, by name; nothing is recorded."""
        with torch.no_grad(), self._casting(inputs):
            return _call(self._with(weights | _copies(buffers)), inputs)

    def slope_at(self, weights: State, buffers: State, direction: State, inputs: Any) -> tuple[Tensor, Tensor]:
        """Logits at other weights and buffers, and their derivative along a direction, by forward mode.

        Args:
            weights: parameters by name.
            buffers: likewise.
            direction: in weight space, by name; 0 for parameters not named.
            inputs: a batch.

        Returns:
            Logits and their derivative, of one shape.

        Raises:
            ValueError: if an operation of the model has no forward mode.
        """
        with torch.no_grad(), fwd.dual_level(), Tangents(), self._casting(inputs):
            dual = {name: fwd.make_dual(weights[name], tangent) for name, tangent in direction.items()}
            try:
                logits = _call(self._with(weights | _copies(buffers) | dual), inputs)
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
        """The sum of a tensor over all processes of distributed training."""
        if self.is_parallel:
            dist.all_reduce(tensor, group=self.module.process_group)
        return tensor

    def mean(self, tensors: list[Tensor]) -> list[Tensor]:
        """The mean of each tensor over all processes of distributed training, in one exchange."""
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
    """The state of the random number generators, to draw the same numbers (dropout) again.

    Args:
        device: of the model.
        states: of the CPU's generator and the device's; ``None``: as they are now.
    """

    def __init__(self, device: torch.device, states: list[Tensor] | None = None) -> None:
        self.devices = [device] if device.type == "cuda" else []
        self.states = states or [torch.get_rng_state(), *(torch.cuda.get_rng_state(each) for each in self.devices)]

    @classmethod
    @contextlib.contextmanager
    def apart(cls, device: torch.device) -> Iterator[None]:
        """Within, numbers are drawn from a stream of its own, seeded by the next number of torch's global generator.

        The global generators themselves stand where they stood.

        Args:
            device: of the model.
        """
        now = cls(device)
        with now.again():
            seed = int(torch.randint(2**63 - 1, ()))
        devices = [torch.device("cpu"), *now.devices]
        with cls(device, [torch.Generator(each).manual_seed(seed).get_state() for each in devices]).again():
            yield

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """Within, what was drawn after this object was made is drawn again; afterwards all is as before."""
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(self.states[0])
            for each, state in zip(self.devices, self.states[1:], strict=True):
                torch.cuda.set_rng_state(state, each)
            yield


def first_rows(inputs: Any, target: Tensor, share: float) -> tuple[Any, Tensor]:
    """The first rows of a batch, at least one.

    Args:
        inputs: a tensor, or a tuple, list or mapping of them.
        target: a row per example.
        share: of the rows, in (0, 1].
    """
    count = max(1, round(share * len(target)))
    return _rows(inputs, count), target[:count]


def _rows(batch: Any, count: int) -> Any:
    if isinstance(batch, Tensor):
        return batch[:count]
    if isinstance(batch, Mapping):
        return {key: _rows(value, count) for key, value in batch.items()}
    return tuple(_rows(value, count) for value in batch)


def _call(module: Callable[..., Any], inputs: Any) -> Tensor:
    if isinstance(inputs, Tensor):
        output = module(inputs)
    elif isinstance(inputs, Mapping):
        output = module(**inputs)
    else:
        output = module(*inputs)
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits


def _first(inputs: Any) -> Tensor:
    if isinstance(inputs, Tensor):
        return inputs
    return _first(next(iter(inputs.values() if isinstance(inputs, Mapping) else inputs)))


def _copies(tensors: State) -> State:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
