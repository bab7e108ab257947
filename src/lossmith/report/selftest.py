"""What `lossmith selftest` prints."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from lossmith.comparison.plan import Plan
from lossmith.comparison.selftest import SelfTest
from lossmith.comparison.verdict import ALPHA, shown_delta

TOO_MANY = 0.07


@dataclass(frozen=True)
class SelfTestTable:
    """A self-test as a table with a sentence below it."""

    plan: Plan
    found: SelfTest

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        found, delta = self.found, shown_delta(self.plan.delta)
        yield Text(
            f"{self.plan.names.reference} against {found.copies} copies of itself on {self.plan.name} with "
            f"{self.plan.trial.trainer.title}, {len(self.plan.folds)} fold(s), {self.plan.repeats} repeats"
        )
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(overflow="fold")
        table.add_column(justify="right")
        table.add_column()
        low, high = found.interval
        bounds = f"[{100 * low:.1f}, {100 * high:.1f}]"
        for label, share, interval in (
            ("comparisons with a p-value", found.judged, ""),
            ("false alarms per comparison, p < .05", found.per_comparison, bounds),
            ("comparisons with any false finding, Holm p < .05", found.per_family, ""),
            ("false recommendations", found.recommended, ""),
            (f"a gain of {delta} points would be found, p < .05", found.found, ""),
            (f"the same among {found.copies} losses, Holm p < .05", found.found_adjusted, ""),
            (f"a gain of {delta} points on validation would be recommended", found.recommendable, ""),
        ):
            table.add_row(label, f"{100 * share:.1f} %", interval)
        if found.se is not None:
            table.add_row("median standard error of a difference", f"{100 * found.se:.2f}", "points")
        table.add_row("copies said to need fewer steps", str(found.faster), f"of {found.copies}")
        yield table
        yield Text(_conclusion(found))


def _conclusion(found: SelfTest) -> str:
    low, high = found.interval
    if low > ALPHA or max(found.per_comparison, found.per_family, found.recommended) > TOO_MANY:
        return (
            "Too many false alarms: do not trust a verdict here. Give more --repeats, or change what makes the "
            "trainings vary so much."
        )
    if found.judged < 1 / 2:
        return (
            "Too little data to measure it: most comparisons have no p-value, so they raise no alarm, and allow no "
            "verdict either."
        )
    return (
        f"No sign of too many false alarms: verdicts allow 5 %, and {found.copies} copies can rule out more than "
        f"{100 * high:.0f} % per comparison. More --copies tell more."
    )
