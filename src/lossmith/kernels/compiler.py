"""Compile the C++ of this folder once and keep it; where there is no compiler, say so by None."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import ClassVar, Final

from lossmith.kernels.batch import Polynomial

_SOURCE: Final = Path(__file__).with_name("rows.cpp")
# No flag that reorders sums or forgets NaN: results do not depend on the compiler's mood.
_FLAGS: Final = (
    *("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-shared", "-fPIC"),
)
_SECONDS: Final = 120.0
_log = logging.getLogger("lossmith")


class Polynomials(ctypes.Structure):
    """`Polynomials` of rows.cpp."""

    _fields_: ClassVar = [
        *(("degree", ctypes.c_int32), ("logs", ctypes.c_int32), ("power", ctypes.c_float)),
        *(("value", ctypes.POINTER(ctypes.c_float)), ("slope", ctypes.POINTER(ctypes.c_float))),
    ]

    @classmethod
    def of(cls, polynomial: Polynomial) -> Polynomials:
        """In the form that the compiled kernels read."""
        value, slope = ((ctypes.c_float * len(of))(*of) for of in (polynomial.value, polynomial.slope))
        return cls(polynomial.degree, polynomial.logs, polynomial.power, value, slope)


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels: compiled on first use, which takes seconds, and loaded from a cache afterwards.

    The cache is the folder ``kernels-UID`` (UID: the user's number) in ``$LOSSMITH_CACHE``, else in ``lossmith`` in the
    user's cache folder. It is made with mode 0700. Where it belongs to another user, or others can write to it,
    ``lossmith-UID`` in the system's temporary folder takes its place. Compilations and fallbacks are logged under the
    name ``lossmith``. The result is None where there is no C++ compiler, it fails, ``LOSSMITH_COMPILER`` is ``none``,
    there is no private folder, or the system is Windows.
    """
    compiler = _compiler()
    if compiler is None:
        _log.info("no C++ compiler: large logits take the slower path in plain torch")
        return None
    from lossmith.kernels.cache import cached

    try:
        key = f"rows-{_fingerprint(compiler)}"
        with cached(key, functools.partial(_compile, compiler), _SECONDS) as path:
            return _load(path)
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        _log.warning("no compiled kernels, large logits take the slower path in plain torch: %s", error)
        return None


def _compiler() -> str | None:
    chosen = os.environ.get("LOSSMITH_COMPILER")
    if os.name != "posix" or chosen == "none":  # compilers for Windows take other flags
        return None
    names = ("c++", "g++", "clang++") if chosen is None else (chosen,)
    found = next((found for name in names if (found := shutil.which(name))), chosen)
    return None if found is None else os.path.abspath(found)  # noqa: PTH100 (the compiler runs in another folder)


def _fingerprint(compiler: str) -> str:
    """What the compiled file depends on: source, flags, compiler, processor.

    The macros that a compiler predefines tell its version and, by ``-march=native``, the processor.
    """
    command = [compiler, *_FLAGS, "-dM", "-E", "-x", "c++", os.devnull]
    macros = subprocess.run(command, capture_output=True, check=True, timeout=_SECONDS).stdout
    parts = (_SOURCE.read_bytes(), " ".join(_FLAGS).encode(), macros)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _compile(compiler: str, path: Path) -> None:
    began = time.perf_counter()
    command = [compiler, *_FLAGS, "-o", path.name, str(_SOURCE)]
    environment = {**os.environ, "TMPDIR": "."}  # so that nothing is left elsewhere when it is killed
    finished = subprocess.run(
        command, cwd=path.parent, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if finished.returncode:
        raise OSError(finished.stderr.strip().splitlines()[-1] if finished.stderr.strip() else "no reason given")
    _log.info("compiled the kernels in %.1f s", time.perf_counter() - began)


def _load(path: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(path))
    pointer, whole = ctypes.c_void_p, ctypes.c_int64
    sizes = [whole] * 4  # ignored label, rows, classes, stride
    loaded.lossmith_forward.argtypes = [pointer, pointer, *sizes, pointer, *[pointer] * 6]
    loaded.lossmith_forward.restype = whole
    loaded.lossmith_backward.argtypes = [pointer, pointer, *sizes, pointer, *[pointer] * 6]
    loaded.lossmith_backward.restype = None
    return loaded
