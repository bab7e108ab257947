"""The pictures of a search: score against complexity, and the best score against trained candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from lossmith.evolution.findings import Candidate, CoursePoint, SearchFindings
from lossmith.report.evolution.said import strategy
from lossmith.report.evolution.search_run import SearchRun, score_of
from lossmith.report.highlights import INK, LOOKS, REFERENCE, Look
from lossmith.report.scene import Picture, finite, limits, log_ticks
from lossmith.report.svg import PANEL, drawing, style, to_svg

_WIDE: Final = 3.0  # scores beyond such a ratio stand on a logarithmic axis
_REFERENCE: Final = "cross-entropy, tuned"
_FAR: Final = 3.0


def pictures(run: SearchRun) -> tuple[Picture, ...]:
    """All pictures of a search, in the order of the page."""
    with style():
        return front(run), course(run)


def front(run: SearchRun) -> Picture:
    """Score against complexity: the hall of fame and the front of each search."""
    top = f"rung {run.top + 1}"
    several = len(run.found.problems) > 1
    shown = {place: _on(search, run.top) for place, search in enumerate(run.found.searches)}
    values = [_height(member, several) for members in shown.values() for member in members]
    reference = [] if several else finite([run.reference])
    figure, ax = drawing(*PANEL, x="nodes of the formula", y="mean rank" if several else "nats per example")
    far = _score_axis(ax, values, reference)
    for line in reference:
        ax.axhline(line, color=INK, linewidth=1.2, zorder=2)
    for place, members in reversed(shown.items()):
        _points(ax, members, _look(place), several)
    winner = _winner(run)
    ringed = winner is not None and winner in shown[0]
    if winner is not None and ringed:
        spot = (winner.complexity, _height(winner, several))
        ax.plot(*spot, "o", color=INK, markersize=11, markerfacecolor="none", markeredgewidth=1.3, zorder=6)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    svg = to_svg(figure, "front", "Score against the number of nodes of the formula")
    elsewhere = sum(len(search.hall_of_fame) for search in run.found.searches) - len(values)
    remarks = [f"{elsewhere} members of the halls of fame were last trained on shorter rungs and are left out."]
    remarks = remarks if elsewhere else []
    if far:
        remarks.append(f"{far} of the simplest candidates lie above the axis.")
    scale = "mean rank over the problems" if several else "cross-entropy of the validation examples"
    return Picture(
        "front",
        "Score against complexity",
        f"Each mark is a member of a hall of fame that was trained on {top}, which is the highest reached; lower is "
        f"better ({scale}). The steps join those that no smaller formula of the same search equals."
        f"{' The ring is the winner.' if ringed else ''}",
        (svg,) if finite(values) else (),
        "pair",
        _legend(run, with_reference=bool(reference)),
        remarks=tuple(remarks) if finite(values) else ("No candidate was trained.",),
    )


def course(run: SearchRun) -> Picture:
    """The best score on the highest rung against the number of trained candidates."""
    several = len(run.found.problems) > 1
    lines = {place: _reached(search, run.top) for place, search in enumerate(run.found.searches)}
    values = [point.best for points in lines.values() for point in points]
    reference = finite([run.reference])
    figure, ax = drawing(*PANEL, x="candidates trained", y="nats per example")
    _score_axis(ax, values, reference)
    for line in reference:
        ax.axhline(line, color=INK, linewidth=1.2, zorder=2)
    for place, points in reversed(lines.items()):
        look = _look(place)
        ax.plot(
            [point.trained for point in points],
            [point.best for point in points],
            color=look.colour,
            linestyle=(0, look.dashes) if look.dashes else "-",
            drawstyle="steps-post",
            marker=look.marker,
            markersize=3.6,
            markeredgewidth=0,
            zorder=4,
        )
    ax.set_xlim(0, 1.03 * max((p.trained for s in run.found.searches for p in s.course), default=1) or 1)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    svg = to_svg(figure, "course", "Best score against the number of candidates trained")
    late = [strategy(run.found.searches[place]) for place, points in lines.items() if not points]
    return Picture(
        "course",
        "Progress against random search",
        f"The best score so far on rung {run.top + 1}{' of the first problem' if several else ''}, against the number "
        "of candidates trained; lower is better. Scores of shorter rungs do not compare with these, so a line begins "
        "where its search first reached that rung.",
        (svg,) if finite(values) else (),
        "pair",
        _legend(run, with_reference=bool(reference)),
        remarks=tuple(f"No point of {name} lies on that rung." for name in late),
    )


def _look(place: int) -> Look:
    return LOOKS[place % len(LOOKS)]


def _legend(run: SearchRun, *, with_reference: bool) -> dict[str, Look]:
    searches = {strategy(search).capitalize(): _look(place) for place, search in enumerate(run.found.searches)}
    # Without a marker of its own, as a line across is drawn.
    return ({_REFERENCE: REFERENCE} if with_reference else {}) | searches


def _on(search: SearchFindings, rung: int) -> list[Candidate]:
    return [member for member in search.hall_of_fame if member.rung == rung and math.isfinite(score_of(member))]


def _reached(search: SearchFindings, rung: int) -> list[CoursePoint]:
    return [point for point in search.course if point.rung == rung and math.isfinite(point.best)]


def _height(member: Candidate, several: bool) -> float:
    return member.fitness if several else score_of(member)


def _winner(run: SearchRun) -> Candidate | None:
    chosen = [choice.number for choice in run.found.choices if choice.chosen]
    own = run.found.searches[0]
    return next((member for member in own.hall_of_fame if member.number in chosen), None)


def _points(ax: Axes, members: Sequence[Candidate], look: Look, several: bool) -> None:
    """The members as marks, those on the front joined by steps: a formula of n nodes may use fewer."""
    ordered = sorted(members, key=lambda member: (member.complexity, _height(member, several)))
    steps: list[tuple[int, float]] = []
    for member in ordered:
        height = _height(member, several)
        if not steps or height < steps[-1][1]:
            steps.append((member.complexity, height))
    x, y = [step[0] for step in steps], [step[1] for step in steps]
    if ordered:
        x, y = [*x, ordered[-1].complexity], [*y, y[-1]]
    dashes = (0, look.dashes) if look.dashes else "-"
    ax.plot(x, y, drawstyle="steps-post", color=look.colour, linestyle=dashes, linewidth=1.2, zorder=3)
    across, up = [member.complexity for member in ordered], [_height(member, several) for member in ordered]
    ax.plot(across, up, look.marker, color=look.colour, markersize=5, markeredgewidth=0, zorder=4)


def _score_axis(ax: Axes, values: Sequence[float], reference: Sequence[float]) -> int:
    """Limit the axis to the scores worth telling apart; how many values lie above it."""
    known = finite([*values, *reference])
    if not known:
        return 0
    low, most = min(known), max([*reference, sorted(known)[3 * len(known) // 4]])
    near = [value for value in known if value <= low + _FAR * (most - low)] or known
    if low > 0 and max(near) > _WIDE * low:
        ax.set_yscale("log")
        bottom, above = low / 1.1, max(near) * 1.1
        ax.set_ylim(bottom, above)
        log_ticks(ax, "y", bottom, above)
    else:
        found = limits(near, margin=0.08)
        if found is not None:
            ax.set_ylim(*found)
    return len([value for value in values if value > max(near)])
