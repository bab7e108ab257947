from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from lossmith.studies.bench import Bench
from lossmith.studies.dynamical_cnn import OPTIMISERS, study, verdict
from lossmith.studies.findings import Verdict


@pytest.mark.parametrize(
    ("gains", "excluded", "wanted"),
    [
        ([True], False, "holds"),
        ([True, True, True], False, "holds"),
        ([True, False, False], False, "holds in part"),
        ([False], True, "does not hold"),
        ([False, False], False, "undecided"),
    ],
)
def test_verdicts(gains: list[bool], excluded: bool, wanted: Verdict) -> None:
    assert verdict(gains, excluded) == wanted


def test_without_data_it_says_what_it_needs(tmp_path: Path) -> None:
    for data in (None, tmp_path):
        with pytest.raises(ValueError, match=r"needs CIFAR-10: get it from https.*a folder with cifar10\.npz"):
            study(Bench(tmp_path / "study", data=data))
    assert not (tmp_path / "study").exists()


def test_the_quick_study(tmp_path: Path) -> None:
    """Gains are differences of the accuracies beside them, verdicts follow from them, and a rerun trains nothing."""
    bench = Bench(tmp_path, quick=True)
    found = study(bench)
    (table,) = found.sections[0].tables
    rows = {row[0]: row for row in table.rows}
    lowest, highest = [], []
    for optimiser in OPTIMISERS:
        static, moved = (rows[f"{optimiser.name}: {label}"] for label in ("static", "A=20, T=3"))
        gain, low, high = (float(part.strip("()")) for part in moved[4].replace(" to ", " ").split())
        assert gain == pytest.approx(float(moved[2][:-2]) - float(static[2][:-2]), abs=0.11)
        assert low < gain < high
        assert static[4] == ""
        lowest.append(low)
        highest.append(high)
    for claim, of in zip(found.claims, (slice(1), slice(1, None)), strict=True):
        won = [low > 0 for low in lowest[of]]
        wanted = "does not hold" if all(high < 1 for high in highest[of]) else "undecided"
        assert claim.verdict == ("holds" if all(won) else "holds in part" if any(won) else wanted)
        assert claim.because
    assert [len(plot.lines) for plot in found.sections[1].plots] == [2] * len(OPTIMISERS)
    trained = _trainings(tmp_path)
    assert f"That was {trained} trainings." in found.sections[2].text[-1]
    again = Bench(tmp_path, quick=True)
    assert study(again) == found
    assert _trainings(tmp_path) == trained
    assert again.seconds == pytest.approx(bench.seconds)


def _trainings(folder: Path) -> int:
    with sqlite3.connect(folder / "ledger.sqlite") as ledger:
        (count,) = ledger.execute("SELECT count(*) FROM results").fetchone()
    return int(count)
