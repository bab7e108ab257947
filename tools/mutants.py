"""The mutants of a module: every small change that mutmut knows, one at a time."""

from __future__ import annotations

import ast
import hashlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import libcst as cst
from mutmut.mutation.file_mutation import create_mutations, deep_replace

ROOT: Final = Path(__file__).resolve().parents[1]

_STRICT: Final = re.compile(r",( strict=\w+)? ?(?=\))")
_DECORATOR: Final = re.compile(r"^([ ]*)@(?=\w)", re.MULTILINE)
_HIDDEN: Final = re.compile(r"^([ ]*)# HIDDEN @", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    Attributes:
        source: The whole module with the change.
        was: The lines that changed, stripped, as they were.
        becomes: The same lines after the change.
        where: The function, class or constant of the module in which they stand.
        line: Their number today.
        key: The statement of the module in which the change lies, with the change, hashed.
    """

    source: str
    was: str
    becomes: str
    where: str
    line: int
    key: str

    @property
    def name(self) -> tuple[str, str, str]:
        """What it is called in ``mutation.toml``: stays the same when lines move."""
        return self.where, self.was, self.becomes


@dataclass
class Module:
    """A module under test, as ``mutation.toml`` describes it.

    Attributes:
        name: Dotted, without ``lossmith.``.
        tests: Paths of the tests that are to notice.
        only: Functions, classes and constants to mutate; all if empty.
        deselect: A pytest ``-k`` expression of tests to leave out, or nothing.
        equivalent: The reason why no test can notice a change, by the mutant's name.
    """

    name: str
    tests: list[str]
    only: list[str] = field(default_factory=list)
    deselect: str = ""
    equivalent: dict[tuple[str, str, str], str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The module's file."""
        return ROOT / "src" / "lossmith" / (self.name.replace(".", "/") + ".py")


def read_modules() -> list[Module]:
    """The modules of ``mutation.toml`` with their equivalent mutants."""
    read = tomllib.loads((ROOT / "tools" / "mutation.toml").read_text(encoding="utf-8"))
    modules = [Module(name, **settings) for name, settings in read["module"].items()]
    for entry in read.get("equivalent", []):
        (module,) = [module for module in modules if module.name == entry["module"]]
        for becomes in entry["becomes"]:
            module.equivalent[entry["where"], _flat(entry["was"]), _flat(becomes)] = entry["because"]
    return modules


def mutants_of(module: Module) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    source = module.path.read_text(encoding="utf-8")
    # mutmut skips decorated functions, because it would have to call their decorators twice. We do not.
    hidden = _DECORATOR.sub(r"\1# HIDDEN @", source)
    tree, mutations, _, _ = create_mutations(str(module.path), hidden)
    wordings = _wordings(tree)
    found: dict[str, Mutant] = {}
    for statement, start, end in _statements(tree, hidden):
        nodes = _nodes(statement)
        for mutation in mutations:
            was, becomes = mutation.original_node, mutation.mutated_node
            if was not in nodes or was in wordings or _is_case(was, becomes):
                continue
            replaced = deep_replace(statement, was, becomes)
            assert isinstance(replaced, cst.CSTNode)
            changed = _shown(tree.code_for_node(replaced))
            mutant = _mutant(source, _shown(hidden[:start]) + changed + _shown(hidden[end:]), changed)
            if mutant is None or (module.only and mutant.where not in module.only):
                continue
            if _STRICT.sub("", mutant.was) != _STRICT.sub("", mutant.becomes):
                found.setdefault(mutant.source, mutant)
    return sorted(found.values(), key=lambda mutant: mutant.line)


def _shown(hidden: str) -> str:
    return _HIDDEN.sub(r"\1@", hidden)


def _statements(tree: cst.Module, source: str) -> Iterator[tuple[cst.CSTNode, int, int]]:
    """The statements of a module, each with where it begins and ends in the source."""
    codes = [tree.code_for_node(statement) for statement in tree.body]
    start = source.index("".join(codes))
    for statement, code in zip(tree.body, codes, strict=True):
        yield statement, start, start + len(code)
        start += len(code)


def _nodes(statement: cst.CSTNode) -> set[cst.CSTNode]:
    found = {statement}
    for child in statement.children:
        found |= _nodes(child)
    return found


def _wordings(tree: cst.Module) -> set[cst.CSTNode]:
    """The strings inside `raise` statements: their wording is no decision."""
    found: set[cst.CSTNode] = set()

    class Raises(cst.CSTVisitor):
        inside = 0

        def visit_Raise(self, node: cst.Raise) -> None:  # noqa: N802
            self.inside += 1

        def leave_Raise(self, original_node: cst.Raise) -> None:  # noqa: N802
            self.inside -= 1

        def visit_SimpleString(self, node: cst.SimpleString) -> None:  # noqa: N802
            if self.inside:
                found.add(node)

    tree.visit(Raises())
    return found


def _is_case(was: cst.CSTNode, becomes: cst.CSTNode) -> bool:
    """Whether a string has only changed from lower to upper case, which SQL and most messages do not mind."""
    if not isinstance(was, cst.SimpleString) or not isinstance(becomes, cst.SimpleString):
        return False
    return was.value.lower() == becomes.value.lower()


def _mutant(source: str, mutated: str, changed: str) -> Mutant | None:
    """What a source with one changed statement is as a mutant; None if it is no Python."""
    before, after = source.splitlines(), mutated.splitlines()
    first = next(i for i, (old, new) in enumerate(zip(before, after, strict=False)) if old != new)
    room = min(len(before), len(after)) - first
    same = next((i for i in range(room) if before[-1 - i] != after[-1 - i]), room)
    was, becomes = before[first : len(before) - same], after[first : len(after) - same]
    try:
        (statement,) = ast.parse(changed).body
    except SyntaxError:
        return None
    text = ast.get_source_segment(changed, statement) or ""
    key = hashlib.sha256("\n".join([text, *becomes]).encode()).hexdigest()[:16]
    return Mutant(mutated, _flat("\n".join(was)), _flat("\n".join(becomes)), _name(statement), first + 1, key)


def _name(statement: ast.stmt) -> str:
    """What a statement of a module defines; "" if nothing."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return statement.name
    stored = (node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return next(stored, "")


def _flat(text: str) -> str:
    return " ".join(text.split())
