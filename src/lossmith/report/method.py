"""How a comparison was done, in a dozen statements for a sceptical colleague."""

from __future__ import annotations

from typing import Final

from lossmith.comparison.rows import Summary
from lossmith.comparison.stages.tune import MAX_EXTENSIONS
from lossmith.comparison.statistics import MIN_DIFFERING, MIN_EXAMPLES, MIN_RUNS
from lossmith.report.offers import offer
from lossmith.report.run import Design, Run
from lossmith.tasks import Words

OPTIMIZERS: Final = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}


def how_it_was_done(design: Design, results: Summary) -> tuple[tuple[str, str], ...]:
    """The protocol as it was carried out."""
    words = design.task.words
    return (
        ("Splits", _splits(design)),
        ("Metric", _metric(design)),
        ("Training", _training(design)),
        ("Equal budget", _budget(design)),
        (
            "Choice of a setting",
            f"Each setting is scored by validation {results.metric}, averaged with its neighbours (weights 1/4, 1/2, "
            f"1/4). Ties go to the lower {words.tie_break}. A training that diverged or failed counts as guessing, and "
            "so does everything beyond the upper end of the grid: otherwise the choice falls on a lucky training at "
            "the edge of divergence.",
        ),
        ("Final trainings", _finals(design, results)),
        ("Controls", _controls(results, words)),
        *((("Losses that learn", _learning(design)),) if any(row.training.learned for row in results.rows) else ()),
        (
            "Recommendation before test",
            "The recommendation was fixed from the validation scores of the final trainings and written to "
            f"recommendation.toml before any test outcome was opened. It is {words.reference}, unless the best loss is "
            "more than one standard error better. Its difference on test is therefore a single planned test and needs "
            "no adjustment.",
        ),
        (
            "Intervals",
            "Each difference is paired, by seed and by example. Its variance is the sum of what the seeds "
            "contribute and what the test examples contribute; the interval uses Student's t with Satterthwaite's "
            f"degrees of freedom. With fewer than {MIN_RUNS} final trainings, {MIN_EXAMPLES} test examples, or "
            f"{MIN_DIFFERING} examples on which the two differ, there is no interval.",
        ),
        ("Many losses at once", _multiplicity(design, results)),
        (
            "What the intervals leave out",
            "The intervals are conditional on these training sets and on the settings that tuning chose. How the "
            "results would vary with new training data or a new tuning is not included. The size of the latter shows "
            f"in {words.reference} tuned again with new seeds: a difference no larger is no finding. The intervals say "
            "nothing about other data, models, optimisers or budgets.",
        ),
        (
            "Speed",
            f"The target is the lowest final validation score among {results.reference}'s final trainings. A training "
            "has reached it when three evaluations in a row do so on average. Each loss runs at the tried setting that "
            f"gets there soonest, and its steps are divided by {results.reference}'s own under the same seed. Where a "
            "training never gets there, or all ratios are alike, a sign test decides.",
        ),
        *offer(design).method,
    )


def times_scored(run: Run) -> str:
    """How often the test split has been scored, as far as the ledger knows."""
    times = run.results.times_scored
    models = "1 trained model has" if times == 1 else f"{times:,} trained models have"
    split = "each of these test folds" if run.design.data.folds else "this test split"
    return f"{models} been scored on {split} so far, this comparison's included."


def _splits(design: Design) -> str:
    train, valid, test = (f"{size:,}" for size in design.examples)
    sizes = f"{train} examples to train on, {valid} to validate, {test} to test"
    if design.data.folds:
        text = (
            f"{design.data.folds} test folds, tuned afresh inside each; the first has {sizes}. Every example is tested "
            "once under each final seed."
        )
    else:
        text = f"One split: {sizes}."
    if design.data.train_size is not None:
        text += " The training part was cut to that size on purpose."
    spoilt = []
    if design.data.label_noise > 0:
        spoilt.append(f"{100 * design.data.label_noise:g} % of the labels are wrong")
    if design.data.imbalance > 1:
        spoilt.append(f"the largest class is {design.data.imbalance:g} times the smallest")
    if spoilt:
        text += f" On purpose, {' and '.join(spoilt)} in training and validation; the test part was left as it was."
    return text


def _metric(design: Design) -> str:
    said = design.metric_said
    curves = ""
    if design.task.name == "classification" and design.task.metric != "accuracy":
        curves = " Learning curves, and the steps to a level on them, are in accuracy."
    return (
        f"{said[0].upper()}{said[1:]}. Tuning, the recommendation and the verdicts go by it.{curves} Where a metric is "
        "no mean over examples, each example stands for the metric plus its influence on it (infinitesimal jackknife; "
        "for the AUC, DeLong's method), so that the intervals below hold for it too."
    )


def _training(design: Design) -> str:
    optimizer = OPTIMIZERS.get(design.optimizer.name, design.optimizer.name)
    if design.optimizer.momentum:
        kind = "Nesterov momentum" if design.optimizer.nesterov else "momentum"
        optimizer += f" with {kind} {design.optimizer.momentum:g}"
    decay = "cosine decay of" if design.optimizer.schedule == "cosine" else "a constant"
    counted = (
        "The weights of the last step count."
        if design.select == "last"
        else "The weights that did best on validation count, for every loss."
    )
    return (
        f"{design.model}, {optimizer}, {design.steps:,} steps of {design.batch_size} examples, {decay} learning rate, "
        f"on {design.device}. {counted} Weight decay is zero but for the control that tunes it."
    )


def _budget(design: Design) -> str:
    scaled = ""
    if design.optimizer.name == "sgd":
        scaled = " The grid of each loss is divided by the size of its first gradient relative to the reference's."
    return (
        f"Every loss gets {design.budget} trainings{_per_fold(design)} for tuning. Half of them bracket the learning "
        f"rate on a grid of {len(design.lrs)}; the other half goes to the loss's own hyperparameters near the best "
        "rate, or to more seeds where it has none. Where the best rate lies on the edge, the grid is extended, by at "
        f"most {MAX_EXTENSIONS} points; the leaderboard counts every training.{scaled}"
    )


def _finals(design: Design, results: Summary) -> str:
    return (
        f"{design.final_seeds} seeds{_per_fold(design)} that tuning never saw. They are the same for every loss - the "
        f"same initial weights, the same order of batches - but for {results.again}, which has its own. The measure, "
        f"fixed in advance, is the test {results.metric}."
    )


def _controls(results: Summary, words: Words) -> str:
    controls = [row.name for row in results.rows if row.role == "control"]
    replays = (
        " A replay multiplies each gradient of the base loss by the effective scale that the learned loss had "
        "at that step, or plays back the losses of another seed: what a learned loss gains over both is adaptation."
        if any("replay" in name for name in controls)
        else ""
    )
    return (
        f"{_listed(controls)}. Tuned {words.rival} is among them because it alone explains many a gain over "
        f"{words.reference}; {words.reference} tuned again with new seeds shows how large a difference arises from "
        f"nothing.{replays}"
        if controls
        else "None."
    )


def _learning(design: Design) -> str:
    return (
        "Examples held out to teach a loss are part of the training part: its model trains on the rest, every other "
        "loss on all. Validation examples are used for choices alone, for every loss. Effective scale is the norm of "
        "the loss's gradient in the logits over that of its base; it is 1 unless the loss says scale=learned or "
        "control=scale, and then capped at 10 or at its max_scale. The trainings of such a "
        f"loss are not stacked, so that its seconds compare with others' only where the engine is the same; "
        f"{design.steps:,} steps are the same number for all but the control with three times as many."
    )


def _multiplicity(design: Design, results: Summary) -> str:
    tested = sum(row.role != "control" for row in results.rows)
    return (
        f"{tested} losses were tested, so p is adjusted by Holm's method, and the simultaneous intervals hold for all "
        f"{tested} together with 95 % (Bonferroni). Controls are not counted; their p-values are not adjusted. A "
        f"difference below delta = {100 * design.delta:g} points is too small to matter; this, too, was fixed in "
        "advance."
    )


def _listed(names: list[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last


def _per_fold(design: Design) -> str:
    return " in each fold" if design.data.folds else ""
