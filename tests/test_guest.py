"""Lossmith is a guest in the user's process: whatever is called, the process's global state is as it was before.

What a third-party package does to the process when it is imported for the first time is not ours; those are imported
beforehand.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import io
import locale
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import rich.console
import rich.progress
import scipy.stats
import sklearn.datasets
import sympy
import torch
import torch._dynamo
from torch import nn

import lossmith
from at_once import AtOnce
from lossmith import data as trial_data
from lossmith import dynamics, formulas, kernels, learned, losses, properties
from lossmith.studies import noisy_labels
from made_trials import changed, made

assert all((rich.console, rich.progress, scipy.stats, sklearn.datasets, sympy, torch._dynamo))
PACKAGES = ("", ".formulas", ".kernels", ".learned", ".losses", ".properties", ".data", ".dynamics")
STUDIES = (".studies.noisy_labels",)
Call = Callable[[Path], object]
CALLS: dict[str, Call] = {}
COVERED: set[str] = set()


def covers(*names: str) -> Callable[[Call], Call]:
    """Register a call, and the public names it stands for."""

    def register(call: Call) -> Call:
        CALLS[call.__name__] = call
        COVERED.update(names)
        return call

    return register


def state() -> dict[str, Any]:
    """The global state of the process, as far as a library might touch it."""
    numpy_kind, numpy_key, *numpy_rest = np.random.get_state()  # noqa: NPY002
    return {
        "torch's random state": torch.get_rng_state().tolist(),
        "random state of the cards": (
            [s.tolist() for s in torch.cuda.get_rng_state_all()],
            list(map(id, torch.cuda._lazy_seed_tracker.get_calls())),  # seeds for when CUDA is first used
        ),
        "NumPy's random state": (numpy_kind, numpy_key.tolist(), *numpy_rest),
        "Python's random state": random.getstate(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "default dtype and device": (torch.get_default_dtype(), torch.get_default_device()),
        "gradient modes": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_anomaly_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.is_autocast_cache_enabled(),
        ),
        "deterministic flags": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
        ),
        "backends": (
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.enabled,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.backends.mkldnn.enabled,
            torch.backends.mha.get_fastpath_enabled(),
        ),
        "denormal numbers": float(torch.tensor([1e-310], dtype=torch.float64) * 1.0),
        "print options": (vars(torch._tensor_str.PRINT_OPTS).copy(), np.get_printoptions()),
        "NumPy's handling of errors": np.geterr(),
        "environment": dict(os.environ),
        "working directory and umask": (Path.cwd(), umask()),
        "warnings filters": list(warnings.filters),
        "warnings are shown by": warnings.showwarning,
        "matplotlib": (dict(mpl.rcParams), mpl.get_backend(), plt.get_fignums()),
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "interpreter": (
            *(list(sys.path), list(sys.argv), list(sys.meta_path), sys.getrecursionlimit(), sys.getswitchinterval()),
            *(sys.stdin, sys.stdout, sys.stderr, sys.excepthook, sys.displayhook, threading.excepthook),
            *(sys.gettrace(), sys.getprofile(), gc.isenabled(), gc.get_threshold()),
        ),
        "locale": locale.setlocale(locale.LC_ALL),
        "logging": [(log.level, list(log.handlers), log.disabled) for log in map(logging.getLogger, ("", "lossmith"))],
    }


def umask() -> int:
    now = os.umask(0o077)
    os.umask(now)
    return now


@pytest.fixture(autouse=True)
def _user() -> Iterator[None]:
    """A user whose settings are not the defaults, so that setting those back would show."""
    threads, filters = torch.get_num_threads(), warnings.filters[:]
    torch.set_num_threads(3)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_float32_matmul_precision("high")
    warnings.filterwarnings("ignore", message="a filter of the user's")
    with np.errstate(divide="ignore"), mpl.rc_context({"lines.linewidth": 3.25}):
        yield
    warnings.filters[:] = filters  # type: ignore[index]
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def touched(call: Callable[[], object]) -> list[str]:
    """The parts of the global state that a call changes."""
    before = state()
    call()
    after = state()
    return [part for part in before if before[part] != after[part]]


# --- losses -----------------------------------------------------------------------------------------------------------

TEXTS = {
    "formula": "formula(y*c + (1 - y)*square(p)*t):steps=4",
    "dynamical": "dynamical(ngl):period=4,static_after=0",
    "scaled": "scaled(rooted):factor=2",
}


@pytest.mark.parametrize("text", [TEXTS.get(info.name, info.name) for info in lossmith.available()])
@pytest.mark.parametrize("rows", [8, 1024])  # on 128 classes: the plain path, the fused path
def test_a_loss(text: str, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, 128, generator=generator, requires_grad=True)
    target = torch.randint(0, 128, (rows,), generator=generator)

    def call() -> None:
        loss = lossmith.create(text)
        loss.bind(total_steps=8, class_counts=[1.0] * 128)
        if loss.kind == "segmentation":
            value = loss(logits.view(4, -1, 128).movedim(2, 1), target.view(4, -1))
        elif isinstance(loss, losses.RootedGANLoss):
            value = loss.generator(logits) + loss.discriminator(logits, logits)
        else:
            value = (
                loss(logits[:, 0], logits[:, 1]) if isinstance(loss, losses.RegressionLoss) else loss(logits, target)
            )
        value.backward()
        loss.step()
        assert loss.text
        assert repr(loss)
        _ = loss.formula, loss.state_dict()

    assert touched(call) == []


@pytest.mark.parametrize("name", [name for name in losses.__all__ if inspect.isclass(getattr(losses, name))])
def test_a_loss_by_its_class(name: str) -> None:
    made = getattr(losses, name)
    arguments = {"FormulaLoss": ("y*c",), "SumLoss": ([losses.CrossEntropyLoss()],)}.get(name, ())
    if not inspect.isabstract(made) and name not in {"Loss", "ClassificationLoss", "TargetLoss", "ClasswiseLoss"}:
        assert touched(lambda: made(*arguments)) == []


@covers("linear_loss", "gamma", "static_tail")
def linear_loss(folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(*shape, generator=generator, requires_grad=True) for shape in ((300, 8), (500, 8)))
    losses.gamma(3, 10, 20.0, 100), losses.static_tail(1000, 250)
    losses.linear_loss(hidden, weight, torch.zeros(300, dtype=torch.int64), lossmith.create("rooted")).backward()  # type: ignore[arg-type]


@covers("Polynomial", "RowTerms", "fuses", "row_terms")
def fused_kernels(folder: Path) -> None:
    logits = torch.linspace(-3, 3, 1024 * 128).view(1024, 128).requires_grad_()
    assert kernels.fuses(logits, with_others=True)
    kernels.row_terms(logits, torch.zeros(1024, dtype=torch.int64), -100).c.sum().backward()


@covers("available", "create")
def the_catalog(folder: Path) -> None:
    lossmith.available()
    for text in ("rooted:k=4", "rootd", "@nowhere"):
        with contextlib.suppress(ValueError):
            lossmith.create(text)


# --- formulas and certificates ----------------------------------------------------------------------------------------


@covers(*formulas.__all__)
def every_function_of_formulas(folder: Path) -> None:
    tree = formulas.parse("y*c + (1 - y)*log(2 + cos(p))*(p + 1)")
    assert formulas.apply("add", formulas.constant(1.0), formulas.terminal("p"))
    formulas.canonical(tree), formulas.digest(tree), formulas.latex(tree), formulas.to_sympy(tree)
    formulas.simplify(tree, seconds=5)
    formulas.evaluate(formulas.derivative(formulas.substitute(tree, y=1.0), "p"), p=torch.tensor([0.2, 0.9]))
    formulas.bounds(tree, p=(0.0, 1.0), y=(0.0, 1.0))
    with pytest.raises(formulas.FormulaError):
        formulas.parse("y*")


@covers("certify", "to_json", "Certificate", "RegressionCertificate")
def certificates(folder: Path) -> None:
    for text in ("brier", "logit_adjusted", "smooth_absolute_error", "dynamical", "rooted_gan"):
        loss = lossmith.create(text)
        loss.bind(class_counts=[3.0, 2.0, 1.0])
        assert properties.to_json(properties.certify(loss, 3))


@covers()
def a_certificate_that_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="has no gradient"):
        properties.certify(lossmith.create("formula(p)"), 3)


@covers("evolve")
def a_search(folder: Path) -> None:
    asked: dict[str, Any] = {"model": "linear", "steps": 20, "evaluations": 20, "population": 10}
    found = lossmith.evolve("iris", out=folder / "search", workers=0, progress=False, **asked)
    assert found.report().is_file()
    assert len(found.hall_of_fame) >= 10
    assert found.best.text == found.run.found.winner


@covers("compare")
def a_comparison_of_data_in_memory(folder: Path) -> None:
    given = torch.arange(60.0).reshape(30, 2), torch.arange(30) % 2
    asked: dict[str, Any] = {"model": small_model_of, "losses": "focal", "steps": 20, "lrs": 3, "folds": 0}
    found = lossmith.compare(given, out=folder / "compared", workers=0, progress=False, **asked)
    assert found.report().is_file()
    assert found.figure().save(folder / "figure.png").is_file()
    assert "focal" in set(found.table["loss"])


def small_model_of(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(*input_shape, 4), nn.Dropout(0.5), nn.Linear(4, outputs))


@covers(*dynamics.__all__)
def curvature(folder: Path) -> None:
    with torch.random.fork_rng():
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(), torch.nn.Linear(4, 2)).eval()
    batch, loss = (torch.ones(5, 3), torch.tensor([0, 1, 0, 1, 1])), lossmith.create("rooted:k=3")
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loss(model(batch[0]), batch[1]).backward()
    optimizer.step()
    for operator in (dynamics.Hessian, dynamics.GaussNewton, dynamics.Fisher):
        dynamics.eigenvalues(operator(model, loss, batch), k=2)
    hessian = dynamics.Hessian(model, loss, batch)
    dynamics.dense(dynamics.adam_preconditioned(hessian, optimizer))
    dynamics.trace(hessian)
    dynamics.spectral_density(hessian, vectors=1, steps=3)
    dynamics.sharpness(model, loss, batch)
    dynamics.threshold(optimizer)
    dynamics.dense(dynamics.TangentKernel(model, batch[0]))
    dynamics.tangent_kernel(model, batch[0])


@covers("match_scale")
def match_scale(folder: Path) -> None:
    lossmith.match_scale(lossmith.create("ngl"), 10)


@covers()
def exported_files(folder: Path) -> None:
    from lossmith.export import export, loss_source

    export("rooted:k=3", folder / "my_loss.py")
    loss_source(lossmith.create("ngl"))


@covers()
def compiled_by_torch(folder: Path) -> None:
    """`torch.compile` itself sets an environment variable when it is first used: hence the graph alone."""
    loss = torch.compile(lossmith.create("rooted"), backend="eager", fullgraph=True)
    loss(torch.ones(4, 3), torch.zeros(4, dtype=torch.int64))
    torch._dynamo.reset()


# --- learned losses ---------------------------------------------------------------------------------------------------

BATCH = torch.linspace(-1, 1, 24).view(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])


def small_model() -> nn.Module:
    model: nn.Linear = nn.utils.skip_init(nn.Linear, 4, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()).view_as(parameter))
    return model


@covers("AdaptiveLoss", "AdaptiveRegressionLoss", "LearnedLoss", "ML3Loss", "LossNetwork")
def learned_losses_made(folder: Path) -> None:
    for start in ("base", "random"):
        learned.AdaptiveLoss(start=start)
        learned.AdaptiveRegressionLoss(start=start)
    learned.ML3Loss()
    learned.LossNetwork()


@covers("FrozenLoss", "Distilled", "distil", "strictness_curve", "smooth_leaky_relu")
def learned_losses_kept(folder: Path) -> None:
    loss = learned.AdaptiveLoss()
    loss.save(folder / "loss.safetensors")
    again = lossmith.create(f"@{folder}/loss.safetensors")
    assert isinstance(again, learned.FrozenLoss)
    again(*BATCH)
    learned.distil(loss.freeze().double(), 3)
    learned.strictness_curve(loss.double(), 3, torch.tensor([0.5], dtype=torch.float64))
    learned.smooth_leaky_relu(torch.ones(2))


@covers("OfflineLog", "learn_offline")
def learned_offline(folder: Path) -> None:
    learned.learn_offline(learned.ML3Loss(), lambda number: small_model(), [(BATCH, BATCH)] * 3, steps=3)


COVERED |= {"OnlineLossLearner", "StepRecord"}


@pytest.mark.parametrize("meta_data", ["given", "same", "next"])
@pytest.mark.parametrize("gradient", ["jvp", "unroll", "difference"])
def test_a_learner_draws_what_the_model_draws_and_nothing_else(meta_data: str, gradient: str) -> None:
    """With dropout: the numbers drawn in a training are those of the loop without a learner."""
    loss = learned.AdaptiveLoss()
    torch.manual_seed(1)
    for _ in range(3):
        nn.functional.dropout(torch.ones(6, 3), 0.5)
    expected = torch.get_rng_state().tolist()
    model = nn.Sequential(small_model(), nn.Dropout(0.5))
    optimizers = torch.optim.SGD(model.parameters(), 0.1), torch.optim.Adam(loss.parameters(), 1e-3)
    settings: Any = {"meta_data": meta_data, "gradient": gradient, "audit": 2}

    def call() -> None:
        learner = learned.OnlineLossLearner(model, loss, *optimizers, **settings)
        for _ in range(3):
            learner.step(BATCH, BATCH if learner.wants_meta_batch else None)

    torch.manual_seed(1)
    assert touched(call) == ["torch's random state"]
    assert torch.get_rng_state().tolist() == expected


# --- trials, comparisons, studies -------------------------------------------------------------------------------------

DROPOUT = """
from torch import nn

def make(input_shape, num_classes):
    return nn.Sequential(nn.Linear(input_shape[0], 8), nn.Dropout(0.5), nn.Linear(8, num_classes))
"""


@covers(*trial_data.__all__)
def data_sets(folder: Path) -> None:
    table = folder / "table.csv"
    table.write_text("a,b,label\n" + "".join(f"{i},{i * i % 7},{'xy'[i % 2]}\n" for i in range(60)))
    for source in (*trial_data.BUNDLED, str(table)):
        label = "label" if source == str(table) else None
        dataset = trial_data.load_dataset(source, label)
        altered = {"outliers": 0.2} if dataset.task == "regression" else {"label_noise": 0.2, "imbalance": 2.0}
        spec = trial_data.DataSpec(dataset.digest, label=label, task=dataset.task, **altered)
        trial_data.make_splits(dataset, spec)


def trials(folder: Path) -> tuple[Any, Any]:
    """A trial of each engine, and one whose model has dropout."""
    from lossmith.trials.models import canonical_model
    from lossmith.trials.trial import OptimizerSpec, Sources

    (folder / "nets.py").write_text(DROPOUT)
    sources = Sources({"iris": "iris"})
    spec = trial_data.DataSpec("iris")
    first = made(spec, "mlp:width=8", "rooted", OptimizerSpec("adam", 0.01), 12, 16, 3, 6, final=True)
    dropout = canonical_model(f"{folder}/nets.py:make", sources)
    return [
        changed(first, engine="stacked"),
        first,
        changed(first, loss="adaptive"),
        *(changed(first, model=dropout, loss=loss) for loss in ("m", "adaptive", "adaptive:meta_data=next")),
    ], sources


@covers()
def trainings(folder: Path) -> None:
    from lossmith.trials.training import train, train_many, train_model

    planned, sources = trials(folder)
    train_many(planned, sources)
    train(planned[0], sources)
    train_model(planned[-1], sources)


@covers()
def a_training_that_fails(folder: Path) -> None:
    from lossmith.trials.training import train

    planned, sources = trials(folder)
    with pytest.raises(RuntimeError, match="stop"):
        failing(lambda: train(planned[1], sources))


def failing(train: Callable[[], object]) -> None:
    """Stop a training in its first step."""
    from lossmith.trials import stacks

    def stop(*_: object) -> None:
        raise RuntimeError("stop")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stacks.SingleModel, "update", stop)
        train()


@covers()
def a_plan_for_a_model_with_dropout(folder: Path) -> None:
    from lossmith.comparison.plan import Options, make_plan
    from lossmith.trials.trial import Sources

    (folder / "nets.py").write_text(DROPOUT)
    options = Options(data="iris", model=f"{folder}/nets.py:make", losses=("m", "adaptive"), optimizer="sgd")
    assert make_plan(options, Sources()) == make_plan(options, Sources())


@covers(*noisy_labels.__all__)
def a_study_of_noisy_labels(folder: Path) -> None:
    from lossmith.studies.noisy_labels.arms import ADAPTIVE, make_arms
    from lossmith.trials.ledger import Ledger
    from lossmith.trials.runner import Runner
    from lossmith.trials.trial import Sources

    noises: Any = (("symmetric", 0.4),)
    study = noisy_labels.Study(noises=noises, sizes=(50,), seeds=1, settings=3, steps=4, model="mlp:width=8")
    with Ledger(folder / "ledger.sqlite", "cpu") as ledger:
        arms = [arm for arm in make_arms() if arm.name == ADAPTIVE]
        list(noisy_labels.run_study(study, "digits", Runner(ledger, Sources(), workers=0), arms))


# --- the command line -------------------------------------------------------------------------------------------------


SMALL: Any = {"data": "iris", "model": "mlp:width=8", "steps": 60}


@covers("load")
def commands(folder: Path) -> None:
    """As functions: what the parser of the command line does to the process is not ours."""
    from lossmith import cli

    with silence(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("lossmith.trials.runner.LocalPool", lambda *_, **__: AtOnce())
        cli.list_losses()
        cli.describe("mae", html=folder / "mae.html")
        cli.export("ngl", folder / "ngl.py")
        cli.train(**SMALL, loss="m", out=folder / "out")
        lossmith.load(folder / "out").predict(np.ones((2, 4)))
        a_comparison(folder)
        cli.show(folder / "run")


def a_comparison(folder: Path) -> None:
    from lossmith import cli

    with silence():
        cli.compare(**SMALL, losses="m", lrs="3", folds=0, repeats=1, workers=1, out=folder / "run")


@contextlib.contextmanager
def silence() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@pytest.mark.parametrize("name", CALLS)
def test_the_process_is_as_it_was(name: str, tmp_path: Path) -> None:
    assert touched(lambda: CALLS[name](tmp_path)) == []


@pytest.mark.slow  # a worker imports torch
def test_a_comparison_with_a_worker_process(tmp_path: Path) -> None:
    assert touched(lambda: a_comparison(tmp_path)) == []


def test_every_public_name_is_called_above() -> None:
    named = {name for package in PACKAGES + STUDIES for name in importlib.import_module(f"lossmith{package}").__all__}
    modules = {"learned", "losses"}
    assert named - modules - set(losses.__all__) - COVERED == set()
    functions = {name for name in losses.__all__ if inspect.isfunction(getattr(losses, name))}
    assert functions <= COVERED
