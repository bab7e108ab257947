"""A saved model predicts from raw examples what the trained one predicts from prepared ones."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lossmith
from lossmith.trials.options import Request
from lossmith.trials.request import draft
from lossmith.trials.saving import reload_snippet, save_model
from lossmith.trials.training import train_model
from lossmith.trials.trial import Sources
from made_trials import changed

COLOURS = ("red", "green", "blue")
FACTORY = """
from torch import nn

def make(input_shape, outputs):
    return nn.Sequential(nn.Linear(input_shape[0], 4), nn.Tanh(), nn.Linear(4, outputs))
"""


def write_table(path: Path, label: Callable[[float, str], object], rows: int = 120) -> None:
    """A column on a large scale, one with gaps, one of words with spaces, and a label that depends on them."""
    draw = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["income", "age", "colour", "label"])
        for i in range(rows):
            income, colour = float(draw.normal(50_000, 9_000)), COLOURS[i % 3]
            writer.writerow([income, "" if i % 7 == 0 else i % 50, f" {colour}", label(income, colour)])


def trained(data: Path | str, folder: Path, **options: Any) -> tuple[Any, torch.Tensor, str]:
    """Train and save; the splits, what the model says of the test part before it is saved, and the printed words."""
    sources = Sources()
    drafted = draft(Request(data=str(data), folds=0, steps=60, device="cpu", **options), sources)
    optimizer = replace(drafted.trial.optimizer, lr=0.01)
    trial = changed(drafted.trial, optimizer=optimizer, final=True, engine="single")
    _, model, _ = train_model(trial, sources)
    save_model(model, trial, drafted.splits, drafted.task, folder)
    with torch.no_grad():
        outputs = model.eval()(drafted.splits.test.inputs)
    return drafted.splits, outputs, reload_snippet(trial, drafted.splits, sources, folder)


def test_a_regression_predicts_the_label_from_the_rows_of_the_table(tmp_path: Path) -> None:
    file = tmp_path / "houses.csv"
    write_table(file, lambda income, colour: 3.5 * income + 1e4 * len(colour) + 0.25)
    splits, outputs, _ = trained(file, tmp_path / "saved")
    predicted = lossmith.load(tmp_path / "saved").predict(file)
    expected = splits.target_mean + splits.target_std * outputs[:, 0].double().numpy()
    np.testing.assert_allclose(predicted[splits.test.index], expected, rtol=1e-6)
    assert predicted.std() > 1000  # the target's own unit


def test_a_classification_predicts_names_whatever_holds_the_rows(tmp_path: Path) -> None:
    """A file, a dict of texts or of numbers in another order and with columns besides, and a single row agree."""
    file = tmp_path / "people.csv"
    write_table(file, lambda income, colour: "rich" if income > 50_000 else "poor")
    splits, outputs, _ = trained(file, tmp_path / "saved")
    predictor = lossmith.load(tmp_path / "saved")
    predicted = predictor.predict(file)
    names = np.array(splits.class_names)
    assert predicted[splits.test.index].tolist() == names[outputs.argmax(1).numpy()].tolist()
    assert len(set(predicted.tolist())) == 2
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    texts = {name: [row[name] for row in rows] for name in ("colour", "age", "income", "label")}
    numbers = {
        "colour": np.array([text.strip() for text in texts["colour"]], object),
        "income": np.array(texts["income"], float),
        "age": [float(text) if text else None for text in texts["age"]],
    }
    inputs = predictor.encode(file)
    assert torch.equal(inputs[splits.test.index], splits.test.inputs)
    for table in (texts, numbers):
        assert torch.equal(predictor.encode(table), inputs)
    first = {name: cells[:1] for name, cells in texts.items()}
    assert torch.equal(predictor.encode(first), inputs[:1])


@pytest.mark.parametrize("source", ["digits", "spirals"])
def test_bundled_data_are_given_as_arrays(tmp_path: Path, source: str) -> None:
    splits, _, _ = trained(source, tmp_path)
    raw = lossmith.load(tmp_path)
    inputs = np.asarray(_raw(source))
    assert torch.equal(raw.encode(inputs)[splits.test.index], splits.test.inputs)
    assert raw.predict(inputs).shape == (len(inputs),)


def _raw(source: str) -> np.ndarray:
    from sklearn.datasets import load_digits

    from lossmith.data import load_dataset

    return load_digits().images if source == "digits" else np.asarray(load_dataset(source).inputs)


def test_texts_are_given_as_strings(tmp_path: Path) -> None:
    file = tmp_path / "mail.csv"
    lines = [f"{'buy cheap pills now' if i % 2 else 'see you at lunch'} {i % 5},{i % 2}" for i in range(60)]
    file.write_text("\n".join(["text,label", *lines]) + "\n")
    splits, outputs, said = trained(file, tmp_path / "saved", model="text_bag")
    predictor = lossmith.load(tmp_path / "saved")
    texts = [line.partition(",")[0] for line in lines]
    assert torch.equal(predictor.encode(texts)[splits.test.index], splits.test.inputs)
    assert predictor.predict(texts)[splits.test.index].tolist() == [str(i) for i in outputs.argmax(1).tolist()]
    assert "strings" in said


def test_a_model_of_the_users_own_runs_only_where_it_is_named_and_unchanged(tmp_path: Path) -> None:
    code, saved = tmp_path / "net.py", tmp_path / "saved"
    code.write_text(FACTORY)
    splits, outputs, said = trained("iris", saved, model=f"{code}:make")
    with pytest.raises(ValueError, match="name it"):
        lossmith.load(saved)
    names: dict[str, Any] = {"table": np.asarray(_raw("iris"))}
    exec(said, {}, names)  # what is printed works as it stands
    table = names["predictor"].encode(names["table"])
    assert torch.equal(table[splits.test.index], splits.test.inputs)
    assert torch.allclose(names["predictor"].model(splits.test.inputs), outputs)
    code.write_text(FACTORY + "# changed\n")
    with pytest.raises(ValueError, match="changed"):
        lossmith.load(saved, model=f"{code}:make")


def test_other_examples_are_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    write_table(file, lambda income, colour: colour)
    trained(file, tmp_path / "tables")
    trained("digits", tmp_path / "images")
    wrong: list[tuple[str, Any, str]] = [
        ("tables", {"income": [1], "age": [2]}, "'colour'"),
        ("tables", {"income": ["1", "much"], "age": [2, 3], "colour": ["red", "red"]}, r"row 2 \('much'\)"),
        ("tables", {"income": [1, 2], "age": [2], "colour": ["red", "red"]}, "length"),
        ("tables", {"income": ["1e999"], "age": [2], "colour": ["red"]}, "'income'"),
        ("tables", [[1, 2, 3]], "CSV"),
        ("tables", np.zeros((2, 5)), "3 columns"),
        ("images", np.zeros((2, 8, 9)), "shape"),
        ("images", np.full((1, 8, 8), 0.5), "whole numbers"),
        ("images", np.full((1, 8, 8), -1), "whole numbers"),
    ]
    for folder, examples, word in wrong:
        with pytest.raises(ValueError, match=word):
            lossmith.load(tmp_path / folder).predict(examples)


def test_a_folder_without_a_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    trained("iris", tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    with safe_open(file, "pt") as saved:
        described = json.loads(saved.metadata()["lossmith"])
    other_task, other_inputs = {"name": "smell"}, {"kind": "smell"}
    damaged = ["{", "[]", *(json.dumps({**described, **d}) for d in ({"inputs": other_inputs}, {"task": other_task}))]
    for text in damaged:
        save_file(weights, file, {"lossmith": text})
        with pytest.raises(ValueError, match="damaged, or holds no model that"):
            lossmith.load(tmp_path)
    with pytest.raises(ValueError, match="holds no model that"):
        lossmith.load(tmp_path / "nowhere")
    other = {"trainer": {**described["trial"]["trainer"], "model": "mlp:width=5"}}
    save_file(weights, file, {"lossmith": json.dumps({**described, "trial": other})})
    with pytest.raises(ValueError, match="not those of the model"):
        lossmith.load(tmp_path)
    save_file(weights, file)  # someone else's
    with pytest.raises(ValueError, match="damaged, or holds no model that"):
        lossmith.load(tmp_path)
    file.write_bytes(b"PK")
    with pytest.raises(ValueError, match="damaged, or holds no model that"):
        lossmith.load(tmp_path)


def test_a_model_that_is_saved_over_another_is_old_or_new_but_never_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each of the renamings that saving consists of."""
    splits, outputs, _ = trained("iris", tmp_path, model="linear")
    replace_file, renamed = Path.replace, 0

    def killed_later(self: Path, target: Path) -> Path:
        nonlocal renamed
        renamed += 1
        if renamed > survived:
            raise KeyboardInterrupt
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", killed_later)
    for survived in range(3):
        renamed = 0
        with contextlib.suppress(KeyboardInterrupt):
            trained("iris", tmp_path, model="mlp")
        model = lossmith.load(tmp_path).model
        assert torch.equal(model(splits.test.inputs), outputs) is (survived == 0)
