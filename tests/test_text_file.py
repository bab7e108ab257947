"""A text file that holds one loss stands for that loss wherever ``@path`` does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lossmith
from lossmith import catalog
from lossmith.comparison.options import Options
from lossmith.comparison.plan import make_plan
from lossmith.export import export
from lossmith.trials import texts
from lossmith.trials.trial import Sources


def held(folder: Path, text: str) -> str:
    (folder / "best.loss").write_text(text)
    return f"@{folder / 'best.loss'}"


@pytest.mark.parametrize(
    "text",
    [
        "formula(-y*log(p) - 0.1*log(p)/n)",
        "rooted:k=4",
        "dynamical(focal:gamma=1):amplitude=20,period=28",
        "cross_entropy+0.5*brier",
        "rooted:k=?",
        "adaptive:hidden=7,meta_lr=0.01",
    ],
)
def test_its_canonical_text_is_that_of_the_loss_inside(tmp_path: Path, text: str) -> None:
    assert texts.canonical(held(tmp_path, f"{text}\n")) == texts.canonical(text)


def test_it_takes_the_arguments_that_the_loss_takes(tmp_path: Path) -> None:
    logits, target = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1, 0])
    loss = lossmith.create(held(tmp_path, "focal:gamma=1"), reduction="sum")
    torch.testing.assert_close(loss(logits, target), 5 * lossmith.create("focal:gamma=1")(logits, target))


def test_it_stands_inside_wrappers_and_sums(tmp_path: Path) -> None:
    saved = held(tmp_path, "brier+3*ngl")
    assert catalog.canonical(f"cross_entropy+0.5*{saved}") == "cross_entropy+0.5*brier+1.5*ngl"
    assert lossmith.create(f"cross_entropy+0.5*{saved}").text == "cross_entropy+0.5*brier+1.5*ngl"
    assert catalog.canonical(f"dynamical({held(tmp_path, 'rooted:k=4')})") == "dynamical(rooted:k=4)"


def test_it_is_compared_and_exported_as_the_loss_inside(tmp_path: Path) -> None:
    saved = held(tmp_path, "focal:gamma=3")
    plan = make_plan(Options(data="iris", losses=(saved,)), Sources())
    assert "focal:gamma=3" in [arm.name for arm in plan.arms]
    assert export(saved, tmp_path / "my_loss.py") == "focal:gamma=3"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"no_such_loss",
        b"ngl\nfocal",
        b"\xff\xfe",
        b"x" * 20_001,
        b"formula(" + b"(" * 9_000,
        b"@another.loss",
        b"dynamical(@another.loss)",
        b"ngl\x1b[2J",
        b"{}",
        b"formula(-y*log(p)",
    ],
)
def test_anything_else_is_refused_in_one_sentence_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "wrong.loss").write_bytes(content)
    for load in (lossmith.create, texts.canonical):
        with pytest.raises(ValueError, match=r"wrong\.loss' is not a saved loss") as refusal:
            load(f"@{tmp_path / 'wrong.loss'}")
        assert str(refusal.value).isprintable()
        assert len(str(refusal.value)) < 500


def test_a_folder_is_refused_by_its_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it is a folder: name a file in it, such as best\.loss"):
        lossmith.create(f"@{tmp_path}")
