"""The training functions of docs/training_code.md, each run by the library it is written for."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import lossmith
from lossmith.trials.rehearsal import rehearse
from lossmith.trials.training import train
from lossmith.trials.trial import OptimizerSpec, Sources, Trial

pytestmark = pytest.mark.filterwarnings("default")  # other libraries' own
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "training_code.md"
BLOCKS = dict(re.findall(r'```python title="(\w+\.py)"\n(.*?)```', PAGE.read_text(encoding="utf-8"), re.DOTALL))
SCRIPTS = {name: text for name, text in BLOCKS.items() if "def train(run)" in text}
EXAMPLES = {f"examples/{name}": ROOT / "examples" / name for name in ("huggingface.py", "segmentation.py")}
DYNAMICAL = "dynamical(m):amplitude=9,period=10"
STEPS = 40


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lies in a folder of its own beside a torch for the CPU, for which the package index has no torchvision.

    The operators of the one for CUDA cannot be loaded, and the import of torchvision ends where it describes two of
    them, which are declared here. With this torchvision in the environment, transformers could not be imported either.
    """
    if importlib.util.find_spec("timm") is None:
        folder = Path(sys.prefix) / "timm"
        if not folder.is_dir():
            pytest.skip("needs timm, see `make test-integrations`")
        monkeypatch.syspath_prepend(folder)
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        monkeypatch.setattr(sys.modules[__name__], "_library", library, raising=False)  # operators live as long as it


@pytest.fixture
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """One of the scripts."""
    name = request.param
    text = SCRIPTS[name] if name in SCRIPTS else EXAMPLES[name].read_text(encoding="utf-8")
    if "import timm" in text:
        request.getfixturevalue("timm")
    for library in ("transformers", "lightning", "skorch"):
        if f"import {library}" in text or f"from {library}" in text:
            pytest.importorskip(library, reason=f"needs {library}")
    place = tmp_path / Path(name).name
    place.write_text(text, encoding="utf-8")
    return place


@pytest.mark.parametrize("file", [*SCRIPTS, *EXAMPLES], indirect=True)
def test_a_training_function_trains(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Better than guessing, the same again, sealed unless asked, with a curve, and with the schedule moved on."""
    monkeypatch.chdir(file.parent)
    sources = Sources()
    found = rehearse(f"{file}:train", sources, folds=2, seed=3)
    assert found.steps_schedule
    assert not found.notes  # it gave the same twice
    task = found.trainer.task
    trial = Trial(found.trainer, "cross_entropy", OptimizerSpec("adam", 0.01), STEPS, 7, final=True)
    result = train(trial, sources)
    assert result.scores[task.metric] > task.guess
    assert result.valid is not None
    assert result.test is not None
    assert result.curve.steps[-1] <= STEPS
    assert len(result.curve.steps) >= 2
    assert train(trial, sources).scores == result.scores
    assert train(replace(trial, final=False), sources).test is None
    other = train(replace(trial, loss=DYNAMICAL), sources)
    assert np.isfinite(other.scores[task.metric])
    assert other.curve.score != result.curve.score


def step_of_the_page() -> Any:
    names: dict[str, Any] = {}
    exec(BLOCKS["distributed_step.py"], names)
    return names["step"]


def three_steps(batches_of: Any, step: Any, parallel: bool) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model: nn.Module = nn.Linear(4, 3).double()
    loss = lossmith.create("dynamical(m):amplitude=9,period=2")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    net = nn.parallel.DistributedDataParallel(model) if parallel else model
    for number in range(3):
        step(net, loss, optimizer, batches_of(number))
    return [p.detach() for p in model.parameters()]


def data(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    labels = torch.randint(3, (12,), generator=generator)
    labels[:5] = -100  # the parts hold 0, 1, 3 and 3 labels that count
    return torch.randn(12, 4, generator=generator, dtype=torch.float64), labels


def quarters(number: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    x, y = data(number)
    return [(x[i : i + 3], y[i : i + 3]) for i in range(0, 12, 3)]


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = three_steps(lambda n: quarters(n)[2 * rank : 2 * rank + 2], step_of_the_page(), parallel=True)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def large(model: Any, loss: Any, optimizer: Any, batch: Any) -> None:
    optimizer.zero_grad()
    loss(model(batch[0]), batch[1]).backward()
    optimizer.step()
    loss.step()


@pytest.mark.skipif(not dist.is_available(), reason="this torch has no distributed training")
def test_the_step_of_the_page_in_two_processes_is_that_of_one_large_batch(tmp_path: Path) -> None:
    mp.spawn(worker, (str(tmp_path),), nprocs=2)
    alone = three_steps(data, large, parallel=False)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, alone, rtol=1e-11, atol=1e-13)
