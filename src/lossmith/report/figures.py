"""The pictures of a report, each made for light and dark pages alike."""

from __future__ import annotations

from lossmith.report.draw_differences import differences
from lossmith.report.draw_learned import learned_losses
from lossmith.report.draw_lines import learning_curves, shapes
from lossmith.report.draw_probes import margins, sharpness, tangent_kernel
from lossmith.report.draw_rates import expected_best, learning_rates
from lossmith.report.offers import offer
from lossmith.report.run import Run
from lossmith.report.scene import Picture, Scene
from lossmith.report.svg import style


def pictures(run: Run) -> tuple[Picture, ...]:
    """All pictures of a run, in the order of the page."""
    scene = Scene.of(run)
    measured = (sharpness, tangent_kernel, margins)
    usual = (differences, learning_curves, *measured, learned_losses, learning_rates, expected_best)
    draw = (*usual, *offer(run.design).pictures, shapes)
    with style():
        return tuple(picture for each in draw if (picture := each(scene)) is not None)
