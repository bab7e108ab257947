from __future__ import annotations

import copy
import io
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unroll import Unroll, Update, adam, sgd

import lossmith
from lossmith.learned import AdaptiveLoss, OnlineLossLearner

C = 4
OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any], Update]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}, sgd(0.1)),
    "heavy ball": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}, sgd(0.05, 0.9)),
    "nesterov + weight decay": (
        torch.optim.SGD,
        {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        sgd(0.05, 0.9, 0.01, nesterov=True),
    ),
    "adam": (torch.optim.Adam, {"lr": 0.01}, adam(0.01)),
    "adam + weight decay": (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}, adam(0.01, 0.1)),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}, adam(0.01, 0.1, decoupled=True)),
}


def network() -> nn.Module:
    """Convolutions, batch norm and dropout, in float64."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.Tanh(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(5 * 16, C),
    ).double()


def learnable(**arguments: Any) -> AdaptiveLoss:
    return AdaptiveLoss(start="random", hidden=7, bias=True, **arguments).double()


def batch(seed: int, size: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 2, 4, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(C, (size,), generator=generator)


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def moved(learner: OnlineLossLearner, *step: Any) -> Tensor:
    """The gradient of the loss's parameters, as the step of plain descent at rate 1 shows it."""
    before = flat(learner.phi)
    learner.step(*step)
    return before - flat(learner.phi)


# The effective scale of `learnable` on these batches, not normalised, is .036 to .048.
SCALES: dict[str, dict[str, Any]] = {
    "fixed": {},
    "learned": {"scale": "learned"},
    "learned, at its cap": {"scale": "learned", "max_scale": 0.02},
}


@pytest.mark.parametrize("gradient", ["jvp", "unroll"])
@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_gradient_is_that_of_the_full_unroll(name: str, scale: str, clips: bool, gradient: str) -> None:
    cls, settings, update = OPTIMIZERS[name]
    model, loss = network(), learnable()
    clip = None if not clips else 0.1 if scale == "fixed" else 0.01
    cap = SCALES[scale].get("max_scale", 10.0 if scale == "learned" else None)
    oracle = Unroll(copy.deepcopy(model), copy.deepcopy(loss), update, clip, cap)
    optimizer = cls(model.parameters(), **settings)
    meta = torch.optim.SGD(loss.parameters(), 0.0)
    learner = OnlineLossLearner(model, loss, optimizer, meta, gradient=gradient, clip_grad_norm=clip, **SCALES[scale])
    for i in range(3):  # so that momentum is alive
        torch.manual_seed(i)
        learner.step(batch(i), batch(100 + i))
        torch.manual_seed(i)
        oracle.step(*batch(i))
    meta.param_groups[0]["lr"] = 1.0
    torch.manual_seed(9)
    found = moved(learner, batch(3), batch(103))
    torch.manual_seed(9)
    right = flat(oracle.phi_gradient(*batch(3), *batch(103)))
    assert oracle.has_clipped == clips
    assert right.norm() > 1e-8
    assert (found - right).norm() <= 1e-10 * right.norm()
    torch.testing.assert_close(flat(model.parameters()), flat(oracle.theta.values()), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["sgd", "nesterov + weight decay", "adamw"])
def test_the_next_batch_as_meta_batch_is_algorithm_2_with_that_batch(name: str) -> None:
    cls, settings, _ = OPTIMIZERS[name]
    losses = []
    for meta_data in ("given", "next"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(32, 9), nn.Tanh(), nn.Linear(9, C)).double()
        loss = learnable()
        meta = torch.optim.Adam(loss.parameters(), 1e-2)
        learner = OnlineLossLearner(model, loss, cls(model.parameters(), **settings), meta, meta_data=meta_data)
        for i in range(6):
            given = [batch(i + 1)] if meta_data == "given" else []
            learner.step(batch(i), *given)
        if meta_data == "next":
            learner.step(batch(6))
        losses.append(flat(loss.parameters()))
    torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("meta_data", ["given", "same", "next"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_central_differences_agree(name: str, meta_data: str) -> None:
    """Nothing of the identity is used: the task loss after a real step, at loss parameters moved to both sides."""
    cls, settings, _ = OPTIMIZERS[name]
    first, second = batch(0), batch(0 if meta_data == "same" else 1)

    def start() -> tuple[nn.Module, AdaptiveLoss, torch.optim.Optimizer]:
        model = network()
        model[3].p = 0.0
        optimizer = cls(model.parameters(), **settings)
        for i in (5, 6):
            F.cross_entropy(model(batch(i)[0]), batch(i)[1]).backward()
            optimizer.step()
            optimizer.zero_grad()
        return model, learnable(), optimizer

    model, loss, optimizer = start()
    direction = torch.randn_like(flat(loss.parameters()))
    direction /= direction.norm()

    def task_loss(h: float) -> float:
        model, loss, optimizer = start()
        torch.nn.utils.vector_to_parameters(flat(loss.parameters()) + h * direction, loss.parameters())
        logits = model(first[0])
        ours, of_cross_entropy = (
            torch.autograd.grad(f(logits, first[1]), logits, retain_graph=True)[0] for f in (loss, F.cross_entropy)
        )
        logits.backward(ours / ours.norm() * of_cross_entropy.norm())
        optimizer.step()
        return F.cross_entropy(model(second[0]), second[1]).item()

    h = 1e-4
    right = (task_loss(h) - task_loss(-h)) / (2 * h)
    meta = torch.optim.SGD(loss.parameters(), 1.0)
    learner = OnlineLossLearner(model, loss, optimizer, meta, meta_data=meta_data)
    before = flat(loss.parameters())
    learner.step(first, *([second] if meta_data == "given" else []))
    if meta_data == "next":
        learner.step(second)
    found = float((before - flat(loss.parameters())) @ direction)
    assert found == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("meta_data", ["given", "same", "next"])
def test_buffers_move_once_a_step(meta_data: str) -> None:
    """Batch norm's statistics are those of plain training on the same batches."""
    plain, model, loss = network(), network(), learnable()
    for each in (plain, model):
        each[3].p = 0.0
    learner = OnlineLossLearner(
        model,
        loss,
        torch.optim.SGD(model.parameters(), 0.0),
        torch.optim.SGD(loss.parameters(), 0.0),
        meta_data=meta_data,
    )
    for i in range(4):
        plain(batch(i)[0])
        learner.step(batch(i), *([batch(9)] if meta_data == "given" else []))
    torch.testing.assert_close(list(model.buffers()), list(plain.buffers()))


def test_the_model_trains_as_it_would_with_the_frozen_loss() -> None:
    """With the loss held still, a stock loop gives the same weights, bit for bit."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 9), nn.ReLU(), nn.Linear(9, C))
    other, loss = copy.deepcopy(model), AdaptiveLoss(start="random")
    ours, stock = (torch.optim.SGD(m.parameters(), 0.1, 0.9, nesterov=True, weight_decay=1e-3) for m in (model, other))
    learner = OnlineLossLearner(model, loss, ours, torch.optim.SGD(loss.parameters(), 0.0), scale="learned")
    for i in range(5):
        x, y = batch(i)[0].float(), batch(i)[1]
        learner.step((x, y), (x, y))
        stock.zero_grad()
        loss(other(x), y).backward()
        stock.step()
    assert all((a == b).all() for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("gradient", ["jvp", "difference"])
@pytest.mark.parametrize("meta_data", ["same", "next"])
@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.AdamW])
def test_a_run_resumed_in_the_middle_goes_on_bit_for_bit(
    cls: type[torch.optim.Optimizer], meta_data: str, gradient: str
) -> None:
    def make() -> tuple[nn.Module, AdaptiveLoss, torch.optim.Optimizer, OnlineLossLearner]:
        model, loss = network().float(), AdaptiveLoss()
        optimizer = cls(model.parameters(), lr=0.02, weight_decay=0.01)
        meta = torch.optim.Adam(loss.parameters(), 1e-2)
        learner = OnlineLossLearner(
            model, loss, optimizer, meta, meta_data=meta_data, gradient=gradient, every=2, clip_grad_norm=0.3
        )
        return model, loss, optimizer, learner

    def run(learner: OnlineLossLearner, steps: range) -> None:
        for i in steps:
            x, y = batch(i)
            learner.step((x.float(), y))

    model, loss, _, learner = make()
    torch.manual_seed(1)
    run(learner, range(20))
    file = io.BytesIO()
    again, _, optimizer, first = make()
    torch.manual_seed(1)
    run(first, range(10))  # the last one updates the loss
    saved = {
        "model": again.state_dict(),
        "optimizer": optimizer.state_dict(),
        "learner": first.state_dict(),
        "rng": torch.get_rng_state(),
    }
    torch.save(saved, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    resumed, new_loss, optimizer, second = make()
    resumed.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    second.load_state_dict(state["learner"])
    torch.set_rng_state(state["rng"])
    run(second, range(10, 20))
    assert second.updates == learner.updates
    for a, b in zip(
        [*resumed.parameters(), *new_loss.parameters()], [*model.parameters(), *loss.parameters()], strict=True
    ):
        assert (a == b).all()


@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.AdamW])
def test_a_state_is_a_moment_of_the_run_whatever_happens_after(cls: type[torch.optim.Optimizer]) -> None:
    """Kept in memory while training goes on, it brings the loss to where it went from there."""

    def make() -> tuple[nn.Module, AdaptiveLoss, torch.optim.Optimizer, OnlineLossLearner]:
        model, loss = network(), AdaptiveLoss().double()
        optimizer, meta = cls(model.parameters(), lr=0.02), torch.optim.Adam(loss.parameters(), 1e-2)
        options: dict[str, Any] = {"meta_data": "next", "gradient": "difference"}
        return model, loss, optimizer, OnlineLossLearner(model, loss, optimizer, meta, **options)

    model, loss, optimizer, learner = make()
    torch.manual_seed(1)
    for i in range(3):
        learner.step(batch(i))
    state, rng = learner.state_dict(), torch.get_rng_state()
    of_model, of_optimizer = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    learner.step(batch(3))
    wanted = [p.detach().clone() for p in loss.parameters()]
    for i in range(4, 7):
        learner.step(batch(i))
    for _ in range(2):
        model, loss, optimizer, learner = make()
        model.load_state_dict(of_model)
        optimizer.load_state_dict(copy.deepcopy(of_optimizer))
        learner.load_state_dict(state)
        torch.set_rng_state(rng)
        learner.step(batch(3))
        assert all((a == b).all() for a, b in zip(loss.parameters(), wanted, strict=True))


@pytest.mark.parametrize("audit", [2, 3])
def test_the_difference_is_measured_every_so_many_updates_before_and_after_a_restart(audit: int) -> None:
    """The first of every ``audit`` updates, however many steps an update takes."""

    def make() -> OnlineLossLearner:
        torch.manual_seed(0)
        model, loss = nn.Sequential(nn.Flatten(), nn.Linear(32, C)).double(), AdaptiveLoss().double()
        return OnlineLossLearner(
            model,
            loss,
            torch.optim.SGD(model.parameters(), 0.1),
            torch.optim.Adam(loss.parameters(), 1e-3),
            meta_data="same",
            gradient="difference",
            every=2,
            audit=audit,
            tolerance=1.0,
        )

    learner, measured = make(), []
    for i in range(24):
        if i == 9:
            state, learner = learner.state_dict(), make()
            learner.load_state_dict(state)
        if learner.step(batch(i)).error is not None:
            measured.append(i)
    # Updates are made at steps 1, 3, 5, ...; the audits are at every audit-th of them.
    assert measured == list(range(1, 24, 2 * audit))


def test_bad_measurements_before_a_restart_count_after_it() -> None:
    def make() -> OnlineLossLearner:
        model, loss = nn.Sequential(nn.Flatten(), nn.Linear(32, C)).double(), AdaptiveLoss().double()
        sgd, meta = torch.optim.SGD(model.parameters(), 0.1), torch.optim.Adam(loss.parameters(), 1e-3)
        options: dict[str, Any] = {"meta_data": "same", "gradient": "difference", "audit": 1, "tolerance": 0.0}
        return OnlineLossLearner(model, loss, sgd, meta, **options)

    learner = make()
    for i in range(3):
        assert learner.gradient == "difference"
        learner.step(batch(i))
        state, learner = learner.state_dict(), make()
        learner.load_state_dict(state)
    assert learner.gradient == "jvp"


def test_a_good_measurement_forgets_the_bad_ones() -> None:
    """Only three bad ones in a row end the difference."""
    model, loss = nn.Sequential(nn.Flatten(), nn.Linear(32, C)).double(), AdaptiveLoss().double()
    sgd, meta = torch.optim.SGD(model.parameters(), 0.1), torch.optim.Adam(loss.parameters(), 1e-3)
    learner = OnlineLossLearner(model, loss, sgd, meta, meta_data="same", gradient="difference", audit=1)
    for i, good in enumerate([False, False, True, False, False, False]):
        assert learner.gradient == "difference"
        learner.tolerance = math.inf if good else 0.0
        learner.step(batch(i))
    assert learner.gradient == "jvp"


def test_every_k_steps_and_a_share_of_the_batch() -> None:
    model, loss = network(), learnable()
    meta = torch.optim.SGD(loss.parameters(), 1.0)
    learner = OnlineLossLearner(model, loss, torch.optim.SGD(model.parameters(), 0.1), meta, every=3, meta_share=0.25)
    updated = []
    for i in range(7):
        wanted = learner.wants_meta_batch
        record = learner.step(batch(i), batch(50 + i, 3) if wanted else None)
        updated.append(record.task_loss is not None)
    assert updated == [False, False, True, False, False, True, False]
    assert learner.updates == 2


def test_a_share_of_the_batch_gives_on_average_the_whole_gradient() -> None:
    """A linear model without batch norm: over the parts of a batch the estimate's mean is the exact gradient."""
    torch.manual_seed(0)
    start, loss = nn.Sequential(nn.Flatten(), nn.Linear(32, C)).double(), learnable()
    (x, y), given = batch(0, 16), batch(1)

    def gradient(order: Tensor, share: float) -> Tensor:
        model, mine = copy.deepcopy(start), copy.deepcopy(loss)
        learner = OnlineLossLearner(
            model,
            mine,
            torch.optim.SGD(model.parameters(), 0.1),
            torch.optim.SGD(mine.parameters(), 1.0),
            scale="learned",  # normalising is not linear
            meta_share=share,
        )
        return moved(learner, (x[order], y[order]), given)

    parts = [gradient(torch.arange(16).roll(-4 * i), 0.25) for i in range(4)]
    torch.testing.assert_close(torch.stack(parts).mean(0), gradient(torch.arange(16), 1.0), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("meta_data", ["same", "next"])
def test_the_difference_is_close_and_its_error_is_measured(meta_data: str) -> None:
    errors, updates = [], []
    for gradient in ("jvp", "difference"):
        model, loss = network().float(), AdaptiveLoss(start="random")
        learner = OnlineLossLearner(
            model,
            loss,
            torch.optim.SGD(model.parameters(), 0.05, 0.9),
            torch.optim.SGD(loss.parameters(), 1.0),
            gradient=gradient,
            meta_data=meta_data,
            audit=1,
        )
        torch.manual_seed(0)
        before = flat(loss.parameters())
        for i in range(2 if meta_data == "next" else 1):
            x, y = batch(i)
            errors.append(learner.step((x.float(), y)).error)
        updates.append(flat(loss.parameters()) - before)
    (measured,) = [error for error in errors if error is not None]
    assert float((updates[0] - updates[1]).norm() / updates[0].norm()) == pytest.approx(measured, rel=0.05)
    assert measured < 0.01


def test_a_difference_that_is_too_far_off_gives_way_to_the_exact_product() -> None:
    """At once for the update that was measured, for good after three such measurements."""
    updates = []
    for gradient in ("jvp", "difference"):
        model, loss = network().float(), AdaptiveLoss(start="random")
        meta = torch.optim.SGD(loss.parameters(), 1.0)
        learner = OnlineLossLearner(
            model, loss, torch.optim.SGD(model.parameters(), 0.05), meta, gradient=gradient, tolerance=0.0, audit=2
        )
        x, y = batch(0)
        torch.manual_seed(0)
        updates.append(moved(learner, (x.float(), y), (x.float(), y)))
        for _ in range(4):
            assert learner.gradient == gradient
            learner.step((x.float(), y), (x.float(), y))
        assert learner.gradient == "jvp"
    assert (updates[0] == updates[1]).all()


def test_the_scale_is_capped() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, C)).double()
    other = copy.deepcopy(model)
    loss = AdaptiveLoss(control="scale").double()
    with torch.no_grad():
        loss.log_scale.fill_(3.0)
    meta = torch.optim.SGD(loss.parameters(), 0.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    learner = OnlineLossLearner(model, loss, optimizer, meta, scale="learned", max_scale=2.0)
    record = learner.step(batch(0), batch(1))
    assert float(record.scale) == pytest.approx(2.0, rel=1e-12)
    assert float(record.scale / record.gain) == pytest.approx(torch.tensor(3.0).exp().item())
    (2 * F.cross_entropy(other(batch(0)[0]), batch(0)[1])).backward()
    torch.optim.SGD(other.parameters(), 0.1).step()
    torch.testing.assert_close(list(model.parameters()), list(other.parameters()))


@pytest.mark.parametrize("base", ["cross_entropy", "ngl", "gce"])
def test_a_fixed_scale_is_that_of_the_base(base: str) -> None:
    """Whatever the network is, the gradient that trains the model has the norm of the base's, not its shape."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, C)).double()
    loss = AdaptiveLoss(lossmith.create(base)).double()
    with torch.no_grad():
        for p in loss.parameters():
            p.normal_()
    (x, y), of_model = batch(0), copy.deepcopy(model.state_dict())
    learner = OnlineLossLearner(
        model, loss, torch.optim.SGD(model.parameters(), 1.0), torch.optim.SGD(loss.parameters(), 0.0)
    )
    record = learner.step((x, y), batch(1))
    other = nn.Sequential(nn.Flatten(), nn.Linear(32, C)).double()
    other.load_state_dict(of_model)
    logits = other(x)
    (of_base,) = torch.autograd.grad(lossmith.create(base)(logits, y), logits, retain_graph=True)
    # d loss / d bias is the column sum of that gradient; the whole of it is what the frozen loss gives.
    (frozen,) = torch.autograd.grad(loss.freeze()(logits, y), logits)
    assert float(frozen.norm()) == pytest.approx(float(of_base.norm()), rel=1e-12)
    assert float((frozen - of_base).norm()) > 0.1 * float(of_base.norm())
    torch.testing.assert_close(of_model["1.bias"] - model.state_dict()["1.bias"], frozen.sum(0))
    assert float(record.scale) == pytest.approx(1.0, rel=1e-12)
    assert float(record.loss) == pytest.approx(float(loss.freeze()(logits, y).detach()), rel=1e-12)


def test_the_scale_is_measured_by_the_function_asked_for() -> None:
    model, loss = nn.Sequential(nn.Flatten(), nn.Linear(32, C)).double(), AdaptiveLoss().double()
    before = model.state_dict()["1.bias"].clone()
    learner = OnlineLossLearner(
        model,
        loss,
        torch.optim.SGD(model.parameters(), 0.1),
        torch.optim.SGD(loss.parameters(), 0.0),
        meta_data="same",
        base=lambda z, y: 5 * F.cross_entropy(z, y),
    )
    z = model(batch(0)[0])
    (slope,) = torch.autograd.grad(5 * F.cross_entropy(z, batch(0)[1]), z)
    learner.step(batch(0))
    torch.testing.assert_close(before - model.state_dict()["1.bias"], 0.1 * slope.sum(0))


def test_growing_is_not_learned_where_the_scale_is_fixed() -> None:
    """The gradient is 0 along the direction that only multiplies the loss."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, C)).double()
    loss = AdaptiveLoss(start="random", output="identity").double()
    meta = torch.optim.SGD(loss.parameters(), 1.0)
    learner = OnlineLossLearner(model, loss, torch.optim.SGD(model.parameters(), 0.1), meta)
    last = next(reversed(list(loss.parameters())))  # of an identity output: M is linear in these
    before = last.detach().clone()
    learner.step(batch(0), batch(1))
    change = before - last.detach()
    assert float(change.norm()) > 1e-6
    assert abs(float((change * before).sum())) < 1e-12 * float(change.norm() * before.norm())


def test_a_fused_loss_is_differentiated_twice_by_its_reference_path() -> None:
    """131,072 logits, where fused losses begin: they have no second derivative, which the update of the loss needs."""
    torch.manual_seed(0)
    model = nn.Linear(2, 1024)
    loss = AdaptiveLoss(lossmith.create("ngl"), control="scale")
    meta = torch.optim.SGD(loss.parameters(), 1.0)
    learner = OnlineLossLearner(
        model, loss, torch.optim.SGD(model.parameters(), 0.1), meta, meta_data="same", scale="learned"
    )
    learner.step((torch.randn(128, 2), torch.randint(1024, (128,))))
    assert loss.log_scale.item() != 0


def test_a_learned_scale_is_hypergradient_descent() -> None:
    """For M = e^s CE and plain SGD, d task / d s = -lr e^s <g', g>: Baydin et al., 2018, arXiv 1703.04782."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, C)).double()
    other, loss = copy.deepcopy(model), AdaptiveLoss(control="scale").double()
    optimizer, meta = torch.optim.SGD(model.parameters(), 0.1), torch.optim.SGD(loss.parameters(), 1.0)
    learner = OnlineLossLearner(model, loss, optimizer, meta, scale="learned")
    change = float(moved(learner, batch(0), batch(1)))

    def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return flat(torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters())))

    g = gradient(other, *batch(0))
    after = gradient(model, *batch(1))
    assert change == pytest.approx(-0.1 * float(g @ after), rel=1e-9)


def test_memory_is_flat_over_500_steps() -> None:
    """Nothing of a step outlives it: the number of live tensors does not grow."""
    import gc

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    model, loss = nn.Sequential(nn.Flatten(), nn.Linear(32, C)).double(), AdaptiveLoss().double()
    learner = OnlineLossLearner(
        model,
        loss,
        torch.optim.AdamW(model.parameters(), 0.01),
        torch.optim.Adam(loss.parameters(), 1e-3),
        meta_data="next",
    )
    one = batch(0)
    for _ in range(5):
        learner.step(one)
    before = tensors()
    for _ in range(500):
        learner.step(one)
    assert tensors() <= before


def test_bf16_autocast() -> None:
    """The model's passes in bfloat16 give the float32 update up to bfloat16's rounding."""
    found = []
    for autocast in (None, torch.bfloat16):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, C))
        loss = AdaptiveLoss(start="random")
        meta = torch.optim.SGD(loss.parameters(), 1.0)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
        learner = OnlineLossLearner(model, loss, optimizer, meta, autocast=autocast)
        (x, y), (x2, y2) = batch(0, 64), batch(1, 64)
        found.append(moved(learner, (x.float(), y), (x2.float(), y2)))
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert 0 < float((found[0] - found[1]).norm()) < 0.03 * float(found[0].norm())


class Wrapped(nn.Module):
    """Takes keywords and returns an object with logits, as models of Hugging Face do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, C)

    def forward(self, left: Tensor, right: Tensor) -> Any:
        class Output:
            logits = self.linear(left + right)

        return Output()


@pytest.mark.parametrize("as_mapping", [True, False])
def test_models_with_several_inputs_and_named_outputs(as_mapping: bool) -> None:
    model, loss = Wrapped(), AdaptiveLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    learner = OnlineLossLearner(
        model, loss, optimizer, torch.optim.SGD(loss.parameters(), 0.1), meta_data="next", meta_share=0.5
    )
    left, right, y = torch.randn(8, 32), torch.randn(8, 32), torch.arange(8) % C
    inputs = {"left": left, "right": right} if as_mapping else (left, right)
    for _ in range(3):
        learner.step((inputs, y))
    assert learner.updates == 2


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    model, loss = nn.Linear(3, C), AdaptiveLoss()
    sgd, meta = torch.optim.SGD(model.parameters(), 0.1), torch.optim.Adam(loss.parameters())

    def refused(match: str, *arguments: Any, **options: Any) -> None:
        with pytest.raises(ValueError, match=match):
            OnlineLossLearner(*arguments, **options)

    refused("RMSprop", model, loss, torch.optim.RMSprop(model.parameters()), meta)
    refused("amsgrad", model, loss, torch.optim.Adam(model.parameters(), amsgrad=True), meta)
    refused("dampening", model, loss, torch.optim.SGD(model.parameters(), 0.1, 0.9, 0.5), meta)
    refused("no parameters", model, nn.CrossEntropyLoss(), sgd, meta)
    refused("meta_optimizer", model, loss, sgd, torch.optim.Adam(model.parameters()))
    refused("not the model's", model, loss, torch.optim.SGD([*model.parameters(), *loss.parameters()], 0.1), meta)
    refused("half precision", model, loss, sgd, meta, gradient="difference", autocast=torch.bfloat16)
    refused("part of the batch", model, loss, sgd, meta, gradient="unroll", meta_share=0.5)
    refused("meta_data", model, loss, sgd, meta, meta_data="valid")
    refused("scale must be", model, loss, sgd, meta, scale="free")
    refused("add scale='learned'", model, loss, sgd, meta, max_scale=1.0)
    only_scale = AdaptiveLoss(control="scale")
    refused(
        "only a scale to learn: add scale='learned'", model, only_scale, sgd, torch.optim.Adam(only_scale.parameters())
    )
    x, y = torch.randn(4, 3), torch.arange(4)
    with pytest.raises(ValueError, match="needs a meta batch"):
        OnlineLossLearner(model, loss, sgd, meta).step((x, y))
    with pytest.raises(ValueError, match="takes no meta batch"):
        OnlineLossLearner(model, loss, sgd, meta, meta_data="same").step((x, y), (x, y))
