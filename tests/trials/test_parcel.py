from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lossmith.data import DataError, DataSpec, load_dataset
from lossmith.trials.ledger import Ledger
from lossmith.trials.models import canonical_model
from lossmith.trials.options import KEPT
from lossmith.trials.parcel import pack
from lossmith.trials.runner import Runner
from lossmith.trials.training import load_splits, train
from lossmith.trials.trial import OptimizerSpec, Sources, Trial
from made_trials import made

NET = """
from torch import nn

def make(input_shape, num_classes):
    return nn.Linear(*input_shape, num_classes)
"""


def table(file: Path, rows: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    cells = np.column_stack([draw.normal(size=(rows, 2)), draw.integers(0, 2, rows)])
    np.savetxt(file, cells, delimiter=",", header="a,b,y", comments="", fmt=["%.3f", "%.3f", "%d"])


@pytest.fixture
def made_here(tmp_path: Path) -> tuple[Trial, Sources]:
    """A data set of two files and a model of the user's own, in a folder that other machines do not have."""
    home = tmp_path / "home"
    home.mkdir()
    table(home / "mine_train.csv", 80, 0)
    table(home / "mine_test.csv", 20, 1)
    (home / "net.py").write_text(NET)
    dataset, sources = load_dataset(str(home / "mine")), Sources()
    sources.data[dataset.digest] = str(home / "mine")
    model = canonical_model(f"{home}/net.py:make", sources)
    trial = made(DataSpec(dataset.digest), model, "focal", OptimizerSpec("adam", 0.01), 6, 8, 0, 2, final=True)
    return trial, sources


def spawned(workers: int) -> concurrent.futures.Executor:
    return concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def outcome(trial: Trial, sources: Sources) -> list[float]:
    result = train(trial, sources)
    assert result.test is not None
    return result.test.columns["nll"].tolist()


def test_trials_run_where_none_of_the_files_are(
    made_here: tuple[Trial, Sources], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are gone from where they were once the runner has been made."""
    trial, sources = made_here
    expected = outcome(trial, sources)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        runner = Runner(ledger, sources, workers=1, make_executor=spawned)
        (tmp_path / "home").rename(tmp_path / "gone")
        try:
            runner.run([trial])
            assert runner.failures == {}
            assert ledger.open_test(trial).test.columns["nll"].tolist() == expected
        finally:
            runner.close()


def spoil_data(folder: Path) -> None:
    table(next(folder.rglob("mine_train.csv")), 80, 5)


def spoil_code(folder: Path) -> None:
    next(folder.rglob("net.py")).write_text(NET + "# other")


@pytest.mark.parametrize(
    ("spoil", "words"), [(spoil_data, "is not the one the spec was made for"), (spoil_code, "has changed")]
)
def test_unpacked_files_are_what_their_hash_says(
    made_here: tuple[Trial, Sources], tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    trial, sources = made_here
    unpacked = pack(sources).unpack(tmp_path / "there")
    assert pack(sources).unpack(tmp_path / "there") == unpacked
    assert outcome(trial, unpacked) == outcome(trial, sources)
    spoil(tmp_path / "there")
    load_splits.cache_clear()
    KEPT.clear()
    with pytest.raises(ValueError, match=words):
        train(trial, unpacked)


def test_a_folder_of_images_keeps_its_classes(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for i in range(8):
        file = tmp_path / "home" / ("train", "test")[i // 4] / "ab"[i % 2] / f"{i // 2 % 2}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(np.full((2, 3), 20 * i, np.uint8)).save(file)
    here = load_dataset(tmp_path / "home")
    unpacked = pack(Sources({here.digest: str(tmp_path / "home")})).unpack(tmp_path / "there")
    there = load_dataset(unpacked.data[here.digest])
    assert there.digest == here.digest
    np.testing.assert_array_equal(there.inputs, here.inputs)
    np.testing.assert_array_equal(there.targets, here.targets)


@pytest.mark.parametrize("source", ["openml:adult", "hf:me/mail"])
def test_data_of_the_net_are_fetched_by_the_worker(source: str) -> None:
    parcel = pack(Sources({"sha256:0": source}))
    assert parcel.unpack(Path("/nowhere")).data == {"sha256:0": source}


def test_bundled_data_need_no_files() -> None:
    parcel = pack(Sources({"iris": "iris"}))
    assert parcel.manifest.data == {"iris": "iris"}
    assert parcel.unpack(Path("/nowhere")).data == {"iris": "iris"}


def test_data_that_are_gone_are_told() -> None:
    with pytest.raises(DataError):
        pack(Sources({"sha256:0": "gone.csv"}))
