"""How good the intervals of differences in each metric are, by brute force: ``python benchmarks/metrics.py``.

Two models score units of two classes. First test sets alone are drawn, with few units of the rarer class; then whole
comparisons of three folds, each with three trainings of each model, whose signal varies.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossmith.comparison.statistics import paired_difference
from lossmith.tasks import Classification, Judged
from lossmith.tasks.influence import auc, average_precision

METRICS: Final = ("balanced accuracy", "macro F1", "AUC", "average precision")
UNITS: Final = 600
FOLDS, SEEDS = 3, 3
REPEATS: Final = 700


def main() -> None:
    """Print the share of 95 % intervals that hold the true difference."""
    rng = np.random.default_rng(0)
    print(f"test sets of {UNITS} units: share of intervals that hold the true difference")
    print("of the rarer class", *METRICS, sep="  ")
    for rare in (5, 10, 20, 40):
        task = Classification(("a", "b"), (1 - rare / UNITS, rare / UNITS))
        of_sets = [_two_models(rng, task, UNITS) for _ in range(2 * REPEATS)]
        shares = [f"{_covered_alone(task, name, of_sets):.3f}" for name in METRICS]
        print(f"{rare:18}", *(f"{share:>{len(name)}}" for share, name in zip(shares, METRICS, strict=True)), sep="  ")
    task = Classification(("a", "b"), (0.88, 0.12))
    for gain in (0.0, 0.5):
        print(f"\n{FOLDS} folds of 150 units, {SEEDS} seeds, models that differ by {gain}: covered, estimated variance")
        worlds = [_comparison(rng, task, gain) for _ in range(REPEATS)]
        for name in METRICS:
            covered, ratio = _covered(task, name, worlds, gain)
            print(f"{name:18} {covered:.3f}  {ratio:.2f} of the true one")


def _judged(label: NDArray[Any], z: NDArray[Any]) -> Judged:
    odds, predicted = z - z[:, ::-1], z.argmax(1)
    columns = {"label": label, "predicted": predicted, "auc": auc(label, odds)}
    columns["average_precision"] = average_precision(label, odds, [1])
    return Judged(np.arange(len(label)), (predicted == label).astype(float), columns)


def _labels(rng: np.random.Generator, task: Classification, units: int) -> NDArray[Any]:
    label = (rng.random(units) < task.shares[1]).astype(int)
    label[:2] |= label.sum() < 2
    return label


def _logits(rng: np.random.Generator, label: NDArray[Any], shared: NDArray[Any], signal: float) -> NDArray[Any]:
    z = shared + 0.5 * rng.normal(size=shared.shape)
    z[np.arange(len(label)), label] += signal
    return np.asarray(z)


def _two_models(rng: np.random.Generator, task: Classification, units: int) -> list[Judged]:
    label, shared = _labels(rng, task, units), rng.normal(size=(units, 2))
    return [_judged(label, _logits(rng, label, shared, signal)) for signal in (1.3, 0.9)]


def _comparison(rng: np.random.Generator, task: Classification, gain: float) -> list[list[list[Judged]]]:
    """What was judged, by model, fold and seed."""
    models: list[list[list[Judged]]] = [[], []]
    for _ in range(FOLDS):
        label = _labels(rng, task, 150)
        shared = rng.normal(loc=(0.6, 0.0), size=(150, 2))
        for model, of_folds in enumerate(models):
            signals = 1.2 + gain * model + 0.25 * rng.normal(size=SEEDS)
            of_folds.append([_judged(label, _logits(rng, label, shared, signal)) for signal in signals])
    return models


def _covered_alone(task: Classification, name: str, of_sets: list[list[Judged]]) -> float:
    gaps = [np.subtract(*(task.unit_scores([[judged]], name)[0][0] for judged in models)) for models in of_sets]
    means = np.array([gap.mean() for gap in gaps])
    errors = np.array([gap.std(ddof=1) / np.sqrt(gap.size) for gap in gaps])
    return float(np.mean(np.abs(means - means.mean()) < 1.96 * errors))


def _covered(
    task: Classification, name: str, worlds: list[list[list[list[Judged]]]], gain: float
) -> tuple[float, float]:
    found = []
    for models in worlds:
        a, b = (task.unit_scores(folds, name) for folds in models)
        found.append(paired_difference([y - x for x, y in zip(a, b, strict=True)]))
    means = np.array([each.mean for each in found])
    truth = means.mean() if gain else 0.0
    intervals = [each.interval() for each in found]
    covered = np.mean([interval is not None and interval[0] < truth < interval[1] for interval in intervals])
    return float(covered), float(np.mean([each.variance for each in found]) / means.var(ddof=1))


if __name__ == "__main__":
    main()
