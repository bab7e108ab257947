"""The search finds cross-entropy where that is known to be the best loss.

A linear softmax model is trained on samples of such a model with 10 % wrong labels, and judged by its cross-entropy on
held-out samples, without temperature scaling. With this much data the minimiser of cross-entropy itself is best.
Cross-entropy is not among the first losses, and new material holds neither c nor a logarithm: it has to be put together
from parts of generalised cross-entropy and focal loss.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lossmith.evolution.clock import Clock
from lossmith.evolution.grammar import FUNCTIONS, Grammar
from lossmith.evolution.options import SearchOptions
from lossmith.evolution.plan import make_search_plan
from lossmith.evolution.problem import LADDER, tuned_rates
from lossmith.evolution.search import Evaluator, run_generations
from lossmith.evolution.session import make_searches
from lossmith.formulas import Expression, parse
from lossmith.trials.ledger import Ledger
from lossmith.trials.runner import Runner
from lossmith.trials.trial import Sources

CLASSES = 5
EVALUATIONS = 600


def likeness(formula: Expression) -> float:
    """Correlation with cross-entropy's gradient by the target's logit at p = .001, ..., .999, others sharing evenly."""
    import torch

    from lossmith.losses import FormulaLoss

    p = torch.arange(1, 1000, dtype=torch.float64) / 1000
    others = ((1 - p) / (CLASSES - 1)).log()[:, None].expand(-1, CLASSES - 1)
    logits = torch.cat([p.log()[:, None], others], 1).requires_grad_()
    loss = FormulaLoss(formula, reduction="sum")(logits, torch.zeros(len(p), dtype=torch.int64))
    (gradient,) = torch.autograd.grad(loss, logits)
    return float(np.corrcoef(gradient[:, 0].numpy(), p.numpy() - 1)[0, 1])


def make_data(file: Path, samples: int = 40_000) -> None:
    """Samples of a linear softmax model with five inputs."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(CLASSES, CLASSES)) * 6 / np.sqrt(CLASSES)
    x = rng.normal(size=(samples, CLASSES))
    y = (x @ weights + rng.gumbel(size=x.shape)).argmax(1)
    np.savez(file, x_train=x.astype(np.float32), y_train=y)


def test_likeness_of_known_losses() -> None:
    assert likeness(parse("y*c")) == pytest.approx(1.0)
    assert likeness(parse("y*(1 - exp(-0.1*c))")) == pytest.approx(0.981, abs=5e-4)
    assert likeness(parse("y*(1 - p)**2*c")) == pytest.approx(0.965, abs=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_search_returns_cross_entropy_before_random_search(seed: int, tmp_path: Path) -> None:
    make_data(tmp_path / "linear.npz")
    options = SearchOptions(
        data=str(tmp_path / "linear.npz"),
        model="linear",
        label_noise=0.1,
        fitness="nll",
        evaluations=EVALUATIONS,
        seed=seed,
        population=50,
        seed_losses=("gce", "ngl", "brier", "mae", "focal"),
        batch_size=256,
        steps=500,
        valid_size=20_000,
    )
    sources = Sources()
    plan = make_search_plan(options, sources)
    functions = tuple(name for name in FUNCTIONS if name != "plog")
    searches = make_searches(plan, Grammar(terminals=("p", "y"), functions=functions))
    found: dict[str, int] = {}

    def look() -> None:
        for search in searches:
            best = search.archive.ordered()[0]
            if likeness(best.formula) > 0.99:
                found.setdefault(search.name, len(search.archive.on(0)))

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        runner = Runner(ledger, sources, workers=0)
        evaluator = Evaluator(plan.problems, tuned_rates(plan.problems, LADDER, runner)[0], runner)
        run_generations(plan, searches, evaluator, Clock(tmp_path / "clock.json", {"search": None}), look)
    returned = searches[0].archive.ordered()[0].formula
    print(f"seed {seed}: {returned}, {likeness(returned):.4f}, found after {found}")
    assert likeness(returned) > 0.99
    assert found["tournament"] < found.get("random", EVALUATIONS + 1)
