"""The exception for formulas that cannot be used."""

from __future__ import annotations


class FormulaError(ValueError):
    """A formula cannot be parsed or used; the message is one sentence, with the position of the error if it has one."""
