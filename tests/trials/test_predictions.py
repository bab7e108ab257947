"""What `lossmith predict` makes of a file is what the saved model says of its examples."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossmith.cli import main
from lossmith.trials.predictions import Predictions, predict_file
from lossmith.trials.request import Request, draft
from lossmith.trials.saving import Predictor, load, save_model
from lossmith.trials.training import train_model
from lossmith.trials.trial import Sources
from made_trials import changed

COLOURS = ("red", "green", "blue")


def trained(data: Path | str, folder: Path, lr: float = 0.02, steps: int = 60, **options: Any) -> Predictor:
    sources = Sources()
    drafted = draft(Request(data=str(data), steps=steps, device="cpu", **options), sources)
    optimizer = replace(drafted.trial.optimizer, lr=lr)
    trial = changed(drafted.trial, optimizer=optimizer, final=True, engine="single")
    _, model, _ = train_model(trial, sources)
    save_model(model, trial, drafted.splits, drafted.task, folder)
    return load(folder)


def rows_of(made: Predictions) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(made.content.decode())))


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Predictor, list[dict[str, object]], Path]:
    """A model that tells the colour from a size, and its table: with a gap, a category and a column left out."""
    folder = tmp_path_factory.mktemp("people")
    rows: list[dict[str, object]] = [
        {
            "who": f"p{i}",
            "size": i % 3 + i / 1000,
            "age": i % 50 if i % 7 else "",
            "kind": "ab"[i % 2],
            "colour": colour,
        }
        for i, colour in enumerate(COLOURS * 30)
    ]
    file = write(folder / "people.csv", rows)
    return trained(file, folder / "saved", lr=0.05, drop=("who",)), rows, folder


def test_columns_are_found_by_name_in_any_order(people: Any, tmp_path: Path) -> None:
    predictor, rows, folder = people
    made = predict_file(predictor, folder / "people.csv")
    assert made.notes == ()  # neither the label nor what was left out in training is news
    assert made.count == 90
    right = [row["colour"] == each["prediction"] for row, each in zip(rows, rows_of(made), strict=True)]
    assert np.mean(right) > 0.9
    turned = [dict(reversed(row.items())) for row in rows]
    assert predict_file(predictor, write(tmp_path / "t.csv", turned)).content == made.content
    fewer = [{name: row[name] for name in ("kind", "age", "size")} for row in rows]
    assert predict_file(predictor, write(tmp_path / "u.csv", fewer)).content == made.content


def test_columns_that_are_missing_or_new_are_named(people: Any, tmp_path: Path) -> None:
    predictor, rows, folder = people
    made = predict_file(predictor, folder / "people.csv")
    more = predict_file(predictor, write(tmp_path / "more.csv", [{**row, "height": 3} for row in rows]))
    assert more.content == made.content
    assert len(more.notes) == 1
    assert "'height'" in more.notes[0]
    fewer = [{name: row[name] for name in row if name != "age"} for row in rows]
    with pytest.raises(ValueError, match="no column 'age'"):
        predict_file(predictor, write(tmp_path / "fewer.csv", fewer))
    wrong = [{**row, "size": "much"} for row in rows[:2]]
    with pytest.raises(ValueError, match="'much'"):
        predict_file(predictor, write(tmp_path / "wrong.csv", wrong))


def test_probabilities_are_those_of_the_classes_and_agree_with_the_predictions(people: Any) -> None:
    predictor, _, folder = people
    rows = rows_of(predict_file(predictor, folder / "people.csv", probabilities=True))
    assert list(rows[0]) == ["prediction", "p(blue)", "p(green)", "p(red)"]
    for row in rows:
        chances = {name: float(row[f"p({name})"]) for name in COLOURS}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert max(chances, key=chances.__getitem__) == row["prediction"]


def test_one_row_is_enough_and_values_never_met_are_as_missing(people: Any, tmp_path: Path) -> None:
    predictor, rows, _ = people
    content = [
        predict_file(predictor, write(tmp_path / "t.csv", [{**rows[0], "kind": kind}]), probabilities=True).content
        for kind in ("", "z")
    ]
    assert content[0] == content[1]


def test_parquet_is_read_too(people: Any, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    predictor, rows, folder = people
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["age"] = [None if age == "" else age for age in columns["age"]]
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert (
        predict_file(predictor, tmp_path / "t.parquet").content
        == predict_file(predictor, folder / "people.csv").content
    )


def test_the_output_is_whole_and_never_the_input(people: Any, tmp_path: Path) -> None:
    predictor, rows, _ = people
    file = write(tmp_path / "t.csv", rows)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="the examples themselves"):
        predict_file(predictor, file, file)
    made = predict_file(predictor, file, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == made.content
    assert file.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == {"t.csv", "out.csv"}


def test_a_regression_predicts_numbers_in_the_labels_unit(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"x": i % 10, "price": 1000.5 * (i % 10)} for i in range(60)]
    predictor = trained(write(tmp_path / "t.csv", rows), tmp_path / "saved", lr=0.05, label="price")
    made = [float(row["prediction"]) for row in rows_of(predict_file(predictor, tmp_path / "t.csv"))]
    assert np.corrcoef(made, [float(str(row["price"])) for row in rows])[0, 1] > 0.95
    assert max(made) > 5000
    with pytest.raises(ValueError, match="no probabilities"):
        predict_file(predictor, tmp_path / "t.csv", probabilities=True)


def test_texts_are_those_of_the_column_of_training(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"text": f"{'buy cheap pills' if i % 2 else 'see you at lunch'} {i}", "kind": ("ham", "spam")[i % 2]}
        for i in range(60)
    ]
    file = write(tmp_path / "mail.csv", rows)
    predictor = trained(file, tmp_path / "saved")  # no model is named: text_bag
    new: list[dict[str, object]] = [{"n": 1, "text": "cheap pills"}, {"n": 2, "text": "lunch at 12"}]
    made = predict_file(predictor, write(tmp_path / "new.csv", new))
    assert [row["prediction"] for row in rows_of(made)] == ["spam", "ham"]
    assert "'n'" in made.notes[0]
    np.savez(tmp_path / "new.npz", x=np.array(["cheap pills", "lunch at 12"]))
    assert predict_file(predictor, tmp_path / "new.npz").content == made.content
    with pytest.raises(ValueError, match="'text'"):
        predict_file(predictor, write(tmp_path / "other.csv", [{"body": "cheap"}]))


def test_images_are_predicted_by_file(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    draw = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "data" / ("dark", "light")[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (6 + i % 3, 8)
        image.fromarray((draw.integers(0, 90, shape) + 150 * (i % 2)).astype(np.uint8)).save(path)
    predictor = trained(tmp_path / "data", tmp_path / "saved", image_size=6, model="linear")
    rows = rows_of(predict_file(predictor, tmp_path / "data"))
    assert len(rows) == 40
    assert all(row["file"].startswith(f"{row['prediction']}/") for row in rows)
    one = rows_of(predict_file(predictor, tmp_path / "data" / "light" / "01.png"))
    assert one == [{"file": "01.png", "prediction": "light"}]
    np.savez(tmp_path / "new.npz", x=np.full((1, 6, 6), 10, np.uint8))
    assert rows_of(predict_file(predictor, tmp_path / "new.npz")) == [{"prediction": "dark"}]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images"):
        predict_file(predictor, tmp_path / "empty")


def test_masks_are_written_as_an_array(tmp_path: Path) -> None:
    masks = np.zeros((12, 8, 8), np.uint8)
    masks[:, :, 4:] = 1
    images = (200 * masks + np.random.default_rng(0).integers(0, 40, masks.shape)).astype(np.uint8)
    np.savez(tmp_path / "scenes.npz", x=images, y=masks)
    predictor = trained(tmp_path / "scenes.npz", tmp_path / "saved", steps=20)  # no model is named: unet
    with pytest.raises(ValueError, match=r"masks\.npz"):
        predict_file(predictor, tmp_path / "scenes.npz")
    predict_file(predictor, tmp_path / "scenes.npz", tmp_path / "made.npz")
    with np.load(tmp_path / "made.npz") as made:
        assert made["masks"].dtype == np.uint8
        assert (made["masks"] == masks).mean() > 0.9


def test_the_command_prints_csv_and_says_in_a_sentence_what_is_wrong(
    people: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor, _, folder = people

    def lossmith(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lossmith", "predict", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    code, out, _ = lossmith(str(folder / "saved"), str(folder / "people.csv"), "--probabilities")
    assert code == 0
    assert out.encode() == predict_file(predictor, folder / "people.csv", probabilities=True).content
    code, out, err = lossmith(str(folder / "saved"), str(folder / "nobody.csv"))
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "nobody.csv" in err
    code, out, err = lossmith(str(folder), str(folder / "people.csv"))
    assert (code, out) == (2, "")
    assert "holds no model" in err
    assert "Error" not in err
    file = tmp_path / "keep.csv"
    file.write_text("years of work")
    command = (str(folder / "saved"), str(folder / "people.csv"), "--output", str(file))
    code, out, err = lossmith(*command)
    assert (code, out) == (2, "")
    assert "--force" in err
    assert file.read_text() == "years of work"
    assert lossmith(*command, "--force")[0] == 0
    assert file.read_bytes() == predict_file(predictor, folder / "people.csv").content
