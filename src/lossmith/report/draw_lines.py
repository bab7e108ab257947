"""The pictures with one line for each loss: learning curves, and the losses themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from matplotlib.axes import Axes

from lossmith.comparison.rows import Row, Summary
from lossmith.properties.shape import Shape
from lossmith.report.highlights import INK
from lossmith.report.scene import (
    FAINT,
    Picture,
    Scene,
    below_axis,
    draw_lines,
    limits,
    log_limits,
    log_ticks,
    signed,
    strictness_axes,
)
from lossmith.report.svg import PANEL, drawing, to_svg

_WARM_UP: Final = 0.15
_TITLES: Final = {"nll": ("cross-entropy", ", nats")}
_MOST_LOSS: Final = 5.5
_LEAST_LOSS: Final = -1.5
_P: Final = "probability of the true class"


def learning_curves(scene: Scene) -> Picture:
    """The validation measures against steps, the same whatever the loss; the first is the score."""
    score, *others = scene.results.rows[0].training.curve.valid
    scores = {row.name: [100 * value for value in row.training.curve.valid[score]] for row in scene.results.rows}
    y = limits(value for row in _leading(scene) for value in _after_warm_up(scores[row.name]))
    return Picture(
        "curves",
        "Learning curves",
        "Mean over the final trainings, in measures that are the same whatever the loss, of the models as trained. "
        f"The bands span the lowest and highest training of {scene.words.reference} and of the recommended loss; faint "
        "lines are the other losses. The first steps may lie below the axis.",
        (_score_panel(scene, score, scores, y), *(_other_panel(scene, other) for other in others)),
        "pair",
        scene.looks,
        scene.others,
        below_axis(scores, y, f"the axis of {score}"),
    )


def shapes(scene: Scene) -> Picture | None:
    """Each loss and its strictness against the probability given to the true class."""
    if any(row.shape is None for row in scene.results.rows):
        return None
    own = Scene(scene.design, _without_copies(scene), scene.looks, scene.far)
    return Picture(
        "shapes",
        "The losses themselves",
        "First the loss of one example, less its value at the right end, while the other classes share the rest "
        "evenly. Then its strictness, the pull on the true class's logit relative to cross-entropy's: above 1 the loss "
        "insists more than cross-entropy does, below 1 less. Fine dots where it pulls the true class down. A tuned "
        "loss is shown with the values of the first repeat, a loss that changes in training without the change.",
        (_loss_panel(own), _strictness_panel(own)),
        "pair",
        scene.looks,
        scene.others,
    )


def _score_panel(scene: Scene, score: str, scores: dict[str, list[float]], y: tuple[float, float] | None) -> str:
    figure, ax = drawing(*PANEL, x="steps", y=f"validation {score}, %")
    for name in dict.fromkeys((scene.results.reference, scene.results.recommended)):
        _draw_range(ax, scene, name)
    draw_lines(ax, scene, lambda row: (row.training.curve.steps, scores[row.name]), markers=5)
    ax.set_ylim(y)
    return to_svg(figure, score, f"Validation {score} against training steps")


def _other_panel(scene: Scene, name: str) -> str:
    title, unit = _TITLES.get(name, (name, ""))
    figure, ax = drawing(*PANEL, x="steps", y=f"validation {title}{unit}")
    draw_lines(ax, scene, lambda row: (row.training.curve.steps, row.training.curve.valid[name]), markers=5)
    ax.set_yscale("log")
    found = log_limits(value for row in _leading(scene) for value in row.training.curve.valid[name])
    if found is not None:
        ax.set_ylim(*found)
        log_ticks(ax, "y", *found)
    return to_svg(figure, name, f"Validation {title} against training steps")


def _loss_panel(scene: Scene) -> str:
    figure, ax = drawing(*PANEL, x=_P, y="loss")
    draw_lines(ax, scene, lambda row: (_shape(row).p, _shape(row).loss), markers=6)
    ax.set_ylim(limits(v for row in scene.results.rows for v in _shape(row).loss if _LEAST_LOSS <= v <= _MOST_LOSS))
    ax.set_xlim(0, 1)
    return to_svg(figure, "loss", "Loss against the probability of the true class")


def _strictness_panel(scene: Scene) -> str:
    figure, ax = drawing(*PANEL, x=_P, y="strictness, cross-entropy = 1")
    ax.axhline(1, color=INK, linewidth=0.6)
    draw_lines(ax, scene, lambda row: (_shape(row).p, signed(_shape(row).strictness, 1)), markers=6)
    for row in scene.rows:
        look = scene.looks.get(row.name)
        colour, alpha = (INK, FAINT) if look is None else (look.colour, 1.0)
        downward = signed(_shape(row).strictness, -1)
        ax.plot(_shape(row).p, downward, linestyle=(0, (1, 2)), linewidth=1.0, color=colour, alpha=alpha)
    strictness_axes(ax, (abs(v) for row in scene.results.rows for v in _shape(row).strictness))
    return to_svg(figure, "strictness", "Strictness against the probability of the true class")


def _shape(row: Row) -> Shape:
    assert row.shape is not None, "losses without a shape are not drawn"
    return row.shape


def _leading(scene: Scene) -> list[Row]:
    """The losses in colour that are not far off: those that the axes of learning curves are made for."""
    return [row for row in scene.near if row.name in scene.looks]


def _draw_range(ax: Axes, scene: Scene, name: str) -> None:
    row = next((row for row in scene.results.rows if row.name == name), None)
    look = scene.looks.get(name)
    if row is not None and look is not None:
        low, high = ([100 * v for v in values] for values in (row.training.curve.lowest, row.training.curve.highest))
        ax.fill_between(row.training.curve.steps, low, high, color=look.colour, alpha=0.13, linewidth=0)


def _after_warm_up(values: Sequence[float]) -> Sequence[float]:
    return values[int(_WARM_UP * len(values)) :]


def _without_copies(scene: Scene) -> Summary:
    """The summary with every shape once: several controls are the reference itself."""
    kept: dict[Shape, Row] = {}
    for row in sorted(scene.results.rows, key=lambda row: row.name not in scene.looks):
        kept.setdefault(_shape(row), row)
    return replace(scene.results, rows=tuple(kept.values()))
