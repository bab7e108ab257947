"""Compile the C++ of this folder once and keep it; where there is no compiler, say so by None."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
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
    """The compiled kernels; compiled at the first call ever, which takes seconds, and loaded from a cache later.

    The cache is the folder ``$LOSSMITH_CACHE``, else ``lossmith`` in the user's cache folder. The first compilation is
    logged, with its duration, under the name ``lossmith``.

    Returns:
        The library, or None where there is no C++ compiler, it fails, or ``LOSSMITH_COMPILER`` is ``none``.
    """
    compiler = _compiler()
    if compiler is None:
        _log.info("no C++ compiler: large logits take the slower path in plain torch")
        return None
    try:
        path = cache_folder() / f"rows-{_fingerprint(compiler)}.so"
        if not path.exists():
            _compile(compiler, path)
        return _load(path)
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("the kernels could not be compiled, large logits take the slower path in plain torch: %s", error)
        return None


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    own = os.environ.get("LOSSMITH_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lossmith"


def _compiler() -> str | None:
    chosen = os.environ.get("LOSSMITH_COMPILER")
    if chosen is not None:
        return None if chosen == "none" else chosen
    if sys.platform == "win32":  # its compilers take other flags
        return None
    return next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), None)


def _fingerprint(compiler: str) -> str:
    """What the compiled file depends on: source, flags, compiler, processor."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=_SECONDS).stdout
    parts = (_SOURCE.read_bytes(), " ".join(_FLAGS).encode(), version, _processor().encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    """What `-march=native` looks at, so that a cache folder may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return platform.machine() + next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compile(compiler: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [compiler, *_FLAGS, "-o", str(made), str(_SOURCE)]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if finished.returncode:
            raise OSError(finished.stderr.strip().splitlines()[-1] if finished.stderr.strip() else "no reason given")
        made.replace(path)
    _log.info("compiled the kernels in %.1f s, kept in %s", time.perf_counter() - began, path)


def _load(path: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(path))
    pointer, whole = ctypes.c_void_p, ctypes.c_int64
    sizes = [whole] * 4  # ignored label, rows, classes, stride
    loaded.lossmith_forward.argtypes = [pointer, pointer, *sizes, pointer, *[pointer] * 6]
    loaded.lossmith_forward.restype = whole
    loaded.lossmith_backward.argtypes = [pointer, pointer, *sizes, pointer, *[pointer] * 6]
    loaded.lossmith_backward.restype = None
    return loaded
