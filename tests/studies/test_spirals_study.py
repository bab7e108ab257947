"""The study of dynamical losses on spirals: its problem, its gradients and its runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lossmith
from lossmith import dynamics
from lossmith.losses.dynamical import static_tail
from lossmith.studies.bench import Bench
from lossmith.studies.findings import Findings
from lossmith.studies.spirals import study, training
from lossmith.studies.spirals.claims import judge, judge_sharpness
from lossmith.studies.spirals.plan import Outcomes, Plan, Trained, train_all
from lossmith.studies.spirals.problem import Run, class_weights, first_weights, rates, spirals
from lossmith.studies.spirals.training import Curvature, Job, Stack, work

LABELS = torch.arange(3).repeat_interleave(100)
Init = Literal["original", "updated"]
Form = Literal["samples_squared", "units_squared"]
SHORT = Run(0, updates=150, amplitude=20.0, period=40, tail=50, width=20)


def module(stack: Stack, run: int = 0) -> nn.Sequential:
    """The network of a run."""
    first, second, bias = (part[run] for part in stack.weights)
    model = nn.Sequential(nn.Linear(2, len(first)), nn.ReLU(), nn.Linear(len(first), 3)).double()
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (first[:, :2], first[:, 2], second, bias[:, 0]), strict=True):
            parameter.copy_(value)
    return model


def plane(draw: int) -> Tensor:
    return spirals(draw)[:2].T.contiguous()


def test_the_data_are_those_of_the_notebook() -> None:
    """`np.random.seed(0)` begins with 1.76405, 0.40016, 0.97874, and theta runs over two turns."""
    points = spirals(0)
    for row, drawn in enumerate((1.764052345967664, 0.4001572083672233, 0.9787379841057392)):
        radius, angle = row / 99, 4 * np.pi * row / 99 + 0.2 * drawn
        assert points[:, row].tolist() == pytest.approx([radius * np.cos(angle), radius * np.sin(angle), 1])
    np.random.seed(0)  # noqa: NPY002 - as the notebook
    noise = np.concatenate([np.random.randn(100) for _ in range(3)])  # noqa: NPY002
    turned = np.concatenate([np.linspace(2 * np.pi * j / 3, 2 * np.pi * j / 3 + 4 * np.pi, 100) for j in range(3)])
    turned += 0.2 * noise
    radii = np.tile(np.linspace(0, 1, 100), 3)
    expected = np.stack([radii * np.cos(turned), radii * np.sin(turned), np.ones(300)])
    torch.testing.assert_close(points, torch.from_numpy(expected))
    assert not torch.equal(spirals(1), points)


def test_the_weights_begin_as_in_the_notebook() -> None:
    """Standard deviations: 1/sqrt(2) and 1/sqrt(width), or Glorot's sqrt(2 / (in + out)) with biases of 0.01."""
    wide = Run(0, width=100_000)
    first, second, bias = first_weights(wide)
    assert first[:, :2].std() == pytest.approx(0.5**0.5, rel=0.01)
    assert second.std() == pytest.approx(1e-5**0.5, rel=0.01)
    assert not first[:, 2].any()
    assert not bias.any()
    first, second, bias = first_weights(replace(wide, init="updated"))
    assert first[:, :2].std() == pytest.approx((2 / 100_002) ** 0.5, rel=0.01)
    assert second.std() == pytest.approx((2 / 100_003) ** 0.5, rel=0.01)
    assert first[:, 2].std() == pytest.approx(0.01, rel=0.02)
    assert bias.any()


def test_the_schedule_is_that_of_the_notebook() -> None:
    """Periods of 5001 updates with peaks 2.917 and 0.0417, and the last 5000 updates or so without weights."""
    weights = class_weights(Run(0, updates=70_000, amplitude=70.0))
    torch.testing.assert_close(weights.sum(1), torch.full((70_000,), 3.0, dtype=torch.float64))
    for period, focus in ((0, 0), (1, 1), (2, 2), (3, 0), (12, 0)):
        start = 5001 * period
        assert weights[start].tolist() == weights[start + 5000].tolist() == [1, 1, 1]
        peak = weights[start + 2500]
        assert peak[focus] == pytest.approx(2.917, abs=5e-4)
        assert peak[focus - 1] == peak[focus - 2] == pytest.approx(0.0417, abs=5e-5)
    assert (weights[13 * 5001 :] == 1).all()
    assert Run(0, updates=70_000).static_after == 13 * 5001 == static_tail(70_000, 5000, "released")
    assert Run(0, period=250).static_after == 120 * 251  # the end of a period after 30,000 of 35,000 updates


def test_the_controls_of_the_schedule() -> None:
    run = Run(3, updates=3000, amplitude=20.0, period=50, tail=300)
    usual = class_weights(run)
    shuffled = class_weights(replace(run, order="random"))
    assert torch.equal(shuffled.sort(1).values, usual.sort(1).values)
    rounds = shuffled[: 17 * 153].view(17, 3, 51, 3).amax(2).argmax(2)  # the class in turn
    assert (rounds.sort(1).values == torch.arange(3)).all()
    assert len({tuple(row.tolist()) for row in rounds}) == 6
    held = class_weights(replace(run, order="held"))
    assert (held[: run.static_after] == usual[25]).all()
    assert (held[run.static_after :] == 1).all()
    triangle = replace(run, rate="triangle", lr=0.5)
    assert torch.equal(rates(triangle), 0.5 * usual.amax(1))
    assert (class_weights(triangle) == 1).all()
    cosine = rates(replace(run, rate="cosine", lr=2.0))
    assert cosine[[0, 1500]].tolist() == pytest.approx([2, 1])
    assert 0 < cosine[-1] < 1e-5


@pytest.mark.parametrize("init", ["original", "updated"])
def test_runs_side_by_side_are_those_of_a_plain_loop(init: Init) -> None:
    """A hundred and fifty updates by autograd with the library's dynamical loss."""
    run = replace(SHORT, init=init)
    runs = (run, replace(run, seed=1, draw=2, amplitude=1.0), replace(run, seed=2, lr=0.3, momentum=0.9))
    stack = Stack(runs)
    models = [module(stack, i) for i in range(3)]
    rows = []
    for update in range(run.updates):
        rows.append(stack.losses(update))
        stack.update(update)
    for i, (run, model) in enumerate(zip(runs, models, strict=True)):
        loss = lossmith.create("dynamical:period_mode=released,period=40", amplitude=run.amplitude, static_after=123)
        optimizer = torch.optim.SGD(model.parameters(), lr=run.lr, momentum=run.momentum)
        for update in range(run.updates):
            value = loss(model(plane(run.draw)), LABELS)
            assert float(value.detach()) == pytest.approx(float(rows[update][i]), abs=1e-8)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            loss.step()
        after = nn.utils.parameters_to_vector(model.parameters())
        expected = nn.utils.parameters_to_vector(module(stack, i).parameters())
        torch.testing.assert_close(after, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("form", ["samples_squared", "units_squared"])
def test_the_squared_error_has_weights_of_samples_or_of_units(form: Form) -> None:
    run = replace(SHORT, loss=form, lr=0.1)
    stack, number = Stack([run]), 12
    model, gamma = module(stack), class_weights(run)[number]
    missed = (model(plane(0)) - F.one_hot(LABELS).double()) ** 2
    value = (missed * (gamma[LABELS][:, None] if form == "samples_squared" else gamma)).sum() / 300
    assert float(stack.losses(number)) == pytest.approx(float(value.detach()))
    assert float(stack.plain_losses()) == pytest.approx(float(missed.detach().sum()) / 300)
    value.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.sub_(parameter.grad, alpha=0.1)
    stack.update(number)
    after, expected = (nn.utils.parameters_to_vector(m.parameters()) for m in (module(stack), model))
    torch.testing.assert_close(after, expected)


def test_the_curvature_is_the_hessian_of_the_weighted_loss() -> None:
    stack, number = Stack([replace(SHORT, updates=100), replace(SHORT, seed=1, draw=1, updates=100)]), 60
    for update in range(number):
        stack.update(update)
    loss = lossmith.create("dynamical:amplitude=20,period=40,period_mode=released")
    for _ in range(number):
        loss.step()
    for run in range(2):
        hessian = dynamics.Hessian(module(stack, run), loss, (plane(run), LABELS))
        expected = torch.linalg.eigvalsh(dynamics.dense(hessian))
        own = dynamics.dense(Curvature(stack, run, number))
        torch.testing.assert_close(own, own.T)
        torch.testing.assert_close(torch.linalg.eigvalsh(own), expected)
        assert stack.sharpness(run, number) == pytest.approx(float(expected[-1]), rel=3e-3)


def test_the_kernel_is_the_empirical_one() -> None:
    stack = Stack([SHORT, replace(SHORT, seed=1, draw=1)])
    for update in range(100):
        stack.update(update)
    for run, samples in ((0, 50), (1, 300)):
        kernel = dynamics.tangent_kernel(module(stack, run), plane(run)[:samples])
        assert stack.kernel(run, samples) == pytest.approx(float(torch.linalg.eigvalsh(kernel)[-1]))


def test_what_a_watched_run_holds() -> None:
    runs = (replace(SHORT, updates=60), replace(SHORT, seed=1, updates=60))
    watched, usual = work(Job(runs, every=25, kernel=50)), work(Job(runs))
    assert watched["at"].tolist() == [0, 25, 50]
    assert watched["all_at"].tolist() == [0, 50]
    shapes = {"losses": 60, "sharpness": 3, "inner": 3, "all": 2, "curve": 3}
    assert all(watched[name].shape == (2, length) for name, length in shapes.items())
    for name in ("accuracy", "valid", "loss", "kernel"):
        np.testing.assert_array_equal(watched[name], usual[name])
    stack = Stack(runs)
    assert watched["losses"][:, 0].tolist() == pytest.approx(stack.losses(0).tolist())
    assert watched["sharpness"][1, 0] == stack.sharpness(1, 0)


@pytest.fixture(name="bench", scope="module")
def _bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("spirals"), quick=True)


@pytest.fixture(name="findings", scope="module")
def _findings(bench: Bench) -> Findings:
    return study(bench)


@pytest.fixture(name="trained", scope="module")
def _trained(bench: Bench, findings: Findings) -> Trained:
    assert findings.claims
    return train_all(bench, Plan(quick=True))


def test_the_quick_study_fills_its_page(findings: Findings) -> None:
    assert len(findings.claims) == 4
    tables = [table for section in findings.sections for table in section.tables]
    assert len(tables) == 7
    for table in tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.head)}
    plots = [plot for section in findings.sections for plot in section.plots]
    for line in (line for plot in plots for line in plot.lines):
        assert len(line.x) == len(line.y)
        assert len(line.x) <= 2000


def test_a_study_that_was_done_is_read(bench: Bench, findings: Findings) -> None:
    def never(job: object) -> None:
        raise AssertionError(job)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Stack, "update", never)
        assert repr(study(bench)) == repr(findings)  # there are NaN among the numbers


def pretend(outcomes: Outcomes, arms: dict[str, tuple[Run, ...]], name: str, value: dict[str, float]) -> Outcomes:
    """Outcomes with other final numbers: those of the arm whose name begins so, or else of the arm ``""``."""
    changed = dict(outcomes)
    for arm, runs in arms.items():
        given = next((value[key] for key in sorted(value, reverse=True) if arm.startswith(key)), value[""])
        changed |= {run: outcomes[run] | {name: np.array(given + 0.001 * run.seed)} for run in runs}
    return changed


@pytest.mark.parametrize(
    ("ours", "static", "control", "verdict"),
    [
        (0.99, 0.5, 0.5, "holds"),
        (0.99, 0.5, 0.98, "holds in part"),
        (0.8, 0.5, 0.5, "holds in part"),
        (0.99, 0.99, 0.99, "does not hold"),
        (0.5, 0.9, 0.5, "does not hold"),
    ],
)
def test_the_verdict_on_narrow_networks(
    ours: float, static: float, control: float, verdict: str, trained: Trained
) -> None:
    """It holds if the static loss fails and no control without a dynamical loss does as well."""
    plan = trained.plan
    figure = pretend(trained.figure, plan.figure, "accuracy", {"": ours, "static": static})
    controls = pretend(trained.controls, plan.controls, "accuracy", {"": control, "dynamical": 0.99})
    assert judge(replace(trained, figure=figure, controls=controls))[0].verdict == verdict


@pytest.mark.parametrize(
    ("ours", "static", "control", "verdict"),
    [
        (0.97, 0.9, 0.9, "holds"),
        (0.97, 0.9, 0.97, "holds in part"),
        (0.9, 0.9, 0.9, "does not hold"),
        (0.8, 0.9, 0.9, "does not hold"),
    ],
)
def test_the_verdict_on_wide_networks(
    ours: float, static: float, control: float, verdict: str, trained: Trained
) -> None:
    value = {"": static, "dynamical": ours, "static, momentum": control}
    wide = pretend(trained.wide, trained.plan.wide, "valid", value)
    assert judge(replace(trained, wide=wide))[1].verdict == verdict


@pytest.mark.parametrize(
    ("at_onset", "factor", "verdict"),
    [(1.05, 0.95, "holds"), (0.5, 0.95, "holds in part"), (1.2, 1.05, "does not hold")],
)
def test_the_verdict_on_the_sharpness(at_onset: float, factor: float, verdict: str, trained: Trained) -> None:
    """In each period the loss rests, then alternates; the sharpness is as given there, and grows by a factor."""
    plan, figure = Plan(), {}
    for run in (*plan.figure["dynamical"], *plan.figure["half"]):
        updates, begin = np.arange(run.updates), run.period // 2 + 10 * run.seed
        losses = 1 + np.where(updates % (run.period + 1) >= begin, 0.1, 0.0) * (-1.0) ** updates
        at = updates[::25]
        calm = 0.4 * factor ** (at // (run.period + 1) + 0.01 * run.seed * (at > run.updates / 2))
        near = np.abs(at % (run.period + 1) - begin) <= 50
        figure[run] = {"losses": losses, "at": at, "sharpness": 2 / run.lr * np.where(near, at_onset, calm)}
    assert judge_sharpness(replace(trained, plan=plan, figure=figure)).verdict == verdict


@pytest.mark.parametrize(("last", "verdict"), [(100.0, "holds"), (0.01, "does not hold")])
def test_the_verdict_on_the_kernel(last: float, verdict: str, trained: Trained) -> None:
    figure = pretend(trained.figure, trained.plan.figure, "accuracy", {"": 0.5})
    for run, outcome in figure.items():
        figure[run] = outcome | {"all": np.array([1.0, last + 0.001 * run.seed])}
    assert judge(replace(trained, figure=figure))[3].verdict == verdict


@pytest.mark.slow
@pytest.mark.parametrize("amplitude", [1.0, 70.0])
def test_without_biases_nothing_is_learned(amplitude: float) -> None:
    """A network without biases sees the direction of a point alone, and each direction meets all arms."""
    runs = tuple(Run(seed, amplitude=amplitude, updates=20_000, bias=False) for seed in range(3))
    result = work(Job(runs))
    assert result["accuracy"].max() < 0.42
