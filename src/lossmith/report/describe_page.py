"""A certificate as a page that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from lossmith.comparison.files import write_file
from lossmith.properties.certificate import Certificate
from lossmith.properties.regression import RegressionCertificate
from lossmith.report.description import sections
from lossmith.report.draw_certificate import formula_svg, pictures
from lossmith.report.html import asset, environment


def write_description(certificate: Certificate | RegressionCertificate, file: Path) -> None:
    """Write the page of a certificate, whole or not at all."""
    write_file(file, render_description(certificate))


def render_description(certificate: Certificate | RegressionCertificate) -> str:
    """The page as text; equal certificates give equal text."""
    facts, formula, drawn = ["regression"], None, None
    if isinstance(certificate, Certificate):
        facts, formula = [f"{certificate.num_classes:,} classes", *certificate.remarks], certificate.formula
        drawn = None if certificate.latex is None else formula_svg(certificate.latex)
    return (
        environment()
        .get_template("describe.html.j2")
        .render(
            style=Markup(asset("report.css")),
            certificate=certificate,
            summary=certificate.summary.replace("`", ""),
            facts=facts,
            formula=formula,
            typeset_formula=None if drawn is None else Markup(drawn),
            pictures=[(each, [Markup(panel) for panel in each.panels]) for each in pictures(certificate)],
            sections=sections(certificate),
        )
    )
