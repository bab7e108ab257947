"""Mutation testing of the modules that decide: change them a little, and see whether a test notices.

`make mutation` makes every small change that mutmut knows, in the modules listed in ``mutation.toml``, and runs the
module's tests against each. mutmut's own runner leaves out properties, other decorated functions, lambdas and
constants, which is where a verdict is decided; this one takes mutmut's changes and applies them one at a time. It
imports everything once and forks a process per mutant, which imports the mutant and what depends on it anew.

Left alone are the wording of errors, the letter case of strings, and the ``strict=True`` of `zip`, which like an
`assert` says what holds anyway.

Results are kept in ``.mutation/``. A mutant that was killed stays killed until the statement it stands in changes; one
that survived runs again once the tests have changed. So a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

import pytest

from mutants import ROOT, Module, Mutant, mutants_of, read_modules

KEPT: Final = ROOT / ".mutation"
GOAL: Final = 0.9
MEMORY: Final = 16 << 30  # address space of a mutant: a mutated size must not take the machine down

_IMPORTED: Final = re.compile(r"\b(lossmith(?:\.\w+)+)")  # named anywhere: also what is imported late


class Kept:
    """Results of earlier runs: a file of JSON lines for each module, the last line for a mutant counting."""

    def __init__(self, module: Module) -> None:
        self.path = KEPT / f"{module.name}.jsonl"
        self.tests = _digest_of_tests(module)
        self.results: dict[str, dict[str, str]] = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self.results[row["key"]] = row

    def killed(self, mutant: Mutant) -> bool | None:
        """Whether a mutant was killed; None if it has to run."""
        row = self.results.get(mutant.key)
        if row is None or (not row["killer"] and row["tests"] != self.tests):
            return None
        return bool(row["killer"])

    def keep(self, mutant: Mutant, killer: str) -> None:
        """Note which test killed a mutant; "" if none did."""
        row = {"key": mutant.key, "killer": killer, "tests": self.tests}
        self.results[mutant.key] = row
        KEPT.mkdir(exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _digest_of_tests(module: Module) -> str:
    paths = [ROOT / test for test in module.tests]
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    texts = [file.read_bytes() for file in files] + [module.deselect.encode()]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:16]


def _dependents(module: str) -> set[str]:
    """The loaded modules that a child has to import anew: the tests, and all that imports a module, itself or not."""
    files = {name: Path(getattr(loaded, "__file__", None) or "") for name, loaded in sys.modules.items()}
    found = {name for name, file in files.items() if file.is_relative_to(ROOT / "tests")} | {module}
    imports = {
        name: set(_IMPORTED.findall(file.read_text(encoding="utf-8")))
        for name, file in files.items()
        if name.partition(".")[0] == "lossmith"
    }
    while more := {name for name, names in imports.items() if (names | _packages(name)) & found} - found:
        found |= more
    return found & sys.modules.keys()


def _forget(name: str) -> None:
    """Import a module anew the next time, by ``from package import module`` as well."""
    package, _, child = name.rpartition(".")
    forgotten = sys.modules.pop(name)
    if package in sys.modules and vars(sys.modules[package]).get(child) is forgotten:
        delattr(sys.modules[package], child)


def _is_installed(module: str) -> bool:
    return "site-packages" in (getattr(sys.modules[module], "__file__", None) or "")


def _packages(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:k]) for k in range(1, len(parts))}


class _Finder(importlib.abc.MetaPathFinder):
    """Gives one module's mutated source where its file would be read."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != self.name:
            return None
        source = self.source

        class Loader(importlib.machinery.SourceFileLoader):
            def get_code(self, fullname: str) -> CodeType:
                return compile(source, self.path, "exec", dont_inherit=True)

        return importlib.util.spec_from_file_location(name, self.path, loader=Loader(name, str(self.path)))


class Tests:
    """The tests of one module, imported once and run in forked processes."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.times: dict[str, float] = {}
        self.kills: dict[str, int] = {}
        self._pytest(["--collect-only"])  # brings torch and all else into this process
        for name in _dependents(f"lossmith.{module.name}"):
            _forget(name)
        killer, self.times, late, seconds = self._forked(None, limit=600)
        self.limit = int(3 + 3 * seconds)  # of a mutant, many of which run for ever
        if killer:
            raise SystemExit(f"{module.name}: {killer} fails without any mutant")
        for name in late:  # what only the running tests import, torch.optim being the slowest
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        gc.freeze()

    def killer(self, mutant: Mutant) -> str:
        """The name of the test that fails on a mutant, "time or memory" if it ran out of either; "" if none."""
        killer, *_ = self._forked(mutant, self.limit)
        if killer:
            self.kills[killer] = self.kills.get(killer, 0) + 1
        return killer

    def _forked(self, mutant: Mutant | None, limit: int) -> tuple[str, dict[str, float], list[str], float]:
        """The first test that fails, the time each took, the modules of others they imported, and the CPU seconds."""
        loaded = set(sys.modules)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            signal.alarm(20 * limit)
            if mutant is not None:
                name = f"lossmith.{self.module.name}"
                sys.meta_path.insert(0, _Finder(name, self.module.path, mutant.source))
            killer, times = self._pytest(["-x"])
            late = sorted(name for name in sys.modules.keys() - loaded if _is_installed(name))
            with os.fdopen(write, "w") as pipe:
                json.dump((killer, times, late), pipe)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            said = pipe.read()
        _, _, used = os.wait4(child, 0)
        killer, times, late = json.loads(said) if said else ("time or memory", {}, [])
        return killer, times, late, used.ru_utime + used.ru_stime

    def _pytest(self, arguments: Sequence[str]) -> tuple[str, dict[str, float]]:
        tests = self

        class Plugin:
            killer = ""
            times: dict[str, float] = {}  # noqa: RUF012

            def pytest_configure(self) -> None:
                """A failure needs no shrinking, the same examples judge every mutant, and a busy machine kills none."""
                from hypothesis import Phase, settings  # pytest has to be first

                phases = [Phase.explicit, Phase.generate]
                brief = settings(derandomize=True, database=None, deadline=None, phases=phases)
                settings.register_profile("mutation", brief)
                settings.load_profile("mutation")

            def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
                """Run first what has killed most for its time."""
                items.sort(key=lambda item: tests.times.get(item.nodeid, 0) / (1 + tests.kills.get(item.nodeid, 0)))

            def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
                self.times[report.nodeid] = self.times.get(report.nodeid, 0.0) + report.duration
                if report.failed:
                    self.killer = self.killer or report.nodeid

        plugin = Plugin()
        # Plain asserts need no rewriting of the tests, and no garbage has to be collected at the end.
        plugins = [f"-pno:{name}" for name in ("xdist", "cacheprovider", "unraisableexception")]
        options = [*plugins, "-m", "not slow", "--assert=plain", "--tb=no", "-c", f"{ROOT}/pyproject.toml"]
        if self.module.deselect:
            options += ["-k", f"not ({self.module.deselect})"]
        quiet = io.StringIO()
        with redirect_stdout(quiet), redirect_stderr(quiet):
            code = pytest.main([*arguments, *options, *self.module.tests], plugins=[plugin])
        # A mutant that cannot even be imported is killed by collection.
        return plugin.killer or ("collection" if code else ""), plugin.times


def test_module(module: Module, seconds: float) -> bool:
    """Run a module's mutants and print what became of them; whether enough were killed."""
    started = time.monotonic()
    mutants = mutants_of(module)
    kept = Kept(module)
    counted = [mutant for mutant in mutants if mutant.name not in module.equivalent]
    waiting = [mutant for mutant in counted if kept.killed(mutant) is None]
    waiting.sort(key=lambda mutant: mutant.key)  # hashes, so that an interrupted run has met a fair sample
    tests: Tests | None = None
    for number, mutant in enumerate(waiting):
        if time.monotonic() - started > seconds:
            break
        tests = tests or Tests(module)
        killer = tests.killer(mutant)
        if _digest_of_tests(module) != kept.tests:
            raise SystemExit(f"{module.name}: the tests have changed meanwhile; run it again to go on")
        kept.keep(mutant, killer)
        if sys.stderr.isatty():
            print(f"\r{module.name}: {number + 1} of {len(waiting)}", end="\r", file=sys.stderr)
    results = [(mutant, kept.killed(mutant)) for mutant in counted]
    survived = [mutant for mutant, killed in results if killed is False]
    killed = sum(killed is True for _, killed in results)
    for mutant in survived:
        place = f"{module.path.relative_to(ROOT)}:{mutant.line}, {mutant.where}"
        print(f"  {place}\n    - {mutant.was}\n    + {mutant.becomes}")
    stale = module.equivalent.keys() - {mutant.name for mutant in mutants}
    for where, was, becomes in sorted(stale):
        print(f"  mutation.toml names a mutant that is no more, {where}\n    - {was}\n    + {becomes}")
    unknown = len(counted) - killed - len(survived)
    rate = killed / len(counted) if counted else 1.0
    print(
        f"{module.name}: {len(mutants)} mutants, {len(mutants) - len(counted)} equivalent, {killed} killed, "
        f"{len(survived)} survived{f', {unknown} not run' if unknown else ''}: {100 * rate:.1f} % "
        f"({time.monotonic() - started:.0f} s)",
        flush=True,
    )
    return rate >= GOAL and not stale


def _chosen(modules: Sequence[Module], wanted: Sequence[str]) -> Iterator[Module]:
    names = [module.name for module in modules]
    for name in wanted:
        if name not in names:
            raise SystemExit(f"no module {name} in tools/mutation.toml; there are {', '.join(names)}")
    yield from (module for module in modules if not wanted or module.name in wanted)


def main() -> int:
    """Run the modules named, or all; 1 if one of them has too many survivors."""
    parser = argparse.ArgumentParser(description="Mutation testing of the modules that decide.")
    parser.add_argument("modules", nargs="*", help="such as comparison.statistics; all of mutation.toml if none")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results of these modules")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop each after so long; 0 only reports")
    parser.add_argument("--count", action="store_true", help="only count the mutants")
    given = parser.parse_args()
    fine = True
    for module in _chosen(read_modules(), given.modules):
        if given.count:
            print(f"{module.name}: {len(mutants_of(module))} mutants")
            continue
        if given.fresh:
            (KEPT / f"{module.name}.jsonl").unlink(missing_ok=True)
        # A process for each module, so that the tests of one do not meet what another imported.
        child = os.fork()
        if child == 0:
            os._exit(0 if test_module(module, given.seconds) else 1)
        fine &= os.waitpid(child, 0)[1] == 0
    return 0 if fine else 1


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"  # a pool of threads does not outlive a fork
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT / "src"))
    raise SystemExit(main())
