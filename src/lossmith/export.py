"""Losses as files of their own: plain torch, no import of Lossmith."""

from __future__ import annotations

import inspect
import math
import textwrap
from pathlib import Path

from lossmith.catalog import create
from lossmith.comparison.files import write_file
from lossmith.formulas import Expression, latex, substitute
from lossmith.formulas.arithmetic import number
from lossmith.formulas.expression import TERMINALS
from lossmith.formulas.limits import Limit
from lossmith.formulas.torch_source import ANALYTIC_QUOTIENT, torch_source
from lossmith.losses.base import ClassificationLoss
from lossmith.losses.entries import softmax_complement
from lossmith.losses.formula import ClasswiseFormulaLoss, FormulaLoss, TargetFormulaLoss
from lossmith.losses.loss import Loss
from lossmith.losses.parts import ClassParts, Part, smoothed


def export(name: str, output: Path) -> str:
    """Write a loss to a file that needs torch alone.

    Args:
        name: the text form of a loss, or a run folder, which stands for the loss it recommends or found.
        output: the file.

    Returns:
        The loss's canonical text.

    Raises:
        ValueError: if there is no such loss or it has no formula.
        OSError: if the file cannot be written.
    """
    loss = create(_text(name))
    source = loss_source(loss)
    write_file(output, source)
    return loss.text


def loss_source(loss: Loss) -> str:
    """The source of a Python file that defines a loss as class ``Loss``.

    The class takes ``weight``, ``ignore_index`` and ``reduction``, logits (N, C) or (N, C, ...) and class indices, and
    is as precise as `FormulaLoss`; a loss that Lossmith continues by its tangent is not continued.

    Args:
        loss: a loss that has a formula.

    Returns:
        The source.

    Raises:
        ValueError: if the loss has no formula, or label smoothing and a class-wise formula.
    """
    if not isinstance(loss, ClassificationLoss) or loss.task == "binary":
        raise ValueError(f"{loss.text} cannot be exported: only losses for class indices that have a formula can")
    if loss.weight is not None or loss.ignore_index != -100 or loss.reduction != "mean":
        raise ValueError(
            f"{loss.text} cannot be exported: weight, ignore_index and reduction are arguments of the exported class, "
            "leave them out of the text"
        )
    smoothing = loss.label_smoothing
    # Smoothing meets class weights outside the formula.
    if loss.expression is None:
        raise ValueError(f"{loss.text} cannot be exported: it has no formula")
    formula = FormulaLoss(loss.expression, steps=loss.steps if isinstance(loss, FormulaLoss) else None)
    part = formula.part if isinstance(formula, TargetFormulaLoss) else None
    body = None if part is None else _target_body(part, smoothing)
    if body is None:
        if smoothing:
            raise ValueError(
                f"{loss.text} cannot be exported: label_smoothing of a sum over all classes is not written"
            )
        assert isinstance(formula, ClasswiseFormulaLoss)
        assert formula.parts is not None
        body = _classwise_body(formula.parts)
    return _file(loss, formula, body)


def _text(name: str) -> str:
    """A loss's text; of a run folder, that of the loss it recommends, or of the winner of a search."""
    folder = Path(name)
    if not folder.is_dir():
        return name
    from lossmith.report.folder import SEARCH, RunError, find_run

    if find_run(folder)[1].name == SEARCH:
        from lossmith.report.evolution.search_run import load_search

        winner = load_search(folder).found.winner
        if not winner:
            raise RunError(f"the search in {name} was stopped before it chose a loss: run the same command again")
        return winner
    from lossmith.report.run import load_run

    results = load_run(folder).results
    return next(row.shape_of for row in results.rows if row.name == results.recommended)


def _file(loss: ClassificationLoss, formula: FormulaLoss, body: str) -> str:
    tree, has_t = smoothed(formula.expression, loss.label_smoothing), formula.has_schedule
    first_line = loss.text if len(loss.text) <= 60 else loss.name
    head = [
        f"{first_line}: a loss for classification in PyTorch, written by Lossmith.",
        "The loss of a sample is the sum over its classes of",
        f"    {tree}",
        f"in LaTeX {latex(tree)}",
        textwrap.fill(_terminals(tree), 110),
    ]
    if isinstance(formula, TargetFormulaLoss) and not loss.label_smoothing:
        head.append(
            "Classes other than the target add nothing that depends on p, so that only the target's is computed."
        )
    above = loss.linear_above(20.0)
    if isinstance(above, float):
        head.append(f"Lossmith continues it by its tangent beyond c = {above:.6g}; this file does not.")
    docstring = "\n\n".join(head).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    schedule = _SCHEDULE if has_t else ""
    arguments = ("steps: int, " if formula.steps is None else f"steps: int = {formula.steps}, ") if has_t else ""
    helpers = (ANALYTIC_QUOTIENT if "analytic_quotient(" in body else "") + (
        "\n\n" + inspect.getsource(softmax_complement) if "softmax_complement(" in body else ""
    )
    source = _FILE.format(
        docstring=docstring,
        math="import math\n\n" if "math." in body + helpers else "",
        functional="import torch.nn.functional as F\n" if "F." in body else "",
        arguments=arguments,
        steps_doc=_STEPS_DOC if has_t else "",
        steps=_STEPS_INIT if has_t else "",
        schedule=schedule,
        n="        n = logits.new_tensor(logits.shape[1])\n" if "n: Tensor" in body else "",
        t=_T if has_t else "",
        body=body,
        helpers=helpers,
    )
    return source.replace("\n\n\n\n", "\n\n\n")


def _terminals(tree: Expression) -> str:
    said = (f"{name} is {meaning}" for name, meaning in TERMINALS.items() if tree.depends_on(name))
    return "where " + ", ".join(said) + "."


def _target_body(part: Part, smoothing: float) -> str:
    """The lines of ``forward`` from ``logits``, ``index`` and ``valid`` to ``losses``, and the function of c."""
    names = _scalars(part.expression)
    lines = [
        "log_p = logits.log_softmax(1)",
        "c = -log_p.gather(1, index.unsqueeze(1)).squeeze(1)",
        f"losses = phi({', '.join(['c.where(valid, 1.0)', *names])})",
    ]
    if smoothing:
        lines += [
            "losses = losses if weight is None else losses * weight[index]",
            "present = logits != -math.inf  # smoothing spreads over the classes that are not masked out",
            f"spread = phi({', '.join(['(-log_p).where(present, 1.0)', *names])}).where(present, 0.0)",
            "if weight is not None:",
            "    spread = spread * weight.view(-1, *[1] * (logits.dim() - 2))",
            f"losses = {1 - smoothing!r} * losses + {smoothing!r} * spread.sum(1) / present.sum(1)",
        ]
    else:
        lines.append("losses = losses if weight is None else losses * weight[index]")
    return _indented(lines) + _RETURN + _function("phi", ["c", *names], part)


def _classwise_body(made: ClassParts) -> str:
    parts = [made.negative.expression, made.positive.expression]
    forms = [name for name in ("p", "c", "d") if any(part.depends_on(name) for part in parts)]
    makers = {"p": "logits.softmax(1)", "c": "-logits.log_softmax(1)", "d": "softmax_complement(logits, 1)"}
    lines = [f"{name} = {makers[name]}" for name in forms]
    lines.append("at = index.unsqueeze(1)")
    calls = []
    for part, pattern in zip(parts, ("{}.scatter(1, at, 0.5)", "{}.gather(1, at).squeeze(1)"), strict=True):
        given = [pattern.format(name) for name in forms if part.depends_on(name)]
        calls.append(", ".join([*given, *_scalars(part)]))
    functions, total = {"positive": made.positive}, f"positive({calls[1]})"
    if not parts[0].is_number(0):
        functions, total = {"negative": made.negative} | functions, f"others + {total}"
        if parts[0].depends_on("p", "c", "d"):
            lines.append("# The target is taken out of the sum before the formula sees it: there p = 1 may be a pole.")
            lines.append(f"others = negative({calls[0]}).scatter(1, at, 0.0).sum(1)")
        else:
            lines.append(f"others = (logits.shape[1] - 1) * negative({calls[0]})")
    lines += [
        f"losses = ({total}) / logits.shape[1]" if made.is_mean else f"losses = {total}",
        "losses = losses if weight is None else losses * weight[index]",
    ]
    text = _indented(lines) + _RETURN
    for name, function in functions.items():
        used = [form for form in forms if function.expression.depends_on(form)] + _scalars(function.expression)
        text += _function(name, used, function)
    return text


def _scalars(expression: Expression) -> list[str]:
    return [name for name in ("n", "t") if expression.depends_on(name)]


def _function(name: str, arguments: list[str], part: Part) -> str:
    says = {
        "phi": "The loss as a function of the target's cross-entropy.",
        "positive": "What the target class adds.",
        "negative": "What a class adds that is not the target.",
    }[name]
    signature = ", ".join(f"{argument}: Tensor" for argument in arguments)
    lines = "\n".join(f"    {line}" for line in [f'"""{says}"""', *_lines(part)])
    return f"\n\ndef {name}({signature}) -> Tensor:\n{lines}\n"


def _lines(part: Part) -> list[str]:
    """The body of a function: its value, and at the ends of p, c and d where that needs it, its limit."""
    value, forms = torch_source(part.expression), part.expression.terminals & {"p", "c", "d"}
    if not part.limits:
        return [f"return {value}"]
    masks = [f"{limit.form}_is_{'inf' if math.isinf(limit.end) else int(limit.end)}" for limit in part.limits]
    lines = ["# At these ends the formula has no value or no slope: there it is its limit, with gradient 0."]
    lines += [f"{mask} = {limit.form} == {_literal(limit.end)}" for limit, mask in zip(part.limits, masks, strict=True)]
    results: list[str] = []
    for limit, mask in zip(part.limits, masks, strict=True):
        there = _there(part.expression, limit)
        if len(limit.near) < len(forms):
            lines += ["with torch.no_grad():", f"    limit_{mask} = {there}"]
            there = f"limit_{mask} + (value - value.detach())"
        results.append(f"result = torch.where({mask}, {there}, {'result' if results else 'value'})")
    lines += [
        f"{limit.form} = {limit.form}.masked_fill({mask}, {limit.inside!r})"
        for limit, mask in zip(part.limits, masks, strict=True)
    ]
    return [*lines, f"value = {value}", *results, "return result"]


def _there(expression: Expression, limit: Limit) -> str:
    """The value of a formula at one of its limits, as source."""
    if limit.infinite is not None:
        return _literal(limit.infinite)
    value = substitute(expression, **limit.near)
    return torch_source(value) if value.terminals else _literal(number(value))


def _literal(value: float) -> str:
    return repr(value) if math.isfinite(value) else "math.inf" if value > 0 else "-math.inf"


def _indented(lines: list[str]) -> str:
    return "".join(f"        {line}\n" for line in lines)


_RETURN = """        losses = losses.where(valid, 0.0)
        if self.reduction == "none":
            return losses
        if self.reduction == "sum":
            return losses.sum()
        mass = (valid if weight is None else valid * weight[index]).sum().to(losses.dtype)
        return losses.sum() / mass.masked_fill(mass == 0, 1.0)
"""
_STEPS_DOC = """        steps: how many calls of ``step`` t takes from 0 to 1; in ``eval()`` t is 1.
"""
_STEPS_INIT = """        self.steps = steps
        self.register_buffer("steps_taken", torch.zeros((), dtype=torch.int64))
"""
_SCHEDULE = '''
    def step(self) -> None:
        """Count one optimiser step; call it after ``optimizer.step()``."""
        self.steps_taken += 1
'''
_T = """        progress = (self.steps_taken.double() / self.steps).clamp(max=1.0)
        t = progress.to(logits.dtype) if self.training else logits.new_ones(())
"""
_FILE = '''"""{docstring}
"""

{math}import torch
{functional}from torch import Tensor, nn


class Loss(nn.Module):
    """A drop-in for `torch.nn.CrossEntropyLoss` with class indices as target.

    Args:
{steps_doc}        weight: one weight per class, length C, or None.
        ignore_index: label whose samples count for nothing.
        reduction: "mean" (over the weights of the targets), "sum" or "none".
    """

    def __init__(
        self, {arguments}weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction must be mean, sum or none, not {{reduction!r}}")
{steps}        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction
{schedule}
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Evaluate the loss for logits (N, C) or (N, C, ...) and class indices (N) or (N, ...)."""
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        valid = target != self.ignore_index
        index = target.where(valid, 0)
        weight = None if self.weight is None else self.weight.to(logits.dtype)
{n}{t}{body}{helpers}'''
