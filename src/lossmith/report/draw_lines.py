"""The pictures with one line for each loss: learning curves, reliability, the losses themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from matplotlib.axes import Axes

from lossmith.comparison.arms import CROSS_ENTROPY
from lossmith.comparison.rows import Reliability, Row, Summary
from lossmith.properties.shape import Shape
from lossmith.report.highlights import INK
from lossmith.report.scene import FAINT, Picture, Scene, draw_lines, limits, log_limits, log_ticks
from lossmith.report.svg import PANEL, drawing, to_svg

_WARM_UP: Final = 0.15
_MOST_LOSS: Final = 5.5
_LEAST_LOSS: Final = -1.5
_STRICTNESS: Final = (0.01, 200.0)
_FEW: Final = 20


def learning_curves(scene: Scene) -> Picture:
    """Validation accuracy and cross-entropy against steps, the same two measures whatever the loss.

    Args:
        scene: The run.

    Returns:
        The picture.
    """
    accuracy = {row.name: [100 * value for value in row.curve.valid_accuracy] for row in scene.results.rows}
    y = limits(value for row in _leading(scene) for value in _after_warm_up(accuracy[row.name]))
    outside = [
        f"{name} (ends at {values[-1]:.1f} %)"
        for name, values in accuracy.items()
        if y is not None and values and not values[-1] >= y[0]
    ]
    return Picture(
        "curves",
        "Learning curves",
        "Mean over the final trainings, with plain cross-entropy as the yardstick whatever the loss, before any "
        "temperature scaling. The bands span the lowest and highest training of cross-entropy and of the recommended "
        "loss; faint lines are the other losses. The first steps may lie below the axis.",
        (_accuracy_panel(scene, accuracy, y), _nll_panel(scene)),
        "pair",
        scene.looks,
        scene.others,
        (f"Below the axis of accuracy: {'; '.join(outside)}.",) if outside else (),
    )


def reliability(scene: Scene) -> Picture:
    """Accuracy against confidence on test, before and after temperature scaling.

    Args:
        scene: The run.

    Returns:
        The picture.
    """
    panels = (
        _reliability_panel(scene, lambda row: row.reliability, "as trained"),
        _reliability_panel(scene, lambda row: row.reliability_scaled, "temperature scaled"),
    )
    return Picture(
        "reliability",
        "Reliability",
        "Of the test examples that a model is so confident about, this share is right. On the diagonal, confidence "
        "can be taken at its word; above it the model is too modest, below it too bold. The larger a dot, the more "
        f"examples it stands for; bins with fewer than {_FEW}, all final trainings together, are left out. First as "
        "trained, then after dividing the logits by one number, fitted on validation.",
        panels,
        "pair",
        scene.looks,
    )


def shapes(scene: Scene) -> Picture:
    """Each loss and its strictness against the probability given to the true class.

    Args:
        scene: The run.

    Returns:
        The picture.
    """
    own = Scene(scene.design, _without_copies(scene), scene.looks, scene.far)
    return Picture(
        "shapes",
        "The losses themselves",
        "First the loss of one example, less its value at the right end, while the other classes share the rest "
        "evenly. Then its strictness, the pull on the true class's logit relative to cross-entropy's: above 1 the loss "
        "insists more than cross-entropy does, below 1 less. Fine dots where it pulls the true class down. A tuned "
        "loss is shown with the values of the first fold, a loss that changes in training without the change.",
        (_loss_panel(own), _strictness_panel(own)),
        "pair",
        scene.looks,
        scene.others,
    )


def _accuracy_panel(scene: Scene, accuracy: dict[str, list[float]], y: tuple[float, float] | None) -> str:
    figure, ax = drawing(*PANEL)
    for name in dict.fromkeys((CROSS_ENTROPY, scene.results.recommended)):
        _draw_range(ax, scene, name)
    draw_lines(ax, scene, lambda row: (row.curve.steps, accuracy[row.name]), markers=5)
    if y is not None:
        ax.set_ylim(*y)
    ax.set_xlabel("steps")
    ax.set_ylabel("validation accuracy, %")
    return to_svg(figure, "accuracy", "Validation accuracy against training steps")


def _nll_panel(scene: Scene) -> str:
    figure, ax = drawing(*PANEL)
    draw_lines(ax, scene, lambda row: (row.curve.steps, row.curve.valid_nll), markers=5)
    ax.set_yscale("log")
    found = log_limits(value for row in _leading(scene) for value in row.curve.valid_nll)
    if found is not None:
        ax.set_ylim(*found)
        log_ticks(ax, "y", *found)
    ax.set_xlabel("steps")
    ax.set_ylabel("validation cross-entropy, nats")
    return to_svg(figure, "nll", "Validation cross-entropy against training steps")


def _loss_panel(scene: Scene) -> str:
    figure, ax = drawing(*PANEL)
    draw_lines(ax, scene, lambda row: (row.shape.p, row.shape.loss), markers=6)
    found = limits(v for row in scene.results.rows for v in row.shape.loss if _LEAST_LOSS <= v <= _MOST_LOSS)
    if found is not None:
        ax.set_ylim(*found)
    ax.set_xlim(0, 1)
    ax.set_xlabel("probability of the true class")
    ax.set_ylabel("loss")
    return to_svg(figure, "loss", "Loss against the probability of the true class")


def _strictness_panel(scene: Scene) -> str:
    figure, ax = drawing(*PANEL)
    ax.axhline(1, color=INK, linewidth=0.6)
    draw_lines(ax, scene, lambda row: (row.shape.p, _signed(row.shape.strictness, 1)), markers=6)
    for row in scene.rows:
        look = scene.looks.get(row.name)
        colour, alpha = (INK, FAINT) if look is None else (look.colour, 1.0)
        downward = _signed(row.shape.strictness, -1)
        ax.plot(row.shape.p, downward, linestyle=(0, (1, 2)), linewidth=1.0, color=colour, alpha=alpha)
    ax.set_yscale("log")
    low, high = log_limits(abs(v) for row in scene.results.rows for v in row.shape.strictness) or (0.1, 10.0)
    low, high = min(max(low, _STRICTNESS[0]), 0.5), max(min(high, _STRICTNESS[1]), 2.0)
    ax.set_ylim(low, high)
    log_ticks(ax, "y", low, high)
    ax.set_xlim(0, 1)
    ax.set_xlabel("probability of the true class")
    ax.set_ylabel("strictness, cross-entropy = 1")
    return to_svg(figure, "strictness", "Strictness against the probability of the true class")


def _leading(scene: Scene) -> list[Row]:
    """The losses in colour that are not far off: those that the axes of learning curves are made for."""
    return [row for row in scene.near if row.name in scene.looks]


def _draw_range(ax: Axes, scene: Scene, name: str) -> None:
    row = next((row for row in scene.results.rows if row.name == name), None)
    look = scene.looks.get(name)
    if row is not None and look is not None:
        low, high = ([100 * v for v in values] for values in (row.curve.lowest, row.curve.highest))
        ax.fill_between(row.curve.steps, low, high, color=look.colour, alpha=0.13, linewidth=0)


def _after_warm_up(values: Sequence[float]) -> Sequence[float]:
    return values[int(_WARM_UP * len(values)) :]


def _reliability_panel(scene: Scene, diagram_of: Callable[[Row], Reliability], what: str) -> str:
    width, _, margins = PANEL
    figure, ax = drawing(width, 0.85 * width, margins)
    ax.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    for row in scene.rows:
        look = scene.looks.get(row.name)
        if look is None:
            continue
        diagram = diagram_of(row)
        points = zip(diagram.confidence, diagram.accuracy, diagram.count, strict=True)
        seen = [point for point in points if point[2] >= _FEW]
        x, y = [point[0] for point in seen], [point[1] for point in seen]
        ax.plot(x, y, color=look.colour, linestyle=(0, look.dashes) if look.dashes else "-", linewidth=1.1)
        sizes = [4 + 60 * math.sqrt(point[2] / sum(diagram.count)) for point in seen]
        ax.scatter(x, y, s=sizes, color=look.colour, marker=look.marker, alpha=0.85, linewidths=0)
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel(f"confidence, {what}")
    ax.set_ylabel("share that is right")
    return to_svg(figure, f"reliability-{what.split()[0]}", f"Share that is right against confidence, {what}")


def _without_copies(scene: Scene) -> Summary:
    """The summary with every shape once: several controls are cross-entropy itself."""
    kept: dict[Shape, Row] = {}
    for row in sorted(scene.results.rows, key=lambda row: row.name not in scene.looks):
        kept.setdefault(row.shape, row)
    return replace(scene.results, rows=tuple(kept.values()))


def _signed(values: Sequence[float], sign: int) -> list[float]:
    """The values of one sign, made positive; NaN, a gap in the line, elsewhere."""
    return [sign * value if sign * value > 0 else math.nan for value in values]
