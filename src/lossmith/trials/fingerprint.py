"""A hash of Python objects by what they are: the same in every session, whatever file or line they come from."""

from __future__ import annotations

import contextlib
import dis
import hashlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from lossmith.trials.neighbours import files_of, neighbours

_PLAIN: Final = (int, float, complex, str, bytes, bytearray, bool, type(None), type(...), type(NotImplemented), range)
_OF_EVERY_CLASS: Final = {
    "__dict__",
    "__weakref__",
    "__module__",
    "__doc__",
    "__firstlineno__",
    "__static_attributes__",
}
_INSTALLED: Final = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Fingerprint:
    """What an object is, in every session.

    Args:
        digest: SHA-256, in hexadecimal.
        modules: the user's own modules that it refers to.
    """

    digest: str
    modules: tuple[types.ModuleType, ...]


def fingerprint(value: object) -> Fingerprint:
    """Hash a function or class with all that it refers to.

    Of a function of the main module or a notebook the hash covers bytecode, constants, defaults, what it closes over
    and the globals that it names, and so on with those; comments, line numbers and the names of files do not count.
    What an installed package defines counts by its name, a module of the user's own by the content of its file.

    Args:
        value: a function, a class, or nearly anything else that can be pickled.

    Raises:
        TypeError: if something that it refers to can be neither described nor pickled.
    """
    total, walk = hashlib.sha256(f"python {sys.version_info[:2]}\n".encode()), _Walk()
    for part in walk.describe(value):
        total.update(len(part).to_bytes(8, "big") + part)
    return Fingerprint(total.hexdigest(), tuple(walk.modules.values()))


def is_by_value(value: object) -> bool:
    """Whether a function or class has no module that others could import: it is of the main module or nested."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if module is None or module == "__main__" or "<" in name:
        return True
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not value


class _Walk:
    """Goes through an object once, whatever refers to itself; yields bytes that describe it."""

    def __init__(self) -> None:
        self.modules: dict[str, types.ModuleType] = {}
        self._met: dict[int, int] = {}
        self._kept: list[object] = []  # an id stays that of one object

    def describe(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, _PLAIN):
            yield f"{type(value).__name__} {value!r}".encode()
            return
        if isinstance(value, types.CodeType):
            yield from self._code(value)
            return
        if type(value) is tuple:  # whether equal ones are one object depends on the compiler
            yield from self._each(value)
            return
        if id(value) in self._met:
            yield f"met {self._met[id(value)]}".encode()
            return
        self._met[id(value)] = len(self._met)
        self._kept.append(value)
        if isinstance(value, types.ModuleType):
            yield self._module(value.__name__)
        elif isinstance(value, types.FunctionType | type):
            yield from self._definition(value)
        elif isinstance(value, np.ndarray) and value.dtype.kind != "O":
            yield f"array {value.dtype.str} {value.shape}".encode()
            yield np.ascontiguousarray(value).tobytes()
        elif isinstance(value, torch.Tensor) and value.layout == torch.strided:
            yield f"tensor {value.dtype} {tuple(value.shape)} {value.requires_grad}".encode()
            yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        else:
            yield from self._contents(value)

    def _definition(self, value: Any) -> Iterator[bytes]:
        if not is_by_value(value):
            yield value.__qualname__.encode() + b" of " + self._module(value.__module__)
        elif isinstance(value, type):
            yield f"class {value.__name__}".encode()
            yield from self.describe(value.__bases__)
            for name in sorted(vars(value).keys() - _OF_EVERY_CLASS):
                if not name.startswith("_abc_"):
                    yield name.encode()
                    yield from self.describe(vars(value)[name])
        else:
            yield f"function {value.__name__}".encode()
            yield from self._code(value.__code__)
            yield from self.describe((value.__defaults__, value.__kwdefaults__))
            for cell in value.__closure__ or ():
                yield from self.describe(cell.cell_contents)
            for name in sorted(set(_globals_of(value.__code__)) & value.__globals__.keys()):
                yield name.encode()
                yield from self.describe(value.__globals__[name])
            for name in sorted(set(_imported_by(value.__code__))):
                yield self._module(name)

    def _module(self, module: str) -> bytes:
        files = _own_files(module)
        if files:
            names = {str(file) for file in files}
            own = [of for of in list(sys.modules.values()) if getattr(of, "__file__", None) in names]
            self.modules |= {of.__name__: of for of in own if of.__name__ != "__main__"}
        contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        return " ".join(["module", module, *contents]).encode()

    def _code(self, code: types.CodeType) -> Iterator[bytes]:
        yield f"code {code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount} {code.co_flags}".encode()
        yield code.co_code + code.co_exceptiontable
        yield from self.describe((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_consts))

    def _contents(self, value: Any) -> Iterator[bytes]:
        """Containers, wrappers of methods, and everything else by how it is pickled."""
        yield f"{type(value).__module__}.{type(value).__qualname__}".encode()
        if isinstance(value, set | frozenset):
            yield repr(sorted(fingerprint(each).digest for each in value)).encode()
        elif isinstance(value, staticmethod | classmethod):
            yield from self.describe(value.__func__)
        elif isinstance(value, property):
            yield from self._each((value.fget, value.fset, value.fdel))
        elif type(value) is list:
            yield from self._each(value)
        elif type(value) in {dict, types.MappingProxyType}:
            yield from self._each(item for pair in value.items() for item in pair)
        elif isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType):
            yield value.__qualname__.encode()
        else:
            reduced = value.__reduce_ex__(4)
            if isinstance(reduced, str):
                yield reduced.encode()
                yield from self.describe(getattr(value, "__wrapped__", None))  # as of functools.cache
            else:
                yield from self._each(tuple(part) if isinstance(part, Iterator) else part for part in reduced)

    def _each(self, values: Any) -> Iterator[bytes]:
        for value in values:
            yield b"item"
            yield from self.describe(value)
        yield b"end"


def _globals_of(code: types.CodeType) -> Iterator[str]:
    """The names of globals that code reads, that of functions inside it too."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant)


def _imported_by(code: types.CodeType) -> Iterator[str]:
    """The full names of the modules that code imports, that of functions inside it too."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _imported_by(constant)


def _own_files(module: str) -> tuple[Path, ...]:
    """The file of a user's own module and those beside it that it imports.

    There are none for a module that is installed, built in or the main one.
    """
    root = module.partition(".")[0]
    if root in {"__main__", "lossmith", *sys.stdlib_module_names}:
        return ()
    with contextlib.suppress(ImportError, ValueError):  # it cannot be imported, or was not imported from a file
        spec = importlib.util.find_spec(root)
        places = [] if spec is None else spec.submodule_search_locations or [spec.origin or ""]
        for folder in (Path(place).parent for place in places):
            if not any(part in folder.parts for part in _INSTALLED) and (files := files_of([module], folder)):
                return files
    file = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    if file.suffix != ".py" or any(part in file.parts for part in _INSTALLED):
        return ()
    return (file, *neighbours(file))
