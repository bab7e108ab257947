"""The plan of a search: what each problem sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lossmith.data.spec import Stage
from lossmith.evolution.options import SearchOptions
from lossmith.evolution.plan import make_search_plan
from lossmith.trials.training import load_splits
from lossmith.trials.trial import Sources


def test_a_table_that_is_searched_twice_keeps_its_label_and_its_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["x,alpha,label"] + [f"{rng.normal():.3f},{rng.integers(2)},{rng.integers(3)}" for _ in range(200)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(lines) + "\n")
    asked = SearchOptions(data=str(table), label="alpha", also=(f"{table}:mlp",), model="linear", steps=30)
    sources = Sources()
    plan = make_search_plan(asked, sources)
    specs = [problem.trial.ours.data for problem in plan.problems]
    assert [spec.label for spec in specs] == ["alpha", "alpha"]
    seen: dict[Stage, list[int]] = {"search": [], "choice": []}
    for spec in specs:
        for stage in seen:
            parts = load_splits(type(spec)(**vars(spec) | {"stage": stage, "valid_size": None}), str(table))
            seen[stage] += [*parts.train.index.tolist(), *parts.valid.index.tolist()]
    final = set(load_splits(specs[0], str(table)).test.index.tolist())
    assert not final & {*seen["search"], *seen["choice"]}
