from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _forget_what_was_compiled(request: pytest.FixtureRequest) -> None:
    """A process may compile one function for so many cases only, and tests are many."""
    if "compile" in request.function.__name__:
        torch._dynamo.reset()
