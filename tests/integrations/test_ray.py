"""Trials on a real Ray cluster of several nodes, all of them on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clusters import User, Watcher, at_home, away, is_alive, user, wait_for

from lossmith.data import DataSpec
from lossmith.evolution import session
from lossmith.studies.bench import Bench
from lossmith.studies.rooted_linear.measure import Part, measure
from lossmith.trials.executors import node
from lossmith.trials.executors.cluster import ClusterError
from lossmith.trials.executors.machines import Machines, machines
from lossmith.trials.ledger import Ledger
from lossmith.trials.models import canonical_model
from lossmith.trials.runner import Runner
from lossmith.trials.trial import OptimizerSpec, Sources
from made_trials import changed, made
from tiny_search import planned, searched, without_seconds

ray = pytest.importorskip("ray", reason="pip install lossmith[ray]")

pytestmark = [
    pytest.mark.filterwarnings("default::ResourceWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
    pytest.mark.filterwarnings("default::DeprecationWarning"),
]
MEMORY = 80 * 2**20
IRIS = made(DataSpec("iris"), "mlp:width=8", "cross_entropy", OptimizerSpec("adam", 0.01), 12, 16, 3, 6)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that computes, and another node."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        head = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(num_cpus=1, object_store_memory=MEMORY)
        made.wait_for_nodes()
        yield made
        made.shutdown()


class Renaming:
    """Progress that hides a file once the first job is done."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def start(self, label: str, total: int, done: int) -> None:
        pass

    def advance(self, trainings: int) -> None:
        if self.file.exists():
            self.file.rename(self.file.with_name("gone"))


@pytest.fixture
def here(cluster: Any) -> Iterator[Machines]:
    with machines("ray", cluster.address) as connected:
        yield connected


@pytest.fixture
def own(tmp_path: Path) -> User:
    return user(tmp_path, "'default_worker' in sys.argv[0]", "__import__('ray').get_runtime_context().get_node_id()")


def test_the_results_are_those_of_the_local_pool_though_a_node_dies(
    cluster: Any, own: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third node is killed while it trains; no node can read the user's files."""
    monkeypatch.chdir(tmp_path)
    expected = at_home(own.options(), tmp_path / "local" / "run")
    third = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    cluster.wait_for_nodes()
    with machines("ray", cluster.address) as here:
        assert (here.workers, here.at_once) == (3, 3)
        assert here.notes == ("3 trainings at once on a Ray cluster of 3 nodes",)

        def kill() -> None:
            own.catch(third.node_id)
            cluster.remove_node(third, allow_graceful=False)

        watcher = Watcher(6, kill)
        assert away(own, own.options(), here, tmp_path / "ray" / "run", watcher) == expected
        assert wait_for(lambda: sum(each["Alive"] for each in ray.nodes()) == 2)


def test_a_training_function_travels_with_the_module_beside_it(
    here: Machines, own: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = own.training_function()
    expected = at_home(options, tmp_path / "local" / "run")
    assert away(own, options, here, tmp_path / "ray" / "run", Watcher(1, lambda: None)) == expected


def test_a_search_finds_the_same_as_in_this_process(
    here: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to its choice; the comparisons after it are like any other."""
    monkeypatch.setattr(session, "compare_all", lambda *_: [type("Compared", (), {"folder": "comparisons/1"})])
    monkeypatch.setattr(session, "sentence", lambda *_: "It is what it is.")
    searched(tmp_path / "0" / "run", evaluations=20)
    plan, sources = planned(evaluations=20)
    folder = tmp_path / "ray" / "run"
    session.carry_out_search(plan, sources, folder, workers=here.workers, make_executor=here.make_executor)
    for name in ("hall_of_fame.csv", "best.loss"):
        assert (folder / name).read_bytes() == (tmp_path / "0" / "run" / name).read_bytes()
    both = ((of / "evolution.json").read_text() for of in (folder, tmp_path / "0" / "run"))
    assert len({str(without_seconds(text)) for text in both}) == 1


def test_the_jobs_of_a_study_read_files_that_travel(here: Machines, own: User, tmp_path: Path) -> None:
    file = own.home / "mine.csv"
    jobs = [Part("spect", file, number, most=20, points=2, strengths=2, limit=40) for number in range(3)]
    expected = Bench(tmp_path / "local").run("parts", measure, jobs)
    bench = Bench(tmp_path / "study", here.workers, Renaming(file), make_executor=here.make_executor)
    for found, wanted in zip(bench.run("parts", measure, jobs), expected, strict=True):
        assert found.keys() == wanted.keys()
        for name, values in found.items():
            if "seconds" not in name:
                np.testing.assert_array_equal(values, wanted[name], err_msg=name)
    assert not file.exists()


def test_a_trial_that_kills_its_worker_takes_no_other_with_it(here: Machines, own: User, tmp_path: Path) -> None:
    """It is tried three times, alone and in its stack."""
    sources = Sources({"iris": "iris"})
    deadly = changed(IRIS, model=canonical_model(f"{own.home}/net.py:deadly", sources))
    others = [changed(IRIS, seed=seed, engine=engine) for seed in range(3) for engine in ("single", "stacked")]
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        runner = Runner(ledger, sources, workers=2, make_executor=here.make_executor)
        found = runner.run([*others[:3], deadly, *others[3:]])
        runner.close()
    assert set(found) == set(others)
    assert runner.failures == {deadly: "its worker process died, perhaps for lack of memory"}


def test_an_interruption_stops_what_the_nodes_are_doing(cluster: Any, own: User, tmp_path: Path) -> None:
    """Each training would take ten minutes."""
    command = [sys.executable, "-m", "lossmith", "compare", str(own.home / "mine.csv"), "--losses", "focal"]
    command += ["--model", f"{own.home}/net.py:slow", "--steps", "20", "--out", str(tmp_path / "run"), "--yes"]
    command += ["--executor", "ray", "--address", cluster.address]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert wait_for(lambda: len(own.begun()) == 2)
        workers = own.begun()
        assert all(map(is_alive, workers))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Stopped. 0 of" in said
    assert "Traceback" not in said
    assert wait_for(lambda: not any(map(is_alive, workers)), 20)
    assert len(own.begun()) == 2  # nothing that waited was begun


def test_a_node_with_other_software_is_refused(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there = node.software()
    monkeypatch.setattr(node, "_software", lambda: replace(there, torch="1.0.0"))
    with (
        pytest.raises(ClusterError, match=r"the node \S+ has torch 2\S+ and this machine 1.0.0: install one version"),
        machines("ray", cluster.address),
    ):
        pass
    assert not ray.is_initialized()


def test_a_node_without_lossmith_is_refused(cluster: Any, tmp_path: Path) -> None:
    """A package of the same name hides it."""
    (tmp_path / "lossmith").mkdir()
    (tmp_path / "lossmith" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'lossmith'\")")
    bare = cluster.add_node(num_cpus=1, object_store_memory=MEMORY, env_vars={"PYTHONPATH": str(tmp_path)})
    try:
        cluster.wait_for_nodes()
        words = r"the node \S+ cannot import lossmith \(No module named 'lossmith'\): install lossmith\[compare\] "
        with pytest.raises(ClusterError, match=words), machines("ray", cluster.address):
            pass
    finally:
        cluster.remove_node(bare)


def test_an_address_without_a_cluster_is_told_in_a_sentence() -> None:
    with (
        pytest.raises(ClusterError, match=r"--address 127\.0\.0\.1:1: there is no Ray cluster to connect to"),
        machines("ray", "127.0.0.1:1"),
    ):
        pass


def test_the_connection_of_a_notebook_is_used_and_kept(cluster: Any) -> None:
    ray.init(cluster.address, log_to_driver=False)
    try:
        handler = signal.getsignal(signal.SIGTERM)
        with machines("ray") as here:
            assert here.workers == 2
        assert ray.is_initialized()
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        ray.shutdown()
