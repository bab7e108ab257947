"""The ``lossmith`` command: parse, call, print."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from lossmith.commands import flattened, refuse_empty
from lossmith.comparison.files import RUNS
from lossmith.comparison.options import Options
from lossmith.endings import Stopped, check_file, check_folder, saying, sentence_of, stoppable
from lossmith.evolution.options import SearchOptions
from lossmith.trials.options import Training

if TYPE_CHECKING:
    from lossmith.comparison.estimate import Estimate
    from lossmith.comparison.plan import Plan
    from lossmith.trials.trial import Sources

app = typer.Typer(
    name="lossmith",
    help="Find the loss function that trains your model best, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_ASK_BEYOND: Final = 3600.0  # seconds


_Workers = Annotated[
    int | None, typer.Option(min=1, help="Worker processes; default: one per core.", rich_help_panel="Running")
]
_TimeLimit = Annotated[
    float | None, typer.Option(min=0, help="Seconds after which a run counts as failed.", rich_help_panel="Running")
]
_RunFolder = Annotated[
    Path | None, typer.Option(help="Run folder; default: one for this plan under runs/.", rich_help_panel="Running")
]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done and how long.", rich_help_panel="Running")
]
_Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Begin without a question, however long.", rich_help_panel="Running")
]

_Force = Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")]


@app.command()
@flattened
def compare(
    options: Options,
    workers: _Workers = None,
    time_limit: _TimeLimit = None,
    out: _RunFolder = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Leave out what does not fit into this time.", rich_help_panel="Running"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="As --minutes 2.", rich_help_panel="Running")] = False,
    dry_run: _DryRun = False,
    yes: _Yes = False,
) -> None:
    """Compare losses fairly on your data and model. Run it again to resume."""
    from lossmith.comparison.fitting import fitted_plan
    from lossmith.comparison.plan import make_plan
    from lossmith.comparison.session import carry_out
    from lossmith.progress import ConsoleProgress
    from lossmith.report.run import load_run
    from lossmith.report.terminal import Leaderboard
    from lossmith.trials.trial import Sources

    sources, errors, workers = Sources(), Console(stderr=True), workers or os.cpu_count() or 1
    _check_writable(out, dry_run=dry_run)
    limit = 2.0 if quick and minutes is None else minutes
    cuts: tuple[str, ...] = ()
    if limit is None:
        plan = make_plan(options, sources)
    else:
        runs = out.parent if out else RUNS
        plan, cuts = fitted_plan(options, sources, 60 * limit, workers, runs, keep=not dry_run)
    folder = out or RUNS / f"{plan.name}-{plan.trial.trainer.title.split(':')[0]}-{plan.digest}"
    file = folder / "summary.json"
    before = file.read_bytes() if file.is_file() else None
    expected = _begin(plan, sources, folder, workers, cuts, finished=before is not None, dry_run=dry_run, yes=yes)
    if dry_run:
        return
    with ConsoleProgress(errors, expected) as progress, saying(errors.print, lambda: progress.kept):
        carry_out(plan, sources, folder, workers=workers, time_limit=time_limit, progress=progress)
    run = load_run(folder)
    if file.read_bytes() != before or not run.report.is_file():
        from lossmith.report.page import write_report  # matplotlib is slow to import, and the drawings are slow

        write_report(run)
    Console().print(Leaderboard(run))


@app.command()
@flattened
def selftest(
    options: Options,
    copies: Annotated[int, typer.Option(min=2, help="Copies of the reference.", rich_help_panel="Comparison")] = 10,
    workers: _Workers = None,
    time_limit: _TimeLimit = None,
    out: _RunFolder = None,
    dry_run: _DryRun = False,
    yes: _Yes = False,
) -> None:
    """Measure how often `compare` raises a false alarm on your data and model, from copies of the reference loss."""
    from lossmith.comparison.plan import make_plan
    from lossmith.comparison.selftest import plan_copies, self_test
    from lossmith.comparison.session import running
    from lossmith.progress import ConsoleProgress
    from lossmith.report.selftest import SelfTestTable
    from lossmith.trials.options import RequestError
    from lossmith.trials.trial import Sources

    if options.losses is not None:
        raise RequestError("--losses: a self-test compares copies of the reference; leave it out")
    sources, errors, workers = Sources(), Console(stderr=True), workers or os.cpu_count() or 1
    _check_writable(out, dry_run=dry_run)
    plan = plan_copies(make_plan(replace(options, losses=()), sources), copies)
    folder = out or RUNS / f"selftest-{plan.name}-{plan.trial.trainer.title.split(':')[0]}-{plan.digest}"
    expected = _begin(plan, sources, folder, workers, dry_run=dry_run, yes=yes)
    if dry_run:
        return
    with (
        ConsoleProgress(errors, expected) as progress,
        saying(errors.print, lambda: progress.kept),
        running(plan, sources, folder, workers=workers, time_limit=time_limit, progress=progress) as runner,
    ):
        found = self_test(plan, runner, folder)
    Console().print(SelfTestTable(plan, found))


@app.command()
@flattened
def evolve(
    options: SearchOptions,
    workers: _Workers = None,
    time_limit: _TimeLimit = None,
    out: _RunFolder = None,
    dry_run: _DryRun = False,
) -> None:
    """Discover a loss for your data by genetic programming. Run it again to resume."""
    from lossmith.comparison.plan import write_plan
    from lossmith.evolution.forecast import seconds_after
    from lossmith.evolution.plan import make_search_plan
    from lossmith.evolution.session import carry_out_search
    from lossmith.report.evolution.announcement import search_announcement
    from lossmith.report.evolution.live import SearchDisplay
    from lossmith.report.evolution.page import write_search_report
    from lossmith.report.evolution.search_run import load_search
    from lossmith.report.evolution.terminal import SearchEnd
    from lossmith.report.folder import SEARCH
    from lossmith.trials.trial import Sources

    sources, errors, workers = Sources(), Console(stderr=True), workers or os.cpu_count() or 1
    _check_writable(out, dry_run=dry_run)
    plan = make_search_plan(options, sources)
    folder = out or RUNS / plan.folder
    after = seconds_after(plan, sources, folder, workers)
    for line in search_announcement(plan, None if dry_run else folder, after):
        errors.print(line, markup=False, highlight=False, soft_wrap=True)
    if dry_run:
        return
    write_plan(plan, folder)

    def shown() -> None:
        run = load_search(folder)
        write_search_report(run)
        Console().print(SearchEnd(run))

    with SearchDisplay(errors) as display, saying(errors.print, lambda: display.kept):
        try:
            carry_out_search(plan, sources, folder, workers=workers, time_limit=time_limit, watcher=display)
        except (KeyboardInterrupt, Stopped, ValueError, RuntimeError):
            display.close()
            if (folder / SEARCH).is_file():
                shown()
            raise
    shown()


def _check_writable(out: Path | None, *, dry_run: bool) -> None:
    """Refuse a run folder that cannot be written, or no ledger beside it, before anything is measured."""
    if not dry_run:
        for folder in (RUNS,) if out is None else (out.resolve().parent, out):
            check_folder(folder)


def _begin(
    plan: Plan,
    sources: Sources,
    folder: Path,
    workers: int,
    cuts: Sequence[str] = (),
    *,
    finished: bool = False,
    dry_run: bool,
    yes: bool,
) -> Estimate | None:
    """Say what will be done and how long it takes, ask if that is long, and write the plan."""
    from lossmith.comparison.estimate import estimate_run
    from lossmith.comparison.plan import write_plan
    from lossmith.report.announcement import announcement

    errors = Console(stderr=True)
    for line in (*announcement(plan, None if dry_run else folder), *(f"note: {cut}" for cut in cuts)):
        errors.print(line, markup=False, highlight=False, soft_wrap=True)
    expected = None if finished and not dry_run else estimate_run(plan, sources, folder, workers)
    if expected is not None and expected.trainings:
        errors.print(str(expected), highlight=False, soft_wrap=True)
    interactive = errors.is_terminal and sys.stdin.isatty()
    if expected is not None and expected.seconds > _ASK_BEYOND and interactive and not (yes or dry_run):
        typer.confirm("Begin?", default=True, abort=True, err=True)
    if not dry_run:
        write_plan(plan, folder)
    return expected


@app.command()
@flattened
def train(
    request: Training,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the weights; default: runs/train-...", rich_help_panel="Running"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another model in the folder.", rich_help_panel="Running")
    ] = False,
) -> None:
    """Train one model with one loss and save its weights."""
    from lossmith.learned import LearnedLoss
    from lossmith.progress import training_progress
    from lossmith.report.training import training_lines
    from lossmith.trials.request import draft
    from lossmith.trials.runner import reason_of
    from lossmith.trials.saving import check_unused, reload_snippet, save_model, save_series
    from lossmith.trials.texts import with_loss
    from lossmith.trials.training import train_model
    from lossmith.trials.trial import Sources

    sources = Sources()
    drafted = draft(request, sources)
    changed = replace(drafted.trial.optimizer, lr=request.lr, weight_decay=request.weight_decay)
    text = drafted.task.reference if request.loss is None else drafted.task.loss_text(request.loss)
    trainer = replace(drafted.trial.ours, engine="single")
    trial = with_loss(replace(drafted.trial, trainer=trainer, optimizer=changed, final=True), text)
    folder = out or RUNS / f"train-{drafted.splits.name}-{trial.hash[:8]}"
    check_folder(folder)
    if not force:
        check_unused(folder, trial)
    console = Console(stderr=True)
    for note in drafted.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    with saying(console.print, lambda: "Nothing was saved."):
        try:
            with training_progress(console, trial.steps) as report:
                result, trained, learned = train_model(trial, sources, drafted.device, report)
        except (Exception, SystemExit) as error:
            if os.environ.get("LOSSMITH_TRACEBACK"):
                raise
            raise RuntimeError(f"the training failed: {reason_of(error)}") from None
    save_model(trained, trial, drafted.splits, drafted.task, folder)
    if trial.probes:
        save_series(result, folder)
    reload = reload_snippet(trial, drafted.splits, sources, folder)
    use = f"saved to {folder}; `lossmith predict {folder} DATA` uses it, and so does Python:"
    said = [*training_lines(trial, drafted.task, result), "", use, "", reload]
    if trial.probes:
        said += ["", f"`lossmith dynamics {folder}` shows what the probes measured"]
    if isinstance(learned, LearnedLoss):
        learned.save(folder / "loss.safetensors")
        said += ["", f"the learned loss as a loss of its own: lossmith.create('@{folder}/loss.safetensors')"]
    Console().print("\n".join(said), markup=False, highlight=False, soft_wrap=True)


@app.command()
def dynamics(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `lossmith train --probe ...` made.")],
    window: Annotated[str | None, typer.Option(help="The steps to show first, FROM:TO; default: all.")] = None,
) -> None:
    """Show how a training went: a page with its loss, sharpness, kernel and margins over the steps."""
    from lossmith.data.files import check_exists

    check_exists(run)
    from lossmith.report.course import load_course
    from lossmith.report.dynamics import instabilities_said, write_dynamics

    course = load_course(run)
    page = write_dynamics(course, run, None if window is None else _parse_window(window, course.steps))
    said = [] if course.onsets is None else [instabilities_said(course)]
    Console().print("\n".join([*said, f"The page is {page}."]), markup=False, highlight=False, soft_wrap=True)


def _parse_window(text: str, steps: int) -> tuple[int, int]:
    """Two steps from ``FROM:TO``."""
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last) and int(first) < steps):
        raise typer.BadParameter(
            f"{text}: give two of its {steps:,} steps, such as 0:{steps // 2}", param_hint="--window"
        )
    return int(first), int(last)


@app.command()
def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="spirals, rooted-linear or dynamical-cnn.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of data sets that the study reads, see docs/studies.", exists=True),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few and short trainings, which prove nothing.")] = False,
    workers: _Workers = None,
    out: _RunFolder = None,
) -> None:
    """Repeat the experiments of a paper with the controls it lacked. Run it again to resume."""
    from lossmith.progress import ConsoleProgress
    from lossmith.report.study import Said, write_study
    from lossmith.studies import find_study
    from lossmith.studies.bench import Bench

    carry_out, errors = find_study(name), Console(stderr=True)
    folder = out or RUNS / f"study-{name}{'-quick' if quick else ''}"
    check_folder(folder)
    with ConsoleProgress(errors) as progress, saying(errors.print, lambda: progress.kept):
        bench = Bench(folder, workers or os.cpu_count() or 1, progress, data, quick=quick)
        findings = carry_out(bench)
    command = f"lossmith study {name}" + (f" --data {data.name}/" if data else "") + (" --quick" if quick else "")
    page = write_study(findings, Said(command, bench.seconds, quick), folder)
    lines = [f"{claim.text} {claim.verdict.capitalize()}. {claim.because}" for claim in findings.claims]
    if quick:
        lines.insert(0, "A trial run with few and short trainings: its verdicts prove nothing.")
    Console().print("\n\n".join([*lines, f"The page is {page}."]), markup=False, highlight=False)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `lossmith train` made.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Examples: .csv, .parquet, .npz, or images.")],
    output: Annotated[Path | None, typer.Option(help="The file to write; default: standard output.")] = None,
    probabilities: Annotated[bool, typer.Option(help="Give the probability of each class too.")] = False,
    model: Annotated[
        str | None, typer.Option(help="path/to/file.py:factory, for a model that was trained from a file of your own.")
    ] = None,
    force: _Force = False,
) -> None:
    """Predict for new examples with a model that `lossmith train` saved, as CSV."""
    from lossmith.data.files import check_exists

    for path in (run, data):
        check_exists(path)  # before torch is loaded, which takes seconds
    if output is not None:
        check_file(output, "--output", force=force)
    from lossmith.trials.predictions import predict_file
    from lossmith.trials.saving import load

    made = predict_file(load(run, model), data, output, probabilities=probabilities)
    errors = Console(stderr=True)
    for note in made.notes:
        errors.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    if output is None:
        typer.echo(made.content, nl=False)
    else:
        errors.print(f"{made.count:,} predictions written to {output}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def describe(
    loss: Annotated[str, typer.Argument(metavar="LOSS", help="Text form of a loss, see `lossmith list`.")],
    classes: Annotated[int, typer.Option(help="Number of classes to describe it for.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all curves.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures to this file.")] = None,
) -> None:
    """Say what a loss is: strictness, convexity, best predictions, robustness, numbers, relatives."""
    if html is not None:
        check_file(html, "--html", force=True)
    from lossmith.catalog import create
    from lossmith.properties import certify, to_json
    from lossmith.report.describe_page import write_description
    from lossmith.report.describe_terminal import Description

    certificate = certify(create(loss), classes)
    if as_json:
        typer.echo(to_json(certificate))
    else:
        Console().print(Description(certificate))
    if html is not None:
        write_description(certificate, html)
        Console(stderr=True).print(f"\nwritten to {html}", markup=False, highlight=False, soft_wrap=True)


@app.command(name="list")
def list_losses() -> None:
    """List the losses with their text forms and defaults."""
    from lossmith.catalog import available

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", overflow="fold", ratio=2)
    table.add_column(ratio=3)
    for kind in ("classification", "segmentation", "learned", "regression", "gan"):
        table.add_row(f"[dim]{kind}[/dim]", "")
        for info in available(kind):
            formula = f"\n[dim]{info.formula}[/dim]" if info.formula else ""
            table.add_row(info.text.replace("[", r"\["), info.summary.replace("``", "") + formula)
    Console().print(table)


@app.command()
def export(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Text form of a loss, or a run folder: its recommended or found.")
    ],
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("my_loss.py"),
    force: _Force = False,
) -> None:
    """Write a loss as one readable torch file that does not import Lossmith."""
    check_file(output, "--output", force=force)
    from lossmith.export import export as write

    text = write(name, output)
    Console().print(f"{text} is class Loss in {output}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def show(run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]) -> None:
    """Show the results of a finished comparison or search."""
    from lossmith.report.folder import SEARCH, find_run

    _, results = find_run(run)  # a wrong folder is refused before torch is loaded
    if results.name == SEARCH:
        from lossmith.report.evolution.search_run import load_search
        from lossmith.report.evolution.terminal import SearchEnd

        Console().print(SearchEnd(load_search(run)))
        return
    from lossmith.report.run import load_run
    from lossmith.report.terminal import Leaderboard

    Console().print(Leaderboard(load_run(run)))


def main() -> NoReturn:
    """Run the command line; a user error prints one sentence and exits with code 2."""
    console = Console(stderr=True)

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    try:
        with stoppable(), saying(say, lambda: "Run the same command again."):
            refuse_empty(sys.argv[1:])
            app()
    except (ValueError, RuntimeError, OSError) as error:
        if os.environ.get("LOSSMITH_TRACEBACK"):
            raise
        say(f"lossmith: {sentence_of(error)}")
        sys.exit(2)
    sys.exit(0)
