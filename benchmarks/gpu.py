"""The kernels on a GPU: losses against F.cross_entropy, and the linear head against Liger's.

Forward and backward, hard targets, timed by the card's own events, arms shuffled every round, medians. Calls of an arm
follow each other without waiting, so what a call costs the processor shows only where the card has to wait for it.

    python benchmarks/gpu.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import random
import statistics
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

import lossmith
from lossmith.losses import linear_loss

SHAPES: Final = ((4096, 1000), (512, 32000), (8192, 128256))
NAMES: Final = ("rooted", "ngl")
BASELINE: Final = "F.cross_entropy"
HEAD: Final = (8192, 4096, 128256)  # tokens, width, classes
HEAD_DTYPES: Final = (torch.float32, torch.bfloat16)
HEAD_BASELINE: Final = "plain"
MILLISECONDS_PER_ROUND: Final = 20.0

Arm = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds per shape; each runs every arm once")
    rounds = parser.parse_args().rounds
    if not torch.cuda.is_available():
        raise SystemExit("There is no GPU that torch can use here, so nothing was timed.")
    card = torch.cuda.get_device_properties(0)
    print(f"torch {torch.__version__}, triton {_version('triton')}, {card.name}, {card.total_memory / 2**30:.0f} GiB")
    print(f"forward + backward, medians of {rounds} rounds, as times the first line of a table")
    print("in brackets: peak memory beyond inputs and gradients")
    _print_losses(rounds, torch.device("cuda"))
    _print_heads(rounds, torch.device("cuda"))


def _print_losses(rounds: int, device: torch.device) -> None:
    for shape in SHAPES:
        generator = torch.Generator().manual_seed(0)
        logits = torch.empty(shape, device=device).normal_().requires_grad_()
        target = torch.randint(0, shape[1], shape[:1], generator=generator).to(device)
        _print_table(f"logits {shape[0]}x{shape[1]}, float32", _losses(logits, target), BASELINE, rounds)


def _losses(logits: Tensor, target: Tensor) -> dict[str, Arm]:
    torch.compiler.reset()
    evaluated: dict[str, Callable[[Tensor, Tensor], Tensor]] = {BASELINE: F.cross_entropy}
    for name in NAMES:
        reference = lossmith.create(name, implementation="reference")
        evaluated[f"{name}, fused"] = lossmith.create(name)
        evaluated[f"{name}, reference path"] = reference
        evaluated[f"{name}, torch.compile"] = torch.compile(reference, fullgraph=True, dynamic=False)

    def run(evaluate: Callable[[Tensor, Tensor], Tensor]) -> None:
        logits.grad = None
        evaluate(logits, target).backward()

    return {name: functools.partial(run, evaluate) for name, evaluate in evaluated.items()}


def _print_heads(rounds: int, device: torch.device) -> None:
    tokens, width, classes = HEAD
    liger = _version("liger_kernel")
    print(f"\nliger-kernel {liger}" if liger else "\nliger_kernel is not installed, so its fused head is left out")
    for dtype in HEAD_DTYPES:
        hidden = torch.empty(tokens, width, device=device, dtype=dtype).normal_().requires_grad_()
        weight = torch.empty(classes, width, device=device, dtype=dtype).normal_(std=width**-0.5).requires_grad_()
        target = torch.randint(0, classes, (tokens,), device=device)
        title = f"linear head, {tokens} tokens, {width} wide, {classes} classes, {str(dtype).removeprefix('torch.')}"
        _print_table(title, _heads(hidden, weight, target), HEAD_BASELINE, rounds)


def _heads(hidden: Tensor, weight: Tensor, target: Tensor) -> dict[str, Arm]:
    cross_entropy, rooted = lossmith.create("cross_entropy"), lossmith.create("rooted")
    assert isinstance(cross_entropy, lossmith.losses.TargetLoss)
    assert isinstance(rooted, lossmith.losses.TargetLoss)
    values: dict[str, Callable[[], Any]] = {
        HEAD_BASELINE: lambda: F.cross_entropy((hidden @ weight.T).float(), target),
        "linear_loss, cross-entropy": lambda: linear_loss(hidden, weight, target, cross_entropy),
        "linear_loss, rooted": lambda: linear_loss(hidden, weight, target, rooted),
    }
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):
        options = torch.nn.LinearCrossEntropyOptions()
        chunked = "F.linear_cross_entropy, chunked"
        values[chunked] = lambda: F.linear_cross_entropy(hidden, weight, target, options=options)
    if _version("liger_kernel"):
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss()
        values["Liger, cross-entropy"] = lambda: liger(weight, hidden, target)

    def run(value: Callable[[], Any]) -> None:
        hidden.grad = weight.grad = None
        value().backward()

    return {name: functools.partial(run, value) for name, value in values.items()}


def _print_table(title: str, arms: Mapping[str, Arm], baseline: str, rounds: int) -> None:
    mebibytes = {name: _peak_mebibytes(arm) for name, arm in arms.items()}
    fitting = {name: arm for name, arm in arms.items() if mebibytes[name] is not None}
    milliseconds = _interleaved(fitting, rounds)
    base = milliseconds.get(baseline)
    print(f"\n{title}")
    for name in arms:
        if name not in fitting:
            print(f"{name:<34}  out of memory")
            continue
        ratio = "" if base is None else f"{milliseconds[name] / base:.2f}x"
        print(f"{name:<34}{milliseconds[name]:>10.3f} ms{ratio:>8}  ({mebibytes[name]:.0f} MiB)")


def _interleaved(arms: Mapping[str, Arm], rounds: int) -> dict[str, float]:
    """Median milliseconds of a call of each arm, which has run before."""
    order = random.Random(0)
    repeats = {name: max(1, int(MILLISECONDS_PER_ROUND / _milliseconds(arm, 1))) for name, arm in arms.items()}
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        names = list(arms)
        order.shuffle(names)
        for name in names:
            taken[name].append(_milliseconds(arms[name], repeats[name]))
    return {name: statistics.median(of) for name, of in taken.items()}


def _milliseconds(arm: Arm, repeats: int) -> float:
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    arm()  # so that neither the allocator nor the card starts cold
    began.record()
    for _ in range(repeats):
        arm()
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended)) / repeats


def _peak_mebibytes(arm: Arm) -> float | None:
    """How much memory a call needs beyond its inputs and their gradients; None: more than the card has."""
    try:
        arm()  # which compiles, and leaves the gradients of last time to be freed
        torch.cuda.empty_cache()
        gradients = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        arm()
        return float(torch.cuda.max_memory_allocated() - gradients) / 2**20
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
