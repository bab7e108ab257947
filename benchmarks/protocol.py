"""Banks of real trainings, resampled: which rule of choice loses least, and how often verdicts are wrong.

A pipeline is a tuning run and a final run of cross-entropy at each of ten learning rates, with its own seeds and draw
of the validation part. A bank holds many pipelines for each fold. A rule of choice picks a rate from the tuning
runs of a pipeline, and the final run there counts. Printed are

* for each rule, the mean test accuracy that it loses against the best single rate, on each bank and on three grids: all
  rates, and every second one as if it were the next, which makes the edge of divergence steeper;
* the former protocol (one choice per arm and fold from two tuning seeds, two final seeds, one reference arm, plain
  smoothing, a paired difference) and the present one, on copies: the share with p < .05, the share of comparisons of
  eight copies with a finding after Holm, and the share found of copies that are half a point better;
* false alarms under varying test examples: two learning rates whose true difference is that over all pipelines and all
  test examples, compared on 500 test examples that are drawn anew each time.

    python benchmarks/protocol.py [--banks FOLDER] [--fashion FOLDER] [--ag-news FILE] [--only digits,short]

Making the banks takes some 15 minutes on one core; they are kept in the folder.
"""

from __future__ import annotations

import argparse
import concurrent.futures
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossmith.comparison import tuning
from lossmith.comparison.arms import Arm
from lossmith.comparison.estimator import Estimator
from lossmith.comparison.plan import Options, derive_seed, make_plan
from lossmith.comparison.statistics import holm, paired_difference
from lossmith.comparison.tuning import Scored, Setting, smoothed
from lossmith.trials.training import stacks, train_many
from lossmith.trials.trial import Sources, Trial

Array = NDArray[Any]

SHORT: Final[dict[str, Any]] = {"model": "mlp:depth=4", "schedule": "none"}
SETTINGS: Final[dict[str, tuple[dict[str, Any], tuple[float, ...], int]]] = {
    "digits": ({"data": "digits"}, (2.0**-12, 2.0), 24),
    "cancer": ({"data": "breast_cancer"}, (2.0**-12, 2.0), 24),
    "cliff": ({"data": "digits", "optimizer": "sgd", "steps": 120, **SHORT}, (0.1 / 64, 2.0), 24),
    "cliff2": ({"data": "digits", "steps": 60, **SHORT}, (2.0**-10, 2.0), 24),
    "fashion": ({"data": "fashion", "train_size": 2000, "steps": 300}, (2.0**-12, 2.0), 36),
    "fashioncliff": (
        {
            "data": "fashion",
            "train_size": 2000,
            "steps": 100,
            "optimizer": "sgd",
            "schedule": "none",
            "model": "mlp:depth=3",
        },
        (0.1 / 64, 2.0),
        36,
    ),
    "agnews": ({"data": "agnews", "model": "text_bag"}, (2.0**-11, 2.0), 36),
}
"""What is trained, the lowest learning rate and the factor between rates, and the pipelines in each fold."""
RATES: Final = 10
DROPS: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 1.0)
COPIES: Final = 8
ROUNDS: Final = 200
GAIN: Final = 0.005
EXAMPLES: Final = 500
ARM: Final = Arm("cross_entropy", "cross_entropy")


@dataclass(frozen=True, eq=False)
class Bank:
    """The pipelines of a setting.

    Args:
        lrs: the learning rates.
        valid: validation scores of tuning runs, (folds, pipelines, rates).
        tie: what decides between equal scores, likewise.
        test: for each fold the test outcomes of the final runs, (pipelines, rates, examples).
        guess: the score of guessing.
    """

    lrs: Array
    valid: Array
    tie: Array
    test: list[Array]
    guess: float

    def on(self, rates: slice) -> Bank:
        """The bank of fewer learning rates, taken to be a factor of 2 apart."""
        test = [of[:, rates] for of in self.test]
        lrs = 2.0 ** np.arange(len(self.lrs[rates]))
        return Bank(lrs, self.valid[:, :, rates], self.tie[:, :, rates], test, self.guess)

    def scored(self, fold: int, pipelines: Array) -> list[Scored]:
        """What tuning sees of some pipelines together."""
        values = self.valid[fold, pipelines].mean(0), self.tie[fold, pipelines].mean(0)
        return [Scored(Setting(float(lr)), *map(float, of)) for lr, *of in zip(self.lrs, *values, strict=True)]


def make_bank(name: str, paths: dict[str, str], workers: int) -> dict[str, Array]:
    """Train the pipelines of a setting."""
    options, (lowest, factor), pipelines = SETTINGS[name]
    sources = Sources()
    options = options | {"data": paths.get(options["data"], options["data"])}
    plan = make_plan(Options(losses=(), **options), sources)
    lrs = lowest * factor ** np.arange(RATES)
    base = replace(plan.trial, trainer=replace(plan.trial.ours, evaluations=1), final=True)
    places: dict[Trial, tuple[int, int, int, int]] = {}
    for place in np.ndindex(len(plan.folds), pipelines, RATES, 2):
        fold, pipeline, rate, use = place
        trainer, optimizer = base.trainer.on_fold(fold, pipeline), replace(base.optimizer, lr=float(lrs[rate]))
        seed = derive_seed(7, fold, pipeline, use)
        places[replace(base, trainer=trainer, optimizer=optimizer, seed=seed)] = (fold, pipeline, rate, use)
    shape = (len(plan.folds), pipelines, RATES, 2)
    found = {kind: np.zeros(shape) for kind in ("val", "tie", "div")}
    tests: dict[tuple[int, int, int, int], Array] = {}
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        units = stacks(list(places), 64)
        for unit, results in zip(units, pool.map(train_many, units, [sources] * len(units)), strict=True):
            for trial, result in zip(unit, results, strict=True):
                place = places[trial]
                found["val"][place] = result.scores["accuracy"]
                found["tie"][place], found["div"][place] = result.columns["nll_scaled"], result.diverged
                assert result.test is not None
                tests[place] = result.test.score.astype(np.uint8)
    for fold in plan.folds:
        of = [[[tests[fold, p, rate, use] for use in (0, 1)] for rate in range(RATES)] for p in range(pipelines)]
        found[f"test{fold}"] = np.array(of)
    return found | {"lrs": lrs, "guess": np.array(plan.task.guess)}


def load_bank(name: str, folder: Path, paths: dict[str, str], workers: int) -> Bank:
    """A bank from its file, made if there is none."""
    file = folder / f"{name}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, **make_bank(name, paths, workers))  # type: ignore[arg-type]
    with np.load(file) as found:
        valid = np.where(found["div"], found["guess"], found["val"])[..., 0]
        test = [found[f"test{fold}"][:, :, 1].astype(float) for fold in range(len(valid))]
        return Bank(found["lrs"], valid, found["tie"][..., 0], test, float(found["guess"]))


def choices(bank: Bank, drop: float) -> Array:
    """The rate that each pipeline chooses, (folds, pipelines)."""
    before, tuning.MAX_DROP = tuning.MAX_DROP, drop  # type: ignore[misc]
    try:
        return np.array([[_choice(bank, f, np.array([s])) for s in range(len(of))] for f, of in enumerate(bank.test)])
    finally:
        tuning.MAX_DROP = before  # type: ignore[misc]


def _choice(bank: Bank, fold: int, pipelines: Array) -> int:
    points = bank.scored(fold, pipelines)
    return points.index(tuning.best(points, ARM, bank.guess))


def print_losses(banks: dict[str, Bank]) -> None:
    """Points lost by each rule."""
    print("points lost against the best single rate, by how much worse a neighbour counts at most")
    print(f"{'':24}" + "".join(f"{'any' if drop == 1 else f'{100 * drop:g}':>8}" for drop in DROPS))
    grids = {"": slice(None), ", even": slice(0, None, 2), ", odd": slice(1, None, 2)}
    rows = []
    for name, bank in banks.items():
        for label, rates in grids.items():
            of = bank.on(rates)
            best = np.mean([fold.mean((0, 2)) for fold in of.test], axis=0).max()
            lost = []
            for drop in DROPS:
                chosen = choices(of, drop)
                got = [
                    np.mean([fold[s, k].mean() for s, k in enumerate(ks)])
                    for fold, ks in zip(of.test, chosen, strict=True)
                ]
                lost.append(100 * (best - float(np.mean(got))))
            rows.append(lost)
            print(f"{name + label:24}" + "".join(f"{value:8.2f}" for value in lost))
    print(f"{'mean':24}" + "".join(f"{value:8.2f}" for value in np.mean(rows, axis=0)))
    print(f"{'worst':24}" + "".join(f"{value:8.2f}" for value in np.max(rows, axis=0)))


def new_p_values(bank: Bank, gain: float, rng: np.random.Generator) -> Array:
    """p-values of copies, of which all are better by a gain, under the present protocol."""
    repeats, chosen = (2 if len(bank.test) > 1 else 3), choices(bank, tuning.MAX_DROP)
    dealt = [rng.permutation(len(of))[: (COPIES + 2) * repeats].reshape(-1, repeats) for of in bank.test]
    scores = {
        arm: [[of[s, ks[s]] for s in drawn[arm]] for of, ks, drawn in zip(bank.test, chosen, dealt, strict=True)]
        for arm in range(COPIES + 2)
    }
    estimator = Estimator({str(arm): of for arm, of in scores.items()}, [str(arm) for arm in scores])
    gaps = [estimator.difference(str(arm), "0", "1") for arm in range(2, COPIES + 2)]
    return _p_values([replace(gap, mean=gap.mean + gain) for gap in gaps], gain)


def old_p_values(bank: Bank, gain: float, rng: np.random.Generator) -> Array:
    """p-values of copies under the former protocol."""
    finals = 2 if len(bank.test) > 1 else 5
    arms = []
    for _ in range(COPIES + 1):
        arm = []
        for fold, of in enumerate(bank.test):
            drawn = rng.permutation(len(of))[: 2 + finals]
            points = bank.scored(fold, drawn[:2])
            smooth = smoothed(points, ARM, bank.guess)
            arm.append(of[drawn[2:], int(np.argmax(smooth))])
        arms.append(arm)
    gaps = [paired_difference([a - b for a, b in zip(arm, arms[0], strict=True)]) for arm in arms[1:]]
    return _p_values([replace(gap, mean=gap.mean + gain) for gap in gaps], gain)


def _p_values(gaps: list[Any], gain: float) -> Array:
    return np.array([1.0 if gap.p_value is None or (gain and gap.mean < 0) else gap.p_value for gap in gaps])


def print_rates(banks: dict[str, Bank]) -> None:
    """False alarms and power of both protocols."""
    print(f"\ncopies: % with p < .05, % of {COPIES} together with a finding, % found if {100 * GAIN:g} points better")
    rules: dict[str, tuple[Callable[..., Array], float]] = {
        "former": (old_p_values, 1.0), "present": (new_p_values, tuning.MAX_DROP)
    }  # fmt: skip
    for name, bank in banks.items():
        for label, (rule, drop) in rules.items():
            before, tuning.MAX_DROP = tuning.MAX_DROP, drop  # type: ignore[misc]
            rng = np.random.default_rng(0)
            null = np.array([rule(bank, 0.0, rng) for _ in range(ROUNDS)])
            better = np.array([rule(bank, GAIN, rng) for _ in range(ROUNDS)])
            tuning.MAX_DROP = before  # type: ignore[misc]
            family = np.mean([(holm(p) < 0.05).any() for p in null])
            rates = np.mean(null < 0.05), family, np.mean(better < 0.05)
            print(f"{name:14}{label:9}" + "".join(f"{100 * rate:8.1f}" for rate in rates))


def print_varying(banks: dict[str, Bank]) -> None:
    """False alarms where the test examples vary too."""
    print(f"\ntwo rates, {EXAMPLES} test examples drawn anew: % of true differences outside the 95 % interval")
    rng = np.random.default_rng(0)
    for name, bank in banks.items():
        if len(bank.test) > 1 or bank.test[0].shape[2] < 10 * EXAMPLES:
            continue
        (of,) = bank.test
        middle = int(np.argmax(of.mean((0, 2))))
        a, b = of[:, middle], of[:, middle - 2]
        true = a.mean() - b.mean()
        outside = []
        for _ in range(2000):
            drawn = rng.permutation(of.shape[2])[:EXAMPLES]
            runs = rng.permutation(len(of))[:9].reshape(3, 3)
            arms = zip(("a", "0", "1"), (a, b, b), runs, strict=True)
            scores = {arm: [[values[s, drawn] for s in which]] for arm, values, which in arms}
            interval = Estimator(scores, list(scores)).difference("a", "0", "1").interval()
            outside.append(interval is None or not interval[0] <= true <= interval[1])
        print(f"{name:14}{100 * np.mean(outside):8.1f}   (true difference {100 * true:+.2f} points)")


def main() -> None:
    """Parse, load, print."""
    parser = argparse.ArgumentParser(description="False alarms and choices on banks of real trainings.")
    parser.add_argument("--banks", type=Path, default=Path("runs/banks"))
    parser.add_argument("--fashion", help="folder of Fashion-MNIST's idx files")
    parser.add_argument("--ag-news", help="ag_news_train.csv.gz, its test file beside it")
    parser.add_argument("--only", help="names of banks, comma-separated")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    paths = {name: path for name, path in (("fashion", given.fashion), ("agnews", given.ag_news)) if path}
    missing = {"fashion", "agnews"} - paths.keys()
    wanted = given.only.split(",") if given.only else [n for n, s in SETTINGS.items() if s[0]["data"] not in missing]
    banks = {name: load_bank(name, given.banks, paths, given.workers) for name in wanted}
    print_losses(banks)
    print_rates(banks)
    print_varying(banks)


if __name__ == "__main__":
    main()
