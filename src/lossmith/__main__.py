"""The ``lossmith`` command, also as ``python -m lossmith``: says what is missing before anything else is imported."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution, requires


def main() -> None:
    """Run the command line, or say in one sentence what has to be installed for it."""
    try:
        from lossmith.cli import main as run

        run()
    except ModuleNotFoundError:
        missing = missing_for("compare")
        if not missing:
            raise
        names = ", ".join(missing)
        print(f'lossmith: the command needs {names}: pip install "lossmith[compare]"', file=sys.stderr)
        sys.exit(2)


def missing_for(extra: str) -> list[str]:
    """The packages of an extra that are not installed, by the metadata of this package."""
    wanted = [re.match(rf"([\w.-]+).*extra == ['\"]{extra}['\"]", line) for line in requires("lossmith") or ()]
    return [found[1] for found in wanted if found and not _installed(found[1])]


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
