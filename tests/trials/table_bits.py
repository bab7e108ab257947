"""Trains candidates alone and in stacks, by table and exactly, and prints each whose results are not all the same.

`test_tables` runs it in processes of their own, because torch reads ``ATEN_CPU_CAPABILITY`` when it is loaded. The
capability in use is printed first, the number of comparisons last.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch

from lossmith.data import DataSpec
from lossmith.trials.result import TrialResult
from lossmith.trials.training import train_many
from lossmith.trials.trial import OptimizerSpec, SearchTrainer, Sources, Trial

FORMULAS = (
    "y*c",
    "3*y*expm1(c/3)",
    "(exp(2.4092 - p*(1 + y)) - cos(cos(sin(p))))/n",
    "t*y*c + (1 - p)*y",
    "square(p - y)",
)
STACKS = (2, 3, 64)


def candidates(data: str, model: str, batch_size: int, optimizer: str, *, tabulated: bool) -> list[Trial]:
    """As many trials as the largest stack holds, of different formulas, seeds and learning rates."""
    trainer = SearchTrainer(DataSpec(data, stage="search"), model, batch_size, engine="stacked", tabulated=tabulated)
    spec = OptimizerSpec(optimizer, 0.01, momentum=0.9 * (optimizer == "sgd"))
    return [
        Trial(trainer, f"formula({FORMULAS[i % len(FORMULAS)]})", replace(spec, lr=0.01 * (1 + i % 3)), 6, i // 7)
        for i in range(max(STACKS))
    ]


def bits(result: TrialResult) -> str:
    assert result.valid is not None
    told = (result.scores["nll"].hex(), result.fitted["temperature"].hex(), result.valid.score.tobytes())
    return hashlib.sha256(repr(told).encode()).hexdigest()


def main() -> None:
    """Print what differs."""
    print(torch.backends.cpu.get_cpu_capability())
    sources, count = Sources({"iris": "iris", "digits": "digits"}), 0
    cases = [
        ("iris", "mlp:width=8", 7, "adam", True),
        ("iris", "linear", 33, "sgd", True),
        ("digits", "mlp:width=16", 64, "adam", True),
        ("iris", "mlp:width=8", 7, "adam", False),
    ]
    for data, model, batch_size, optimizer, tabulated in cases:
        trials = candidates(data, model, batch_size, optimizer, tabulated=tabulated)
        whole = [bits(result) for result in train_many(trials, sources)]
        found = [(1, trials[i], whole[i], train_many([trials[i]], sources)) for i in (0, 17, 63)]
        for size in STACKS[:-1]:
            chosen = trials[40 : 40 + size]
            found += [
                (size, of, whole[40 + i], [result])
                for i, (of, result) in enumerate(zip(chosen, train_many(chosen, sources), strict=True))
            ]
        for size, trial, wanted, (result,) in found:
            count += 1
            if bits(result) != wanted:
                print(f"{data} {model} B={batch_size} {optimizer} {trial.loss} in a stack of {size}")
    print(count)


if __name__ == "__main__":
    main()
