"""The two-way layout of a paired difference in loops, for tests."""

from __future__ import annotations

import itertools


def slow_estimator(folds: list[list[list[float]]]) -> tuple[float, float, float, float, float, float]:
    """Mean, V_seed, V_test, V_res, V and nu by loops, from the formulas of the protocol."""
    R = len(folds[0])
    F = len(folds)
    n = sum(len(fold[0]) for fold in folds)

    def average(values: list[float]) -> float:
        return sum(values) / len(values)

    def spread(values: list[float]) -> float:
        return sum((v - average(values)) ** 2 for v in values) / (len(values) - 1)

    v_seed = v_res = 0.0
    column_means = []
    for fold in folds:
        n_f = len(fold[0])
        rows = [average(row) for row in fold]
        columns = [average([fold[s][i] for s in range(R)]) for i in range(n_f)]
        grand = average(rows)
        column_means += columns
        v_seed += (n_f / n) ** 2 * spread(rows) / R
        if n_f > 1:
            squares = 0.0
            for s, i in itertools.product(range(R), range(n_f)):
                squares += (fold[s][i] - rows[s] - columns[i] + grand) ** 2
            v_res += (n_f / n) ** 2 * squares / ((R - 1) * (n_f - 1)) / (R * n_f)
    v_test = spread(column_means) / n
    v = max(v_seed + v_test - v_res, v_seed, v_test)
    nu = v**2 / (v_seed**2 / (F * (R - 1)) + v_test**2 / (n - 1))
    return average(column_means), v_seed, v_test, v_res, v, nu
