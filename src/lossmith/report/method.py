"""How a comparison was done, in a dozen statements for a sceptical colleague."""

from __future__ import annotations

from typing import Final

from lossmith.comparison.rows import Summary
from lossmith.comparison.stages.tune import MAX_EXTENSIONS
from lossmith.comparison.statistics import MIN_DIFFERING, MIN_EXAMPLES, MIN_RUNS
from lossmith.comparison.tuning import MAX_DROP
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
            f"1/4); one that is over {100 * MAX_DROP:g} points worse counts as that much worse. Ties go to the lower "
            f"{words.tie_break}. A training that diverged or failed counts as guessing, and so does everything beyond "
            "the upper end of the grid: otherwise the choice falls on a lucky training at the edge of divergence.",
        ),
        ("Repeats", _repeats(design, results)),
        ("Controls", _controls(results, words)),
        *((("Losses that learn", _learning(design)),) if any(row.training.learned for row in results.rows) else ()),
        (
            "Recommendation before test",
            "The recommendation was fixed from the validation scores of the final trainings and written to "
            f"recommendation.toml before any test outcome was opened. It is the best of the losses and controls that "
            f"are better than {words.reference} on validation with a Holm-adjusted p below .05, and else "
            f"{words.reference}. Its difference on test is therefore a single planned test and needs no adjustment.",
        ),
        (
            "Intervals",
            f"A loss is compared with the mean of {results.reference} and {results.again}. The variance of the "
            "difference is the sum of what the repeats contribute (seeds, validation part, the choice of a setting) "
            "and what the test examples contribute. How much a loss varies from repeat to repeat is its own estimate "
            "or the median over all losses tuned alike, whichever is larger. The interval uses Student's t with "
            f"Satterthwaite's degrees of freedom. With fewer than {MIN_RUNS} final trainings, {MIN_EXAMPLES} test "
            f"examples, or {MIN_DIFFERING} examples on which the two differ, there is no interval.",
        ),
        ("Many losses at once", _multiplicity(design, results)),
        (
            "What the intervals leave out",
            "The intervals include the chance of seeds, of tuning, of which examples validate, and of which examples "
            "test. They exclude the variance from drawing another training set, except for examples that move between "
            "training and validation. The intervals say nothing about other data, models, optimisers or budgets. How "
            "often this protocol finds a difference between copies of one loss can be measured: lossmith selftest.",
        ),
        (
            "Speed",
            f"The target is the lowest final validation score among the final trainings of {results.reference} and "
            f"{results.again}. A training has reached it when three evaluations in a row do so on average. Each loss "
            "runs at the tried setting that gets there soonest, and its steps are divided by the geometric mean of "
            "those two's in the same repeat. Where a training never gets there, or all ratios are alike, a sign test "
            "decides. p is adjusted by Holm's method over the losses tested.",
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
    if design.function is not None:
        units = f"{valid} units of the validation part and {test} of the test part are scored"
        folds = f"in the first of {design.data.folds} folds" if design.data.folds else "of one split"
        return f"The training function splits the data; {units} {folds}. The parts are the same for every loss."
    sizes = f"{train} examples to train on, {valid} to validate, {test} to test"
    if design.data.folds:
        text = (
            f"{design.data.folds} test folds, tuned afresh inside each; the first has {sizes}. Every example is tested "
            "once in each repeat."
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


def optimizer_said(name: str, momentum: float, *, nesterov: bool) -> str:
    """An optimiser and its momentum in words."""
    said = OPTIMIZERS.get(name, name)
    return f"{said} with {'Nesterov ' * nesterov}momentum {momentum:g}" if momentum else said


def _training(design: Design) -> str:
    if design.function is not None:
        return (
            f"{design.model}, a training function of the user's own, {design.steps:,} steps, on {design.device}. It is "
            "given the loss, the learning rate, the weight decay, a seed and the number of steps; data, model, "
            "optimiser and schedule are its own."
        )
    own = design.optimizer
    optimizer = optimizer_said(own.name, own.momentum, nesterov=own.nesterov)
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
        f"Every loss gets {design.budget} trainings for tuning in each repeat{_per_fold(design)}, one for each of "
        f"{len(design.lrs)} learning rates. A loss with hyperparameters to tune tries fewer rates and spends the rest "
        "near the best of them; what others have left goes there too. Where the best rate lies on the edge, the grid "
        f"is extended, by at most {MAX_EXTENSIONS} points; the leaderboard counts every training.{scaled}"
    )


def _repeats(design: Design, results: Summary) -> str:
    return (
        f"Tuning, choice and one final training were done {design.repeats} times{_per_fold(design)}, each time with "
        "other seeds and another draw of the validation part. Parts are the same for every loss. Seeds are each loss's "
        "own: the luck of one would otherwise be that of many. The measure, fixed in advance, is the test "
        f"{results.metric}."
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
        f"nothing, and is half of what losses are compared with.{replays}"
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
