"""One thread per worker, and the number of grid cases in the summary, whatever the number of workers."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for group in terminalreporter.stats.values() for report in group if hasattr(report, "when")]
    called = [report for report in reports if report.when == "call"]
    for name, what in (("cases", "compared with the reference"), ("excluded", "excluded, and seen to raise")):
        count = sum(value for report in called for key, value in report.user_properties if key == name)
        if count:
            terminalreporter.write_line(f"classification losses: {count:,} cases {what}")
