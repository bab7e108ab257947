from __future__ import annotations

import base64
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import Page

from lossmith.report import course
from lossmith.report.course import course_of, load_course
from lossmith.report.dynamics import render_dynamics, write_dynamics
from lossmith.trials.result import Series

LOSS = "dynamical:amplitude=70,period=100,static_after=300"


def described(loss: str = LOSS) -> dict[str, Any]:
    optimizer = {"name": "sgd", "lr": 0.5, "momentum": 0.9, "nesterov": True}
    trial = {"loss": loss, "steps": 400, "optimizer": optimizer, "trainer": {"model": "mlp", "batch_size": 300}}
    return {"trial": trial, "task": {"name": "classification", "classes": ["a", "b", "c"]}}


def measured() -> dict[str, Series]:
    """A loss that alternates by .1 from step 100 to 200, where the sharpness alternates around 4.1."""
    t = np.arange(400)
    losses = 1.0 + 0.1 * (-1.0) ** t * ((t >= 100) & (t < 200))
    at = np.arange(0, 401, 25)
    sharp = np.where((at >= 50) & (at <= 150), 4.1 + 0.5 * (-1.0) ** at, 1.0)
    return {
        "instability": Series(t, losses),
        "sharpness:every=25": Series(at, np.stack([sharp, np.full(len(at), 4.0)], 1)),
        "ntk:every=25": Series(at, np.linspace(1, 2, len(at))[:, None]),
        "margin:every=25": Series(at, np.stack([at - 3.0, at + 1.0, at / 400], 1)),
        "train accuracy": Series(at, at / 400),
        "valid accuracy": Series(at, at / 400),
    }


def test_panels_are_those_of_the_papers_figure() -> None:
    course = course_of(described(), measured())
    assert [panel.title for panel in course.panels] == [
        "Class weights", "Loss", "Step difference", "Accuracy", "Sharpness", "Tangent kernel", "Margins",
    ]  # fmt: skip
    weights, loss, difference, accuracy, sharpness, kernel, margins = course.panels
    peak = int(np.flatnonzero(weights.steps == 150)[0])  # the middle of the second class's turn
    np.testing.assert_allclose([line[peak] for line in weights.lines.values()], [3 / 72, 210 / 72, 3 / 72])
    np.testing.assert_allclose([line[-1] for line in weights.lines.values()], 1)
    assert loss.lines["loss"].shape == (400,)
    assert loss.log
    np.testing.assert_allclose(difference.lines["difference"][150:152], [-0.2, 0.2])
    assert difference.steps[0] == 1
    np.testing.assert_allclose(accuracy.lines["accuracy"], accuracy.steps / 400)
    assert sharpness.dashed == "threshold"
    np.testing.assert_allclose(kernel.lines["largest eigenvalue"][[0, -1]], [1, 2])
    assert list(margins.lines) == ["smallest", "median"]


def test_onsets_hold_the_sharpness_of_both_branches() -> None:
    (onset,) = course_of(described(), measured()).onsets or ()
    assert 98 <= onset.of.start <= 101
    assert 199 <= onset.of.stop <= 221
    assert onset.kind == "period 2"
    assert onset.sharpness == pytest.approx(4.1)
    assert onset.threshold == 4.0


def test_a_training_without_some_probes_has_fewer_panels() -> None:
    series = {name: of for name, of in measured().items() if name.partition(":")[0] not in {"instability", "margin"}}
    course = course_of(described("focal"), series)
    assert [panel.title for panel in course.panels] == ["Accuracy", "Sharpness", "Tangent kernel"]
    assert course.onsets is None
    assert "Instabilities" not in render_dynamics(course)


def test_the_page_holds_all_numbers_and_no_other_script(tmp_path: Path) -> None:
    series = measured()
    series["sharpness:every=25"].values[0, 0] = math.nan  # Adam's before its first step
    course = course_of(described(), series)
    text = render_dynamics(course, (100, 200))
    page = Page(text)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    assert data["window"] == [100, 200]
    assert data["whole"] == [0, 400]
    (sharp, threshold) = data["panels"][4]["lines"]
    values = np.frombuffer(base64.b64decode(sharp["values"]), "<f4")
    np.testing.assert_allclose(values, course.panels[4].lines["sharpness"], rtol=1e-6)
    assert threshold["dashed"]
    assert "At 1 of 1 onsets the sharpness is within 10 % of the threshold; its median is 1.02 times" in page.text
    assert render_dynamics(course, (100, 200)) == text
    hashes = re.findall(r"'sha256-([^']+)'", text)
    assert len(hashes) == 2
    assert not any({"src", "href"} & attributes.keys() for _, attributes in page.tags)
    assert write_dynamics(course, tmp_path).read_text() == render_dynamics(course)


def test_names_from_a_folder_cannot_act_as_markup_or_files(tmp_path: Path) -> None:
    from_elsewhere = described(f"@{tmp_path}/other.loss")
    course = course_of(from_elsewhere, measured())
    assert course.panels[0].title == "Loss"
    from_elsewhere["trial"]["trainer"]["model"] = "</script><script>alert(1)</script>"
    assert "<script>alert" not in render_dynamics(course_of(from_elsewhere, measured()))


def test_a_folder_without_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no training with probes"):
        load_course(tmp_path)


def test_what_the_page_says_of_a_training_that_diverged_or_is_short() -> None:
    wild = measured()
    wild["instability"].values[250:] = math.inf
    text = Page(render_dynamics(course_of(described(), wild))).text
    assert "From step 250 on the loss is not finite: it diverged." in text
    assert "for steps on all training examples" in text
    short = {"instability": Series(np.arange(12), np.ones(12)), "valid accuracy": Series(np.arange(2), np.ones(2))}
    text = Page(render_dynamics(course_of(described(), short))).text
    assert "too short to find instabilities, which takes 22 steps" in text


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"sharpness": Series(np.arange(5), np.ones((5, 3)))},
        {"instability": Series(np.arange(3), np.array([b"a", b"b", b"c"]))},
        {"instability": Series(np.arange(3) + 0j, np.ones(3))},
        {"<script>": Series(np.arange(3), np.ones(3))},
        {"ntk": Series(np.arange(3), np.ones((2, 1)))},
    ],
    ids=str,
)
def test_damaged_series_are_refused_in_a_sentence(
    fault: dict[str, Series], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {} if not fault else measured() | fault
    monkeypatch.setattr(course, "load_series", lambda _: (described(), whole))
    with pytest.raises(ValueError, match=f"the series in {tmp_path} are damaged: train it anew"):
        load_course(tmp_path)
