"""What is raised for a formula that cannot be used."""

from __future__ import annotations


class FormulaError(ValueError):
    """A formula that cannot be read or used; the message is one sentence, with the position where there is one."""
