"""A model is tried once before anything is trained, so that mistakes are told, of a user's own with file and line."""

from __future__ import annotations

import inspect
from typing import Final

import torch
from torch import Tensor, nn

from lossmith.data import Splits
from lossmith.tasks import Task
from lossmith.trials.models import ModelError, build_model
from lossmith.trials.seeding import seeded
from lossmith.trials.trial import Sources
from lossmith.trials.user_code import file_of, guarded, line_in, load_function

_EXAMPLES: Final = 2
_ROUNDING: Final = 1e-4
_RESHAPING: Final = ("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Permute", "Transpose")


def try_model(text: str, splits: Splits, task: Task, sources: Sources, seed: int) -> None:
    """Build a model; of a user's own, take its outputs and their gradients on two examples.

    Args:
        text: canonical text of the model.
        splits: what it will be trained on.
        task: what scores it.
        sources: where its file lies.
        seed: of its weights and of what is random in it.

    Raises:
        UserCodeError: if it will not do; the message is one sentence that names file, line and fix.
    """
    name, _, digest = text.partition("#")
    if not digest:
        build_model(text, splits, task.outputs, sources, seed)
        return
    factory = load_function(text, "model", sources)
    path = file_of(factory, sources.code[digest])
    made = line_in(path, factory, getattr(factory, "__init__", None))
    what = f"model {name}"
    if isinstance(factory, nn.Module):
        raise ModelError(
            f"{what}: it is a module itself, name a function that takes input_shape and outputs and makes one"
        )
    try:
        inspect.signature(factory).bind(splits.input_shape, task.outputs)
    except (TypeError, ValueError) as error:
        shown = f"{name.rpartition(':')[2]}({splits.input_shape}, {task.outputs})"
        raise ModelError(f"{what}{made}: it is called as {shown}, shape of an input and outputs: {error}") from None
    with seeded(seed), guarded(what, path, made):
        model = factory(splits.input_shape, task.outputs)
        if not isinstance(model, nn.Module):
            raise ModelError(f"{what}{made}: it is a {type(model).__name__}, return a torch.nn.Module")
        parameters = [each for each in model.parameters() if each.requires_grad]
        if not parameters:
            frozen = any(True for _ in model.parameters())
            lack = (
                "all its parameters are frozen, leave requires_grad of some at True"
                if frozen
                else "it has no parameters to train, return a module with layers"
            )
            raise ModelError(f"{what}{made}: {lack}")
    forward = line_in(path, type(model).forward) or made
    inputs, targets = splits.train.batch(slice(_EXAMPLES))
    inputs, targets = inputs.cpu(), targets.cpu()
    hint = f"; its inputs here have the shape {tuple(inputs.shape)}, take the sizes of its layers from input_shape"
    with seeded(seed), guarded(what, path, forward, hint):
        for mode in (False, True):
            outputs = model.train(mode)(inputs)
            fault = _fault(outputs, targets, task)
            if fault is not None:
                raise ModelError(f"{what}{forward}: {fault}")
        if not outputs.requires_grad:
            raise ModelError(f"{what}{forward}: its outputs do not depend on its parameters, so that nothing can learn")
        torch.autograd.grad(task.reference_values(outputs[None], targets[None]).sum(), parameters, allow_unused=True)


def _fault(outputs: object, targets: Tensor, task: Task) -> str | None:
    """What is wrong with a model's outputs, with the fix."""
    if not isinstance(outputs, Tensor):
        return f"it gives a {type(outputs).__name__}, give one tensor of {task.outputs} outputs each"
    regression = targets.is_floating_point()
    expected = targets.shape if regression else (len(targets), task.outputs, *targets.shape[1:])
    if outputs.shape != torch.Size(expected):
        return (
            f"it gives outputs of the shape {tuple(outputs.shape)} for {len(targets)} examples, where "
            f"{tuple(expected)} is needed for {task.name}, give the last layer {task.outputs} output(s)"
        )
    if not outputs.isfinite().all():
        return "its first outputs are not finite, before any training, look at its forward pass and initial weights"
    if not regression and outputs.min() >= 0 and (outputs.sum(1) - 1).abs().max() <= _ROUNDING:
        return "it ends in a softmax, but losses take logits, remove the softmax"
    if not regression and _ends_in_sigmoid(outputs):
        return "it ends in a sigmoid, but losses take logits, remove the sigmoid"
    return None


def _ends_in_sigmoid(outputs: Tensor) -> bool:
    """Whether a sigmoid is the last that was done, but for a change of shape."""
    last = outputs.grad_fn
    while last is not None and last.name().startswith(_RESHAPING):
        last = last.next_functions[0][0]
    return last is not None and last.name().startswith("Sigmoid")
