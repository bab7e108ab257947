"""What a request leaves open is settled by the data, and said."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from lossmith.cli import main
from lossmith.comparison.options import Options
from lossmith.comparison.plan import make_plan
from lossmith.data import DataError
from lossmith.trials.request import Draft, Request, draft
from lossmith.trials.trial import Sources


def drafted(data: Path, **asked: object) -> Draft:
    return draft(Request(data=str(data), steps=60, device="cpu", **asked), Sources())  # type: ignore[arg-type]


@pytest.fixture
def people(tmp_path: Path) -> Path:
    file = tmp_path / "people.csv"
    rows = [f"{100 + i},2024-01-{1 + i % 9:02d},{i % 7 / 8},{'xyz'[i % 3]}" for i in range(60)]
    file.write_text("\n".join(["key,day,size,kind", *rows]) + "\n")
    return file


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    file = tmp_path / "rooms.csv"
    rows = [f"{'xyz'[i % 3]},{i / 7},{i % 5 / 3},{i % 4}" for i in range(60)]
    file.write_text("\n".join(["species,a,b,rooms", *rows]) + "\n")
    return file


def test_texts_and_masks_choose_a_model_that_reads_them(tmp_path: Path) -> None:
    mail = tmp_path / "mail.csv"
    mail.write_text("text,label\n" + "".join(f"some words here {i % 4},{i % 2}\n" for i in range(40)))
    found = drafted(mail)
    assert found.trial.ours.model == "text_bag"
    assert any("text_bag" in note and "--model" in note for note in found.notes)
    named = drafted(mail, model="text_bag")
    assert named.trial == found.trial
    assert not any("text_bag" in note for note in named.notes)
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "scenes.npz", x=draw.integers(0, 256, (12, 8, 8), np.uint8), y=draw.integers(0, 2, (12, 8, 8)))
    assert drafted(tmp_path / "scenes.npz").trial.ours.model == "unet"


def test_one_training_is_one_trial_whether_or_not_its_label_is_named(people: Path) -> None:
    found, named = drafted(people), drafted(people, label="kind")
    assert found.trial == named.trial
    dropped = drafted(people, drop=("key", "day"))
    assert dropped.trial.hash != found.trial.hash
    assert dropped.splits.input_shape == (1,)
    assert dropped.trial == drafted(people, drop=("day", "key")).trial


def test_the_plan_holds_what_was_decided(people: Path) -> None:
    plan = make_plan(Options(data=str(people), losses=("m",), steps=60, device="cpu"), Sources())
    for word in ("the label is the column 'kind'", "'key' (whole numbers", "'day' holds dates"):
        assert any(word in note for note in plan.notes)
        assert word in plan.text


def test_train_prints_the_notes_and_compare_refuses_an_unclear_label(
    people: Path, rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def lossmith(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["lossmith", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    code, err = lossmith("train", "people.csv", "--drop", "key, day", "--steps", "60", "--out", "saved")
    assert code == 0
    assert "note: the label is the column 'kind'" in err
    assert "'key'" not in err
    code, err = lossmith("compare", "rooms.csv")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "--label species" in err
    assert {each.name for each in tmp_path.iterdir()} == {"people.csv", "rooms.csv", "saved"}
    with pytest.raises(DataError, match="not clear"):
        drafted(rooms)
    assert drafted(rooms, label="species").task.outputs == 3


def test_gradient_descent_takes_all_examples_at_a_constant_rate() -> None:
    def asked(**options: object) -> tuple[object, ...]:
        found = draft(Request(data="spirals", steps=40, device="cpu", **options), Sources())  # type: ignore[arg-type]
        optimizer = found.trial.optimizer
        whole = found.trial.ours.batch_size == len(found.splits.train)
        return whole, optimizer.name, optimizer.momentum, optimizer.nesterov, optimizer.schedule

    assert asked(optimizer="gd") == (True, "sgd", 0.0, False, "none")
    assert asked(optimizer="gd", momentum=0.8, schedule="cosine") == (True, "sgd", 0.8, False, "cosine")
    assert asked(optimizer="sgd") == (False, "sgd", 0.9, True, "cosine")
    assert asked(optimizer="sgd", momentum=0, schedule="none") == (False, "sgd", 0, False, "none")
    assert asked() == (False, "adam", 0.0, False, "cosine")
    for options, words in (
        ({"optimizer": "gd", "batch_size": 8}, "all training examples"),
        ({"momentum": 0.5}, "adam has none to set"),
        ({"every": 5}, "nothing to measure"),
        ({"probe": ("sharpnes",)}, "did you mean 'sharpness'"),
    ):
        with pytest.raises(ValueError, match=words):
            asked(**options)
