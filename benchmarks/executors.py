"""What clusters cost beside the processes of one machine: ``python benchmarks/executors.py``.

First the overhead of a stack: its trials travel to a worker, which counts them. Then the wall time of a comparison. All
clusters are of this machine, with as many workers; arms take turns in shuffled order.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from lossmith.comparison.options import Options
from lossmith.comparison.plan import Plan, make_plan
from lossmith.comparison.prepared import prepare
from lossmith.trials.executors.local import LocalPool
from lossmith.trials.executors.machines import Machines, machines
from lossmith.trials.options import ExecutorName
from lossmith.trials.trial import Sources, Trial

ARMS: Final[tuple[ExecutorName, ...]] = ("local", "ray", "dask")
STACKS: Final = 100
OPTIONS: Final = Options(data="digits", losses=("focal", "brier"), folds=2, repeats=1, lrs=4, steps=300)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="of each arm (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="of the overhead, 0 for none (%(default)s)")
    parser.add_argument("--comparisons", type=int, default=3, help="rounds of the comparison (%(default)s)")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        where: dict[str, Machines] = {name: stack.enter_context(machines(name, workers=given.workers)) for name in ARMS}
        if given.rounds:
            _overhead(where, given.workers, given.rounds)
        compared = {name: _comparison(of) for name, of in where.items()}
        _print("seconds of one comparison", _interleaved(compared, given.comparisons), 1.0)


def _overhead(where: Mapping[str, Machines], workers: int, rounds: int) -> None:
    """Time stacks that do nothing, many at once and one after the other."""
    unit = _stack(make_plan(OPTIONS, Sources()))
    title = f"milliseconds per stack of {len(unit)} trials, {workers} workers"
    with contextlib.ExitStack() as executors:
        calls = {name: executors.enter_context(_calling(of, unit)) for name, of in where.items()}
        many = {name: _calling_with(call, STACKS) for name, call in calls.items()}
        single = {name: _calling_with(call, 1) for name, call in calls.items()}
        _print(f"{title}, {STACKS} at once", _interleaved(many, rounds), 1e3 / STACKS)
        _print(f"{title}, one after the other", _interleaved(single, rounds), 1e3)


def _stack(plan: Plan) -> list[Trial]:
    """The trials of a stack of the comparison."""
    settings = [(arm, setting) for arm in plan.arms for setting in plan.bracket(arm)]
    return [plan.training(arm, 0, 0, setting, "tuning") for arm, setting in settings]


@contextlib.contextmanager
def _calling(where: Machines, unit: list[Trial]) -> Iterator[Callable[[int], None]]:
    """A function that submits a number of stacks and waits for them."""
    executor = (where.make_executor or LocalPool)(where.workers)

    def call(count: int) -> None:
        for future in [executor.submit(len, unit) for _ in range(count)]:
            future.result()

    try:
        yield call
    finally:
        executor.shutdown()


def _calling_with(call: Callable[[int], None], count: int) -> Callable[[], None]:
    return lambda: call(count)


def _comparison(where: Machines) -> Callable[[], None]:
    def compare() -> None:
        with tempfile.TemporaryDirectory() as folder:
            prepare(OPTIONS, where, out=Path(folder) / "run").carry_out()

    return compare


def _interleaved(arms: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each arm in each round; a first round warms up and is not counted."""
    order, seconds = random.Random(0), {name: list[float]() for name in arms}
    for number in range(rounds + 1):
        for name in order.sample(list(arms), len(arms)):
            began = time.perf_counter()
            arms[name]()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def _print(title: str, seconds: Mapping[str, list[float]], unit: float) -> None:
    """The medians of all arms, and of their ratios to the first."""
    print(title)
    first = next(iter(seconds.values()))
    for name, of in seconds.items():
        ratio = statistics.median(own / base for own, base in zip(of, first, strict=True))
        low, high = (unit * extreme(of) for extreme in (min, max))
        print(f"  {name:6} {unit * statistics.median(of):8.2f}  ({low:.2f} to {high:.2f})  {ratio:5.2f} of local")


if __name__ == "__main__":
    main()
