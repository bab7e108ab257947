"""Every claim of a certificate against an attack: none may be false."""

from __future__ import annotations

import math
import random
import warnings
from collections import Counter

import pytest
import torch
from adversary import Attacker, constructed_formula, random_formula

import lossmith
from lossmith.properties.bounds import bounds_of, noise_test
from lossmith.properties.certificate import _check_gradient
from lossmith.properties.convexity import convex_in_logits, convex_in_probabilities
from lossmith.properties.domain import without_value
from lossmith.properties.extremes import Extreme
from lossmith.properties.known import equals_of
from lossmith.properties.parts import parts_of
from lossmith.properties.strictness import strictness_of
from lossmith.properties.subject import Subject, subject_of

CLASSES = (2, 4, 10, 100, 1000)
TOLERANCE = 1e-6  # of float64's rounding in the attack, relative


def false_claims(text: str, num_classes: int, hints: tuple[float, ...], counts: Counter[str]) -> list[str]:
    """The claims of a formula's certificate that the attack refutes."""
    try:
        subject = subject_of(lossmith.create(f"formula({text})"), num_classes)
        _check_gradient(subject)
    except ValueError:
        counts["refused"] += 1
        return []
    attacker = Attacker(text, num_classes, hints)
    at_zero = attacker.of_logits(torch.zeros(1, num_classes, dtype=torch.float64))
    if not bool(at_zero.isfinite()) or not bool(attacker.gradient(attacker.starts(4)).any()):
        counts["refused"] += 1
        return []
    found = _bounds(subject, attacker, counts)
    found += _shape(subject, attacker, counts)
    found += _value_and_equality(subject, attacker, counts)
    return [f"{text}, C = {num_classes}: {claim}" for claim in found]


def _bounds(subject: Subject, attacker: Attacker, counts: Counter[str]) -> list[str]:
    claimed = bounds_of(subject, parts_of(subject))
    reached = {
        "largest": (claimed.largest, attacker.largest()),
        "smallest": (claimed.smallest, attacker.largest(-1.0)),
        "gradient": (claimed.gradient, attacker.steepest()),
    }
    return [
        f"{name} {extreme}, reached {most}"
        for name, (extreme, most) in reached.items()
        if not _holds(name, extreme, most, counts)
    ]


def _holds(name: str, extreme: Extreme, reached: float, counts: Counter[str]) -> bool:
    counts[f"{name} {'proved' if extreme.proved is not None else extreme.attained_how}"] += 1
    if extreme.proved is None:
        return not math.isnan(extreme.attained)
    size = abs(extreme.proved) + abs(reached)
    if extreme.apart < 60 and reached > extreme.proved:
        return True  # the attack went beyond the logits that the claim is for
    return extreme.attained <= extreme.proved + 1e-12 * size and reached <= extreme.proved + TOLERANCE * size + 1e-12


def _shape(subject: Subject, attacker: Attacker, counts: Counter[str]) -> list[str]:
    parts, found = parts_of(subject), []
    for name, examine in (("p", convex_in_probabilities), ("logits", convex_in_logits)):
        claimed = examine(subject, parts)
        counts[f"convex in {name} {claimed.how}"] += 1
        if claimed.how == "proved":
            dent = attacker.dent(in_logits=name == "logits")
            if dent > 1e-9:
                found.append(f"convex in {name} {claimed.detail}, dent {dent}")
    noise = noise_test(subject, parts)
    counts[f"noise {noise.how}"] += 1
    spread = attacker.spread_of_sums()
    if noise.how == "proved" and spread > 1e-9:
        found.append(f"{noise}, sums spread by {spread}")
    claimed = strictness_of(subject, parts)
    counts[f"strictness {claimed.kind} {claimed.how}"] += 1
    logit = attacker.line(601, min(20.0, claimed.apart / 2))
    s = attacker.strictness(logit)
    if claimed.how == "proved" and not _kind_holds(claimed.kind, claimed.crossings, logit.sigmoid(), s):
        found.append(f"strictness {claimed}")
    return found


def _value_and_equality(subject: Subject, attacker: Attacker, counts: Counter[str]) -> list[str]:
    parts, found, C = parts_of(subject), [], attacker.C
    assert parts is not None
    missing, equals = without_value(parts), equals_of(subject)
    counts["a value everywhere " + ("proved" if missing is None else missing.split(" ")[1])] += 1
    with torch.no_grad():
        own = attacker.terms(attacker.starts().log_softmax(1))[:, 0]  # in others' terms 0 * infinity is no gap
        if missing is None and bool(own.isnan().any()):
            found.append("a value everywhere")
        line = attacker.even(attacker.line(401, 8.0))
        z = torch.cat([line, line.roll(1, 1), 2 * attacker.random(50, C)])
        value = attacker.of_logits(z)
        target = torch.zeros(len(z), dtype=torch.int64)
        for equal in equals:
            counts[f"equal {equal.how}"] += 1
            if equal.how == "proved" and C in equal.num_classes:
                known = lossmith.create(equal.known, reduction="none")
                inside = -z.log_softmax(1).amin(1) < (subject_of(known, C).linear_above(z.dtype) or math.inf)
                left = (value - equal.factor * known(z, target))[inside]
                if float(left.max() - left.min()) > 1e-7 * float(attacker.terms(z.log_softmax(1)).abs().sum(1).max()):
                    found.append(f"{equal}")
    return found


def _kind_holds(kind: str, crossings: tuple[float, ...], p: torch.Tensor, s: torch.Tensor) -> bool:
    usable = s.isfinite() & (p < 1 - 1e-7)
    p, above = p[usable], s[usable] - 1
    error = 1e-6 * (1 + above.abs())
    if kind == "mixed":
        if len(crossings) != 1:
            return True
        left, right = above[p < crossings[0] - 1e-4], above[p > crossings[0] + 1e-4]
        sides = [(bool((x > 1e-6).any()), bool((x < -1e-6).any())) for x in (left, right)]
        return not all(sides[0]) and not all(sides[1])
    return bool(((above >= -error) | (kind == "liberal")).all() and ((above <= error) | (kind == "strict")).all())


def attack(seed: int, count: int, constructed: bool, counts: Counter[str]) -> list[str]:
    """Attack some formulas, each with one number of classes."""
    rng, found = random.Random(seed), []
    for i in range(count):
        text, hints = constructed_formula(rng) if constructed else (random_formula(rng), ())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found += false_claims(text, CLASSES[i % len(CLASSES)], hints, counts)
    return found


KNOWN = [  # of each a claim was false: the formula, the number of classes, where to look
    ("y*c + 0.2*y*exp(-1000000*square(p - 0.37))", 4, (0.37,)),
    ("n*y*(1 - p)", 10, ()),
    ("y*((n - 4)*c + 1 - p)", 10, ()),
    ("(1 - y)*sqrt(p) - y*log(p)", 1000, ()),
    ("(exp(2.4092 - p*(1 + y)) - cos(cos(sin(p))))/n", 100, ()),
    ("(0.1*y + 0.9/n)*c", 10, ()),
    ("y*sin(3*p)", 10, ()),
    ("sqrt(p)", 10, ()),
    ("y*pow(square(p - 0.5) - 1e-6, 1.5)", 10, (0.5,)),
    # no false claim but an error: a slope that has a value for small p only
    ("y*c + 0.3*(((max(p, 1.7) * 3.0) * (max(p, p) + max((1 - p), 1.7))))", 4, ()),
    ("y*c + 0.3*(min(max((0.3 * 0.3), (p - 2.0)), ((c * p) / (p - p))))", 4, ()),  # enclosures have no value anywhere
    ("y*(exp(n)) + (1 - y)*(abs(p))", 100, ()),  # a constant beyond float32
    ("y*((sqrt(p) / pow(p, 3.0)))", 4, ()),  # its known equals are continued by their tangents
    # no false claim but a false alarm: terms of 1,000 that cancel
    ("y*((p - n)) + (1 - y)*((1 - p))", 1000, ()),
    ("y*c + 0.2*y/square(p - 0.1834)", 100, (0.1834,)),
]


@pytest.mark.parametrize("text, num_classes, hints", KNOWN)
def test_what_was_false_once(text: str, num_classes: int, hints: tuple[float, ...]) -> None:
    assert false_claims(text, num_classes, hints, Counter()) == []


@pytest.mark.parametrize("constructed", [True, False])
def test_a_few_formulas(constructed: bool) -> None:
    assert attack(11, 2, constructed, Counter()) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(22))
def test_2200_formulas(seed: int) -> None:
    counts: Counter[str] = Counter()
    found = attack(1000 + seed, 100, seed < 2, counts)
    print(dict(sorted(counts.items())))
    assert found == []
