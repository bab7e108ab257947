"""The process behind `lossmith.formulas.simplify`: reads a formula per line, writes its simpler form or null.

Run as a file, so that starting it does not import torch with the package.
"""

from __future__ import annotations

import contextlib
import json
import sys
import types
from pathlib import Path

_MEMORY = 4 * 2**30


def main() -> None:
    """Answer until the input ends."""
    _limit_memory()
    _import_without_torch()
    from lossmith.formulas.parser import parse
    from lossmith.formulas.sympy_bridge import from_sympy, import_sympy, to_sympy

    sympy = import_sympy()
    for line in sys.stdin:
        answer = None
        # Whatever sympy stumbles over, the answer is that there is no simpler form.
        with contextlib.suppress(Exception):
            answer = str(from_sympy(sympy.simplify(to_sympy(parse(json.loads(line))))))
        print(json.dumps(answer), flush=True)


def _import_without_torch() -> None:
    """Stand-ins for the two packages, whose own `__init__` import torch."""
    here = Path(__file__).resolve().parent
    for name, folder in (("lossmith", here.parent), ("lossmith.formulas", here)):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


if __name__ == "__main__":
    # The folder of this file, which Python put first, holds modules named as some of the standard library might be.
    sys.path.pop(0)
    main()
