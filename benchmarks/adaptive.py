"""What learning the loss costs: a step of `OnlineLossLearner` against a plain step with F.cross_entropy.

A step is the model's forward and backward pass, the optimiser's step and, where one is due, the update of the loss; of
an arm that updates every fourth step the mean of four. One thread, float32, arms shuffled every round, ratios of
medians, two allocators in fresh processes. A difference's error is that of the gradient of the loss's parameters
against the exact one, over a training run on scikit-learn's digits, at every step.

    python benchmarks/adaptive.py [--rounds 9] [--nets MLP-SGD] [--skip-error]
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

import timing
from lossmith.learned import AdaptiveLoss, OnlineLossLearner, lookback
from lossmith.trials.models import mlp, resnet18

PLAIN: Final = "plain"
RELEASED: Final = "released style"
# Arm: arguments of the learner, and of the loss.
LEARNERS: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "unroll": ({"gradient": "unroll"}, {}),
    "unroll, next": ({"gradient": "unroll", "meta_data": "next"}, {}),
    "jvp": ({}, {}),
    "jvp, next": ({"meta_data": "next"}, {}),
    "difference": ({"gradient": "difference"}, {}),
    "difference, next": ({"gradient": "difference", "meta_data": "next"}, {}),
    "jvp, quarter": ({"meta_share": 0.25}, {}),
    "difference, quarter": ({"gradient": "difference", "meta_share": 0.25}, {}),
    "unroll, next, every 4": ({"gradient": "unroll", "meta_data": "next", "every": 4}, {}),
    "jvp, next, every 4": ({"meta_data": "next", "every": 4}, {}),
    "difference, next, every 4": ({"gradient": "difference", "meta_data": "next", "every": 4}, {}),
    "scale only, jvp, next": ({"meta_data": "next"}, {"control": "scale"}),
}
# Forward passes of an arm's step, of which a plain one takes 3.
PASSES: Final = {
    PLAIN: 3.0,
    RELEASED: 12.0,
    "unroll": 8.0,
    "unroll, next": 7.0,
    "jvp": 9.0,
    "jvp, next": 8.0,
    "difference": 8.0,
} | {
    "difference, next": 6.0,
    "jvp, quarter": 4.5,
    "difference, quarter": 4.25,
    "unroll, next, every 4": 4.0,
    "jvp, next, every 4": 4.25,
    "difference, next, every 4": 3.75,
    "scale only, jvp, next": 8.0,
}
PEAKS: Final = (PLAIN, RELEASED, "unroll", "jvp", "jvp, next", "difference, next")
AUDITS: Final = 50  # updates from one measurement of the difference's error to the next, the default
STEP_SIZES: Final = (1e-6, 1e-5, lookback.STEP_SIZE, 1e-4, 1e-3, 1e-2)
ERROR_STEPS: Final = 200


@dataclass(frozen=True)
class Net:
    """A model, its optimiser and the size of its batches."""

    model: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    optimizer: Callable[[Any], torch.optim.Optimizer]


SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
NETS: Final = {
    "ResNet-SGD": Net(partial(resnet18, (3, 32, 32), 10, width=16), (3, 32, 32), 32, SGD),
    "MLP-SGD": Net(partial(mlp, (784,), 10, width=1000, depth=2), (784,), 128, SGD),
    "MLP-Adam": Net(partial(mlp, (784,), 10, width=1000, depth=2), (784,), 128, torch.optim.Adam),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds per net; each runs every arm once")
    parser.add_argument("--nets", default=",".join(NETS), help="of " + ", ".join(NETS))
    parser.add_argument("--skip-error", action="store_true", help="leave out the error of the difference")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peak", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = arguments.nets.split(",")
    torch.set_num_threads(1)
    if arguments.peak:
        print(_peak(names[0], arguments.peak))
    elif arguments.measure:
        print(json.dumps({name: _measure(NETS[name], arguments.rounds) for name in names}))
    else:
        # Memory first: a child begins with the peak of its parent.
        peaks = {name: {arm: _of_fresh_process(name, arm) for arm in PEAKS} for name in names}
        _print_costs(peaks, timing.tables())
        if not arguments.skip_error:
            _print_errors()


def _measure(net: Net, rounds: int) -> dict[str, dict[str, float]]:
    figures = timing.interleaved({arm: _cycle(net, arm) for arm in PASSES}, rounds)
    for arm, of_arm in figures.items():
        of_arm["seconds"] /= _cycle_length(arm)
    return figures


def _peak(name: str, arm: str) -> float:
    """Peak memory of some steps, model and optimiser included, in MiB."""
    return timing.peak_mebibytes(lambda: [cycle() for cycle in [_cycle(NETS[name], arm)] * 3])


def _flops(net: Net, arm: str) -> float:
    cycle = _cycle(net, arm)
    cycle()
    # The counter's hooks that tell the modules apart do not bear gradients at leaves.
    hooks = mock.patch("torch.utils.module_tracker.register_multi_grad_hook")
    with hooks, FlopCounterMode(display=False) as counter:
        cycle()
    flops: float = counter.get_total_flops() / _cycle_length(arm)
    return flops


def _cycle_length(arm: str) -> int:
    return int(LEARNERS[arm][0].get("every", 1)) if arm in LEARNERS else 1


def _cycle(net: Net, arm: str) -> timing.Arm:
    """A call from one update of the loss to the next, warmed up past the first step and the first audit."""
    step = _step(net, arm)
    length = _cycle_length(arm)

    def run() -> None:
        for _ in range(length):
            step()

    for _ in range(3):
        run()
    return run


def _step(net: Net, arm: str) -> Callable[[], object]:
    torch.manual_seed(0)
    model = net.model()
    optimizer = net.optimizer(model.parameters())
    batches = _endless(net)
    if arm == PLAIN:
        return lambda: _plain_step(model, optimizer, next(batches))
    arguments, of_loss = LEARNERS.get(arm, ({}, {}))
    loss = AdaptiveLoss(**of_loss)
    with torch.no_grad():
        for parameter in loss.parameters():  # as if it had learned: no product is with 0
            parameter.add_(torch.randn_like(parameter), alpha=1e-3)
    meta_optimizer = torch.optim.Adam(loss.parameters(), 1e-4)
    if arm == RELEASED:
        return lambda: _released_step(model, loss, optimizer, meta_optimizer, next(batches), next(batches))
    learner = OnlineLossLearner(model, loss, optimizer, meta_optimizer, **arguments, audit=10**9)
    learner.updates = 1  # so that there is no audit
    count = round(net.batch * float(arguments.get("meta_share", 1)))

    def step() -> None:
        batch = next(batches)
        if learner.wants_meta_batch:
            x, y = next(batches)
            learner.step(batch, (x[:count], y[:count]))
        else:
            learner.step(batch)

    return step


def _endless(net: Net) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    made = [
        (torch.randn(net.batch, *net.shape, generator=generator), torch.randint(10, (net.batch,), generator=generator))
        for _ in range(4)
    ]
    return itertools.cycle(made)


def _plain_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> None:
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()
    optimizer.zero_grad()


def _released_step(
    model: nn.Module,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    meta_optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    meta_batch: tuple[Tensor, Tensor],
) -> None:
    """As the authors' code does it: a differentiable step, whose optimiser begins anew every time, and one backward."""
    theta = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    value = loss(functional_call(model, theta, (batch[0],)), batch[1])
    gradients = torch.autograd.grad(value, list(theta.values()), create_graph=True)
    (group,) = optimizer.param_groups
    new = {}
    for (name, weight), gradient in zip(theta.items(), gradients, strict=True):
        g = gradient.add(weight, alpha=group["weight_decay"]) if group["weight_decay"] else gradient
        if isinstance(optimizer, torch.optim.SGD):
            g = g.add(g, alpha=group["momentum"]) if group["nesterov"] else g
            new[name] = weight.add(g, alpha=-group["lr"])
        else:  # Adam's first step, with higher's eps under the root so that its derivative exists
            beta1, beta2 = group["betas"]
            mean, square = (1 - beta1) * g, (1 - beta2) * g * g
            root = (square / (1 - beta2) + group["eps"]).sqrt() + group["eps"]
            new[name] = weight - group["lr"] * (mean / (1 - beta1)) / root
    F.cross_entropy(functional_call(model, new, (meta_batch[0],)), meta_batch[1]).backward()
    meta_optimizer.step()
    meta_optimizer.zero_grad()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(new[name])


def _print_costs(peaks: dict[str, dict[str, float]], tables: dict[str, Any]) -> None:
    print(f"times a plain step with cross-entropy; torch {torch.__version__}, {platform.machine()}, one thread")
    width = 2 + max(map(len, PASSES))
    for name, of_name in peaks.items():
        columns = "".join(f"{title:>19}" for title in tables)
        print(f"\n{name:<{width}}{'arithmetic':>10}{'FLOPs':>8}{columns}{'peak memory':>14}")
        flops, peak = _flops(NETS[name], PLAIN), of_name[PLAIN]
        for arm, passes in PASSES.items():
            cells = [f"{passes / 3:>9.2f}x", f"{_flops(NETS[name], arm) / flops:>7.2f}x"]
            for table in tables.values():
                seconds = table[name][arm]["seconds"]
                base = table[name][PLAIN]["seconds"]
                cells.append(f"{1e3 * seconds:>16.1f} ms" if arm == PLAIN else f"{seconds / base:>18.2f}x")
            memory = f"{of_name[arm] / peak:>13.2f}x" if arm in of_name else f"{'':>14}"
            memory = f"{peak:>10.0f} MiB" if arm == PLAIN else memory
            print(f"{arm:<{width}}" + "".join(cells) + memory)
    print(f"\na difference is audited every {AUDITS} updates, which adds 1/{AUDITS} of what jvp adds to it")


def _of_fresh_process(name: str, arm: str) -> float:
    return float(timing.in_fresh_process({}, "--nets", name, "--peak", arm))


def _print_errors() -> None:
    print(f"\nrelative error of the gradient of the loss's parameters by difference, {ERROR_STEPS} steps on digits")
    print(f"{'net':<14}{'step size':>10}{'median':>10}{'95 %':>10}{'largest':>10}{'above 0.05':>12}")
    for (title, make), size in itertools.product(_DIGITS.items(), STEP_SIZES):
        errors = _errors(make, size)
        cells = (statistics.median(errors), statistics.quantiles(errors, n=20)[-1], max(errors))
        above = sum(error > 0.05 for error in errors) / len(errors)
        print(f"{title:<14}{size:>10.0e}" + "".join(f"{cell:>10.1e}" for cell in cells) + f"{100 * above:>10.1f} %")


def _small_resnet() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = resnet18((1, 8, 8), 10, width=8)
    return model, torch.optim.SGD(model.parameters(), 0.05, 0.9, nesterov=True, weight_decay=5e-4)


def _small_mlp(optimizer: Callable[[Any], torch.optim.Optimizer]) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = mlp((64,), 10, width=128, depth=2)
    return model, optimizer(model.parameters())


_DIGITS: Final[dict[str, Callable[[], tuple[nn.Module, torch.optim.Optimizer]]]] = {
    "ResNet-SGD": _small_resnet,
    "MLP-SGD": partial(_small_mlp, partial(torch.optim.SGD, lr=0.05)),
    "MLP-Adam": partial(_small_mlp, partial(torch.optim.Adam, lr=1e-3)),
}


def _errors(make: Callable[[], tuple[nn.Module, torch.optim.Optimizer]], step_size: float) -> list[float]:
    """The errors at every update of a run that updates by difference."""
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target)
    model, optimizer = make()
    loss = AdaptiveLoss()
    meta_optimizer = torch.optim.Adam(loss.parameters(), 1e-3)
    learner = OnlineLossLearner(
        model, loss, optimizer, meta_optimizer, meta_data="next", gradient="difference", audit=1, tolerance=1.0
    )
    errors = []
    with mock.patch.object(lookback, "STEP_SIZE", step_size):
        for _ in range(ERROR_STEPS):
            rows = torch.randint(len(x), (64,))
            error = learner.step((x[rows], y[rows])).error
            learner.gradient = "difference"  # whatever the audit decided
            if error is not None:
                errors.append(error)
    return errors


if __name__ == "__main__":
    main()
