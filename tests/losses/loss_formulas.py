"""The published formulas of the classification losses, as functions of a probability on mpmath numbers of 50 digits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import mpmath
from mpmath import mp, mpf

mp.dps = 50
INF = mpf("inf")
STEP = mpf("1e-12")  # of central differences: their error is some 1e-24

Formula = Callable[[Any], Any]


class Loss(NamedTuple):
    """A formula: `target(p, k)` for class k, or `positive(p, rest)` and `negative(p, rest)` with rest = 1 - p."""

    target: Callable[[Any, int], Any] | None = None
    positive: Callable[[Any, Any], Any] | None = None
    negative: Callable[[Any, Any], Any] | None = None
    probabilities: Callable[[list[Any]], list[tuple[Any, Any]]] | None = None
    shift: Sequence[Any] | None = None
    smoothing: float | None = None


class Setting(NamedTuple):
    """The number of classes, and what continues an exploding formula by its tangent."""

    C: int
    explodes: Callable[[Formula], Formula]


def formula(name: str, num_classes: int, log_slope: float = 20, **arguments: Any) -> Loss:
    """The loss of that name; `log_slope` is the logarithm of the slope at which an exploding one goes on linearly."""
    return FORMULAS[name](Setting(num_classes, lambda phi: with_tangent(phi, log_slope)), **arguments)


# --- target losses: one function of the target's probability ---


def of_target(phi: Formula) -> Loss:
    return Loss(target=lambda p, k: phi(p))


def cross_entropy(_: Setting) -> Loss:
    return of_target(lambda p: -mp.log(p))


def scaled(_: Setting, factor: float = 1) -> Loss:
    return of_target(lambda p: -mpf(factor) * mp.log(p))


def label_smoothing(_: Setting, epsilon: float = 0.1) -> Loss:
    return Loss(target=lambda p, k: -mp.log(p), smoothing=epsilon)


def logit_adjusted(_: Setting, class_counts: Sequence[float], tau: float = 1) -> Loss:
    counts = [mpf(n) for n in class_counts]
    return Loss(target=lambda p, k: -mp.log(p), shift=[mpf(tau) * mp.log(n / sum(counts)) for n in counts])


def rooted(setting: Setting, k: float = 3, form: str = "convex", m: float | None = None) -> Loss:
    root = mpf(k)
    if root == INF:
        return of_target(lambda p: -mp.log(p))
    if form == "released":
        return of_target(lambda p: mpf(k if m is None else m) * (1 - p ** (1 / root)))
    return of_target(setting.explodes(lambda p: root * (p ** (-1 / root) - 1)))


def tempered(setting: Setting, kappa: float | Sequence[float] = 0.5) -> Loss:
    def curve(kappa: Any) -> Formula:
        if kappa == 0:
            return lambda p: -mp.log(p)
        power = lambda p: (p**-kappa - 1) / kappa  # noqa: E731
        return setting.explodes(power) if kappa > 0 else power

    each = [kappa] * setting.C if isinstance(kappa, (int, float)) else kappa
    curves = [curve(mpf(value)) for value in each]
    return Loss(target=lambda p, k: curves[k](p))


def m(setting: Setting) -> Loss:
    return of_target(setting.explodes(lambda p: 1 / p - 1))


def param_m(setting: Setting, alpha: float = 0.5) -> Loss:
    return of_target(setting.explodes(lambda p: p ** -mpf(alpha) - 1))


def l_curve(p: Any) -> Any:
    return 1 / mp.sqrt(p * (2 - p)) - 1  # p (2 - p) = 1 - (1 - p)^2


def l_loss(setting: Setting) -> Loss:
    return of_target(setting.explodes(l_curve))


def parabolic(_: Setting) -> Loss:
    return of_target(lambda p: 1 - p**2)


def circle(_: Setting) -> Loss:
    return of_target(lambda p: mp.sqrt(1 - p**2))


def cos(_: Setting) -> Loss:
    return of_target(lambda p: mp.cos(mp.pi * p / 2))


def focal(_: Setting, gamma: float = 2) -> Loss:
    return of_target(lambda p: -((1 - p) ** mpf(gamma)) * mp.log(p) if p < 1 else mpf(0))


def poly1(_: Setting, epsilon: float = 1) -> Loss:
    return of_target(lambda p: -mp.log(p) + epsilon * (1 - p))


def gce(_: Setting, q: float = 0.7) -> Loss:
    return of_target(lambda p: (1 - p ** mpf(q)) / mpf(q))


def mae(_: Setting) -> Loss:
    return of_target(lambda p: 1 - p)


def taylor(_: Setting, order: int = 2) -> Loss:
    return of_target(lambda p: sum((1 - p) ** i / i for i in range(1, order + 1)))


def symmetric(_: Setting, alpha: float = 0.1, beta: float = 1, A: float = -4) -> Loss:
    return of_target(lambda p: (-mpf(alpha) * mp.log(p) if alpha else 0) - mpf(beta) * A * (1 - p))


# --- class-wise losses: a part of the target class, a part of every other ---


def m_full(setting: Setting) -> Loss:
    curve = setting.explodes(lambda p: 1 / p - 1)
    return Loss(positive=lambda p, rest: curve(p), negative=lambda p, rest: curve(rest))


def l_full(setting: Setting) -> Loss:
    curve = setting.explodes(l_curve)
    return Loss(positive=lambda p, rest: curve(p), negative=lambda p, rest: curve(rest))


def brier(_: Setting) -> Loss:
    return Loss(positive=lambda p, rest: rest**2, negative=lambda p, rest: p**2)


def ngl(setting: Setting, alpha: float = 2.4092, scaling: str = "none", class_reduction: str = "mean") -> Loss:
    divisor = setting.C if class_reduction == "mean" else 1

    def entry(p: Any, y: int) -> Any:
        x = 1 / (1 + mp.exp(-p)) if scaling == "sigmoid" else p
        return (mp.exp(mpf(alpha) - x * (1 + y)) - mp.cos(mp.cos(mp.sin(x)))) / divisor

    return Loss(positive=lambda p, rest: entry(p, 1), negative=lambda p, rest: entry(p, 0))


def sparse_label_smoothing(setting: Setting, epsilon: float = 0.1) -> Loss:
    C, e = setting.C, mpf(epsilon)
    kept = e * (C - 1) / C

    def positive(p: Any, rest: Any) -> Any:
        return -(1 - e + e / C) * mp.log(p) - (kept * mp.log(rest / (C - 1)) if kept else 0)

    return Loss(positive=positive, negative=lambda p, rest: mpf(0))


def bi_tempered(_: Setting, t1: float = 0.8, t2: float = 1) -> Loss:
    share = 2 - mpf(t1)
    return Loss(
        positive=lambda p, rest: -tempered_log(p, mpf(t1)) - 1 / share + p**share / share,
        negative=lambda p, rest: p**share / share,
        probabilities=None if t2 == 1 else lambda z: tempered_softmax(z, mpf(t2)),
    )


TARGET = (cross_entropy, label_smoothing, logit_adjusted, rooted, tempered, m, param_m, parabolic, circle, cos)
TARGET += (scaled, focal, poly1, gce, mae, taylor, symmetric)
CLASSWISE = (m_full, l_full, brier, ngl, sparse_label_smoothing, bi_tempered)
FORMULAS: dict[str, Callable[..., Loss]] = {each.__name__: each for each in TARGET + CLASSWISE} | {"l": l_loss}


# --- their ingredients ---


def softmax(z: list[Any]) -> list[tuple[Any, Any]]:
    """Pairs of p and 1 - p, the latter summed over the other classes."""
    top = max(z)
    powers = [mp.exp(value - top) if value > -INF else mpf(0) for value in z]
    total = mp.fsum(powers)
    return [(power / total, mp.fsum(powers[:j] + powers[j + 1 :]) / total) for j, power in enumerate(powers)]


def tempered_log(x: Any, t: Any) -> Any:
    """log_t of Amid et al."""
    return mp.log(x) if t == 1 else (x ** (1 - t) - 1) / (1 - t)


def tempered_exp(x: Any, t: Any) -> Any:
    """exp_t of Amid et al."""
    base = 1 + (1 - t) * x
    return base ** (1 / (1 - t)) if base > 0 and base < INF else mpf(0)


def tempered_softmax(z: list[Any], t: Any) -> list[tuple[Any, Any]]:
    """exp_t(z_j - x) with the x, found by bracketing, that makes them sum to 1."""
    top = max(z)

    def excess(x: Any) -> Any:
        return mp.fsum(tempered_exp(value - top - x, t) for value in z) - 1

    if excess(mpf(0)) == 0:
        x = mpf(0)
    else:
        high = mpf(1)
        while excess(high) > 0:
            high *= 2
        x = mpmath.findroot(excess, (mpf(0), high), solver="anderson", tol=mpf("1e-90"), maxsteps=500)
    p = [tempered_exp(value - top - x, t) for value in z]
    return [(value, mp.fsum(p[:j] + p[j + 1 :])) for j, value in enumerate(p)]


def with_tangent(phi: Formula, log_slope: float) -> Formula:
    """Phi, a function of p, continued by its tangent in c = -log p where that tangent's slope is e^log_slope."""

    def of_c(c: Any) -> Any:
        return phi(mp.exp(-c))

    steepest = mp.exp(log_slope)

    def slope(c: Any) -> Any:
        return (of_c(c + STEP) - of_c(c - STEP)) / (2 * STEP)

    @functools.cache
    def knee() -> Any:
        low, high = mpf(0), mpf(1)
        while slope(high) < steepest:
            high *= 2
        for _ in range(120):
            middle = (low + high) / 2
            low, high = (middle, high) if slope(middle) < steepest else (low, middle)
        return low

    def continued(p: Any) -> Any:
        c = -mp.log(p)
        if c < INF and slope(c) <= steepest:
            return phi(p)
        return of_c(knee()) + steepest * (c - knee())

    return continued
