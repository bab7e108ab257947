"""Learning a loss while the model trains with its own optimiser."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.learned.lookback import LookBack, norm
from lossmith.learned.parameters import LearnedLoss
from lossmith.learned.passes import Draws, Model, State, first_rows
from lossmith.learned.response import check_optimizer, clip, response
from lossmith.learned.scale import Gain, Scale, cap_on_scale, wide
from lossmith.losses.arguments import check_choice, check_number, whole_number

Gradient = Literal["jvp", "unroll", "difference"]
MetaSource = Literal["given", "same", "next"]
TaskLoss = Callable[[Tensor, Tensor], Tensor]

_BAD_AUDITS: Final = 3  # in a row; isolated ones occur in 1 to 2 % of the steps of a small ResNet and an MLP with Adam


@dataclass(frozen=True)
class StepRecord:
    """The results of one step, as tensors so that the host does not wait for the device.

    Attributes:
        logits: logits of the training batch, detached.
        loss: the adaptive loss of the batch before its update, multiplied by ``gain``.
        scale: effective scale: the norm of the gradient with respect to the logits that the model was trained with,
            divided by that of the base. It is 1 if the scale is fixed.
        gain: the factor of the loss that gives this scale.
        task_loss: task loss of the meta batch at the new weights; ``None`` if the loss was not updated. With
            ``meta_data="next"`` it belongs to the previous step.
        error: relative error of the meta gradient by one-sided difference if it was measured in this step, otherwise
            ``None``.
    """

    logits: Tensor
    loss: Tensor
    scale: Tensor
    gain: Tensor
    task_loss: Tensor | None
    error: float | None


class OnlineLossLearner:
    """Trains a model and, in the same steps, the loss that it is trained with.

    A `step` first updates the model with ``optimizer``. The gradient with respect to the logits z is ``s' = g s``,
    where ``s = dM/dz`` is the gradient of the current loss M. With ``scale="fixed"``, ``g = |b| / |s|`` gives s' the
    norm of the gradient b of the base loss on the same batch: only the shape of the loss is learned, and the learning
    rate keeps its meaning. With ``scale="learned"``, ``g = min(1, max_scale |b| / |s|)``.

    The step then updates the loss's parameters phi with ``meta_optimizer``. The meta gradient is that of the task loss
    at the new weights, ``d task / d phi = - d/dphi <s', J w>`` with ``w = (dU/dG)^T v``. Here v is the gradient of the
    task loss at the new weights, U the optimiser's step, G the gradient passed to the optimiser, and J the Jacobian of
    z at the old weights. This equals the gradient of a full unroll of the step and needs no second derivative of the
    model. It includes the dependence of g on phi: ``ds' = g (I - s s^T / |s|^2) ds`` where g is proportional to
    ``1 / |s|``. With ``meta_share`` below 1, g is computed from the whole batch and the projection from the rows used.
    ``gradient`` selects how J w is computed:

    * ``"jvp"``: exactly, by one forward-mode product.
    * ``"unroll"``: exactly, by reverse mode through G. This keeps the graph and is faster for small networks.
    * ``"difference"``: ``(z(theta) - z(theta - h w)) / h`` with ``|h w| = 2e-5 |theta|``. Its error is measured against
      ``"jvp"`` every ``audit`` updates. If the error exceeds ``tolerance``, that update uses the exact gradient, and
      after three such measurements in a row the learner switches to ``"jvp"``. The error is not bounded in between.

    The step leaves torch's global random state as a plain training step would: additional passes repeat the step's
    random numbers or draw from a separate stream.

    Args:
        model: a module that maps inputs to logits, or to an object with ``.logits``. It may be wrapped in
            `torch.nn.parallel.DistributedDataParallel`, except with ``"unroll"``.
        loss: a module of logits and target with parameters, such as `AdaptiveLoss`.
        optimizer: the model's optimiser, a `torch.optim.SGD`, ``Adam`` or ``AdamW``, used as it is.
        meta_optimizer: any optimiser of the loss's parameters.
        task_loss: the loss to be reduced, a function of logits and target; ``None`` is cross-entropy.
        meta_data: the source of the meta batch, on which the task loss is measured. ``"given"``: it is passed to each
            `step` that updates the loss (validation data or fresh training data). ``"same"``: the training batch.
            ``"next"``: the next training batch, whose forward pass is needed anyway; the loss is then updated at the
            beginning of the next step.
        gradient: ``"jvp"``, ``"unroll"`` or ``"difference"``.
        every: number of training steps per update of the loss.
        meta_share: fraction of a batch's rows that an update uses, taken from the front. This is an estimate at a
            fraction of the cost: batch norm uses the statistics of those rows, and dropout draws other masks.
        clip_grad_norm: largest norm of the model's gradient; ``None`` for no limit.
        scale: ``"fixed"`` or ``"learned"``; see above.
        max_scale: with ``scale="learned"``, the largest ratio ``|s'| / |b|``; ``None`` is 10, ``math.inf`` no limit.
        base: the loss that has the gradient b, a function of logits and target. ``None`` is the ``base`` of an
            `AdaptiveLoss` or `AdaptiveRegressionLoss`, and the task loss otherwise.
        autocast: autocast dtype of the model's forward passes, such as `torch.bfloat16`; not with ``"difference"``.
        tolerance: largest error of ``"difference"``.
        audit: number of updates per measurement of the error of ``"difference"``.

    Raises:
        ValueError: if an argument is out of range or conflicts with another, or the optimiser is not supported.

    Source: algorithm 2 of Raymond, Chen, Xue, Zhang, "Online Loss Function Learning", 2023, arXiv 2301.13247, which is
    ``scale="learned"`` without a limit. The fixed scale, the identity for the meta gradient, the use of the optimiser's
    state and the shared forward pass are ours.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        optimizer: torch.optim.Optimizer,
        meta_optimizer: torch.optim.Optimizer,
        *,
        task_loss: TaskLoss | None = None,
        meta_data: MetaSource = "given",
        gradient: Gradient = "jvp",
        every: int = 1,
        meta_share: float = 1.0,
        clip_grad_norm: float | None = None,
        scale: Scale = "fixed",
        max_scale: float | None = None,
        base: TaskLoss | None = None,
        autocast: torch.dtype | None = None,
        tolerance: float = 0.05,
        audit: int = 50,
    ) -> None:
        check_optimizer(optimizer)
        check_choice("meta_data", meta_data, get_args(MetaSource))
        check_choice("gradient", gradient, get_args(Gradient))
        check_number("meta_share", meta_share, low=1e-6, high=1.0)
        check_number("tolerance", tolerance, low=0.0, high=1.0)
        if clip_grad_norm is not None:
            check_number("clip_grad_norm", clip_grad_norm, low=1e-12, high=1e12)
        self.model, self.loss = Model(model, autocast), loss
        self.optimizer, self.meta_optimizer = optimizer, meta_optimizer
        self.task_loss: TaskLoss = F.cross_entropy if task_loss is None else task_loss
        self.meta_data, self.gradient = meta_data, gradient
        self.every, self.audit = whole_number("every", every, low=1), whole_number("audit", audit, low=1)
        self.meta_share, self.clip_grad_norm, self.tolerance = meta_share, clip_grad_norm, tolerance
        self.cap = cap_on_scale(scale, max_scale)
        own_base = loss.base if isinstance(loss, LearnedLoss) else self.task_loss
        self.base: TaskLoss = own_base if base is None else base
        self.parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        self.named: State = {self.model.names[id(p)]: p for p in self.parameters if id(p) in self.model.names}
        self.phi = [p for p in loss.parameters() if p.requires_grad]
        self._check(autocast)
        self.steps_taken = self.updates = self._bad_audits = 0
        self._pending: LookBack | None = None
        self._stores: list[State] = [{}, {}]

    def step(self, batch: tuple[Any, Tensor], meta_batch: tuple[Any, Tensor] | None = None) -> StepRecord:
        """Train the model for one step, and update the loss if an update is due.

        Args:
            batch: inputs and target. The inputs are a tensor, a tuple of positional arguments or a mapping of keyword
                arguments of the model.
            meta_batch: inputs and target of the meta batch for ``meta_data="given"``. It is required every ``every``
                steps and ignored in between.

        Returns:
            The results of the step.

        Raises:
            ValueError: if a required meta batch is missing, or one is given although ``meta_data`` is not ``"given"``.
        """
        inputs, target = batch
        if self.wants_meta_batch and meta_batch is None:
            raise ValueError("meta_data='given' needs a meta batch at this step: step(batch, meta_batch)")
        if self.meta_data != "given" and meta_batch is not None:
            raise ValueError(f"meta_data={self.meta_data!r} takes no meta batch: leave it out")
        looking_back, self._pending = self._pending, None
        shares = looking_back is not None and self.meta_share == 1
        task_loss = error = None
        if looking_back is not None and not shares:
            task_loss, error = self._meta_step(looking_back, inputs, target)
        pending = self._remember(inputs, target) if self._is_due else None
        leaves = self._leaves(pending)
        logits = self.model.forward(inputs, None if leaves is self.named else leaves)
        if looking_back is not None and shares:
            task_loss, error = self._meta_update(looking_back, self.task_loss(logits, target), leaves)
        record = self._train(logits, target, leaves, pending)
        if pending is not None and self.meta_data == "next":
            self._pending = pending
        elif pending is not None:
            task_loss, error = self._meta_step(pending, *(batch if meta_batch is None else meta_batch))
        self.steps_taken += 1
        return StepRecord(logits.detach(), *record, task_loss, error)

    @property
    def wants_meta_batch(self) -> bool:
        """Whether the next `step` requires a meta batch."""
        return self.meta_data == "given" and self._is_due

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the loss, of its optimiser and of a pending update, for `torch.save`.

        The state of the model and its optimiser is not included.

        Raises:
            ValueError: with ``gradient="unroll"`` and ``meta_data="next"``, because a graph cannot be saved.
        """
        pending = self._pending
        if pending is not None and pending.gradients is not None:
            raise ValueError("gradient='unroll' with meta_data='next' holds a graph from step to step: use 'jvp'")
        state = {
            "loss": self.loss.state_dict(),
            "meta_optimizer": self.meta_optimizer.state_dict(),
            "steps_taken": self.steps_taken,
            "updates": self.updates,
            "gradient": self.gradient,
            "bad_audits": self._bad_audits,
            "pending": None if pending is None else pending.to_state(),
        }
        return copy.deepcopy(state)  # steps change many of these tensors in place

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from `state_dict`; the model and its optimiser must be restored separately."""
        state = copy.deepcopy(state)
        self.loss.load_state_dict(state["loss"])
        self.meta_optimizer.load_state_dict(state["meta_optimizer"])
        self.steps_taken, self.updates, self.gradient = state["steps_taken"], state["updates"], state["gradient"]
        self._bad_audits = state["bad_audits"]
        self._pending = None if state["pending"] is None else LookBack.from_state(state["pending"])

    @property
    def _is_due(self) -> bool:
        return (self.steps_taken + 1) % self.every == 0

    def _leaves(self, pending: LookBack | None) -> State:
        """The tensors to differentiate with respect to: the parameters, or copies of them for an unroll."""
        if pending is None or self.gradient != "unroll":
            return self.named
        return {name: pending.weights[name].requires_grad_() for name in self.named}

    def _train(
        self, logits: Tensor, target: Tensor, leaves: State, pending: LookBack | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take the model's step and complete ``pending``; returns loss, scale and gain."""
        unroll = leaves is not self.named
        z = logits if unroll else logits.detach().requires_grad_()
        value = self.loss(z, target)
        (slope,) = torch.autograd.grad(value, z, create_graph=unroll)
        scale, gain = self._scale(slope.detach(), logits.detach(), target)
        slope = gain.applied(slope)
        self.optimizer.zero_grad(set_to_none=True)
        if unroll:
            gradients = self._pull(logits, leaves, slope, create_graph=True)
            for name, gradient in gradients.items():
                self.named[name].grad = gradient.detach().clone()
        else:
            logits.backward(slope)
        clipped = None if self.clip_grad_norm is None else clip(self.named, self.clip_grad_norm)
        self.optimizer.step()
        if pending is not None:
            pending.response = response(self.optimizer, self.model.names, pending.weights)
            pending.clipped, pending.gain = clipped, gain
            pending.gradients = gradients if unroll else None
            if self.gradient == "difference" and self.meta_share == 1:
                pending.logits = logits.detach()
        self.optimizer.zero_grad(set_to_none=True)
        return value.detach() * gain.factor, scale, gain.factor

    def _meta_step(self, pending: LookBack, inputs: Any, target: Tensor) -> tuple[Tensor, float | None]:
        """Update the loss with a separate forward pass."""
        if self.meta_data != "given":
            inputs, target = first_rows(inputs, target, self.meta_share)
        return self._meta_update(pending, self.task_loss(self.model.isolated_forward(inputs), target), self.named)

    def _meta_update(self, pending: LookBack, task: Tensor, leaves: State) -> tuple[Tensor, float | None]:
        """Update the loss from the task loss at the new weights, a function of ``leaves``."""
        v = self._pull(task, leaves, None, retain_graph=self.meta_data == "next")
        v = dict(zip(v, self.model.mean(list(v.values())), strict=True))
        w, factor = pending.answer(v)
        gradients, error = self._gradients(pending, w)
        if factor is not None:
            gradients = [gradient * factor for gradient in gradients]
        for phi, gradient in zip(self.phi, self.model.mean(gradients), strict=True):
            phi.grad = gradient
        self.meta_optimizer.step()
        self.updates += 1
        for phi in self.phi:
            phi.grad = None
        return task.detach(), error

    def _pull(self, output: Tensor, leaves: State, slope: Tensor | None, **graph: bool) -> State:
        """Gradients of an output with respect to the leaves it depends on, by name."""
        gradients = torch.autograd.grad(output, list(leaves.values()), slope, allow_unused=True, **graph)
        return {name: gradient for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None}

    def _gradients(self, pending: LookBack, w: State) -> tuple[list[Tensor], float | None]:
        """The meta gradient, and the error of the one-sided difference if it was measured."""
        if self.gradient != "difference":
            return pending.exact(self.model, self.loss, self.phi, w), None
        exact = pending.exact(self.model, self.loss, self.phi, w) if self.updates % self.audit == 0 else None
        found = pending.by_difference(self.model, self.loss, self.phi, w)
        if exact is None:
            return found, None
        error = float(norm(a - b for a, b in zip(found, exact, strict=True)) / norm(exact).clamp(min=1e-30))
        self._bad_audits = self._bad_audits + 1 if error > self.tolerance else 0
        if self._bad_audits == _BAD_AUDITS:
            self.gradient = "jvp"
        return (exact if self._bad_audits else found), error

    def _remember(self, inputs: Any, target: Tensor) -> LookBack:
        """Record what the step is about to change."""
        inputs, target = first_rows(inputs, target, self.meta_share)
        # Reusing the copies' memory avoids page faults. There are two sets, because with meta_data="next" the previous
        # step's copies are still in use.
        self._stores.reverse()
        store = self._stores[0]
        if not store:
            store.update({name: torch.empty_like(p) for name, p in self.named.items()})
        store.update({name: stored.detach() for name, stored in store.items()})
        torch._foreach_copy_(list(store.values()), [p.detach() for p in self.named.values()])
        weights = {name: p.detach() for name, p in self.model.inner.named_parameters()} | store
        return LookBack(inputs, target, weights, self.model.buffers(), Draws(self.parameters[0].device))

    def _scale(self, slope: Tensor, logits: Tensor, target: Tensor) -> tuple[Tensor, Gain]:
        """The effective scale that the model is trained with, and the gain that yields it."""
        z = logits.requires_grad_()
        (reference,) = torch.autograd.grad(self.base(z, target), z)
        squares = torch.stack([wide(slope).square().sum(), wide(reference).square().sum()])
        ours, bases = self.model.total(squares).sqrt()
        gain = Gain.of(ours, bases, self.cap)
        if isinstance(self.loss, LearnedLoss):
            self.loss.gain.copy_(gain.factor)
        return gain.factor * ours / bases.clamp(min=1e-30), gain

    def _check(self, autocast: torch.dtype | None) -> None:
        if not self.phi:
            raise ValueError("the loss has no parameters to learn: use one such as AdaptiveLoss()")
        if self.cap is None and isinstance(self.loss, LearnedLoss) and self.loss.control == "scale":
            raise ValueError(f"control={self.loss.control!r} has only a scale to learn: add scale='learned'")
        if len(self.named) < len(self.parameters):
            raise ValueError("the optimizer holds parameters that are not the model's: make it from model.parameters()")
        held = {id(p) for group in self.meta_optimizer.param_groups for p in group["params"]}
        if not {id(p) for p in self.phi} <= held:
            raise ValueError("the meta_optimizer does not hold the loss's parameters: make it from loss.parameters()")
        if self.gradient == "difference" and autocast is not None:
            raise ValueError("gradient='difference' is too imprecise in half precision: use 'jvp'")
        if self.gradient == "unroll" and self.model.is_parallel:
            raise ValueError("gradient='unroll' does not work with DistributedDataParallel: use 'jvp'")
        if self.gradient == "unroll" and self.meta_share < 1:
            raise ValueError("gradient='unroll' cannot use a part of the batch: use 'jvp' with meta_share")
