"""The kernels against F.cross_entropy: time, page faults, memory, and what bounds them; and the linear head.

Forward and backward, hard targets, float32, one thread, arms shuffled every round, medians, two allocators in fresh
processes.

    python benchmarks/kernels.py [--rounds 15] [--skip-linear]
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import timing

SHAPES = ((256, 1000), (4096, 1000), (512, 32000))
BASELINE = "F.cross_entropy"
NO_COMPILER = "ngl, no compiler"
SINE = "formula(1.5*y*c + sin(3*p) - tanh(2*p*p))"
SINGULAR = (
    *("formula((1-y)*p*log(p) - y*log(p))", "formula(-(0.9*y + 0.1/n)*log(p))"),
    *("formula((1-y)*sqrt(p) - y*log(p))", "formula((1-y)*p*log(p) + sin(p) - y*log(p))"),
)
REFERENCE = f"{SINGULAR[0]}, reference path"
ARMS = (
    *("cross_entropy", "rooted", "focal", "ngl", "ngl, reference path", NO_COMPILER, "brier", SINE),
    *("m_full", "l_full", *SINGULAR, REFERENCE),
)
HEAD = (2048, 512, 64000)  # tokens, width, classes
HEADS = ("plain", "F.linear_cross_entropy, chunked", "linear_loss", "linear_loss, rooted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds per shape; each runs every arm once")
    parser.add_argument("--skip-linear", action="store_true", help="leave the linear head out, which takes minutes")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peak", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--linear", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print(_peak(arguments.peak))
    elif arguments.linear:
        print(json.dumps(timing.interleaved(_heads(), 3)))
    elif arguments.measure:
        print(json.dumps(_measure(arguments.rounds)))
    else:
        _print_costs()
        _print_times(timing.tables())
        _print_memory()
        if not arguments.skip_linear:
            _print_linear()


def _measure(rounds: int) -> dict[str, Any]:
    return {f"{n}x{c}": timing.interleaved(_arms(n, c), rounds) for n, c in SHAPES}


def _arms(n: int, c: int) -> dict[str, timing.Arm]:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, c, generator=generator).requires_grad_()
    target = torch.randint(0, c, (n,), generator=generator)

    def run(evaluate: Callable[..., Any]) -> None:
        logits.grad = None
        evaluate(logits, target).backward()

    evaluated = {BASELINE: F.cross_entropy} | {name: _loss(name) for name in ARMS}
    arms: dict[str, timing.Arm] = {name: partial(run, evaluate) for name, evaluate in evaluated.items()}
    arms[NO_COMPILER] = partial(_without_library, arms[NO_COMPILER])
    return arms


def _loss(arm: str) -> Callable[..., Any]:
    import lossmith

    name, _, how = arm.partition(", ")
    return lossmith.create(name, implementation="reference" if how == "reference path" else "auto")


def _without_library(run: timing.Arm) -> None:
    with mock.patch("lossmith.kernels.rows.library", return_value=None):
        run()


def _peak(arm: str) -> float:
    if arm in HEADS:
        return timing.peak_mebibytes(_heads()[arm])
    n, c = SHAPES[-1]
    arms = _arms(n, c)
    small = _arms(64, 4000)  # whatever is loaded at first use
    small[arm]()
    return timing.peak_mebibytes(arms[arm])


def _heads() -> dict[str, timing.Arm]:
    import torch
    import torch.nn.functional as F

    from lossmith import losses
    from lossmith.losses import linear_loss

    torch.set_num_threads(1)
    tokens, width, classes = HEAD
    hidden = torch.randn(tokens, width).requires_grad_()
    weight = torch.randn(classes, width).div_(width**0.5).requires_grad_()
    target = torch.randint(0, classes, (tokens,))
    options = torch.nn.LinearCrossEntropyOptions()
    cross_entropy, rooted = losses.CrossEntropyLoss(), losses.RootedLogisticLoss()
    values = {
        "plain": lambda: F.cross_entropy(hidden @ weight.T, target),
        "F.linear_cross_entropy, chunked": lambda: F.linear_cross_entropy(hidden, weight, target, options=options),
        "linear_loss": lambda: linear_loss(hidden, weight, target, cross_entropy),
        "linear_loss, rooted": lambda: linear_loss(hidden, weight, target, rooted),
    }

    def run(value: Callable[[], Any]) -> None:
        hidden.grad = weight.grad = None
        value().backward()

    return {name: partial(run, value) for name, value in values.items()}


def _print_costs() -> None:
    import os
    import time

    import torch

    import lossmith
    from lossmith.kernels.compiler import library
    from lossmith.losses.fused import negative_part

    with tempfile.TemporaryDirectory() as empty:
        os.environ["LOSSMITH_CACHE"] = empty
        began = time.perf_counter()
        compiled = library() is not None
        seconds = time.perf_counter() - began
        del os.environ["LOSSMITH_CACHE"]
    print(f"torch {torch.__version__}, {platform.machine()}, one thread")
    print(f"kernels compiled, once, in {seconds:.1f} s" if compiled else "no compiler: everything runs in plain torch")
    print("a target loss: reads the logits twice, writes the gradient once, 2 exponentials a class")
    print("a class-wise loss: the same, and polynomials of the degree below, twice forward and once backward;")
    print("singular at p = 0, with -log p: one polynomial more, and the logits are read once more\n")
    print(f"{'negative part at 1,000 classes':<46}{'degree':>8}{'certified error':>17}{'fitted in':>11}")
    for name in ("ngl", "brier", SINE, "m_full", "l_full", *SINGULAR):
        loss: Any = lossmith.create(name)
        began = time.perf_counter()
        part = negative_part(loss.expression, 1000, 1.0)
        seconds = time.perf_counter() - began
        assert part is not None
        polynomial = part.polynomial
        print(f"{name:<46}{polynomial.degree:>8}{polynomial.error:>17.1e}{seconds:>9.2f} s")
    print()


def _print_times(tables: dict[str, Any]) -> None:
    print("times F.cross_entropy of the same column; in brackets page faults of a call")
    width = max(map(len, ARMS)) + 2
    for column, table in tables.items():
        print(f"\n{column:<{width}}" + "".join(f"{shape:>20}" for shape in table))
        for arm in (BASELINE, *ARMS):
            cells = []
            for of_shape in table.values():
                figures, base = of_shape[arm], of_shape[BASELINE]["seconds"]
                shown = f"{1e3 * base:.2f} ms" if arm == BASELINE else f"{figures['seconds'] / base:.2f}x"
                cells.append(f"{shown} ({figures['faults']:.0f})")
            print(f"{arm:<{width}}" + "".join(f"{cell:>20}" for cell in cells))


def _print_memory() -> None:
    n, c = SHAPES[-1]
    print(f"\npeak memory of a call at {n}x{c}, gradient of the logits included ({4 * n * c / 2**20:.0f} MiB)")
    for arm in (BASELINE, "rooted", "ngl", "ngl, reference path", NO_COMPILER, "m_full"):
        print(f"{arm:<24}{float(timing.in_fresh_process({}, '--peak', arm)):>8.0f} MiB")


def _print_linear() -> None:
    tokens, width, classes = HEAD
    gradients = 4 * width * (tokens + classes) / 2**20
    print(f"\nlinear head, {tokens} tokens, {width} wide, {classes} classes; memory beyond the gradients themselves")
    times = json.loads(timing.in_fresh_process({}, "--linear"))
    peaks = {arm: float(timing.in_fresh_process({}, "--peak", arm)) - gradients for arm in HEADS}
    base, plain = times["F.linear_cross_entropy, chunked"]["seconds"], peaks["plain"]
    for arm in HEADS:
        print(f"{arm:<34}{times[arm]['seconds']:>8.2f} s{times[arm]['seconds'] / base:>7.2f}x", end="")
        print(f"{peaks[arm]:>9.0f} MiB{100 * peaks[arm] / plain:>6.0f} %")


if __name__ == "__main__":
    main()
