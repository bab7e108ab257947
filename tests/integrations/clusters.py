"""What the tests of Ray and of Dask share: data and a model of the user's own, and a comparison that loses a worker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lossmith.comparison.options import Options
from lossmith.comparison.prepared import prepare
from lossmith.trials.executors.machines import Machines, machines

NET = """
import os, sys, time
from pathlib import Path
from torch import nn

def make(input_shape, num_classes):
    if {there}:
        begun = Path({log!r}, f"{{os.getpid()}}-{{time.time_ns()}}")
        begun.touch()
        victim = Path({log!r}).with_name("victim")
        if victim.is_file() and victim.read_text() == {me}:
            victim.with_name("caught").touch()
            time.sleep(600)
    return nn.Sequential(nn.Linear(*input_shape, 6), nn.Tanh(), nn.Linear(6, num_classes))

def deadly(input_shape, num_classes):
    if {there}:
        os._exit(9)
    return nn.Linear(*input_shape, num_classes)

def slow(input_shape, num_classes):
    if {there}:
        Path({log!r}, str(os.getpid())).touch()
        time.sleep(600)
    return nn.Linear(*input_shape, num_classes)
"""

TRAIN = """
import torch
from beside import examples

def train(run):
    inputs, targets = examples()
    parts = run.split(targets)
    torch.manual_seed(run.seed)
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=run.lr, weight_decay=run.weight_decay)
    for step in range(run.steps):
        optimizer.zero_grad()
        run.loss(model(inputs[parts[0]]), targets[parts[0]]).backward()
        optimizer.step()
        run.loss.step()
    with torch.no_grad():
        valid, test = [(model(inputs[part]), targets[part]) for part in parts[1:]]
    return valid, test if run.final else None
"""
BESIDE = """
import torch

def examples():
    inputs = torch.randn(90, 2, generator=torch.Generator().manual_seed(0))
    return inputs, (inputs.sum(1) > 0.5).long()
"""


@dataclass
class User:
    """A folder with a table and a model file, which workers must not need, and one in which these say what they do.

    Args:
        home: with ``mine.csv``, ``net.py``, and ``train.py``, which imports ``beside.py``.
        log: a file for each model made on a worker, named by its process.
    """

    home: Path
    log: Path

    def catch(self, victim: str) -> None:
        """Wait until a worker, or a node, has begun a training that would take ten minutes.

        Args:
            victim: what workers call it.
        """
        self.log.with_name("victim").write_text(victim)
        assert wait_for(self.log.with_name("caught").is_file, 120)

    def options(self, function: str = "make", losses: tuple[str, ...] = ("focal",)) -> Options:
        """A small comparison."""
        return Options(
            data=str(self.home / "mine.csv"),
            model=f"{self.home}/net.py:{function}",
            losses=losses,
            lrs=(0.01, 0.03, 0.1),
            folds=2,
            repeats=1,
            steps=20,
        )

    def training_function(self) -> Options:
        """A small comparison with a training function."""
        trainer = f"{self.home}/train.py:train"
        return Options(trainer=trainer, losses=("focal",), lrs=(0.01, 0.1, 1.0), folds=2, repeats=1, steps=20)

    def begun(self) -> list[int]:
        """The processes that made a model, once for each."""
        return [int(file.name.partition("-")[0]) for file in self.log.iterdir()]


def user(folder: Path, there: str, me: str) -> User:
    """Write a table and a model file.

    Args:
        folder: where.
        there: an expression that is true on workers.
        me: an expression that names a worker, or its node.
    """
    home, log = folder / "home", folder / "log"
    home.mkdir(parents=True)
    log.mkdir()
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(120, 3))
    labels = (inputs[:, 0] + inputs[:, 1] ** 2 + draw.normal(size=120) > 1).astype(int)
    table = np.column_stack([inputs, labels])
    np.savetxt(home / "mine.csv", table, delimiter=",", header="a,b,c,y", comments="", fmt=["%.4f"] * 3 + ["%d"])
    (home / "net.py").write_text(NET.format(there=there, me=me, log=str(log)))
    (home / "train.py").write_text(TRAIN)
    (home / "beside.py").write_text(BESIDE)
    return User(home, log)


def tables(folder: Path) -> dict[str, bytes]:
    """The files of a run folder that do not depend on time."""
    return {name: (folder / name).read_bytes() for name in ("results.csv", "runs.csv")}


def at_home(options: Options, folder: Path) -> dict[str, bytes]:
    """What the processes of this machine find."""
    with machines(workers=2) as here:
        prepare(options, here, out=folder).carry_out()
    return tables(folder)


def away(user: User, options: Options, where: Machines, folder: Path, watcher: Watcher) -> dict[str, bytes]:
    """What a cluster finds, whose workers cannot read the user's files."""
    prepared = prepare(options, where, out=folder)
    gone = user.home.with_name("gone")

    def hide() -> None:
        if user.home.exists():
            user.home.rename(gone)

    watcher.first = hide
    try:
        prepared.carry_out(progress=watcher)
    finally:
        gone.rename(user.home)
    return tables(folder)


@dataclass
class Watcher:
    """Progress that does something once, after so many trainings.

    Args:
        after: number of trainings.
        then: what to do.
        first: what to do before any.
    """

    after: int
    then: Callable[[], None]
    first: Callable[[], None] = lambda: None
    trainings: int = field(default=0, init=False)

    def start(self, label: str, total: int, done: int) -> None:
        del label, total, done
        self.first()

    def advance(self, trainings: int) -> None:
        before, self.trainings = self.trainings, self.trainings + trainings
        if before < self.after <= self.trainings:
            self.then()


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether something happens in time."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
