"""Fair timings: every arm once a round, in shuffled order, one thread, medians, two allocators in fresh processes."""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

RETAINED_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}
COLUMNS: Mapping[str, Mapping[str, str]] = {"default allocator": {}, "retained heap": RETAINED_HEAP}
SECONDS_PER_ROUND = 0.002

Arm = Callable[[], object]


def interleaved(arms: Mapping[str, Arm], rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds and page faults of a call of each arm; the first round warms up and is not counted.

    ``ratio`` is the median over the rounds of an arm's seconds over those of the first arm in the same round.
    """
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    faults: dict[str, list[float]] = {name: [] for name in arms}
    repeats = dict.fromkeys(arms, 1)
    for round_number in range(rounds + 1):
        names = list(arms)
        order.shuffle(names)
        for name in names:
            faults_before, began = _page_faults(), time.perf_counter()
            for _ in range(repeats[name]):
                arms[name]()
            taken = (time.perf_counter() - began) / repeats[name]
            if round_number:
                seconds[name].append(taken)
                faults[name].append((_page_faults() - faults_before) / repeats[name])
            else:  # which also tells how often to repeat
                repeats[name] = max(1, int(SECONDS_PER_ROUND / taken))
    first = seconds[next(iter(arms))]
    return {
        name: {
            "seconds": statistics.median(seconds[name]),
            "faults": statistics.median(faults[name]),
            "ratio": statistics.median(own / of_first for own, of_first in zip(seconds[name], first, strict=True)),
        }
        for name in arms
    }


def in_fresh_process(environment: Mapping[str, str], *arguments: str) -> str:
    """Run this script again with further arguments; the last line it prints."""
    command = [sys.executable, *sys.argv, *arguments]
    finished = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    return finished.stdout.splitlines()[-1]


def peak_mebibytes(run: Arm) -> float:
    """How far the process's memory rises during a call above what it is before (Linux)."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before would hide what is taken
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is now what is resident
    before = _resident_peak()
    run()
    return (_resident_peak() - before) / 1024


def _resident_peak() -> int:
    """The largest resident memory so far, in kibibytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


def tables(*arguments: str) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """By allocator, what ``--measure`` prints: shape, arm, figures."""
    return {name: json.loads(in_fresh_process(column, "--measure", *arguments)) for name, column in COLUMNS.items()}


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
