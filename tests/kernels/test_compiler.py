"""The kernels are compiled once, kept, and done without where there is no compiler."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from lossmith.kernels import compiler


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("LOSSMITH_CACHE", str(tmp_path / "cache"))
    compiler.library.cache_clear()
    yield
    compiler.library.cache_clear()


def test_compiled_once_and_loaded_from_the_cache_afterwards(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO, "lossmith")
    if compiler.library() is None:
        pytest.skip("no C++ compiler")
    assert "compiled the kernels in" in caplog.text
    made = list((tmp_path / "cache").iterdir())
    assert len(made) == 1
    caplog.clear()
    compiler.library.cache_clear()
    assert compiler.library() is not None
    assert "compiled" not in caplog.text
    assert list((tmp_path / "cache").iterdir()) == made


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSMITH_COMPILER", "none")
    assert compiler.library() is None


def test_a_compiler_that_fails_is_reported_and_nothing_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    failing = tmp_path / "failing"
    failing.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "no such header" >&2\nexit 1\n')
    failing.chmod(0o755)
    monkeypatch.setenv("LOSSMITH_COMPILER", str(failing))
    assert compiler.library() is None
    assert "no such header" in caplog.text
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("LOSSMITH_CACHE", "/proc/nowhere")
    assert compiler.library() is None
    assert "could not be compiled" in caplog.text or "no C++ compiler" in caplog.text
