"""The worker process of `lossmith.formulas.simplify`: reads one formula per line, writes its simplified form or null.

It is run as a file, so that starting it does not import torch through the package.
"""

from __future__ import annotations

import contextlib
import json
import sys
import types
from pathlib import Path

_MEMORY = 4 * 2**30


def main() -> None:
    """Answer requests until the input ends."""
    _limit_memory()
    _import_without_torch()
    from lossmith.formulas.parser import parse
    from lossmith.formulas.sympy_bridge import from_sympy, import_sympy, to_sympy

    sympy = import_sympy()
    for line in sys.stdin:
        answer = None
        # If sympy fails in any way, the answer is that there is no simpler form.
        with contextlib.suppress(Exception):
            answer = str(from_sympy(sympy.simplify(to_sympy(parse(json.loads(line))))))
        print(json.dumps(answer), flush=True)


def _import_without_torch() -> None:
    """Register empty packages in place of the two whose `__init__` imports torch."""
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
    # Python put the folder of this file first on the path, where module names may shadow the standard library.
    sys.path.pop(0)
    main()
