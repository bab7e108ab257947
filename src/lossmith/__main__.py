"""The ``lossmith`` command, also as ``python -m lossmith``."""

from __future__ import annotations

import sys

from lossmith.extras import what_is_missing


def main() -> None:
    """Run the command line, or say in one sentence what has to be installed for it."""
    try:
        from lossmith.cli import main as run

        run()
    except ModuleNotFoundError:
        missing = what_is_missing("the command", "compare")
        if missing is None:
            raise
        print(f"lossmith: {missing}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
