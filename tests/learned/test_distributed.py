"""Two processes that each see half of a batch end where one process that sees it all does."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from lossmith.learned import AdaptiveLoss, OnlineLossLearner

STEPS, SIZE = 6, 16

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no distributed training")


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SIZE, 7, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (SIZE,), generator=generator)


def train(meta_data: str, scale: str, part: slice, parallel: bool) -> tuple[list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 4)).double()
    loss = AdaptiveLoss(start="random", bias=True).double()
    if parallel:
        model = nn.parallel.DistributedDataParallel(model)
    learner = OnlineLossLearner(
        model,
        loss,
        torch.optim.SGD(model.parameters(), 0.1, 0.9, nesterov=True, weight_decay=1e-3),
        torch.optim.Adam(loss.parameters(), 1e-2),
        meta_data=meta_data,
        clip_grad_norm=0.05,
        scale=scale,
        max_scale=0.02 if scale == "learned" else None,
    )
    for i in range(STEPS):
        x, y = batch(i)
        given = batch(100 + i) if meta_data == "given" else None
        learner.step((x[part], y[part]), None if given is None else (given[0][part], given[1][part]))
    return [p.detach() for p in model.parameters()], [p.detach() for p in loss.parameters()]


def worker(rank: int, folder: str, meta_data: str, scale: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    half = SIZE // 2
    found = train(meta_data, scale, slice(rank * half, (rank + 1) * half), parallel=True)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(("meta_data", "scale"), [("given", "fixed"), ("next", "learned")])
def test_two_processes_give_what_one_gives(meta_data: str, scale: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mp.spawn(worker, (str(tmp_path), meta_data, scale), nprocs=2)
    alone = train(meta_data, scale, slice(None), parallel=False)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(tuple(found), alone, rtol=1e-9, atol=1e-12)
