"""The kernels are compiled once, kept where only their user can write, and done without where that cannot be."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lossmith.kernels import compiler

COMPILER = next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), None)
NOBODY = 65534
# The cache alone, without torch, which takes seconds to import.
MAKE = f"""
import importlib.util, pathlib, sys, time
spec = importlib.util.spec_from_file_location("cache", {str(Path(compiler.__file__).with_name("cache.py"))!r})
cache = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cache)

def make(path):
    path.with_name("half.o").touch()
    with open(sys.argv[1], "a") as count:
        count.write("once\\n")
    time.sleep(float(sys.argv[2]))
    path.write_bytes(b"made")

with cache.cached("rows", make, 60.0) as path:
    print(path.read_bytes())
"""
BOTH_PASSES = 'extern "C" long lossmith_forward() { return 0; }\nextern "C" void lossmith_backward() {}\n'
EVIL = """
#include <cstdio>
__attribute__((constructor)) static void run() { std::fclose(std::fopen(WITNESS, "w")); }
"""
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file to another user"
)
pytestmark = pytest.mark.skipif(COMPILER is None or os.name != "posix", reason="no C++ compiler, or not POSIX")


@pytest.fixture(autouse=True, name="cache")
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache, a temporary folder beside it, and kernels that compile quickly and compute nothing."""
    monkeypatch.setenv("LOSSMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LOSSMITH_COMPILER", raising=False)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "rows.cpp").write_text(BOTH_PASSES)
    monkeypatch.setattr(compiler, "_SOURCE", tmp_path / "rows.cpp")
    compiler.library.cache_clear()
    yield tmp_path / "cache"
    compiler.library.cache_clear()


def libraries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.so"))


def load_again() -> bool:
    compiler.library.cache_clear()
    return compiler.library() is not None


def wrapper(path: Path, script: str) -> str:
    """A compiler that runs a shell script before or in place of the real one."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_compiled_once_and_loaded_from_the_cache_afterwards(caplog: pytest.LogCaptureFixture, cache: Path) -> None:
    caplog.set_level(logging.INFO, "lossmith")
    assert compiler.library() is not None
    assert "compiled the kernels in" in caplog.text
    (made,) = libraries(cache)
    before = made.stat()
    caplog.clear()
    assert load_again()
    assert "compiled" not in caplog.text
    assert libraries(cache) == [made]
    assert made.stat().st_mtime_ns == before.st_mtime_ns


def test_the_real_kernels_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_SOURCE", Path(compiler.__file__).with_name("rows.cpp"))
    assert compiler.library() is not None


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSMITH_COMPILER", "none")
    assert compiler.library() is None


def test_a_compiler_that_fails_is_reported_and_nothing_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cache: Path, tmp_path: Path
) -> None:
    failing = wrapper(tmp_path / "failing", 'case "$*" in *-dM*) exit 0; esac\necho "no such header" >&2\nexit 1')
    monkeypatch.setenv("LOSSMITH_COMPILER", failing)
    assert compiler.library() is None
    assert "no such header" in caplog.text
    assert not [path for path in cache.rglob("*") if path.is_file() and path.name != "lock"]


def test_a_compiler_may_be_named_relative_to_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrapper(tmp_path / "mine", f'exec "{COMPILER}" "$@"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSMITH_COMPILER", "./mine")
    assert compiler.library() is not None


def test_a_library_without_the_two_passes_is_reported(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "rows.cpp").write_text("")
    assert compiler.library() is None
    assert "lossmith_forward" in caplog.text


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_user_can_write_what_is_made(umask: int, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSMITH_CACHE", str(cache / "deep" / "down"))
    before = os.umask(umask)
    try:
        assert compiler.library() is not None
    finally:
        os.umask(before)
    for path in (cache, *cache.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_truncated_library_is_compiled_again(kept: float, cache: Path) -> None:
    """Loaded, it would kill the process: hence a process of its own."""
    assert compiler.library() is not None
    (made,) = libraries(cache)
    whole = made.read_bytes()
    made.unlink()
    made.write_bytes(whole[: int(kept if kept >= 1 else kept * len(whole))])
    made.chmod(0o600)
    assert load_again()
    assert [hashlib.sha256(path.read_bytes()).hexdigest() in path.name for path in libraries(cache)] == [True]


@as_root
@pytest.mark.parametrize(
    "planted",
    [
        pytest.param(lambda folder, file: os.chown(file, NOBODY, -1), id="file of another user"),
        pytest.param(lambda folder, file: file.chmod(0o666), id="file that others can write"),
        pytest.param(lambda folder, file: os.chown(folder, NOBODY, -1), id="folder of another user"),
        pytest.param(lambda folder, file: folder.chmod(0o777), id="folder that others can write"),
        pytest.param(lambda folder, file: folder.chmod(0o770), id="folder of the group"),
        pytest.param(lambda folder, file: linked(file), id="link to a file"),
        pytest.param(lambda folder, file: linked(folder), id="link to a folder"),
        pytest.param(lambda folder, file: (file.unlink(), os.mkfifo(file)), id="pipe"),
        pytest.param(lambda folder, file: os.chown(emptied(file), NOBODY, -1), id="empty file of another user"),
        pytest.param(
            lambda folder, file: file.rename(old_name(file)), id="file under the name that older versions read"
        ),
    ],
)
def test_nothing_is_loaded_that_another_user_could_have_planted(
    planted: Callable[[Path, Path], None], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compiler.library() is not None
    copy = shutil.copytree(cache, tmp_path / "copy")  # the loader takes a path it knows for a library it has
    monkeypatch.setenv("LOSSMITH_CACHE", str(copy))
    (made,) = libraries(copy)
    witness = tmp_path / "witness"
    evil = made.with_name("evil.so")
    (tmp_path / "evil.cpp").write_text(f'#define WITNESS "{witness}"\n{BOTH_PASSES}{EVIL}')
    assert COMPILER is not None
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", evil, tmp_path / "evil.cpp"], check=True)
    file = made.with_name(renamed(made, evil))
    made.unlink()
    evil.rename(file)
    file.chmod(0o700)
    copy.chmod(0o777)
    planted(made.parent, file)
    assert load_again()
    assert not witness.exists()


def renamed(made: Path, evil: Path) -> str:
    """The name under which the library would be trusted, were it not for whom it belongs to."""
    return made.name.replace(*(hashlib.sha256(path.read_bytes()).hexdigest() for path in (made, evil)))


def linked(path: Path) -> None:
    elsewhere = path.rename(path.with_name("elsewhere"))
    path.symlink_to(elsewhere)
    os.chown(elsewhere, NOBODY, -1)


def emptied(file: Path) -> Path:
    *start, _ = file.stem.split("-")
    file.unlink()
    empty = file.with_name("-".join([*start, hashlib.sha256(b"").hexdigest()]) + ".so")
    empty.touch()
    return empty


def old_name(file: Path) -> Path:
    return file.parents[1] / ("-".join(file.stem.split("-")[:2]) + ".so")


@as_root
def test_where_the_cache_is_not_private_a_temporary_folder_is_and_a_warning_says_why(
    caplog: pytest.LogCaptureFixture, cache: Path, tmp_path: Path
) -> None:
    assert compiler.library() is not None
    (own,) = cache.iterdir()
    os.chown(own, NOBODY, -1)
    for _ in range(2):
        caplog.clear()
        assert load_again()
        (message,) = caplog.messages
        assert message.startswith(f"{own} belongs to another user: ")
        assert str(tmp_path / "temporary") in message
    (made,) = libraries(tmp_path / "temporary")
    os.chown(made.parent, NOBODY, -1)
    caplog.clear()
    assert not load_again()
    (message,) = caplog.messages
    assert "slower path" in message
    assert f"{made.parent} belongs to another user" in message


def test_no_folder_at_all(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LOSSMITH_CACHE", str(tmp_path / "file"))
    assert load_again()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert not load_again()
    assert "slower path" in caplog.text


def test_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("LOSSMITH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert compiler.library() is not None
    assert len(libraries(tmp_path / "temporary")) == 1


def making(tmp_path: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that takes so long to make what it keeps in the cache."""
    command = [sys.executable, "-c", MAKE, str(tmp_path / "count"), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_four_processes_make_it_once(cache: Path, tmp_path: Path) -> None:
    together = [making(tmp_path, 1) for _ in range(4)]
    assert [process.communicate()[0] for process in together] == ["b'made'\n"] * 4
    assert (tmp_path / "count").read_text() == "once\n"
    assert [path.read_bytes() for path in libraries(cache)] == [b"made"]


def test_a_killed_process_blocks_nobody_and_its_files_are_removed(cache: Path, tmp_path: Path) -> None:
    killed = making(tmp_path, 600)
    while not (tmp_path / "count").exists():
        assert killed.poll() is None
        time.sleep(0.02)
    waiting = making(tmp_path, 0)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    killed.kill()
    killed.communicate()
    assert waiting.communicate(timeout=30)[0] == "b'made'\n"
    assert (tmp_path / "count").read_text() == "once\nonce\n"
    assert sorted(path.suffix for path in cache.rglob("*") if path.is_file()) == ["", ".so"]  # the lock, the library


def test_a_process_that_never_finishes_is_not_waited_for_endlessly(cache: Path, tmp_path: Path) -> None:
    from lossmith.kernels.cache import cached

    stopped = making(tmp_path, 600)
    while not (tmp_path / "count").exists():
        time.sleep(0.02)
    with pytest.raises(TimeoutError, match="another process"), cached("rows", lambda path: None, 0.2):
        pass
    stopped.kill()
    stopped.communicate()
    assert not libraries(cache)


@pytest.mark.parametrize("flag", ["-mno-avx", "-D__VERSION__='\"another\"'"])
def test_another_processor_or_compiler_has_a_library_of_its_own(
    flag: str, monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path
) -> None:
    """The processor as the compiler sees it: `/proc/cpuinfo` is not read, as not every system has it."""
    assert compiler.library() is not None
    monkeypatch.setenv("LOSSMITH_COMPILER", wrapper(tmp_path / "other", f'exec "{COMPILER}" "$@" {flag} -Wno-all'))
    assert load_again()
    assert len(libraries(cache)) == 2
