"""The pictures of a report, each made for light and dark pages alike."""

from __future__ import annotations

from collections.abc import Callable

from lossmith.report.draw_differences import differences
from lossmith.report.draw_learned import learned_losses
from lossmith.report.draw_lines import learning_curves, shapes
from lossmith.report.draw_probes import margins, sharpness, tangent_kernel
from lossmith.report.draw_rates import expected_best, learning_rates
from lossmith.report.offers import offer
from lossmith.report.run import Run
from lossmith.report.saved_figure import SavedFigure
from lossmith.report.scene import Picture, Scene
from lossmith.report.svg import keeping_figures, style


def pictures(run: Run) -> tuple[Picture, ...]:
    """All pictures of a run, in the order of the page."""
    scene = Scene.of(run)
    with style():
        return tuple(picture for each in _drawn(run) if (picture := each(scene)) is not None)


def figure(run: Run, name: str) -> SavedFigure:
    """One picture of a run, which can be saved.

    Args:
        run: the run.
        name: the key of the picture, such as ``"differences"``.

    Raises:
        ValueError: if the run has no such picture; the message lists those it has.
    """
    scene, known = Scene.of(run), []
    with style():
        for each in _drawn(run):
            with keeping_figures() as drawn:
                picture = each(scene)
            if picture is not None and picture.key == name:
                return SavedFigure(picture, tuple(drawn))
            known += [] if picture is None else [picture.key]
    raise ValueError(f"there is no figure {name!r}: choose one of {', '.join(known)}")


def _drawn(run: Run) -> tuple[Callable[[Scene], Picture | None], ...]:
    """What draws each picture, in the order of the page."""
    measured = (sharpness, tangent_kernel, margins)
    usual = (differences, learning_curves, *measured, learned_losses, learning_rates, expected_best)
    return (*usual, *offer(run.design).pictures, shapes)
