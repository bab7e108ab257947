"""Choosing where trials run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch

from lossmith.trials.executors import MakeExecutor
from lossmith.trials.executors.cluster import Cluster, ClusterError, ClusterExecutor
from lossmith.trials.options import ExecutorName
from lossmith.trials.request import choose_device


@dataclass(frozen=True)
class Machines:
    """Where trials run.

    Args:
        workers: how many trials are under way at once; 0: one, in this process.
        at_once: how many of them get on as fast as one alone would.
        make_executor: makes the executor; ``None``: processes of this machine.
        notes: what a user should know, in sentences.
    """

    workers: int
    at_once: int
    make_executor: MakeExecutor | None = None
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def machines(
    executor: ExecutorName = "local", address: str | None = None, workers: int | None = None, device: str = "cpu"
) -> Iterator[Machines]:
    """Connect to what trains.

    Args:
        executor: ``"local"``: processes of this machine; ``"ray"`` or ``"dask"``: a cluster.
        address: of the cluster; ``None``: see `ray_cluster.connected` and `dask_cluster.connected`.
        workers: trials at once; ``None``: one for each processor, or for each GPU if the device is one; 0: none, but
            this process.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Yields:
        Where trials run, until the block ends.

    Raises:
        ClusterError: if the cluster cannot be used; one sentence.
        ValueError: if the arguments contradict each other, or there is no such device; one sentence.
    """
    device = choose_device(device)
    if executor == "local":
        if address is not None:
            raise ValueError("--address is that of a cluster: give --executor ray or --executor dask too")
        cores = os.cpu_count() or 1
        given = (torch.cuda.device_count() if device == "cuda" else cores) if workers is None else workers
        yield Machines(given, max(1, min(given, cores)))
        return
    if workers == 0:
        raise ValueError(f"--executor {executor} trains on the workers of a cluster: give at least 1, or leave it out")
    with _connected(executor, address) as cluster:
        slots = cluster.slots(device)
        if not slots:
            raise ClusterError(
                f"the {executor.capitalize()} cluster has no GPUs: add nodes with some, or give --device cpu"
            )
        wanted = workers or slots
        at_once = min(wanted, slots)
        trainings = f"{at_once} training{'s' * (at_once != 1)}"
        nodes = f"{cluster.nodes} node{'s' * (cluster.nodes != 1)}"
        note = f"{trainings} at once on a {executor.capitalize()} cluster of {nodes}"
        yield Machines(wanted, at_once, partial(_make, cluster, device), (note, *cluster.notes))


def _connected(executor: ExecutorName, address: str | None) -> contextlib.AbstractContextManager[Cluster]:
    if executor == "ray":
        from lossmith.trials.executors import ray_cluster

        return ray_cluster.connected(address)
    if executor == "dask":
        from lossmith.trials.executors import dask_cluster

        return dask_cluster.connected(address)
    raise ValueError(f"--executor {executor}: choose one of {', '.join(get_args(ExecutorName))}")


def _make(cluster: Cluster, device: str, workers: int) -> ClusterExecutor:
    return cluster.executor(workers, device)
