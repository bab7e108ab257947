"""Trials on a real Ray cluster of several nodes, all of them on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossmith
from clusters import User, Watcher, at_home, away, is_alive, user, wait_for
from lossmith.data import DataSpec
from lossmith.studies.bench import Bench
from lossmith.trials.executors import node
from lossmith.trials.executors.cluster import ClusterError
from lossmith.trials.executors.machines import Machines, machines
from lossmith.trials.ledger import Ledger
from lossmith.trials.models import canonical_model
from lossmith.trials.runner import Runner
from lossmith.trials.trial import OptimizerSpec, Sources
from made_trials import changed, made

ray = pytest.importorskip("ray", reason="pip install lossmith[ray]")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning", "default::FutureWarning", "default::DeprecationWarning")
MEMORY = 80 * 2**20
ON_RAY = "'ray' in sys.modules"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that computes, and another node."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        head = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
        made = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        made.add_node(num_cpus=1, object_store_memory=MEMORY)
        made.wait_for_nodes()
        yield made
        made.shutdown()


@pytest.fixture
def here(cluster: Any) -> Iterator[Machines]:
    with machines("ray", cluster.address) as connected:
        yield connected


@pytest.fixture
def own(tmp_path: Path) -> User:
    return user(tmp_path, ON_RAY)


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
            before = len(own.begun())
            assert wait_for(lambda: len(own.begun()) > before + 2)  # all are busy
            cluster.remove_node(third, allow_graceful=False)

        watcher = Watcher(6, kill)
        assert away(own, here, tmp_path / "ray" / "run", watcher) == expected
    assert len(ray_nodes_alive(cluster)) == 2
    assert len(own.begun()) > watcher.trainings  # something was begun again


def ray_nodes_alive(cluster: Any) -> list[Any]:
    return [each for each in cluster.list_all_nodes() if each.is_alive()] if False else list(cluster.list_all_nodes)
