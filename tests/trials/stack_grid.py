"""Trains each loss alone, in stacks and through runners, and prints each trial whose results are not all the same.

`test_stacks` runs it in processes of their own, because torch reads ``ATEN_CPU_CAPABILITY`` when it is loaded. The
capability in use is printed first, the number of trials compared last.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from lossmith.catalog import available
from lossmith.data import DataSpec
from lossmith.trials.ledger import Ledger
from lossmith.trials.result import TrialResult, summary_to_json
from lossmith.trials.runner import Runner
from lossmith.trials.training import train, train_many
from lossmith.trials.trial import OptimizerSpec, Sources, Trial
from made_trials import made

SOURCES = Sources({"iris": "iris", "digits": "digits"})
DATA = {3: "iris", 10: "digits"}
OPTIMIZERS = (
    OptimizerSpec("adam", 0.03),
    OptimizerSpec("adamw", 0.01, weight_decay=0.1, clip=0.5),
    OptimizerSpec("sgd", 0.3, momentum=0.9, nesterov=True, weight_decay=0.01),
)
VARIANTS = (
    "bi_tempered:t1=0.3,t2=1.7",
    "bi_tempered:t1=0.5,t2=0.5",
    "brier:label_smoothing=0.1",
    "cross_entropy:label_smoothing=0.1",
    "dynamical(ngl):amplitude=7,period=2",
    "focal:gamma=0.5",
    "formula((1 - y)*aq(p, c) + y*softplus(c))",
    "formula(sigmoid(p)*sin(c) + y*psqrt(c)*exp(-p))",
    "formula(y*log1p(c) + min(p, 0.4)*max(c, 0.3)*tanh(p))",
    "formula(y*pow(c, 1.3) + (1 - y)*t*pow(p, 1 + p))",
    "gce:label_smoothing=0.2",
    "ngl:scaling=sigmoid",
    "rooted:form=released,k=7",
    "scaled(m_full):factor=0.3",
    "taylor:order=9",
    "tempered:kappa=-0.7",
)
PER_CLASS = ("cross_entropy:weight=[{}]", "l_full:weight=[{}]", "tempered:kappa=[{}]")


def losses_for(classes: int) -> list[str]:
    """Every named classification loss, and variants of them that compute something else."""
    values = ",".join(str(round(0.3 + 0.17 * i, 2)) for i in range(classes))
    named = [info.name for info in available("classification") if info.name != "formula"]
    return [*named, *VARIANTS, *(text.format(values) for text in PER_CLASS)]


def stack_of(loss: str, classes: int, batch_size: int, optimizer: OptimizerSpec, size: int) -> list[Trial]:
    """Trials of one loss that differ in seed and learning rate."""
    return [
        made(
            DataSpec(DATA[classes]),
            "mlp:width=8" if batch_size % 2 else "linear",
            loss,
            replace(optimizer, lr=optimizer.lr * (1 + i % 3)),
            steps=5,
            batch_size=batch_size,
            seed=i,
            evaluations=2,
            final=True,
            engine="stacked",
        )
        for i in range(size)
    ]


def digest(result: TrialResult, *, test: bool = True) -> str:
    """A hash of every number of a result but the seconds it took."""
    whole = hashlib.sha256(summary_to_json(replace(result, seconds=0.0)).encode())
    for judged in (result.valid, result.test if test else None):
        if judged is not None:
            for values in (judged.index, judged.score, *judged.columns.values()):
                whole.update(values.tobytes())
    return whole.hexdigest()


def describe(trial: Trial) -> str:
    """What sets a trial apart from the others here."""
    return f"{trial.ours.data.source}, batch size {trial.ours.batch_size}, {trial.optimizer.name}, {trial.loss}"


def compare_stacks(trials: Sequence[Trial], sizes: Sequence[int], count: int) -> dict[Trial, TrialResult]:
    """Train the first trials alone and in stacks with those that follow, and print what differs."""
    alone = {trial: train(trial, SOURCES) for trial in trials[:count]}
    for size in sizes:
        for trial, result in zip(trials, train_many(trials[:size], SOURCES), strict=False):
            if trial in alone and digest(result) != digest(alone[trial]):
                print(f"{describe(trial)}: seed {trial.seed} in a stack of {size}")
    return alone


def compare_runners(alone: dict[Trial, TrialResult], folder: Path) -> None:
    """Run all trials with one worker, and with three that find a third of the results there; print what differs."""
    for workers, done in ((1, []), (3, list(alone)[1::3])):
        with Ledger(folder / f"{workers}.sqlite") as ledger:
            Runner(ledger, SOURCES, workers=0).run(done)
            runner = Runner(ledger, SOURCES, workers=workers)
            for trial, result in runner.run(list(alone)).items():
                if digest(result, test=False) != digest(alone[trial], test=False):
                    print(f"{describe(trial)}: {workers} workers")
            runner.close()


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--classes", type=int, nargs="+", default=list(DATA))
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 7, 16, 50, 64])
    parser.add_argument("--stacks", type=int, nargs="+", default=[3, 26])
    parser.add_argument("--alone", type=int, default=3, help="how many trials of a stack are trained alone")
    parser.add_argument("--runners", type=Path, help="folder for the ledgers; without it no runner is tried")
    given = parser.parse_args()
    print(torch.backends.cpu.get_cpu_capability(), flush=True)
    alone: dict[Trial, TrialResult] = {}
    settings = itertools.product(given.classes, given.batch_sizes)
    for (classes, batch_size), optimizer in zip(settings, itertools.cycle(OPTIMIZERS), strict=False):
        for loss in losses_for(classes):
            trials = stack_of(loss, classes, batch_size, optimizer, max(given.stacks))
            alone |= compare_stacks(trials, given.stacks, given.alone)
    if given.runners is not None:
        compare_runners(alone, given.runners)
    print(len(alone))


if __name__ == "__main__":
    main()
