"""Text files that hold one loss, such as ``best.loss``; they may come from other people."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lossmith.losses.text import LossTextError

_MOST: Final = 20_000  # characters
_HEADER: Final = 8  # a safetensors file begins with a length in 8 bytes, the last of which are 0


def text_in(path: Path) -> str | None:
    """The text form that a file holds; ``None`` if the file is binary, as learned losses are.

    Args:
        path: of a file with one line.

    Returns:
        The text form, not parsed.

    Raises:
        LossTextError: if the file is text, but not one line that could be a loss.
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(4 * _MOST + 1)
    if b"\0" in content[:_HEADER]:
        return None
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise LossTextError("it is neither text nor safetensors") from None
    if not text:
        raise LossTextError("it is empty")
    if len(text) > _MOST:
        raise LossTextError(f"it is longer than {_MOST:,} characters")
    if not text.isprintable():
        raise LossTextError("it has more than one line, or characters that cannot be printed")
    if "@" in text:
        raise LossTextError("it names another file by @")
    return text
