"""What a training function returns, judged: scores of units, or a model's outputs with the targets."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossmith.data import IGNORED, Examples
from lossmith.tasks import Classification, Judged, Regression, Segmentation, Task
from lossmith.tasks.scored import Scored

_AT_ONCE: Final = 256  # units that are judged together
_SUM: Final = 1e-3  # by which probabilities may miss 1
_HOW: Final = (
    "return (valid, test), test being None unless run.final; each is an array with the score of each unit, or a tuple "
    "(outputs, targets)"
)


class ReturnedError(ValueError):
    """What a training function returned will not do; the message continues a sentence that begins with its name."""


def plain(values: Any) -> NDArray[Any]:
    """A tensor of any device, or anything like an array, as a NumPy array."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    try:
        array: NDArray[Any] = np.asarray(values)
    except ValueError:
        raise ReturnedError(f"returned {_kind(values)} that make no array: {_HOW}") from None
    return array


def take_apart(returned: Any, *, final: bool) -> tuple[Any, Any]:
    """The validation and the test part of what a training function returned.

    Raises:
        ReturnedError: if there are no two, or one that is needed is missing.
    """
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise ReturnedError(f"returned {_kind(returned)}: {_HOW}")
    valid, test = returned
    if valid is None or (final and test is None):
        raise ReturnedError(f"returned None for the {'validation' if valid is None else 'test'} part: {_HOW}")
    return valid, test if final else None


def is_pair(part: Any) -> bool:
    """Whether a part is outputs with targets, not scores."""
    return isinstance(part, tuple | list) and len(part) == 2 and np.ndim(plain(part[0])) > 0


def pair_of(part: Any) -> tuple[Tensor, NDArray[Any]]:
    """Outputs, float32 (n, ...), and targets (n, ...) of a part.

    Raises:
        ReturnedError: if they do not fit together.
    """
    outputs, targets = torch.from_numpy(np.array(plain(part[0]), dtype=np.float32)), plain(part[1])
    if targets.ndim == 0 or len(outputs) != len(targets) or not len(targets):
        raise ReturnedError(
            f"returned outputs of the shape {tuple(outputs.shape)} with targets of the shape {targets.shape}: {_HOW}"
        )
    return outputs, targets


def scores_of(part: Any) -> NDArray[np.float64]:
    """The scores of a part, (n,).

    Raises:
        ReturnedError: if it is anything else.
    """
    values = plain(part)
    if values.ndim != 1 or not len(values) or values.dtype.kind not in "biuf":
        raise ReturnedError(f"returned scores of the shape {values.shape}: {_HOW}")
    if len(values) == 1:
        raise ReturnedError(f"returned a single score, perhaps a mean: {_HOW}")
    if values.dtype.kind in "iu" and not np.isin(values, (0, 1)).all():
        raise ReturnedError(f"returned whole numbers other than 0 and 1, which may be predicted classes: {_HOW}")
    return values.astype(np.float64)


def judge_returned(returned: Any, task: Task, *, final: bool) -> tuple[Judged, Judged | None, bool]:
    """Judge what a training function returned.

    Args:
        returned: by the function.
        task: what scores it.
        final: whether the test part was asked for.

    Returns:
        Both parts, the second if it was asked for, before `Task.conclude`; and whether all was finite.

    Raises:
        ReturnedError: if it is not what the function was asked for.
    """
    valid, test = take_apart(returned, final=final)
    of_valid, finite = _judge(valid, task)
    if test is None:
        return of_valid, None, finite
    of_test, finite_too = _judge(test, task)
    return of_valid, of_test, finite and finite_too


def _judge(part: Any, task: Task) -> tuple[Judged, bool]:
    if is_pair(part) == isinstance(task, Scored):
        now, before = ("scores", "outputs with targets")[:: -1 if is_pair(part) else 1]
        raise ReturnedError(f"returned {now} here and {before} when it was tried: return the same each time")
    if isinstance(task, Scored):
        scores = scores_of(part)
        finite = np.isfinite(scores)
        return Judged(np.arange(len(scores)), np.where(finite, scores, task.guess)), bool(finite.all())
    outputs, targets = as_examples(*pair_of(part), task)
    judged = []
    for start in range(0, len(targets), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        shape = (len(targets[rows]), 1, *targets.shape[1:]) if isinstance(task, Segmentation) else (0,)
        examples = Examples(torch.zeros(shape), targets[rows], torch.arange(len(targets))[rows])
        judged.append(task.judge(outputs[rows], examples))
    return Judged.join(judged), bool(outputs.isfinite().all())


def as_examples(outputs: Tensor, targets: NDArray[Any], task: Task) -> tuple[Tensor, Tensor]:
    """Outputs and targets as the task judges them.

    Args:
        outputs: float32 (n, ...).
        targets: (n, ...).
        task: what judges them.

    Returns:
        Logits and class indices; or predictions and targets (n, 1) in standard deviations.

    Raises:
        ReturnedError: if they are no such outputs and targets.
    """
    if isinstance(task, Regression):
        if outputs.numel() != targets.size or len(outputs) != targets.size:
            raise ReturnedError(f"returned {outputs.numel()} numbers for {targets.size} targets: return one for each")
        numbers = torch.from_numpy(targets.astype(np.float64)).view(-1, 1)
        return (outputs.double().view(-1, 1) - task.mean) / task.unit, (numbers - task.mean) / task.unit
    classes = len(task.classes) if isinstance(task, Classification | Segmentation) else 0
    if outputs.shape[1:] != (classes, *targets.shape[1:]) or targets.dtype.kind not in "iub":
        raise ReturnedError(
            f"returned outputs of the shape {tuple(outputs.shape)} with targets of the shape {targets.shape} and type "
            f"{targets.dtype}: outputs are (n, {classes}, ...), targets class indices (n, ...)"
        )
    indices = torch.from_numpy(targets.astype(np.int64))
    if isinstance(task, Segmentation):
        indices = indices.where((indices >= 0) & (indices != 255), IGNORED)
    wrong = (indices != IGNORED if isinstance(task, Segmentation) else True) & ((indices < 0) | (indices >= classes))
    if bool(wrong.any()):
        raise ReturnedError(f"returned the target {int(indices[wrong][0])}, and the classes are 0 to {classes - 1}")
    return _logits(outputs), indices


def _logits(outputs: Tensor) -> Tensor:
    """Logits from logits or probabilities; numbers of at least 0 that add up to 1 in every row are probabilities."""
    sums = outputs.sum(1)
    if bool((outputs >= 0).all()) and bool(((sums - 1).abs() < _SUM).all()):
        return outputs.clamp(min=torch.finfo(torch.float32).tiny).log()
    return outputs


def _kind(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"{len(value)} values"
    return "None" if value is None else f"a {type(value).__name__}"
