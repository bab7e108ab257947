"""What has to be installed for a part of this package that needs more than PyTorch."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution, requires


def what_is_missing(wanting: str, extra: str) -> str | None:
    """Which packages of an extra are not installed, and how to install them, in a sentence.

    Args:
        wanting: what needs them.
        extra: the name of the extra, whose packages are those in the metadata of this package.

    Returns:
        The sentence, or ``None`` if all of them are there.
    """
    wanted = [re.match(rf"([\w.-]+).*extra == ['\"]{extra}['\"]", line) for line in requires("lossmith") or ()]
    missing = [found[1] for found in wanted if found and not _installed(found[1])]
    return f'{wanting} needs {", ".join(missing)}: pip install "lossmith[{extra}]"' if missing else None


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
