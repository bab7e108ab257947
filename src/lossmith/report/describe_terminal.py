"""A certificate in the terminal."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from lossmith.properties.certificate import Certificate
from lossmith.properties.regression import RegressionCertificate
from lossmith.report.description import Section, sections
from lossmith.report.terminal import plain_text

_LABEL = 17
_MOST = 100


class Description:
    """A certificate as rich prints it, in columns no wider than the console."""

    def __init__(self, certificate: Certificate | RegressionCertificate) -> None:
        self.certificate = certificate

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        options = options.update(max_width=min(_MOST, options.max_width))
        certificate = self.certificate
        classes = f", {certificate.num_classes:,} classes" if isinstance(certificate, Certificate) else ""
        yield plain_text(f"{certificate.loss}{classes}", options, "bold")
        if isinstance(certificate, Certificate):
            if certificate.formula is not None:
                yield plain_text(f"sum over classes of  {certificate.formula}", options)
            for remark in certificate.remarks:
                yield plain_text(remark, options, "dim")
        else:
            yield plain_text(certificate.summary.replace("`", ""), options)
        for section in sections(certificate):
            yield ""
            yield plain_text(section.title, options, "bold cyan")
            if section.head:
                yield _table(section, options)
            if section.rows:
                yield _rows(section, options)


def _rows(section: Section, options: ConsoleOptions) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=_LABEL)
    grid.add_column(overflow="fold")
    for label, said in section.rows:
        grid.add_row(plain_text(label, options, "dim"), plain_text(said, options))
    return grid


def _table(section: Section, options: ConsoleOptions) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for place, head in enumerate(section.head):
        numeric = section.key in {"start", "strictness"}
        justify = "right" if numeric and (place or section.key == "start") else "left"
        table.add_column(plain_text(head, options), justify=justify, vertical="bottom", overflow="fold")  # type: ignore[arg-type]
    for row in section.cells:
        table.add_row(*(plain_text(cell, options) for cell in row))
    return table
