"""Jobs of a study: done once, kept, and found again only by the same job and code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossmith.studies import bench as bench_module
from lossmith.studies.bench import Bench, code_of


@dataclass(frozen=True)
class Sum:
    terms: tuple[float, ...]
    log: str = ""


def add(job: Sum) -> Mapping[str, Any]:
    if job.log:
        with Path(job.log).open("a") as log:
            log.write(f"{os.getpid()}\n")
    if not job.terms:
        raise KeyboardInterrupt
    return {"sum": np.array(sum(job.terms)), "terms": np.array(job.terms)}


class Counting:
    def __init__(self) -> None:
        self.said: list[Any] = []

    def start(self, label: str, total: int, done: int) -> None:
        self.said.append((label, total, done))

    def advance(self, trainings: int) -> None:
        self.said.append(trainings)


@pytest.mark.parametrize("workers", [0, 2])
def test_jobs_are_done_once_and_come_in_order(tmp_path: Path, workers: int) -> None:
    jobs = [Sum((float(i), 1.0), str(tmp_path / "log")) for i in range(3)]
    for count, done in ((2, 0), (3, 2), (3, 3)):  # the second sitting has a job more
        progress = Counting()
        results = Bench(tmp_path / "study", workers, progress).run("sums", add, jobs[:count])
        assert [float(of["sum"]) for of in results] == [1.0, 2.0, 3.0][:count]
        assert [of["terms"].tolist() for of in results] == [[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]][:count]
        assert progress.said == [("sums", count, done), *[1] * (count - done)]
    workers_seen = (tmp_path / "log").read_text().split()
    assert len(workers_seen) == 3
    assert (str(os.getpid()) in workers_seen) == (workers == 0)


def test_an_interruption_keeps_what_is_done_and_time_is_that_of_all_sittings(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        bench.run("sums", add, [Sum((1.0,)), Sum(())])
    assert len(list((tmp_path / "jobs").iterdir())) == 1
    again = Bench(tmp_path)
    again.run("sums", add, [Sum((1.0,))])
    assert again.seconds > 0


def test_other_code_does_the_job_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Bench(tmp_path).run("sums", add, [Sum((1.0,))])
    for name in ("training_code", "code_of"):
        with monkeypatch.context() as patch:
            patch.setattr(bench_module, name, lambda *_: "other")
            Bench(tmp_path).run("sums", add, [Sum((1.0,))])
    assert len(list((tmp_path / "jobs").iterdir())) == 3


def test_the_code_of_a_job_is_its_module_and_what_it_imports_from_the_studies() -> None:
    both = "lossmith.studies.spirals.training", "lossmith.studies.spirals.problem"
    assert len({code_of(name) for name in both}) == 2
    assert code_of(both[0]) == code_of(both[0])


def test_a_damaged_result_is_named_in_a_sentence(tmp_path: Path) -> None:
    Bench(tmp_path).run("sums", add, [Sum((1.0,))])
    (file,) = (tmp_path / "jobs").iterdir()
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match=f"{file} is damaged .*delete it"):
        Bench(tmp_path).run("sums", add, [Sum((1.0,))])
