"""The trainings of a search are plain trainings: the same as a loop in torch gives."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn

from lossmith.data import DataSpec, Splits
from lossmith.trials.batches import batches
from lossmith.trials.ledger import Ledger
from lossmith.trials.models import build_model
from lossmith.trials.result import TrialResult, summary_to_json
from lossmith.trials.runner import Runner, attempt
from lossmith.trials.training import splits_of, train_many
from lossmith.trials.trial import OptimizerSpec, SearchTrainer, Sources, Trial

SOURCES = Sources({"iris": "iris", "digits": "digits"})
STEPS = 60


def candidate(formula: str = "y*c", *, seed: int = 3, lr: float = 0.02, steps: int = STEPS, **trainer: object) -> Trial:
    usual = SearchTrainer(DataSpec("iris", stage="search"), "mlp:width=8", 16, engine="stacked", scaled=False)
    return Trial(replace(usual, **trainer), f"formula({formula})", OptimizerSpec("adam", lr), steps, seed)


def trained_by_hand(trial: Trial, splits: Splits) -> torch.Tensor:
    """The logits on the validation part after Adam with a cosine schedule, by torch alone."""
    model = build_model(trial.ours.model, splits, len(splits.class_names), SOURCES, trial.seed)
    optimizer = torch.optim.Adam(model.parameters(), trial.optimizer.lr)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, trial.steps)
    order = batches(len(splits.train), trial.ours.batch_size, trial.seed)
    for _ in range(trial.steps):
        rows = next(order)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(splits.train.inputs[rows]), splits.train.targets[rows]).backward()
        optimizer.step()
        cosine.step()
    with torch.no_grad():
        logits: torch.Tensor = model(splits.valid.inputs).double()
    return logits


@pytest.mark.parametrize(("tabulated", "tolerance"), [(True, 1e-3), (False, 2e-5)])
def test_a_candidate_scores_what_a_loop_in_torch_scores(tabulated, tolerance):
    for seed in (0, 1):
        trial = candidate("-y*log(p)", seed=seed, tabulated=tabulated)
        splits = splits_of(trial, SOURCES)
        logits, targets = trained_by_hand(trial, splits), splits.valid.targets
        nats = nn.functional.cross_entropy(logits, targets, reduction="none").numpy()
        (result,) = train_many([trial], SOURCES)
        assert result.scores["nll"] == pytest.approx(nats.mean(), rel=tolerance)
        assert result.valid is not None
        np.testing.assert_array_equal(result.valid.index, splits.valid.index.numpy())
        np.testing.assert_allclose(-result.valid.score, nats, rtol=2e-3 + tolerance, atol=tolerance)


@pytest.mark.parametrize("balanced", [True, False])
def test_scaled_scores_are_those_of_the_best_temperature_under_the_weights_asked_for(balanced):
    data = DataSpec("iris", stage="search", imbalance=4)
    trial = candidate(data=data, scaled=True, balanced=balanced, tabulated=False)
    splits = splits_of(trial, SOURCES)
    logits, targets = trained_by_hand(trial, splits), splits.valid.targets
    weights = torch.tensor([1 / int((targets == k).sum()) if balanced else 1.0 for k in targets])
    weights *= len(targets) / weights.sum()

    def nats(log_t: float) -> float:
        return float(
            (weights * nn.functional.cross_entropy(logits / math.exp(log_t), targets, reduction="none")).mean()
        )

    best = minimize_scalar(nats, bracket=(-1.0, 1.0))
    (result,) = train_many([trial], SOURCES)
    assert (len(set(weights.tolist())) > 1) == balanced
    assert result.scores["nll"] == pytest.approx(best.fun, rel=1e-4)
    assert result.fitted["temperature"] == pytest.approx(math.exp(best.x), rel=1e-2)


def told(result: TrialResult) -> tuple[object, ...]:
    valid = result.valid
    assert valid is not None
    return result.scores["nll"], result.fitted["temperature"], valid.index.tobytes(), valid.score.tobytes()


@pytest.mark.parametrize("tabulated", [True, False])
def test_a_candidate_that_diverges_scores_infinity_and_leaves_its_neighbours_alone(tabulated):
    """Its weights overflow within a few steps of SGD."""
    spec = OptimizerSpec("sgd", 0.1)
    trials = [replace(candidate("y*c", seed=k, tabulated=tabulated), optimizer=spec) for k in range(4)]
    wild = replace(trials[1], optimizer=replace(spec, lr=1e30))
    wanted = train_many(trials, SOURCES)
    found = attempt([trials[0], wild, *trials[2:]], SOURCES, "cpu", None)
    assert all(isinstance(result, TrialResult) for result in found)
    assert found[1].scores["nll"] == math.inf
    assert found[1].diverged
    for place in (0, 2, 3):
        assert told(found[place]) == told(wanted[place])


def test_a_huge_but_finite_score_is_kept_without_a_warning():
    """Units are kept as float16, whose largest number is 65,504; warnings are errors here."""
    trial = replace(candidate(steps=5), optimizer=OptimizerSpec("sgd", 1e4))
    (result,) = train_many([trial], SOURCES)
    assert 65504 < result.scores["nll"] < math.inf
    assert np.isfinite(result.valid.score).all()


def test_time_that_is_up_is_said_and_ends_only_what_takes_it():
    with pytest.raises(TimeoutError, match="longer than 0 seconds"):
        train_many([candidate(steps=50)], SOURCES, time_limit=0.0)
    assert attempt([candidate(seed=k) for k in range(2)], SOURCES, "cpu", 0.0) == ["it took longer than 0 seconds"] * 2


def test_what_a_ledger_keeps_of_a_candidate_comes_back_whole(tmp_path: Path):
    trials = [candidate(text) for text in ("y*c", "square(p - y)", "y*1e30*c")]
    trials[2] = replace(trials[2], optimizer=OptimizerSpec("sgd", 1e30))
    trained = dict(zip(trials, [*train_many(trials[:2], SOURCES), *train_many(trials[2:], SOURCES)], strict=True))
    assert trained[trials[2]].scores["nll"] == math.inf
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put(trained.items())
        for trial, wanted in trained.items():
            found = ledger.get(trial)
            assert summary_to_json(found) == summary_to_json(wanted)
            assert told(found) == told(wanted)
        assert candidate(tabulated=False) not in ledger
        assert candidate(scaled=True) not in ledger
        assert candidate(data=DataSpec("iris", stage="choice")) not in ledger


def test_formulas_with_t_train_by_table_as_they_do_exactly():
    """The table is made anew some twenty times; here at every step. Towards the end the loss pulls away."""
    text = "(1 - 3*t)*y*c"
    exact, table = (train_many([candidate(text, seed=1, steps=39, tabulated=of)], SOURCES)[0] for of in (False, True))
    first = train_many([candidate("y*c", seed=1, steps=39)], SOURCES)[0]
    assert table.scores["nll"] == pytest.approx(exact.scores["nll"], rel=1e-3)
    assert table.scores["nll"] > 1.5 * first.scores["nll"]


def test_by_table_a_wave_between_its_points_is_not_seen():
    text = "y*c + 0.2*y*sin(500*p)"
    exact, table = (train_many([candidate(text, seed=1, steps=39, tabulated=of)], SOURCES)[0] for of in (False, True))
    assert table.scores["nll"] != pytest.approx(exact.scores["nll"], rel=1e-2)


def test_a_model_that_raises_for_some_seeds_fails_alone(tmp_path: Path):
    """Its failure is a result: the other candidates of the runner have theirs."""
    file = tmp_path / "model.py"
    file.write_text(
        "import torch\n\n\ndef make(input_shape, num_classes):\n"
        "    if torch.initial_seed() % 2:\n        raise RuntimeError('an odd seed')\n"
        "    return torch.nn.Linear(input_shape[0], num_classes)\n"
    )
    from lossmith.trials.models import canonical_model

    sources = Sources({"iris": "iris"})
    model = canonical_model(f"{file}:make", sources)
    trials = [candidate(seed=k, model=model, engine="single", steps=5) for k in range(4)]
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        runner = Runner(ledger, sources, workers=0)
        results = runner.run(trials)
        assert set(results) == {trials[0], trials[2]}
        assert "an odd seed" in runner.failures[trials[1]]
