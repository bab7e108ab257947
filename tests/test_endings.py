"""How commands end when something goes wrong: one sentence, an exit code, nothing half-written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lossmith.cli import main
from lossmith.endings import FolderError, Stopped, check_folder, sentence_of, stoppable
from lossmith.trials.files import written_whole

LOSSMITH = (sys.executable, "-c", "from lossmith.cli import main; main()")


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    """The exit code of a command, and what it said."""
    monkeypatch.setattr(sys, "argv", ["lossmith", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return ended.value.code, out + err


def test_sigterm_ends_a_comparison_with_what_is_kept(tmp_path: Path) -> None:
    shape = ("iris", "--model", "mlp:width=8", "--losses", "m", "--workers", "1", "--steps", "3000", "--out", "r/run")
    running = subprocess.Popen([*LOSSMITH, "compare", *shape], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("learning rates"):
            break
    running.send_signal(signal.SIGTERM)
    rest = running.stderr.read()
    assert running.wait(timeout=60) == 143
    running.stderr.close()
    said = " ".join(rest.split())
    assert "Stopped by SIGTERM." in said
    assert "trainings of the stage 'learning rates' are done and kept. Run the same command to resume." in said
    assert "Traceback" not in rest


def interrupted(folder: Path, *command: str) -> tuple[int, str]:
    """The exit code of a command and what it said on Ctrl-C in a terminal, while its workers import torch."""
    running = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("learning rates"):
            break
    time.sleep(0.5)  # the workers have begun, and torch takes longer
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to the workers too
    rest = running.stderr.read()  # to the end of the last process that writes to it
    code = running.wait(timeout=60)
    running.stderr.close()
    return code, rest


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Ctrl-C goes to all processes of a terminal")
def test_workers_say_nothing_of_ctrl_c(tmp_path: Path) -> None:
    shape = ("iris", "--model", "mlp:width=8", "--losses", "m", "--workers", "2", "--steps", "3000", "--out", "r/run")
    code, rest = interrupted(tmp_path, *LOSSMITH[1:], "compare", *shape)
    said = " ".join(rest.split())
    assert code == 130
    assert "Stopped." in said
    assert "Run the same command to resume." in said
    assert "Traceback" not in rest


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Ctrl-C goes to all processes of a terminal")
def test_ctrl_c_in_a_script_says_what_is_kept(tmp_path: Path) -> None:
    asked = "model='mlp:width=8', losses='m', workers=2, steps=3000"
    (tmp_path / "script.py").write_text(f"import lossmith\nlossmith.compare('iris', {asked})\n")
    code, rest = interrupted(tmp_path, "script.py")
    last = rest.splitlines()[-1]
    assert code in {1, -signal.SIGINT, 130}
    assert last.startswith("KeyboardInterrupt: Stopped. 0 of ")
    assert last.endswith("are done and kept. Run the same call to resume.")
    assert rest.count("Traceback") == 1
    assert rest.count("\n  File ") == 2  # the script and lossmith.compare


def test_sigterm_is_an_exception_in_the_main_thread_alone_and_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped), stoppable():
        signal.raise_signal(signal.SIGTERM)
    elsewhere = threading.Thread(target=lambda: stoppable().__enter__())
    elsewhere.start()
    elsewhere.join()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = told(monkeypatch, capsys, "export", "m", "--output", "/dev/full", "--force")
    assert code == 2
    assert said.startswith("lossmith: the disk is full")
    assert "free some space" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, ["no permission", "runs/x", "choose another"]),
        (errno.EROFS, ["no permission", "runs/x"]),
        (errno.EDQUOT, ["disk is full", "runs/x"]),
        (errno.EISDIR, ["Is a directory", "runs/x"]),
    ],
)
def test_what_the_system_refuses_names_the_file(number: int, words: list[str]) -> None:
    said = sentence_of(OSError(number, os.strerror(number), "runs/x"))
    assert all(word in said for word in words)
    assert "Errno" not in said


def test_a_model_is_not_trained_for_a_folder_that_cannot_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("lossmith.trials.training.train_model", lambda *_: pytest.fail("it was trained"))
    code, said = told(monkeypatch, capsys, "train", "iris", "--steps", "20", "--out", str(tmp_path / "file" / "run"))
    assert code == 2
    assert "cannot be written to" in said
    assert "--out" in said


def test_trying_a_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    check_folder(kept)
    check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.rglob("*")) == [kept]
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError):
        check_folder(tmp_path / "file" / "run")


def test_export_overwrites_only_when_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text("years of work\n")
    code, said = told(monkeypatch, capsys, "export", "m", "--output", str(file))
    assert code == 2
    assert "--force" in said
    assert file.read_text() == "years of work\n"
    code, said = told(monkeypatch, capsys, "export", "m", "--output", str(file), "--force")
    assert code == 0
    assert "class Loss" in file.read_text()


def test_nothing_is_announced_where_a_run_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_text("")  # root may write everywhere, but not into a file
    monkeypatch.chdir(tmp_path)
    for place in ((), ("--out", "runs/mine"), ("--minutes", "1")):
        code, said = told(monkeypatch, capsys, "compare", "iris", "--losses", "m", "--steps", "20", *place)
        assert code == 2
        assert len(said.splitlines()) == 1, said
        assert "cannot be written to" in said


def test_a_dry_run_does_not_say_that_the_plan_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = told(monkeypatch, capsys, "compare", "iris", "--losses", "m", "--steps", "20", "--dry-run")
    assert code == 0
    assert "metric: " in said
    assert "plan" not in said
    assert list(tmp_path.iterdir()) == []


def test_the_model_of_another_training_is_replaced_only_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine" / "model.safetensors"
    train = ("train", "iris", "--model", "linear", "--steps", "5", "--out", "mine")
    assert told(monkeypatch, capsys, *train)[0] == 0
    first = file.read_bytes()
    assert told(monkeypatch, capsys, *train)[0] == 0  # the same training again
    code, said = told(monkeypatch, capsys, *train, "--seed", "1")
    assert code == 2
    assert "mine holds the model of another training" in said
    assert "--force" in said
    assert file.read_bytes() == first
    assert told(monkeypatch, capsys, *train, "--seed", "1", "--force")[0] == 0
    assert file.read_bytes() != first


def test_a_file_that_cannot_be_written_is_named_without_its_temporary_name(tmp_path: Path) -> None:
    file = tmp_path / "kept.txt"
    file.write_text("old")

    def write() -> None:
        with written_whole(file) as place:
            place.write_text("ne")
            raise OSError(errno.ENOSPC, "No space left", str(place))

    with pytest.raises(OSError, match="No space") as caught:
        write()
    assert str(file) in sentence_of(caught.value)
    assert ".part" not in sentence_of(caught.value)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_an_unreadable_run_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lossmith.report.folder import RunError, find_run

    def refuse(self: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)  # root may read everything
    with pytest.raises(RunError, match=rf"{tmp_path} cannot be read \(Permission denied\)"):
        find_run(tmp_path)


def test_a_damaged_plan_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text("steps = \n")
    code, said = told(monkeypatch, capsys, "compare", "iris", "--losses", "m", "--steps", "20", "--out", str(tmp_path))
    assert code == 2
    assert f"{tmp_path}/plan.toml is damaged" in said
    assert "--out" in said
