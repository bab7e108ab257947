"""Cost of every classification loss against torch.nn.functional.cross_entropy: forward and backward, one thread.

Arms are shuffled in every round and medians taken, because the machines are noisy. Two columns, because page faults of
fresh buffers alone move the ratio between 0.5 and 1.9: the default allocator, and one that keeps its heap. Kornia's
focal loss runs in the same rounds, where it is installed.

    python benchmarks/losses.py [--rounds 9] [--losses rooted,ngl]
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from functools import partial
from typing import Any

import timing

SHAPES = ((32, 10), (128, 100), (256, 1000), (4096, 1000), (512, 32000))
BASELINE = "F.cross_entropy"
LARGE = 4_000_000  # elements from which a ratio matters; below, the microseconds above the baseline

Evaluate = Callable[..., Any]
Table = dict[str, dict[str, dict[str, float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds per shape; each runs every loss once")
    parser.add_argument("--losses", default=None, help="text forms, comma-separated; default: all")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.losses, arguments.rounds)))
        return
    _print_table(timing.tables())


def measure(losses: str | None, rounds: int) -> Table:
    """Median seconds by shape and loss, in this process and with its allocator."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    evaluated = {BASELINE: F.cross_entropy, **_our_losses(losses), **_rivals()}
    table: Table = {}
    for n, c in SHAPES:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(n, c, generator=generator).requires_grad_()
        target = torch.randint(0, c, (n,), generator=generator)

        def run(evaluate: Evaluate, logits: Any = logits, target: Any = target) -> None:
            logits.grad = None
            evaluate(logits, target).backward()

        arms = {name: partial(run, evaluate) for name, evaluate in evaluated.items()}
        table[f"{n}x{c}"] = timing.interleaved(arms, rounds)
    return table


def _our_losses(texts: str | None) -> dict[str, Evaluate]:
    import lossmith
    from lossmith.losses.text import split_losses

    names = split_losses(texts) if texts else [info.name for info in lossmith.available("classification")]
    names = [name for name in names if name != "formula"]  # benchmarks/kernels.py has some
    losses: dict[str, Evaluate] = {name: lossmith.create(name) for name in names}
    if "logit_adjusted" in losses:
        losses["logit_adjusted"] = _counts_by_shape()
    return losses


def _counts_by_shape() -> Evaluate:
    import lossmith

    made = {c: lossmith.create("logit_adjusted", class_counts=range(1, c + 1)) for _, c in SHAPES}
    return lambda logits, target: made[logits.shape[1]](logits, target)


def _rivals() -> dict[str, Evaluate]:
    try:
        from kornia.losses import focal_loss
    except ImportError:
        return {}
    return {"kornia focal": lambda logits, target: focal_loss(logits, target, alpha=None, gamma=2.0, reduction="mean")}


def _print_table(tables: dict[str, Table]) -> None:
    import torch

    print(f"forward + backward, hard targets, float32, one thread; torch {torch.__version__}, {platform.machine()}")
    print("large shapes: times F.cross_entropy; small shapes: microseconds above F.cross_entropy\n")
    shapes = [f"{n}x{c}" for n, c in SHAPES]
    width = 2 + max(len(name) for name in tables["default allocator"][shapes[0]])
    for column, table in tables.items():
        print(f"{column}")
        print(" " * width + "".join(f"{shape:>12}" for shape in shapes))
        for name in table[shapes[0]]:
            cells = [_cell(table[shape], name, shape) for shape in shapes]
            print(f"{name:<{width}}" + "".join(f"{cell:>12}" for cell in cells))
        print()


def _cell(of_shape: dict[str, dict[str, float]], name: str, shape: str) -> str:
    times = {arm: figures["seconds"] for arm, figures in of_shape.items()}
    base = times[BASELINE]
    if name == BASELINE:
        return f"{base * 1e6:.0f} us"
    n, c = map(int, shape.split("x"))
    return f"{times[name] / base:.2f}x" if n * c >= LARGE else f"{(times[name] - base) * 1e6:+.0f} us"


if __name__ == "__main__":
    main()
