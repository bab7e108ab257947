"""Trials on a real Dask cluster whose workers are processes of this machine, with two threads each."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clusters import User, Watcher, at_home, away, is_alive, user, wait_for

from lossmith.data import DataSpec
from lossmith.trials.executors import node
from lossmith.trials.executors.cluster import ClusterError
from lossmith.trials.executors.machines import Machines, machines
from lossmith.trials.ledger import Ledger
from lossmith.trials.models import canonical_model
from lossmith.trials.runner import Runner
from lossmith.trials.trial import OptimizerSpec, Sources
from made_trials import changed, made

dask = pytest.importorskip("dask", reason="pip install lossmith[dask]")
distributed = pytest.importorskip("distributed", reason="pip install lossmith[dask]")

pytestmark = [
    pytest.mark.filterwarnings("default::ResourceWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
    pytest.mark.filterwarnings("default::DeprecationWarning"),
]
IRIS = made(DataSpec("iris"), "mlp:width=8", "cross_entropy", OptimizerSpec("adam", 0.01), 12, 16, 3, 6)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers of two threads, each with a nanny that starts it anew when it dies."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address="127.0.0.1:0") as made:
        yield made


@pytest.fixture
def here(cluster: Any) -> Iterator[Machines]:
    with machines("dask", cluster.scheduler_address) as connected:
        yield connected


@pytest.fixture
def own(tmp_path: Path) -> User:
    return user(tmp_path, "'executors.child' in ' '.join(sys.orig_argv)", "str(os.getppid())")


def test_the_results_are_those_of_the_local_pool_though_a_worker_dies(
    cluster: Any, here: Machines, own: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with two threads is killed while both train; no worker can read the user's files."""
    monkeypatch.chdir(tmp_path)
    assert (here.workers, here.at_once) == (4, 4)
    assert here.notes == ("4 trainings at once on a Dask cluster of 1 node",)
    expected = at_home(own.options(), tmp_path / "local" / "run")
    with distributed.Client(cluster, set_as_default=False) as client:
        first, second = client.run(os.getpid).values()

    def kill() -> None:
        own.catch(str(first))
        os.kill(first, signal.SIGKILL)

    watcher = Watcher(6, kill)
    assert away(own, own.options(), here, tmp_path / "dask" / "run", watcher) == expected
    assert not is_alive(first)
    assert is_alive(second)


def test_a_trial_that_kills_its_process_takes_no_other_with_it(
    cluster: Any, here: Machines, own: User, tmp_path: Path
) -> None:
    """Nor the worker, which has a process for each training."""
    with distributed.Client(cluster, set_as_default=False) as client:
        workers = set(client.run(os.getpid).values())
        sources = Sources({"iris": "iris"})
        deadly = changed(IRIS, model=canonical_model(f"{own.home}/net.py:deadly", sources))
        others = [changed(IRIS, seed=seed, engine=engine) for seed in range(3) for engine in ("single", "stacked")]
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            runner = Runner(ledger, sources, workers=4, make_executor=here.make_executor)
            found = runner.run([*others[:3], deadly, *others[3:]])
            runner.close()
        assert set(found) == set(others)
        assert runner.failures == {deadly: "its worker process died, perhaps for lack of memory"}
        assert set(client.run(os.getpid).values()) == workers


def test_an_interruption_stops_what_the_workers_are_doing(cluster: Any, own: User, tmp_path: Path) -> None:
    """Each training would take ten minutes."""
    command = [sys.executable, "-m", "lossmith", "compare", str(own.home / "mine.csv"), "--losses", "focal"]
    command += ["--model", f"{own.home}/net.py:slow", "--steps", "20", "--out", str(tmp_path / "run"), "--yes"]
    command += ["--executor", "dask", "--address", cluster.scheduler_address, "--workers", "3"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert wait_for(lambda: len(own.begun()) == 3)
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
    assert len(own.begun()) == 3  # nothing that waited was begun


def test_a_driver_that_is_killed_takes_its_trainings_with_it(cluster: Any, own: User, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lossmith", "compare", str(own.home / "mine.csv"), "--losses", "focal"]
    command += ["--model", f"{own.home}/net.py:slow", "--steps", "20", "--out", str(tmp_path / "run"), "--yes"]
    command += ["--executor", "dask", "--address", cluster.scheduler_address, "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: len(own.begun()) == 1)
    finally:
        process.kill()
        process.wait()
    assert wait_for(lambda: not any(map(is_alive, own.begun())), 30)


def test_a_worker_with_other_software_is_refused(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there = node.software()
    monkeypatch.setattr(node, "_software", lambda: replace(there, code="0" * 64))
    with (
        pytest.raises(ClusterError, match=r"the code of lossmith \S+ on the node tcp://\S+ differs"),
        machines("dask", cluster.scheduler_address),
    ):
        pass


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "127.0.0.1:1"])
def test_an_address_where_nobody_listens_is_told_without_dask_trying(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "Client", lambda *_, **__: pytest.fail("Dask tries for a minute"))
    told = rf"--address {re.escape(address)}: there is no Dask scheduler to connect to \(.*refused\)"
    with pytest.raises(ClusterError, match=told), machines("dask", address):
        pass
    with dask.config.set({"scheduler-address": address}), pytest.raises(ClusterError, match=told), machines("dask"):
        pass


def test_a_new_cluster_of_this_machine_ends_with_the_block(tmp_path: Path) -> None:
    trials = [changed(IRIS, seed=seed) for seed in range(3)]
    with machines("dask") as here, Ledger(tmp_path / "ledger.sqlite") as ledger:
        runner = Runner(ledger, Sources({"iris": "iris"}), workers=here.workers, make_executor=here.make_executor)
        assert set(runner.run(trials)) == set(trials)
        runner.close()
    with pytest.raises(ValueError, match="No client"):
        distributed.default_client()
