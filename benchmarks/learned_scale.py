"""What becomes of training where a loss learns its scale too: digits with noisy labels and a few clean examples.

40 % of the training labels are replaced by one of the other nine; the loss learns from 200 clean examples, the test
part is clean. An MLP of 128 units, SGD at .05 with momentum .9, batches of 64, 3,000 steps. Printed are the test
accuracies at the end of each seed, the mean of the best ones on the way, and the mean scale of the loss at the end
relative to cross-entropy's, as it was and as it was used.

    python benchmarks/learned_scale.py [--rates 0.001,0.01] [--seeds 3] [--arms "fixed;capped"]
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
from collections.abc import Callable
from typing import Any, Final
from unittest import mock

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import lossmith
from lossmith.learned import AdaptiveLoss, OnlineLossLearner
from lossmith.learned.scale import Gain
from lossmith.trials.models import mlp

CLEAN: Final = 200
TEST: Final = 360
NOISE: Final = 0.4
BATCH: Final = 64
POINT: Final = 100  # steps from one measurement of the accuracy to the next
DECAY: Final = 0.99

PLAIN: Final = ("cross_entropy", "label_smoothing:epsilon=0.4", "gce")
LEARNERS: Final[dict[str, dict[str, Any]]] = {
    "fixed": {},
    "fixed, norm constant": {},
    "fixed, running norms": {},
    "capped": {"scale": "learned", "max_scale": 1.0},
    "learned": {"scale": "learned"},
    "free": {"scale": "learned", "max_scale": math.inf},
}


class Parts:
    """The data of a seed: noisy training part, clean meta and test parts."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        digits = load_digits()
        x, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
        test, clean, train = torch.randperm(len(x), generator=self.generator).split([
            TEST,
            CLEAN,
            len(x) - TEST - CLEAN,
        ])
        shift = torch.randint(1, 10, (len(train),), generator=self.generator)
        noisy = torch.rand(len(train), generator=self.generator) < NOISE
        self.test, self.clean = (x[test], y[test]), (x[clean], y[clean])
        self.train = (x[train], torch.where(noisy, (y[train] + shift) % 10, y[train]))

    def batch(self, part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Drawn with replacement."""
        rows = torch.randint(len(part[0]), (BATCH,), generator=self.generator)
        return part[0][rows], part[1][rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="0.0001,0.001,0.003,0.01", help="Adam's learning rates for the loss")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", default=None, help="separated by semicolons, of " + "; ".join([*PLAIN, *LEARNERS]))
    parser.add_argument("--steps", type=int, default=3000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'arm':<30}{'meta_lr':>9}   {'at the end':<{6 * arguments.seeds}}{'best':>7}{'learned':>10}{'used':>8}")
    for arm in [*PLAIN, *LEARNERS] if arguments.arms is None else arguments.arms.split(";"):
        for rate in [0.0] if arm in PLAIN else map(float, arguments.rates.split(",")):
            runs = [_run(arm, rate, seed, arguments.steps) for seed in range(arguments.seeds)]
            ends = "".join(f"{curve[-1]:<6.3f}" for curve, _, _ in runs)
            best = statistics.mean(max(curve) for curve, _, _ in runs)
            scales = "".join(f"{statistics.mean(each):>{width}.3g}" for width, each in _scales(runs))
            print(f"{arm:<30}{rate:>9.0e}   {ends}{best:>7.3f}{scales}", flush=True)


def _scales(runs: list[tuple[list[float], float, float]]) -> list[tuple[int, list[float]]]:
    return [(10, [learned for _, learned, _ in runs]), (8, [used for _, _, used in runs])]


def _run(arm: str, rate: float, seed: int, steps: int) -> tuple[list[float], float, float]:
    """The test accuracies on the way, and at the end the loss's own scale and the one it was used at."""
    parts = Parts(seed)
    torch.manual_seed(seed)
    model = mlp((64,), 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    step = _plain(arm, model, optimizer, parts) if arm in PLAIN else _learning(arm, rate, model, optimizer, parts)
    curve, scales = [], (1.0, 1.0)
    with _design(arm):
        for i in range(1, steps + 1):
            scales = step()
            if i % POINT == 0 or i == steps:
                curve.append(_accuracy(model, parts.test))
    return curve, *scales


def _plain(text: str, model: nn.Module, optimizer: torch.optim.Optimizer, parts: Parts) -> Callable[[], Any]:
    loss = lossmith.create(text)

    def step() -> tuple[float, float]:
        x, y = parts.batch(parts.train)
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
        return math.nan, math.nan

    return step


def _learning(
    arm: str, rate: float, model: nn.Module, optimizer: torch.optim.Optimizer, parts: Parts
) -> Callable[[], Any]:
    loss = AdaptiveLoss()
    meta_optimizer = torch.optim.Adam(loss.parameters(), rate)
    learner = OnlineLossLearner(model, loss, optimizer, meta_optimizer, **LEARNERS[arm])

    def step() -> tuple[float, float]:
        record = learner.step(parts.batch(parts.train), parts.batch(parts.clean))
        return float(record.scale / record.gain), float(record.scale)

    return step


def _design(arm: str) -> contextlib.AbstractContextManager[Any]:
    """Other ways to fix the scale, which the library does not offer."""
    if arm == "fixed, norm constant":
        return mock.patch.object(Gain, "transposed", lambda self, direction, *_: self.factor * direction)
    if arm == "fixed, running norms":
        squares = torch.zeros(2)

        def of(ours: Tensor, bases: Tensor, cap: float | None) -> Gain:
            del cap
            squares.mul_(DECAY).add_((1 - DECAY) * torch.stack([ours, bases]) ** 2)
            return Gain((squares[1] / squares[0]).sqrt(), torch.tensor(data=True))

        return mock.patch.object(Gain, "of", of)
    return contextlib.nullcontext()


@torch.no_grad()
def _accuracy(model: nn.Module, part: tuple[Tensor, Tensor]) -> float:
    return float((model(part[0]).argmax(1) == part[1]).float().mean())


if __name__ == "__main__":
    main()
