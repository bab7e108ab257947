"""The pages of the losses in the documentation: docstring, certificate and pictures of each, and a table of all."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from markupsafe import Markup

from lossmith.catalog import LossInfo, available, create
from lossmith.losses import FormulaLoss, Wrapper
from lossmith.losses.loss import Kind
from lossmith.properties import certify
from lossmith.report.description import sections
from lossmith.report.draw_certificate import formula_svg, pictures
from lossmith.report.html import environment

TEMPLATE: Final = Path(__file__).with_name("loss_page.md.j2")
KINDS: Final[dict[Kind, str]] = {
    "classification": "Classification",
    "segmentation": "Segmentation",
    "regression": "Regression",
    "learned": "Learned",
    "gan": "GANs",
}
_CLASSES: Final = ("logits = torch.randn(32, 10, requires_grad=True)", "target = torch.randint(0, 10, (32,))")
_INPUTS: Final = {
    "classification": _CLASSES,
    "learned": _CLASSES,
    "segmentation": (
        "logits = torch.randn(4, 10, 16, 16, requires_grad=True)",
        "target = torch.randint(0, 10, (4, 16, 16))",
    ),
    "regression": ("prediction = torch.randn(32, requires_grad=True)", "target = torch.randn(32)"),
    "gan": ("real = torch.randn(32, requires_grad=True)", "fake = torch.randn(32, requires_grad=True)"),
}
_CALLS: Final = {
    "regression": ("loss(prediction, target).backward()",),
    "gan": ("loss.discriminator(real, fake).backward()", "loss.generator(fake.detach().requires_grad_()).backward()"),
}


def text_of(info: LossInfo) -> str:
    """The text form that the page of a loss shows."""
    if issubclass(info.loss_class, FormulaLoss):
        return "formula(-y*log(p) + 0.1*square(p)*(1 - y))"
    if issubclass(info.loss_class, Wrapper):
        return f"{info.name}(cross_entropy)"
    return info.name


def example_of(info: LossInfo) -> str:
    """Python that creates the loss and computes a gradient."""
    arguments = ", class_counts=[500] * 5 + [50] * 5" if info.name == "logit_adjusted" else ""
    lines = ["import torch", "import lossmith", "", f'loss = lossmith.create("{text_of(info)}"{arguments})']
    lines += [*_INPUTS[info.kind], *_CALLS.get(info.kind, ("loss(logits, target).backward()",))]
    if info.name == "dynamical":
        lines.append("loss.step()  # after each optimizer.step(): the class weights move on")
    return "\n".join(lines)


def page_of(info: LossInfo) -> str:
    """The page of one loss, as Markdown."""
    text = text_of(info)
    certificate, reason = None, ""
    try:
        certificate = certify(create(text))
    except ValueError as error:
        reason = str(error)
    latex = getattr(certificate, "latex", None)
    drawn = None if latex is None else formula_svg(latex)
    return (
        environment()
        .from_string(TEMPLATE.read_text(encoding="utf-8"))
        .render(
            info=info,
            text=text,
            example=example_of(info),
            command=_command(info),
            certificate=certificate,
            reason=reason,
            formula_svg=None if drawn is None else Markup(drawn),
            pictures=[(each, [Markup(panel) for panel in each.panels]) for each in pictures(certificate)]
            if certificate
            else [],
            sections=sections(certificate) if certificate else (),
            path=f"lossmith.{_package(info)}.{info.loss_class.__name__}",
        )
        .lstrip()
    )


def index_page(heading: str) -> str:
    """The heading, written by hand, and a table of all losses."""
    lines = [heading.rstrip(), ""]
    for kind, title in KINDS.items():
        lines += [f"## {title}", "", "| loss | text form | formula, summed over the classes |"]
        lines.append("|---|---|---|")
        for info in available(kind):
            formula = f"`{info.formula}`" if info.formula else ""
            name = f"[{info.name}]({info.name}.md)"
            lines.append(f"| {name}<br>{info.summary} | `{_short(info)}` | {formula} |")
        lines.append("")
    return "\n".join(lines)


def _package(info: LossInfo) -> str:
    return info.loss_class.__module__.split(".")[1]


def _command(info: LossInfo) -> str | None:
    """The command that compares the loss on a table; None for losses that tables have no use for."""
    if info.kind not in {"classification", "regression"} or info.name in {"cross_entropy", "mse", "scaled"}:
        return None
    defaults = info.loss_class.defaults()
    tuned = [each.argument for each in info.loss_class.searched if defaults[each.argument] is not None]
    text = text_of(info) + (":" + ",".join(f"{name}=?" for name in tuned) if tuned else "")
    return f'lossmith compare my_table.csv --label my_label --losses "{text}"'


def _short(info: LossInfo) -> str:
    """The text form with the arguments that a comparison can tune, all others being at their defaults."""
    defaults = info.loss_class.defaults()
    tuned = [each.argument for each in info.loss_class.searched if defaults[each.argument] is not None]
    inner = "(LOSS)" if "(LOSS)" in info.text else "(EXPR)" if "(EXPR)" in info.text else ""
    own = ",".join(f"{name}={defaults[name]:g}" for name in tuned)
    return info.name + inner + (f":{own}" if own else "")
