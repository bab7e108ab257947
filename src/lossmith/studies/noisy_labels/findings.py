"""What a study found: files, and a verdict in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lossmith.comparison.files import csv_text, write_file
from lossmith.comparison.statistics import FloatArray, PairedDifference, holm, paired_difference
from lossmith.studies.noisy_labels.arms import ADAPTIVE
from lossmith.studies.noisy_labels.protocol import Findings, Run
from lossmith.trials.result import Series

ALPHA: Final = 0.05
OVERALL: Final = "mean of the conditions"
_REPLAYS: Final = ("rate replay", "loss replay")


@dataclass(frozen=True)
class Comparison:
    """The accuracy of the loss that learns minus that of another arm; ``holm_p`` is 1 without an interval."""

    arm: str
    gap: PairedDifference
    holm_p: float

    @property
    def word(self) -> str:
        """``"better"``, ``"worse"`` or ``"undecided"``."""
        if self.holm_p >= ALPHA:
            return "undecided"
        return "better" if self.gap.mean > 0 else "worse"

    def __str__(self) -> str:
        """In points with the 95 % interval."""
        interval = self.gap.interval()
        bounds = "no interval" if interval is None else f"{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}"
        return f"{100 * self.gap.mean:+.2f} [{bounds}]"


def compare(scores: Mapping[str, FloatArray]) -> list[Comparison]:
    """The loss that learns against every other arm, from paired scores (replicates, examples)."""
    others = [arm for arm in scores if arm != ADAPTIVE]
    gaps = [paired_difference([scores[ADAPTIVE] - scores[arm]]) for arm in others]
    adjusted = holm([1.0 if gap.p_value is None else gap.p_value for gap in gaps]).tolist()
    return [Comparison(*row) for row in zip(others, gaps, adjusted, strict=True)]


def scores_of(findings: Sequence[Findings]) -> dict[str, dict[str, FloatArray]]:
    """Per-example scores by condition and arm; `OVERALL` is their mean over the conditions, if there are several.

    The mean may be taken because replicate r has the same clean examples (nested), seeds and test part in all of them.
    """
    arms = list(findings[0].replicates[0])
    found = {each.condition.name: {arm: each.scores(arm) for arm in arms} for each in findings}
    if len(findings) > 1:
        found[OVERALL] = {arm: np.mean([each[arm] for each in found.values()], axis=0) for arm in arms}
    return found


def write_findings(findings: Sequence[Findings], folder: Path) -> str:
    """Write ``results.csv`` (a row per final training), ``comparisons.csv`` and ``verdict.md``; return the last."""
    scores = scores_of(findings)
    compared = {condition: compare(each) for condition, each in scores.items()}
    write_file(folder / "results.csv", csv_text(_result_rows(findings)))
    write_file(folder / "comparisons.csv", csv_text(_comparison_rows(scores, compared)))
    told = verdict(scores, compared)
    write_file(folder / "verdict.md", told)
    return told


def verdict(
    scores: Mapping[str, Mapping[str, FloatArray]], compared: Mapping[str, Sequence[Comparison]]
) -> str:  # fmt: skip
    """Accuracies, differences and what they carry, as Markdown, from the scores and comparisons by condition."""
    arms = list(next(iter(scores.values())))
    shape = next(iter(scores.values()))[ADAPTIVE].shape
    accuracy = {name: {arm: f"{100 * each[arm].mean():.2f}" for arm in arms} for name, each in scores.items()}
    gaps = {name: {c.arm: f"{c}{_MARKS[c.word]}" for c in each} for name, each in compared.items()}
    lines = [f"Test accuracy in %, {shape[0]} seeds, {shape[1]:,} test examples.", ""]
    lines += _table(arms, accuracy)
    lines += [
        "",
        "`adaptive` minus the others in points [95 % interval]; + better, - worse after Holm over the arms.",
        "",
    ]
    lines += _table([arm for arm in arms if arm != ADAPTIVE], gaps)
    lines += ["", *(f"* {sentence(name, each)}" for name, each in compared.items())]
    return "\n".join(lines) + "\n"


_MARKS: Final = {"better": " **+**", "worse": " **-**", "undecided": ""}


def sentence(condition: str, compared: Sequence[Comparison]) -> str:
    """What a condition says, in words.

    That the loss adapts is said only where it is better than both of its replays: one has the same course of the
    learning rate, the other a course of losses that was learned in another run.
    """
    by_word = {word: [c.arm for c in compared if c.word == word] for word in ("better", "worse", "undecided")}
    told = [f"{condition}: adaptive is"]
    parts = [f"{word} than {', '.join(arms)}" for word in ("better", "worse") if (arms := by_word[word])]
    if by_word["undecided"]:
        parts.append(f"not shown to differ from {', '.join(by_word['undecided'])}{_detectable(compared)}")
    told.append("; ".join(parts) + ".")
    if all(any(c.arm == replay and c.word == "better" for c in compared) for replay in _REPLAYS):
        told.append("It adapts: it is better than both replays.")
    elif {*_REPLAYS} <= {c.arm for c in compared}:
        told.append("That it adapts was not shown.")
    return " ".join(told)


def _detectable(compared: Sequence[Comparison]) -> str:
    effects = [mde for c in compared if c.word == "undecided" and (mde := c.gap.mde()) is not None]
    if not effects:
        return " (no interval)"
    low, high = (f"{100 * effect:.1f}" for effect in (min(effects), max(effects)))
    return f" (smallest detectable difference {low if low == high else f'{low} to {high}'} points)"


def _table(columns: Sequence[str], rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Methods down, conditions across: there are more methods than fit side by side."""
    head = ["| |", "|---|"]
    names = list(rows)
    lines = [head[0] + "".join(f" {name} |" for name in names), head[1] + "---|" * len(names)]
    return lines + [f"| {column} |" + "".join(f" {rows[name][column]} |" for name in names) for column in columns]


def _result_rows(findings: Sequence[Findings]) -> list[dict[str, str]]:
    return [
        {
            "noise": each.condition.noise,
            "share": f"{each.condition.share:g}",
            "clean": str(each.condition.size),
            "seed": str(number),
            **_run_columns(name, run),
        }
        for each in findings
        for number, runs in enumerate(each.replicates)
        for name, run in runs.items()
    ]


def _run_columns(name: str, run: Run) -> dict[str, str]:
    scale, pull = run.result.series.get("scale"), run.result.series.get("pull")
    return {
        "arm": name,
        "lr": f"{run.setting.lr:g}",
        "gradient_ratio": f"{run.ratio:g}",
        "tuned": " ".join(f"{key}={value:g}" for key, value in run.arm.named(run.setting).items()),
        "tuning_accuracy": f"{run.tuning_accuracy:.6g}",
        "tuning_trainings": str(run.trainings),
        "test_accuracy": f"{run.correct.mean():.6g}",
        "diverged": str(int(run.result.diverged)),
        "scale_mean": "" if scale is None else f"{np.mean(scale.values):.4g}",
        "strictness_at_half": _pull_at(0.5, pull),
        "strictness_at_tenth": _pull_at(0.1, pull),
        "learned_formula": str(run.result.facts.get("formula", "")),
    }


def _pull_at(p: float, pull: Series | None) -> str:
    """The strictness of the learned loss at the end of the training."""
    if pull is None:
        return ""
    assert pull.axis is not None
    return f"{np.interp(p, pull.axis, pull.values[-1]):.4g}"


def _comparison_rows(
    scores: Mapping[str, Mapping[str, FloatArray]], compared: Mapping[str, Sequence[Comparison]]
) -> list[dict[str, str]]:  # fmt: skip
    rows = []
    for condition, each in compared.items():
        for c in each:
            interval, mde = c.gap.interval(), c.gap.mde()
            numbers = {
                "adaptive_accuracy": scores[condition][ADAPTIVE].mean(),
                "accuracy": scores[condition][c.arm].mean(),
                "difference": c.gap.mean,
                "low": None if interval is None else interval[0],
                "high": None if interval is None else interval[1],
                "p": c.gap.p_value,
                "holm_p": c.holm_p,
                "mde": mde,
            }
            cells = {key: "" if value is None else f"{value:.6g}" for key, value in numbers.items()}
            rows.append({"condition": condition, "arm": c.arm, **cells, "verdict": c.word})
    return rows
