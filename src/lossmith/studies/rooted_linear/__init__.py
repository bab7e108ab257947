"""Rooted logistic objectives on linear models: are they faster, better conditioned, and closer to the maximum margin?

Source: Wang, Veluswami, Mishra and Ravi, "Accelerated Neural Network Training with Rooted Logistic Objectives", 2023,
arXiv 2310.03890; the learning rates tuned for each loss, the arms that take the loss apart, and the resamples are ours.
"""

from __future__ import annotations

from typing import Final

from lossmith.studies.bench import Bench
from lossmith.studies.findings import Findings
from lossmith.studies.rooted_linear.findings import report
from lossmith.studies.rooted_linear.measure import measure, parts
from lossmith.studies.rooted_linear.readings import Measured
from lossmith.studies.rooted_linear.sets import present

__all__ = ["study"]

RESAMPLES: Final = 20


def study(bench: Bench) -> Findings:
    """Measure all arms on all data sets and their resamples, and judge the claims.

    Args:
        bench: where to work; its folder of data sets adds ionosphere, SPECT heart and Madelon.

    Returns:
        What was found.
    """
    names, missing = present(bench.data)
    resamples = 2 if bench.quick else RESAMPLES
    jobs = parts(names, bench.data, resamples, quick=bench.quick)
    results = iter(bench.run("data sets and resamples", measure, jobs))
    sets = []
    for name in names:
        whole, *drawn = (next(results) for _ in range(resamples + 1))
        sets.append(Measured(name, whole, drawn))
    return report(sets, missing)
