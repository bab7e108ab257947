from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lossmith.data import DataSpec
from lossmith.trials.ledger import Ledger
from lossmith.trials.models import canonical_model
from lossmith.trials.runner import Runner, TrainingFailedError
from lossmith.trials.trial import OptimizerSpec, Sources
from made_trials import changed, made

SOURCES = Sources({"iris": "iris"})
IRIS = made(DataSpec("iris"), "mlp:width=8", "cross_entropy", OptimizerSpec("adam", 0.01), 12, 16, 3, 6)
TRIALS = [
    changed(IRIS, loss=loss, seed=seed, engine=engine, final=final)
    for loss in ("cross_entropy", "m", "ngl")
    for seed in range(2)
    for engine, final in (("stacked", False), ("single", True))
]


class Counter:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, int]] = []
        self.advanced = 0

    def start(self, label: str, total: int, done: int) -> None:
        self.stages.append((label, total, done))

    def advance(self, trainings: int) -> None:
        self.advanced += trainings


def test_results_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    found = []
    for workers in (0, 1, 3):
        with Ledger(tmp_path / f"{workers}.sqlite") as ledger:
            runner = Runner(ledger, SOURCES, workers=workers)
            results = runner.run(TRIALS)
            runner.close()
        found.append({trial: (r.curve, r.columns["nll"], r.fitted, r.gradient_ratio) for trial, r in results.items()})
    assert found[0] == found[1] == found[2]
    assert set(found[0]) == set(TRIALS)


def test_what_is_finished_is_not_run_again(tmp_path: Path) -> None:
    counter = Counter()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        runner = Runner(ledger, SOURCES, workers=0, progress=counter)
        runner.run(TRIALS[:5])
        runner.run(TRIALS, "all")
        runner.run(TRIALS)
    assert counter.stages == [("training", 5, 0), ("all", 12, 5), ("training", 12, 12)]
    assert counter.advanced == 12


class Eager(concurrent.futures.Executor):
    """Runs what is submitted at once; can be told to fail from the third unit on."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure, self.units = failure, 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        self.units += 1
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        if self.failure is not None and self.units > 2:
            future.set_exception(self.failure)
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_any_executor_will_do(tmp_path: Path) -> None:
    executor = Eager()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert len(Runner(ledger, SOURCES, workers=7, make_executor=lambda workers: executor).run(TRIALS)) == 12
    assert executor.units == 7  # six single trials and one stack


def test_what_a_lost_worker_was_at_runs_again_alone(tmp_path: Path) -> None:
    lost = concurrent.futures.BrokenExecutor("gone")
    counter = Counter()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        make = lambda workers: Eager(lost)  # noqa: E731
        runner = Runner(ledger, SOURCES, workers=1, progress=counter, make_executor=make)
        assert len(runner.run(TRIALS)) == 12
        assert runner.failures == {}
    assert counter.advanced == 12


DEADLY = """
import os
from torch import nn

class Deadly(nn.Sequential):
    def forward(self, inputs):
        if self.training:
            os._exit(9)
        return super().forward(inputs)

def deadly(input_shape, num_classes):
    return Deadly(nn.Linear(input_shape[0], num_classes))

def leaving(input_shape, num_classes):
    raise SystemExit("goodbye")

def wrong(input_shape, num_classes):
    return nn.Linear(input_shape[0] + 1, num_classes)
"""


def test_a_trial_that_fails_is_a_result_with_a_reason(tmp_path: Path) -> None:
    """One that kills its worker, one whose model has a bug, one with a loss for something else, one out of memory."""
    sources = Sources({"iris": "iris"})
    (tmp_path / "own.py").write_text(DEADLY)
    names = ("deadly", "wrong", "leaving")
    deadly, wrong, leaving = (canonical_model(f"{tmp_path}/own.py:{name}", sources) for name in names)
    reasons = {
        changed(IRIS, model=deadly): "its worker process died, perhaps for lack of memory",
        changed(IRIS, model=wrong): "RuntimeError: mat1 and mat2 shapes cannot be multiplied",
        changed(IRIS, model=leaving): "SystemExit: goodbye",
        changed(IRIS, loss="smooth_absolute_error"): "is a loss for regression, not for classification",
        changed(IRIS, model="mlp:width=1000000000000000"): "it ran out of memory",
    }
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        runner = Runner(ledger, sources, workers=2)
        found = runner.run([*TRIALS, *reasons])
        runner.close()
        assert set(found) == set(TRIALS)
        assert set(runner.failures) == set(reasons)
        for trial, reason in reasons.items():
            assert reason in runner.failures[trial]
            assert "\n" not in runner.failures[trial]
            assert trial not in ledger
        with pytest.raises(TrainingFailedError, match="smooth_absolute_error"):
            runner.run_all([changed(IRIS, loss="smooth_absolute_error")])


def test_a_slice_that_fails_takes_no_other_with_it(tmp_path: Path) -> None:
    stack = [changed(IRIS, engine="stacked", loss=loss) for loss in ("m", "brier", "smooth_absolute_error")]
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        runner = Runner(ledger, SOURCES, workers=0)
        assert set(runner.run(stack)) == set(stack[:2])
        assert set(runner.failures) == {stack[2]}


def test_a_training_that_takes_too_long_fails(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        runner = Runner(ledger, SOURCES, workers=0, time_limit=0.2)
        slow = changed(IRIS, steps=10**7)
        assert runner.run([slow]) == {}
        assert runner.failures == {slow: "it took longer than 0.2 seconds"}


def test_closing_ends_the_workers_and_no_other_child(tmp_path: Path) -> None:
    bystander = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    bystander.start()
    try:
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            runner = Runner(ledger, SOURCES, workers=1)
            runner.run(TRIALS[:1])
            runner.close()
        deadline = time.monotonic() + 20
        while set(multiprocessing.active_children()) != {bystander} and time.monotonic() < deadline:
            time.sleep(0.05)
        assert set(multiprocessing.active_children()) == {bystander}
    finally:
        bystander.kill()
        bystander.join()


SCRIPT = """
    import os, sys, time
    from pathlib import Path
    from lossmith.data import DataSpec
    from lossmith.trials.ledger import Ledger
    from lossmith.trials.runner import Runner
    from lossmith.trials.trial import ModelTrainer, OptimizerSpec, Sources, Trial

    class Say:
        def start(self, label, total, done): pass
        def advance(self, trainings): print("done", flush=True)

    if __name__ == "__main__":
        trials = [
            Trial(ModelTrainer(DataSpec("iris"), "mlp", 16, 10), "m", OptimizerSpec("adam", .01),
                  200 if seed < 4 else 10**7, seed)
            for seed in range(12)
        ]
        with Ledger(Path(sys.argv[1])) as ledger:
            Runner(ledger, Sources({"iris": "iris"}), workers=2, progress=Say()).run(trials)
"""


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_workers_do_not_outlive_their_parent_and_finished_trials_are_kept(tmp_path: Path, kill: signal.Signals) -> None:
    """The last trials would take hours; the parent is killed once the first four are done."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), str(tmp_path / "ledger.sqlite")]
    parent = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )
    assert parent.stdout is not None
    assert [parent.stdout.readline() for _ in range(4)] == ["done\n"] * 4
    children = descendants(parent.pid)
    assert len(children) >= 2
    parent.send_signal(kill)
    try:
        parent.wait(timeout=20)
    finally:
        parent.kill()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [child for child in children if alive(child)]
    spec = OptimizerSpec("adam", 0.01)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert all(made(DataSpec("iris"), "mlp", "m", spec, 200, 16, seed, 10) in ledger for seed in range(4))


def descendants(pid: int) -> list[int]:
    """The children of a process, from /proc."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            children.append(int(stat.parent.name))
    return children


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
