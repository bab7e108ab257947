"""How many losses a search judges in five minutes on digits, against the full tuning protocol one after another.

    python benchmarks/evolve.py [--minutes 5] [--workers 2] [--protocol 6]

Printed are, of one search by tournament selection with random search beside it:

* the candidates judged: distinct canonical forms that a named filter rejected or that were trained, counted apart;
* what judging a candidate takes under the full tuning protocol (8 learning rates x 2 seeds x full length, each training
  alone, one after another), measured on candidates that the search trained, chosen at random, and how many of these
  all workers would judge in the time of the search; the ratio is the gain;
* the candidates trained on the first rung;
* the filters' milliseconds per candidate.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from lossmith.comparison.plan import ADAM_LRS
from lossmith.evolution.clock import Clock
from lossmith.evolution.options import SearchOptions
from lossmith.evolution.plan import SearchPlan, make_search_plan
from lossmith.evolution.problem import LADDER, tuned_rates
from lossmith.evolution.search import Evaluator, Search, run_generations
from lossmith.evolution.session import make_searches
from lossmith.trials.ledger import Ledger
from lossmith.trials.runner import Runner
from lossmith.trials.texts import with_loss
from lossmith.trials.training import train
from lossmith.trials.trial import Sources


def main() -> None:
    """Run a search, time the protocol, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--protocol", type=int, default=6, help="candidates that are trained by the full protocol")
    asked = parser.parse_args()
    sources = Sources()
    plan = make_search_plan(SearchOptions(data="digits", minutes=asked.minutes), sources)
    with tempfile.TemporaryDirectory() as folder:
        searches, seconds = searched(plan, sources, Path(folder), asked.workers)
    each = protocol_seconds(plan, sources, searches[0], asked.protocol)
    judged = sum(search.judged for search in searches)
    trained = sum(len(search.archive.on(0)) for search in searches)
    alone = asked.workers * seconds / each
    counts = {name: sum(search.screen.counts[name] for search in searches) for name in searches[0].screen.counts}
    seen = sum(search.screen.seen for search in searches)
    spent = sum(sum(search.screen.seconds.values()) for search in searches)
    rungs = [sum(len(search.archive.on(k)) for search in searches) for k in range(len(LADDER))]
    print(f"{seconds:.0f} s of search with {asked.workers} workers")
    print(f"{seen:,} candidates made: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    print(f"judged: {judged:,}, of which {judged - trained:,} were rejected by a filter and {trained:,} trained")
    print(f"trained on each rung: {', '.join(f'{count:,}' for count in rungs)}")
    print(
        f"full protocol: {each:.1f} s a candidate, {alone:.1f} in this time; judged {judged / alone:.0f} times as many"
    )
    print(f"filters: {1e3 * spent / seen:.3f} ms a candidate")


def searched(plan: SearchPlan, sources: Sources, folder: Path, workers: int) -> tuple[tuple[Search, ...], float]:
    """The searches, and how many seconds they took, the tuning of the reference not counted."""
    searches = make_searches(plan)
    with Ledger(folder / "ledger.sqlite") as ledger:
        runner = Runner(ledger, sources, workers=workers)
        try:
            evaluator = Evaluator(plan.problems, tuned_rates(plan.problems, LADDER, runner)[0], runner)
            began = time.perf_counter()
            limit = None if plan.minutes is None else 60 * plan.minutes
            run_generations(plan, searches, evaluator, Clock(folder / "clock.json", {"search": limit}), lambda: None)
            return searches, time.perf_counter() - began
        finally:
            runner.close()


def protocol_seconds(plan: SearchPlan, sources: Sources, search: Search, count: int) -> float:
    """Mean seconds of 16 full trainings with the loss itself, each alone."""
    trained = search.archive.on(0)
    chosen = np.random.default_rng(0).choice(len(trained), count, replace=False)
    trial = plan.problems[0].trial
    trial = replace(trial, trainer=replace(trial.ours, engine="single"))
    began = time.perf_counter()
    for place in chosen:
        for lr in ADAM_LRS:
            for seed in range(2):
                of = replace(trial, optimizer=replace(trial.optimizer, lr=lr), seed=seed)
                train(with_loss(of, f"formula({trained[place].formula})"), sources)
    return (time.perf_counter() - began) / count


if __name__ == "__main__":
    main()
