"""Learning a loss while the model trains, with the user's own optimiser."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.learned.adaptive import AdaptiveLoss
from lossmith.learned.lookback import LookBack, norm
from lossmith.learned.passes import Draws, Model, State, first_rows
from lossmith.learned.regression import AdaptiveRegressionLoss
from lossmith.learned.response import check_optimizer, clip, response
from lossmith.learned.scale import Gain, Scale, cap_on_scale, wide
from lossmith.losses.arguments import check_choice, check_number, whole_number

Gradient = Literal["jvp", "unroll", "difference"]
MetaSource = Literal["given", "same", "next"]
TaskLoss = Callable[[Tensor, Tensor], Tensor]

_BAD_AUDITS: Final = 3  # in a row: single ones occur on 1 to 2 % of the steps of a small ResNet and an MLP with Adam


@dataclass(frozen=True)
class StepRecord:
    """What one step did; tensors, so that nothing waits for the device.

    Attributes:
        logits: of the training batch, detached.
        loss: the adaptive loss on it, times ``gain``, before its update.
        scale: effective scale: the norm of the gradient in the logits that the model was trained with, over that of
            the base; 1 if the scale is fixed.
        gain: what the loss was multiplied by to have that scale.
        task_loss: of the meta batch at the new weights; ``None`` where the loss was not updated. With
            ``meta_data="next"`` it belongs to the step before.
        error: relative error of the one-sided difference in the gradient of the loss's parameters, where it was
            measured at this step; else ``None``.
    """

    logits: Tensor
    loss: Tensor
    scale: Tensor
    gain: Tensor
    task_loss: Tensor | None
    error: float | None


class OnlineLossLearner:
    """Trains a model and, step by step, the loss it is trained with.

    One `step` updates the model by ``optimizer``, with the gradient ``s' = g s`` in the logits z, where ``s = dM/dz``
    is the gradient of the loss M as it is. With ``scale="fixed"``, ``g = |b| / |s|`` gives s' the norm of the gradient
    b of the loss's base on that batch: only the shape of the loss is learned, and the learning rate stays the user's.
    With ``scale="learned"``, ``g = min(1, max_scale |b| / |s|)``.

    Then the loss's parameters phi are updated by ``meta_optimizer``, from the gradient of the task loss at the model's
    new weights, ``d task / d phi = - d/dphi <s', J w>`` with ``w = (dU/dG)^T v``: v is the task loss's gradient at the
    new weights, U the optimiser's step, G the gradient it was given, and J the Jacobian of z at the old weights. It is
    the gradient of a full unroll of that step and needs no second derivative of the model. It includes the dependence
    of g on phi, ``ds' = g (I - s s^T / |s|^2) ds`` where g follows ``1 / |s|``; with ``meta_share`` below 1, g is that
    of the whole batch and the projection that of the rows used. ``gradient`` says how J w is computed:

    * ``"jvp"``: exactly, by one forward-mode product;
    * ``"unroll"``: exactly, by reverse mode through g (faster for small networks; keeps the graph);
    * ``"difference"``: ``(z(theta) - z(theta - h w)) / h`` with ``|h w| = 2e-5 |theta|``. Its error is measured against
      ``"jvp"`` every ``audit`` updates; where it is above ``tolerance``, that update is the exact one, and after three
      such measurements in a row ``"jvp"`` is used from there on. Between two measurements nothing bounds it.

    Args:
        model: any module that maps inputs to logits (or to an object with ``.logits``); may be wrapped in
            `torch.nn.parallel.DistributedDataParallel` (not with ``"unroll"``).
        loss: a module of logits and target with parameters of its own, such as `AdaptiveLoss`.
        optimizer: the model's: `torch.optim.SGD`, ``Adam`` or ``AdamW``, used as it is.
        meta_optimizer: any optimiser that holds the loss's parameters.
        task_loss: what is to become small, a function of logits and target; ``None`` is cross-entropy.
        meta_data: ``"given"``: each `step` that updates the loss is given a meta batch (validation data, or fresh
            training data); ``"same"``: the training batch again; ``"next"``: the next training batch, whose forward
            pass at the new weights is needed anyway; the loss is then updated at the beginning of the next step.
        gradient: ``"jvp"``, ``"unroll"`` or ``"difference"``.
        every: training steps from one update of the loss to the next.
        meta_share: share of a batch's rows, the first ones, that an update is computed from: an estimate at a share of
            the cost. With batch norm it sees the statistics of those rows, with dropout other masks.
        clip_grad_norm: largest norm of the model's gradient; ``None`` for no limit.
        scale: ``"fixed"`` or ``"learned"``; see above.
        max_scale: with ``scale="learned"``, largest ratio of the two norms; ``None`` is 10, ``math.inf`` no limit.
        base: the loss whose gradient b is, a function of logits and target; ``None`` is the ``base`` of an
            `AdaptiveLoss` or `AdaptiveRegressionLoss`, and for any other loss the task loss.
        autocast: dtype of autocast in the model's forward passes, such as `torch.bfloat16`; not with ``"difference"``.
        tolerance: see ``"difference"``.
        audit: updates from one measurement of the difference's error to the next.

    Raises:
        ValueError: if an argument is out of range or does not fit another, or the optimiser is not supported.

    The step leaves torch's global random state as a plain step leaves it: passes made for the loss repeat the step's
    numbers or draw from a stream of their own.

    Source: algorithm 2 of Raymond, Chen, Xue, Zhang, "Online Loss Function Learning", 2023, arXiv 2301.13247, which is
    ``scale="learned"`` without a limit. The fixed scale, the identity, the live optimiser and the shared forward pass
    are ours.
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
        own_base = loss.base if isinstance(loss, AdaptiveLoss | AdaptiveRegressionLoss) else self.task_loss
        self.base: TaskLoss = own_base if base is None else base
        self.parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        self.named: State = {self.model.names[id(p)]: p for p in self.parameters if id(p) in self.model.names}
        self.phi = [p for p in loss.parameters() if p.requires_grad]
        self._check(autocast)
        self.steps_taken = self.updates = self._bad_audits = 0
        self._pending: LookBack | None = None
        self._stores: list[State] = [{}, {}]

    def step(self, batch: tuple[Any, Tensor], meta_batch: tuple[Any, Tensor] | None = None) -> StepRecord:
        """Train the model for one step, and the loss too where one is due.

        Args:
            batch: inputs (a tensor, a tuple of arguments or a mapping of keywords) and target.
            meta_batch: likewise, for ``meta_data="given"``; needed at every ``every``-th step, else not looked at.

        Returns:
            What was done.

        Raises:
            ValueError: if a meta batch is due and not given, or given and not asked for.
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
        """Whether the next `step` has to be given a meta batch."""
        return self.meta_data == "given" and self._is_due

    def state_dict(self) -> dict[str, Any]:
        """The loss, its optimiser and what the next step needs, for `torch.save`; model and optimiser are the user's.

        Raises:
            ValueError: with ``gradient="unroll"`` and ``meta_data="next"``, whose graph cannot be saved.
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
        """Go on from what `state_dict` gave; the model and its optimiser must have been loaded too."""
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
        """The tensors to differentiate in: the parameters; for an unroll copies, which the step leaves alone."""
        if pending is None or self.gradient != "unroll":
            return self.named
        return {name: pending.weights[name].requires_grad_() for name in self.named}

    def _train(
        self, logits: Tensor, target: Tensor, leaves: State, pending: LookBack | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The model's own step; gives loss, scale and gain, and completes ``pending``."""
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
        """Update the loss from a forward pass made for it alone."""
        if self.meta_data != "given":
            inputs, target = first_rows(inputs, target, self.meta_share)
        return self._meta_update(pending, self.task_loss(self.model.aside(inputs), target), self.named)

    def _meta_update(self, pending: LookBack, task: Tensor, leaves: State) -> tuple[Tensor, float | None]:
        """Update the loss, given the task loss at the new weights as a function of ``leaves``."""
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
        """Gradients of an output in the leaves it depends on, by name."""
        gradients = torch.autograd.grad(output, list(leaves.values()), slope, allow_unused=True, **graph)
        return {name: gradient for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None}

    def _gradients(self, pending: LookBack, w: State) -> tuple[list[Tensor], float | None]:
        """The task loss's gradient in the loss's parameters, and the difference's error if measured."""
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
        """Copies of what the step is about to change."""
        inputs, target = first_rows(inputs, target, self.meta_share)
        # The copies' memory is used again, because fresh memory costs page faults; two sets, because with the next
        # batch as meta batch the step before is still looked back on.
        self._stores.reverse()
        store = self._stores[0]
        if not store:
            store.update({name: torch.empty_like(p) for name, p in self.named.items()})
        store.update({name: stored.detach() for name, stored in store.items()})
        torch._foreach_copy_(list(store.values()), [p.detach() for p in self.named.values()])
        weights = {name: p.detach() for name, p in self.model.inner.named_parameters()} | store
        return LookBack(inputs, target, weights, self.model.buffers(), Draws(self.parameters[0].device))

    def _scale(self, slope: Tensor, logits: Tensor, target: Tensor) -> tuple[Tensor, Gain]:
        """The effective scale that the model is trained with, and the gain that gives it."""
        z = logits.requires_grad_()
        (reference,) = torch.autograd.grad(self.base(z, target), z)
        squares = torch.stack([wide(slope).square().sum(), wide(reference).square().sum()])
        ours, bases = self.model.total(squares).sqrt()
        gain = Gain.of(ours, bases, self.cap)
        if isinstance(self.loss, AdaptiveLoss | AdaptiveRegressionLoss):
            self.loss.gain.copy_(gain.factor)
        return gain.factor * ours / bases.clamp(min=1e-30), gain

    def _check(self, autocast: torch.dtype | None) -> None:
        if not self.phi:
            raise ValueError("the loss has no parameters to learn: give one such as AdaptiveLoss()")
        if self.cap is None and isinstance(self.loss, AdaptiveLoss) and self.loss.residual is None:
            raise ValueError(f"control={self.loss.control!r} is a scale and nothing else: give scale='learned'")
        if len(self.named) < len(self.parameters):
            raise ValueError("the optimizer holds parameters that are not the model's: give it the model's alone")
        held = {id(p) for group in self.meta_optimizer.param_groups for p in group["params"]}
        if not {id(p) for p in self.phi} <= held:
            raise ValueError("the meta_optimizer does not hold the loss's parameters: make it from loss.parameters()")
        if self.gradient == "difference" and autocast is not None:
            raise ValueError("gradient='difference' drowns in the rounding of half precision: use 'jvp'")
        if self.gradient == "unroll" and self.model.is_parallel:
            raise ValueError("gradient='unroll' passes DistributedDataParallel by: use 'jvp'")
        if self.gradient == "unroll" and self.meta_share < 1:
            raise ValueError("gradient='unroll' differentiates the whole batch: use 'jvp' with meta_share")
