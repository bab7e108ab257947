"""`lossmith.compare` in Python against the command line, and what it gives back."""

from __future__ import annotations

import functools
import importlib
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn

import lossmith
from lossmith.cli import main
from lossmith.comparing import Comparison
from lossmith.progress import RunProgress
from lossmith.trials.by_value import code_text
from lossmith.trials.parcel import pack
from lossmith.trials.trial import Sources
from lossmith.trials.user_code import UserCodeError, canonical_function, load_function
from lossmith.trials.wording import in_python
from report.report_example import HOSTILE, make_run, usual

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("cloudpickle")

ASKED: dict[str, Any] = {"losses": ["focal", "ngl"], "steps": 20, "lrs": 3, "folds": 2, "repeats": 1, "workers": 0}
SPOKEN = ("--losses", "focal,ngl", "--steps", "20", "--lrs", "3", "--folds", "2", "--repeats", "1", "--workers", "1")
NETS = """
from torch import nn

def make(input_shape, outputs):
    return nn.Linear(*input_shape, outputs)
"""


def iris() -> Any:
    frame = load_iris(as_frame=True).frame.rename(columns=lambda name: name.partition(" (")[0])
    frame["target"] = pd.Categorical.from_codes(frame["target"], ["setosa", "versicolor", "virginica"])
    return frame


def spoken(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["lossmith", *arguments])
    monkeypatch.setattr(
        "lossmith.trials.runner.LocalPool", lambda workers, **_: importlib.import_module("at_once").AtOnce()
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


def scores(result: Comparison) -> list[str]:
    """The results but for the names of data and folder."""
    return (result.folder / "results.csv").read_text().splitlines()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_frame_gives_the_results_of_its_file_by_cli_and_by_python(here: Path, monkeypatch: Any) -> None:
    """The rows are split by their content, so that CSV, Parquet and the frame share every number."""
    iris().to_csv("iris.csv", index=False)
    result = lossmith.compare(iris(), label="target", **ASKED, progress=False)
    (parquet,) = Path("runs/in_memory").glob("*.parquet")
    before = {file: file.stat().st_mtime_ns for file in result.folder.iterdir()}
    ledger = Path("runs/ledger.sqlite").read_bytes()
    written = (result.folder / "results.csv").read_bytes()
    spoken(monkeypatch, "compare", str(parquet), "--label", "target", *SPOKEN)
    folders = [path.name for path in Path("runs").iterdir() if path.is_dir()]
    assert sorted(folders) == sorted(["in_memory", result.folder.name])  # the same plan, hence the same folder
    assert (result.folder / "results.csv").read_bytes() == written
    assert Path("runs/ledger.sqlite").read_bytes() == ledger  # nothing was trained again
    assert all(file.exists() for file in before)
    spoken(monkeypatch, "compare", "iris.csv", "--label", "target", *SPOKEN, "--out", "csv/run")
    assert scores(result) == scores(Comparison.load("csv/run"))


def test_the_same_call_trains_nothing_twice(here: Path, monkeypatch: Any) -> None:
    data = load_iris(return_X_y=True)
    first = lossmith.compare(data, model=Linear, **ASKED, progress=False)
    monkeypatch.setattr("lossmith.trials.runner.attempt", None)
    again = lossmith.compare(data, model=Linear, **ASKED, progress=False)
    assert first.folder == again.folder
    assert first.table.equals(again.table)


class Linear(nn.Module):
    """A model's class as users write it."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(*input_shape, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def test_what_a_comparison_gives_back(here: Path) -> None:
    result = lossmith.compare("iris", model="linear", **ASKED, progress=False, metric=share_right, name=None)
    table = result.table
    assert list(table.columns[:8]) == ["rank", "loss", "control", "score", "difference", "low", "high", "p"]
    assert set(table["loss"]) == {row.name for row in result.results.rows}
    assert {"focal", "ngl"} == set(table["loss"][~table["control"]])
    trained = table[table["rank"].notna()]
    assert trained["rank"].tolist() == list(range(1, len(trained) + 1))
    assert trained["score"].is_monotonic_decreasing
    np.testing.assert_allclose(trained["score"], trained["accuracy"])  # the metric is one's own accuracy
    gap = trained.set_index("loss").loc["focal"]
    assert not gap["low"] > gap["difference"]
    assert set(result.verdicts) == set(table["loss"])
    assert all(re.search(r"[.]$", said) for said in result.verdicts.values())
    assert repr(result).startswith(result.headline)
    assert result.report().read_text() == result.report(here / "there" / "page.html").read_text()
    assert [line.split(",")[1] for line in scores(result)[1:]] == table["loss"].tolist()


def share_right(label: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return (probabilities.argmax(1) == label).astype(float)


def test_its_html_is_whole_and_asks_for_nothing(tmp_path: Path) -> None:
    shown = Comparison(make_run(tmp_path))._repr_html_()
    root = ElementTree.fromstring(shown.replace("&nbsp;", " "))
    assert {"table", "div", "p"} <= {element.tag for element in root.iter()}
    assert not re.search(r"<(script|link|img|style)|url\((?!#)|@import|https?://(?!www\.w3\.org)", shown)
    assert "#010203" not in shown  # ink takes the colour of the notebook's text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    shown = Comparison(make_run(tmp_path, usual((HOSTILE, "ngl"))))._repr_html_()
    assert HOSTILE not in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.parametrize("name", ["differences", "curves"])
def test_figures_are_saved(name: str, tmp_path: Path) -> None:
    figure = Comparison(make_run(tmp_path)).figure(name)
    root = ElementTree.fromstring(figure.save(tmp_path / f"{name}.svg").read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall("{*}svg")) == len(figure.picture.panels) + (name == "curves")  # which has a legend
    assert "cross_entropy" in "".join(root.itertext())
    assert figure.save(tmp_path / "a" / f"{name}.PNG").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in figure._repr_html_()
    with pytest.raises(ValueError, match=r"saved as .svg or .png, not as 'x.pdf'"):
        figure.save(tmp_path / "x.pdf")


def test_a_figure_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no figure 'masks': choose one of differences, curves"):
        Comparison(make_run(tmp_path)).figure("masks")


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        ({"data": iris, "losses": "focal"}, ValueError, "a training function needs steps: "),
        ({"losss": "focal"}, TypeError, "there is no option 'losss'; did you mean 'losses'?"),
        ({"label": "specis"}, ValueError, "there is no column 'specis' in the DataFrame"),
        ({"model": nn.Linear(4, 3)}, ValueError, "a module itself, a Linear: give its class"),
        ({"model": lambda shape: nn.Linear(4, 3)}, ValueError, "it is called as lambda((4,), 3)"),
        ({"model": lambda shape, outputs: "net"}, ValueError, "it is a str, return a torch.nn.Module"),
        ({"metric": lambda label, p: "good"}, ValueError, "it returned a str, not real numbers, for"),
        ({"minutes": 0}, ValueError, "minutes=0: must be above 0"),
        ({"minutes": "5"}, ValueError, "minutes='5': give a number"),
        ({"workers": -1}, ValueError, "workers=-1: must be at least 0"),
        ({"time_limit": -3.0}, ValueError, "time_limit=-3.0: must be at least 0"),
        ({"name": "iris", "data": "iris"}, ValueError, "name 'iris' is for data in memory"),
        ({"losses": ["rootd"]}, ValueError, "rootd"),
        ({"steps": "20"}, ValueError, "steps='20': give a whole number"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_cannot_be_is_refused_in_a_sentence(asked: Any, kind: Any, words: str, here: Path) -> None:
    with pytest.raises(kind, match=re.escape(words)) as refused:
        lossmith.compare(**{"data": iris()} | asked, progress=False)
    assert "\n" not in str(refused.value)
    assert not list(here.rglob("*.parquet"))


@pytest.mark.parametrize("asked", [{"losses": "focal"}, {"metric": "accuracy"}])
def test_a_label_that_was_guessed_is_named_where_the_task_is_wrong(
    asked: Any, here: Path, monkeypatch: Any, capsys: Any
) -> None:
    """In Python as on the command line; where the label was named, nothing is said of it."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(60, 4)), columns=["a", "outcome", "b", "c"])
    frame["outcome"] = draw.choice(["yes", "no"], 60)
    with pytest.raises(ValueError, match="the label is the column 'c', as none was named"):
        lossmith.compare(frame, **asked, model="linear", steps=20, lrs=3, progress=False)
    with pytest.raises(ValueError, match="regression") as named:
        lossmith.compare(frame, **asked, model="linear", steps=20, lrs=3, progress=False, label="c")
    assert "the label is" not in str(named.value)
    frame.to_csv("frame.csv", index=False)
    spoken_options = [word for key, value in asked.items() for word in (f"--{key}", value)]
    command = ["compare", "frame.csv", "--model", "linear", "--steps", "20", "--lrs", "3", *spoken_options]
    monkeypatch.setattr(sys, "argv", ["lossmith", *command])
    with pytest.raises(SystemExit):
        main()
    assert "the label is the column 'c', as none was named (--label names another)" in capsys.readouterr().err


def changed_iris(column: str, cells: Any) -> Any:
    frame = iris()
    frame[column] = cells
    return frame


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"lrs": 1}, "lrs=1: a number of learning rates lies between 3 and"),
        ({"task": "regresion"}, "task='regresion': choose one of"),
        ({"device": "tpu"}, "device='tpu': choose one of"),
        ({"epochs": 3}, "epochs= and steps= exclude each other: give one of them"),
        ({"executor": "slurm"}, "executor='slurm': choose one of"),
        ({"address": "tcp://10.0.0.1:1"}, "give executor='ray' or executor='dask' too"),
        (
            {"data": changed_iris("when", pd.date_range("2024-01-01", periods=150))},
            "the column 'when' holds dates ('2024-01-01 00:00:00",
        ),
        (
            {"data": changed_iris("when", pd.date_range("2024-01-01", periods=150))},
            "in data row 1 of the DataFrame), 150 distinct ones, while a category may have at most 50; write each as a "
            "number, such as the days since the first, or leave the column out (drop='when').",
        ),
        ({"data": changed_iris("blob", [b"no image"] * 150)}, "the image data row 1 of the DataFrame, column 'blob',"),
        (
            {"data": changed_iris("target", [None] + ["a", "b"] * 74 + ["a"])},
            "is empty in data row 1 of the DataFrame (''); label every example or remove it: "
            "frame.dropna(subset=['target']).",
        ),
        ({"data": changed_iris("target", [np.nan] + [0, 1] * 74 + [0])}, "frame.dropna(subset=['target'])."),
        ({"data": changed_iris("target", [None] + ["a", "b"] * 74 + ["a"]), "name": "mine"}, "in data row 1 of 'mine'"),
        ({"data": (iris()[:100], iris()[100:].drop(columns="sepal width"))}, "the test part of the DataFrame has no"),
        ({"drop": "colour"}, "there is no column 'colour' to drop in the DataFrame"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_python_is_told_of_its_arguments_and_its_data(asked: Any, words: str, here: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        lossmith.compare(**{"data": iris(), "model": "linear", "losses": "focal", "steps": 20} | asked, progress=False)
    assert not re.search(r"--[a-z]|parquet|\n", str(refused.value))


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("name it by --label kind or --label 'a b'.", "name it by label='kind' or label='a b'."),
        ("the last one (--label names another)", "the last one (label= names another)"),
        ("leave --image-size out, such as --image-size 64.", "leave image_size= out, such as image_size=64."),
        ("`lossmith train --probe x` takes it", "`lossmith train --probe x` takes it"),
        ("--metric a/b.py:f: leave it out", "metric='a/b.py:f': leave it out"),
        (
            "give more --epochs or --steps, or a smaller --batch-size",
            "give more epochs= or steps=, or a smaller batch_size=",
        ),
        ("the usual metric; --metric takes another", "the usual metric; metric= takes another"),
        ("--executor dask needs Dask", "executor='dask' needs Dask"),
        ("(--task regression); a--b", "(task='regression'); a--b"),
        ("--every: there is nothing; name probes by --probe, or", "every: there is nothing; name probes by probe=, or"),
    ],
)
def test_options_are_written_as_arguments(spoken: str, written: str) -> None:
    assert in_python(spoken) == written


def test_a_function_from_a_file_is_named_as_on_the_command_line(here: Path, monkeypatch: Any) -> None:
    (here / "own_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(here)
    make = importlib.import_module("own_nets").make
    assert code_text(make, "model", here) == f"{here}/own_nets.py:make"


def session(folder: Path, *cells: str) -> str:
    """The hash of what the last of some cells defines as `f`, in a process of its own, as a notebook names its code."""
    program = textwrap.dedent("""
        import linecache, os, sys
        import __main__
        for place, cell in enumerate(sys.argv[2:]):
            name = f"/tmp/ipykernel_{os.getpid()}/{place}{hash(cell) % 97}.py"
            exec(compile(cell, name, "exec"), __main__.__dict__)
        from pathlib import Path
        from lossmith.trials.by_value import code_text
        print(Path(code_text(f, "trainer", Path(sys.argv[1]))).name.split("-")[1])
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder), *cells], capture_output=True, text=True, cwd=folder, check=False
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()


BASE = "import torch\nfrom torch import nn\nfrom dataclasses import dataclass"
PARTS = (
    "rate = 0.5\nnames = {'a', 'b', 'c', 'd'}\nweights = torch.arange(3.0)",
    "def half(x):\n    return x * rate",
    "@dataclass\nclass Settings:\n    width: int = 4\n\n    def size(self):\n        return half(self.width)",
    "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    "        self.f = nn.Linear(Settings().width, 2)\n\n"
    "    def forward(self, x):\n        return self.f(x) * weights.sum()",
    "def f(run):\n    if run.name in names:\n        return Net()\n    return [half(v) for v in (1, 2)]",
)


def test_the_hash_of_code_is_that_of_what_it_does(tmp_path: Path) -> None:
    """The same after a restart, with comments, in other cells and among other things; another when a helper changes."""
    first = session(tmp_path, BASE, *PARTS)
    commented = ["# a comment\n\n" + re.sub(r"\n( +)return", r"\n\1# why\n\1return", part) for part in PARTS]
    assert sum(part.count("# why") for part in commented) == 5
    assert session(tmp_path, BASE, "import os\nunrelated = object()", *commented) == first
    assert session(tmp_path, BASE, "\n\n".join(PARTS)) == first
    for old, new in {
        "rate = 0.5": "rate = 0.25",
        "'d'}": "'e'}",
        "arange(3.0)": "ones(3)",
        "x * rate": "x / rate",
        "width: int = 4": "width: int = 5",
        "* weights.sum()": "+ weights.sum()",
        "half(v) for": "v for",
    }.items():
        assert any(old in part for part in PARTS)
        assert session(tmp_path, BASE, *(part.replace(old, new) for part in PARTS)) != first, old


def test_a_module_of_ones_own_counts_by_its_content_and_travels(tmp_path: Path) -> None:
    (tmp_path / "factor_of_mine.py").write_text("FACTOR = 2\n")
    helper = "import factor_of_mine\n\ndef scale(x):\n    return factor_of_mine.FACTOR * x\n"
    (tmp_path / "helper_of_mine.py").write_text(helper)
    cells = "import helper_of_mine", "def f(x):\n    return helper_of_mine.scale(x)"
    first = session(tmp_path, *cells)
    assert session(tmp_path, *cells) == first
    (kept,) = (
        tmp_path.glob(f"f-{first}-*.pkl")
        if len(list(tmp_path.glob("f-*.pkl"))) == 1
        else (next(tmp_path.glob(f"f-{first}-*.pkl")),)
    )
    (tmp_path / "factor_of_mine.py").write_text("FACTOR = 3\n")
    assert session(tmp_path, *cells) != first
    sources = Sources()
    elsewhere = tmp_path / "elsewhere"
    text = canonical_function(f"{kept}:f", "trainer", sources)
    unpacked = pack(sources).unpack(elsewhere)
    (tmp_path / "helper_of_mine.py").unlink()
    (tmp_path / "factor_of_mine.py").unlink()
    assert load_function(text, "trainer", unpacked)(4) == 8


def test_code_by_value_is_what_its_name_says(tmp_path: Path) -> None:
    offset = 3
    text = code_text(lambda x: x + offset, "model", tmp_path)
    sources = Sources()
    canonical = canonical_function(text, "model", sources)
    assert re.fullmatch(r"lambda#[0-9a-f]{16}", canonical)
    assert load_function(canonical, "model", sources)(4) == 7
    assert code_text(functools.partial(share_right, probabilities=None), "metric", tmp_path).endswith(":share_right")
    (file,) = sources.code.values()
    Path(file).write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(UserCodeError, match="has changed since it was written"):
        load_function(canonical, "model", sources)
    with pytest.raises(UserCodeError, match="there is no function kept by value"):
        canonical_function(f"{tmp_path}/other.pkl:f", "model", sources)


def test_what_cannot_be_pickled_is_told(tmp_path: Path) -> None:
    handle = (tmp_path / "log").open("w")
    with handle, pytest.raises(UserCodeError, match=r"the trainer lambda cannot be sent to workers \(cannot pickle"):
        code_text(lambda run: handle.write("x"), "trainer", tmp_path)


SCRIPT = """
import sys
print("begun", flush=True)
import torch
import lossmith

RATE = 1.0

def train(run):
    x = torch.linspace(-1, 1, 120)[:, None]
    y = (x[:, 0] > 0).long()
    fit, valid, test = run.split(y)
    model = torch.nn.Linear(1, 2)
    optimizer = torch.optim.SGD(model.parameters(), RATE * run.lr, weight_decay=run.weight_decay)
    for step in range(run.steps):
        optimizer.zero_grad()
        run.loss(model(x[fit]), y[fit]).backward()
        optimizer.step()
        run.loss.step()
    return (model(x[valid]), y[valid]), (model(x[test]), y[test]) if run.final else None

result = lossmith.compare(train, losses="focal", steps=20, lrs=3, repeats=2, workers=2)
print(result.table.loss.tolist())
"""


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """Workers do not run the script again, and its training function reaches them; the second run trains nothing."""
    (tmp_path / "script.py").write_text(SCRIPT)
    for told in ("learning rates", "speed: "):
        done = subprocess.run(
            [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, env=os.environ, check=False
        )
        assert not done.returncode, done.stderr
        assert done.stdout.count("begun") == 1
        assert "'focal'" in done.stdout
        assert (told in done.stderr) == (told == "learning rates")
    (folder,) = tmp_path.glob("runs/train-*")
    assert (folder / "results.csv").is_file()


def test_a_script_that_compares_when_it_is_imported_is_told(here: Path) -> None:
    (here / "loop.py").write_text(NETS + '\nimport lossmith\nlossmith.compare("iris", model="loop.py:make")\n')
    with pytest.raises(
        UserCodeError, match=r'loop.py failed, line 8: RequestError: .* under if __name__ == "__main__"'
    ):
        lossmith.compare("iris", model="loop.py:make", **ASKED, progress=False)


def test_evolve_takes_data_in_memory(here: Path) -> None:
    asked: dict[str, Any] = {"model": "linear", "steps": 20, "evaluations": 20, "population": 10, "workers": 0}
    frame = lossmith.evolve(iris(), label="target", **asked, progress=False)
    iris().to_csv("iris.csv", index=False)
    table = lossmith.evolve("iris.csv", label="target", **asked, progress=False)
    assert frame.hall_of_fame.equals(table.hall_of_fame)


def test_what_was_trained_is_kept_when_it_is_interrupted(here: Path, monkeypatch: Any) -> None:
    """Ctrl-C after each of some trainings; in the end the results are those of a run that was left alone."""
    asked = ASKED | {"model": "mlp:width=3", "progress": False}  # a width that is trained one by one
    whole = lossmith.compare("iris", **asked, out="whole/run")
    count = RunProgress.advance

    for stop in (1, 5, 3):
        left = [stop]

        def advance(self: RunProgress, trainings: int, left: list[int] = left) -> None:
            count(self, trainings)
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        monkeypatch.setattr(RunProgress, "advance", advance)
        with pytest.raises(KeyboardInterrupt):
            lossmith.compare("iris", **asked, out="cut/run")
    monkeypatch.setattr(RunProgress, "advance", count)
    assert lossmith.compare("iris", **asked, out="cut/run").table.equals(whole.table)
