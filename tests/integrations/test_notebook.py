"""`lossmith.compare` in a real notebook: what its cells show, while they run and when they are done."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks are run where nbclient and ipykernel are installed")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the notebook's own tools

CELLS = (
    """
import numpy as np
import pandas as pd
import torch
import lossmith

draw = np.random.default_rng(0)
frame = pd.DataFrame({"width": draw.normal(size=120), "colour": draw.choice(["red", "blue"], 120)})
frame["kind"] = np.where(frame.width + (frame.colour == "red") + 0.3 * draw.normal(size=120) > 0.5, "a", "b")
""",
    """
rate = 1.0

class Net(torch.nn.Module):
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.layer = torch.nn.Linear(*input_shape, outputs)

    def forward(self, x):
        return self.layer(x)

def share(label, probabilities):
    return (probabilities.argmax(1) == label).astype(float)
""",
    """
short = dict(steps=20, lrs=3, workers=2)
result = lossmith.compare(frame, label="kind", model=Net, metric=share, losses="focal", folds=2, repeats=2, **short)
result
""",
    "result.figure()",
    "result.table",
    "print(result)",
    """
x = torch.linspace(-1, 1, 120)[:, None]
y = (x[:, 0] > 0).long()

def train(run):
    fit, valid, test = run.split(y)
    model = torch.nn.Linear(1, 2)
    optimizer = torch.optim.SGD(model.parameters(), rate * run.lr, weight_decay=run.weight_decay)
    for _ in range(run.steps):
        optimizer.zero_grad()
        run.loss(model(x[fit]), y[fit]).backward()
        optimizer.step()
        run.loss.step()
    return (model(x[valid]), y[valid]), (model(x[test]), y[test]) if run.final else None

own = lossmith.compare(train, losses="focal", repeats=2, **short)
print(own.folder.name)
""",
    "lossmith.compare(frame, label='kindd')",
)


def run(folder: Path) -> Any:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS])
    client = nbclient.NotebookClient(
        notebook, timeout=300, allow_errors=True, resources={"metadata": {"path": str(folder)}}
    )
    return client.execute()


def outputs(cell: Any, kind: str) -> list[str]:
    return ["".join(out["data"][kind]) for out in cell["outputs"] if kind in out.get("data", {})]


def streams(cell: Any) -> str:
    return "".join("".join(out["text"]) for out in cell["outputs"] if out["output_type"] == "stream")


def test_a_notebook_shows_results_and_a_restarted_kernel_trains_nothing_again(tmp_path: Path) -> None:
    cells = run(tmp_path).cells
    faults = [out for cell in cells[:-1] for out in cell.outputs if out.output_type == "error"]
    assert not faults, faults
    progress, shown = outputs(cells[2], "text/html")  # one output that was renewed in place, and the result
    assert "losses and controls on dataframe-" in progress
    assert "<progress" not in progress  # it is done
    assert not streams(cells[2])
    assert all(word in shown for word in ("<table", "<svg", "focal", "Holm p"))
    assert not re.search(r"https?://(?!www\.w3\.org)", shown)
    assert "<figure" in outputs(cells[3], "text/html")[0]
    assert "focal" in outputs(cells[4], "text/html")[0]
    assert "Folder: runs/dataframe-" in streams(cells[5])
    assert streams(cells[6]).startswith("train-")
    (error,) = [out for out in cells[7].outputs if out.output_type == "error"]
    assert error.evalue.startswith("there is no column 'kindd' in the DataFrame")
    ledger = (tmp_path / "runs" / "ledger.sqlite").read_bytes()
    again = run(tmp_path).cells
    assert (tmp_path / "runs" / "ledger.sqlite").read_bytes() == ledger
    assert outputs(again[2], "text/html")[1] == shown
