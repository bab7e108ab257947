"""Finite and right where floating point is hard: extreme logits, masks, probabilities near 1, empty batches."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import mpmath
import pytest
import torch
from loss_cases import CASES, COUNTS, IDS, STATIC, C, Case, is_bounded
from loss_formulas import formula, tempered_softmax
from mpmath import mp, mpf
from reference import Table, evaluate, tabulate
from torch import Tensor

import lossmith
from lossmith.kernels import rows as kernel_rows

HALF = (torch.float16, torch.bfloat16)
DTYPES = (*HALF, torch.float32, torch.float64)
INF = math.inf
STATIC_IDS = [case.text for case in STATIC]
every_case = pytest.mark.parametrize("case", CASES, ids=IDS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


# --- extreme logits --------------------------------------------------------------------------------------------------

PATTERNS = [[1, -1, -1, -1], [1, 1, -1, -1], [0, -1, 1, 0], [1, 1, 1, 1], [0, -1, 1, 0.5], [-1, -0.5, 0.5, 0]]
# 60,000 fits float16 (its largest number is 65,504); 9,984 is 10,000 rounded to bfloat16.
LEVELS = {torch.float16: (0.0, 96.0, 9984.0, 60000.0)}


@every_dtype
@every_case
def test_extreme_logits_give_the_right_finite_value_and_a_finite_gradient(case: Case, dtype: torch.dtype) -> None:
    for level in LEVELS.get(dtype, (0.0, 96.0, 9984.0)):
        rows = [[level * sign for sign in pattern] for pattern in PATTERNS for _ in range(C)]
        labels = list(range(C)) * len(PATTERNS)
        table = _extreme_table(CASES.index(case), level, dtype == torch.float16)
        expected = evaluate(table, labels, reduction="none", class_scale=case.class_scale()).value
        tolerance = {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-6}
        if case.name == "circle":  # sqrt(2c): the rounding of c = 0 becomes its root
            tolerance["atol"] **= 0.5
        for target in (torch.tensor(labels), torch.eye(C, dtype=dtype).repeat(len(PATTERNS), 1)):
            value, gradient = _call(case, rows, target, dtype)
            torch.testing.assert_close(value.double(), torch.tensor(expected, dtype=torch.float64), **tolerance)
            assert gradient.isfinite().all()


@functools.lru_cache(maxsize=8)
def _extreme_table(index: int, level: float, half: bool) -> Table:
    rows = [[level * sign for sign in pattern] for pattern in PATTERNS for _ in range(C)]
    return tabulate(CASES[index].formula(log_slope=8 if half else 20), rows, slopes=False)


@every_case
def test_logits_of_1e20_are_finite(case: Case) -> None:
    for dtype in (torch.bfloat16, torch.float32):
        value, gradient = _call(case, [[1e20, -1e20, 0, 1]] * C, torch.arange(C), dtype)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    "text",
    [
        "rooted:k=1e-300",
        "rooted:k=1e-3",
        "rooted:k=1e30",
        "rooted:k=1e300",
        "rooted:form=released,k=1e-300",
        "rooted:form=released,k=1e300",
        "rooted:form=released,m=inf",
        "tempered:kappa=1e-320",
        "tempered:kappa=-1e-320",
        "tempered:kappa=1e-30",
        "tempered:kappa=1e6",
        "tempered:kappa=-1e6",
        "tempered:kappa=[1e-40,-1e-40,1e6,-1e6]",
        "param_m:alpha=1e-320",
        "param_m:alpha=1e3",
        "focal:gamma=1e-300",
        "focal:gamma=1000",
        "poly1:epsilon=inf",
        "gce:q=1e-300",
        "taylor:order=1000",
        "symmetric:alpha=inf",
        "symmetric:beta=inf",
        "symmetric:A=-inf",
        "symmetric:beta=0,A=-inf",
        "bi_tempered:t1=0,t2=4",
        "bi_tempered:t1=1,t2=4",
        "bi_tempered:t1=1,t2=0.5",
        "bi_tempered:t1=0.5,t2=1e-3",
        "bi_tempered:t1=0.9999999,t2=1.5",
        "ngl:alpha=20",
        "ngl:alpha=-20",
        "label_smoothing:epsilon=1e-320",
        "sparse_label_smoothing:epsilon=1",
        "dynamical:amplitude=1e9",
        "dynamical(m_full):amplitude=1e9,period=2",
    ],
)
def test_an_accepted_argument_is_finite_at_every_logit(text: str) -> None:
    """What a loss cannot honour is refused at construction; what it accepts has to work."""
    try:
        loss = lossmith.create(text)
    except ValueError:
        return
    loss.to(torch.float32)
    for level in (0.0, 1.0, 96.0, 9984.0):
        logits = (level * torch.tensor(PATTERNS)).requires_grad_()
        for label in range(C):
            value = loss(logits, torch.full((len(PATTERNS),), label))
            (gradient,) = torch.autograd.grad(value, logits)
            assert value.isfinite(), f"value at logits +-{level}"
            assert gradient.isfinite().all(), f"gradient at logits +-{level}"


# --- masked classes --------------------------------------------------------------------------------------------------

MASKED = [([1, -INF, 0.5, 2], (0, 2, 3)), ([-INF, -INF, 3, -1], (2, 3)), ([-INF, -INF, -INF, 2], (3,))]
TARGET_MASKED = [[-INF, 0.25, 1, 2], [-INF, -INF, 0, 1], [-INF, -INF, -INF, 1]]
ROWS = [row for row, labels in MASKED for _ in labels]
LABELS = [label for _, labels in MASKED for label in labels]


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
@every_dtype
@every_case
def test_masked_classes_count_for_nothing(case: Case, dtype: torch.dtype, smoothing: float) -> None:
    if case.name == "sparse_label_smoothing":
        pytest.skip("the published formula has no masked classes: see test_masking_a_class_is_removing_it")
    table = tabulate(case.formula(log_slope=8 if dtype == torch.float16 else 20), ROWS, slopes=False)
    smoothing = 0.0 if case.name == "label_smoothing" else smoothing
    result = evaluate(table, LABELS, reduction="none", label_smoothing=smoothing, class_scale=case.class_scale())
    expected = torch.tensor(result.value, dtype=torch.float64)
    for target in (torch.tensor(LABELS), torch.eye(C, dtype=dtype)[LABELS]):
        value, gradient = _call(case, ROWS, target, dtype, smoothing)
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
        assert gradient.isfinite().all()
        assert (gradient[torch.tensor(ROWS) == -INF] == 0).all()


@pytest.mark.parametrize("case", STATIC, ids=STATIC_IDS)
def test_masking_a_class_is_removing_it(case: Case) -> None:
    if case.name == "ngl" or isinstance(case.arguments.get("kappa"), list):
        pytest.skip("ngl's mean runs over all classes; a kappa per class has one length")
    loss = case._replace(arguments={key: value for key, value in case.arguments.items() if key != "class_counts"})
    for row, labels in MASKED:
        kept = [j for j in range(C) if row[j] != -INF]
        counts = {"class_counts": [COUNTS[j] for j in kept]} if case.name == "logit_adjusted" else {}
        for label in labels:
            logits = torch.tensor([row], dtype=torch.float32)
            masked = case.make()(logits, torch.tensor([label]))
            removed = loss.make(**counts)(logits[:, kept], torch.tensor([kept.index(label)]))
            torch.testing.assert_close(masked, removed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
@every_dtype
@every_case
def test_a_masked_target_costs_infinity_or_the_bound(case: Case, dtype: torch.dtype, smoothing: float) -> None:
    if case.name == "label_smoothing" and (smoothing or case.arguments.get("epsilon") == 1):
        pytest.skip("its smoothing is its own, and at epsilon=1 no target is left")
    target = torch.zeros(3, dtype=torch.long)
    table = tabulate(case.formula(log_slope=8 if dtype == torch.float16 else 20), TARGET_MASKED, slopes=False)
    result = evaluate(table, [0] * 3, reduction="none", label_smoothing=smoothing, class_scale=case.class_scale())
    expected = torch.tensor(result.value, dtype=torch.float64)
    if not isinstance(case.arguments.get("kappa"), list):
        assert expected.isfinite().all() == is_bounded(case)
    for each in (target, torch.eye(C, dtype=dtype)[target]):
        value, gradient = _call(case, TARGET_MASKED, each, dtype, smoothing)
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("label", range(C))
def test_a_masked_target_under_one_kappa_per_class(label: int) -> None:
    kappa = [0.5, 0.0, -1.0, 2.0]
    logits = torch.zeros(1, C).index_fill(1, torch.tensor([label]), -INF).requires_grad_()
    loss = lossmith.create("tempered", kappa=kappa)(logits, torch.tensor([label]))
    assert loss == (1.0 if label == 2 else INF)
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


@every_case
def test_zero_times_infinity_is_zero(case: Case) -> None:
    logits = torch.tensor([[-INF, 0.5, 1, 2], [0.5, 1, 0, 0]], requires_grad=True)
    index = torch.tensor([0, 1])
    for target in (index, torch.eye(C)[index]):
        plain = case.make(reduction="sum")(logits[1:], target[1:])
        unweighted = case.make(reduction="sum")(logits, target, sample_weight=torch.tensor([0.0, 1.0]))
        torch.testing.assert_close(unweighted, plain)
        assert torch.autograd.grad(unweighted, logits)[0].isfinite().all()
        value = case.make(reduction="sum", weight=[0.0, 1, 1, 1])(logits, target)
        assert value.isfinite()
        assert torch.autograd.grad(value, logits)[0].isfinite().all()


# --- near p = 1 ------------------------------------------------------------------------------------------------------


@every_dtype
@every_case
def test_value_and_gradient_at_a_probability_of_0_9995(case: Case, dtype: torch.dtype) -> None:
    row = [[8.6875, 0.0, 0.0, 0.0]]  # exact in bfloat16, whose numbers next to 1 are 0.996 and 1.008
    assert 1 - torch.tensor(row[0]).double().softmax(0)[0] == pytest.approx(5e-4, rel=0.02)
    table = tabulate(case.formula(log_slope=8 if dtype == torch.float16 else 20), row)
    result = evaluate(table, [0], reduction="none", class_scale=case.class_scale())
    value, gradient = _call(case, row, torch.tensor([0]), dtype)
    # c carries the rounding of 1 + 5e-4: a ten-thousandth of itself in float32.
    loose, absolute = (1e-3, 2e-7) if dtype != torch.float64 else (1e-10, 1e-15)
    assert value.item() == pytest.approx(result.value[0], rel=loose, abs=absolute)
    rounding = 1e-2 if dtype in HALF else loose
    expected = torch.tensor(result.gradient, dtype=torch.float64)
    limit = absolute + rounding * float(expected.abs().max())
    torch.testing.assert_close(gradient.double(), expected, rtol=rounding, atol=limit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["m_full", "l_full"])
def test_the_top_class_of_singular_losses(name: str, dtype: torch.dtype) -> None:
    gaps = [0.0, 1e-3, 0.5, 0.6875, 0.75, 1.0, 2.0, *range(5, 61, 5), 39.5, 42.25]
    rows = [[gap, 0.0, -1.0] for gap in gaps] + [[gap, 0.0, -90.0] for gap in gaps]
    rows = torch.tensor(rows, dtype=dtype).tolist()
    case, tolerance = Case(name, {}), 1e-12 if dtype == torch.float64 else 3e-5
    table = tabulate(formula(name, 3), rows)
    for labels in ([1] * len(rows), [0] * len(rows), [2] * len(rows)):
        result = evaluate(table, labels, reduction="none")
        value, gradient = _call(case, rows, torch.tensor(labels), dtype)
        torch.testing.assert_close(
            value.double(), torch.tensor(result.value, dtype=torch.float64), rtol=tolerance, atol=tolerance / 10
        )
        expected = torch.tensor(result.gradient, dtype=torch.float64)
        worst = ((gradient.double() - expected).abs().amax(1) / (expected.abs().amax(1) + 1e-2)).max()
        assert worst < 3 * tolerance


@pytest.mark.parametrize("how", ["auto", "reference"])
@pytest.mark.parametrize("name", ["m_full", "l_full"])
@pytest.mark.parametrize("classes", [3, 1000])
def test_a_small_loss_keeps_its_digits(name: str, classes: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a float32 log_softmax, l_full has no correct digit below 1e-12."""
    monkeypatch.setattr(kernel_rows, "SMALLEST", 0)
    gaps = [4.0, 6.0, 9.0, 13.0, 19.0]
    logits = torch.zeros(len(gaps), classes)
    logits[:, 0] = torch.tensor(gaps) + math.log(classes)
    made = logits.clone().requires_grad_()
    target = torch.zeros(len(gaps), dtype=torch.int64)
    value = lossmith.create(name, implementation=how, reduction="none")(made, target)
    value.sum().backward()
    assert made.grad is not None

    def loss(z: mpmath.mpf) -> mpmath.mpf:
        others = classes - 1
        p, q = mpmath.exp(z) / (mpmath.exp(z) + others), 1 / (mpmath.exp(z) + others)
        if name == "m_full":
            return 1 / p - 1 + others * q / (1 - q)
        return 1 / mpmath.sqrt(p * (2 - p)) - 1 + others * (1 / mpmath.sqrt(1 - q * q) - 1)

    with mpmath.workdps(60):
        z = [mpmath.mpf(x) for x in logits[:, 0].tolist()]
        right, slope = [float(loss(x)) for x in z], [float(mpmath.diff(loss, x)) for x in z]
    assert value.tolist() == pytest.approx(right, rel=3e-5, abs=0)
    assert made.grad[:, 0].tolist() == pytest.approx(slope, rel=3e-5, abs=0)


# --- nothing to learn from -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, C), (2, C, 3), (0, C), (0, C, 2, 2), (2, C, 0)])
@every_case
def test_all_ignored_or_empty_or_weightless_is_zero(case: Case, shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape, requires_grad=True)
    samples = shape[:1] + shape[2:]
    labels, zeros = torch.full(samples, 1), torch.zeros(samples)
    for reduction in ("mean", "sum"):
        values = [
            case.make(reduction=reduction)(logits, torch.full(samples, -100)),
            case.make(reduction=reduction, ignore_index=1)(logits, labels),
            case.make(reduction=reduction)(logits, labels, sample_weight=zeros),
            case.make(reduction=reduction)(logits, torch.full(shape, 0.25), sample_weight=zeros),
            case.make(reduction=reduction, weight=[0.0] * C)(logits, labels),
            case.make(reduction=reduction, weight=[0.0] * C)(logits, torch.full(shape, 0.25)),
        ]
        for value in values:
            assert value == 0
            assert (torch.autograd.grad(value, logits)[0] == 0).all()
    assert case.make(reduction="none")(logits, labels).shape == samples


@pytest.mark.parametrize("text", ["cross_entropy", "rooted", "m_full", "ngl"])
def test_a_zero_denominator_is_zero_even_where_smoothing_leaves_a_numerator(text: str) -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = lossmith.create(text, weight=[0.0, 1.0, 1.0], label_smoothing=0.1)(logits, torch.tensor([0, 0]))
    assert loss == 0
    assert (torch.autograd.grad(loss, logits)[0] == 0).all()


@every_case
def test_ignored_entries_change_nothing(case: Case) -> None:
    target = torch.tensor([[0, -100], [3, 2], [-100, -100]])
    ignored = target == -100
    others = torch.randn(3, 2, C)
    results = []
    for filling in (others, others * 0, others.sign() * 1e4, torch.tensor([INF, -INF, 0.0, 1.0]).clamp(max=50)):
        logits = others.where(~ignored.unsqueeze(-1), filling).movedim(-1, 1).requires_grad_()
        common = {} if case.name == "label_smoothing" else {"label_smoothing": 0.1}
        value = case.make(**common)(logits, target)
        (gradient,) = torch.autograd.grad(value, logits)
        assert (gradient.movedim(1, -1)[ignored] == 0).all()
        results.append((value, gradient))
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(gradient, results[0][1])


# --- the tempered softmax --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t2", [0.1, 0.5, 0.9, 1.1, 1.5, 2.0, 4.0])
def test_tempered_softmax_against_a_bracketed_root(t2: float) -> None:
    rows = [[0.0] * 5, [3, -1, 0, 2, 2], [40, 0, -40, 1, 39], [9984, 0, -9984, 1, 2]]
    found = lossmith.losses.BiTemperedLoss(t2=t2).probabilities(torch.tensor(rows, dtype=torch.float64))
    expected = [[float(p) for p, _ in tempered_softmax([mpf(z) for z in row], mpf(t2))] for row in rows]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("t2", [0.5, 1.5, 4.0])
def test_tempered_softmax_of_many_equal_logits_is_uniform(t2: float) -> None:
    p = lossmith.losses.BiTemperedLoss(t2=t2).probabilities(torch.zeros(1, 100_000, dtype=torch.float64))
    torch.testing.assert_close(p, torch.full_like(p, 1e-5))


@pytest.mark.parametrize("t2", [0.99999, 1.00001, 1.0000001])
def test_bi_tempered_is_continuous_at_the_ordinary_softmax(t2: float) -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0]])
    mp_exact = float(formula_value(t2, [0.5, -1.0, 2.0]))
    assert lossmith.create("bi_tempered", t2=t2)(logits, torch.tensor([1])).item() == pytest.approx(mp_exact, rel=1e-3)


def formula_value(t2: float, row: Sequence[float]) -> float:
    with mp.workdps(60):
        return evaluate(tabulate(formula("bi_tempered", 3, t2=t2), [row], slopes=False), [1]).value


def _call(
    case: Case, rows: Sequence[Sequence[float]], target: Tensor, dtype: torch.dtype, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Per-sample losses and the gradient of their sum."""
    logits = torch.tensor(rows, dtype=dtype, requires_grad=True)
    common = {"label_smoothing": smoothing} if smoothing and case.name != "label_smoothing" else {}
    value = case.make(reduction="none", **common)(logits, target)
    return value.detach(), torch.autograd.grad(value.sum(), logits)[0]
