"""Masks in a report: pictures that are right to the pixel and come from the page alone."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_example import HOSTILE, as_run, plan, usual

from lossmith.report.figures import pictures
from lossmith.report.page import render
from lossmith.report.run import Run
from lossmith.tasks import Raster

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (4, 6, 3), np.uint8)
MASK, PREDICTED = RNG.integers(0, 3, (2, 4, 6), np.uint8)
MASK[0] = 255


def run(classes: tuple[str, ...] = ("sky", "road", "car")) -> Run:
    of = usual()
    rows = tuple(
        replace(
            row,
            predictions=(Raster.of("predicted 7", PREDICTED),),
            columns={"data_set_iou": 0.5, "pixel_accuracy": 0.9, "nll": 0.4},
            diagrams=(),
        )
        for row in of.rows
    )
    of = replace(of, rows=rows, originals=(Raster.of("image 7", IMAGE), Raster.of("mask 7", MASK)))
    design: dict[str, Any] = plan([row.name for row in of.rows])
    design["task"] = {
        "name": "segmentation",
        "summary": "masks",
        "guess": 0.05,
        "metric": "mean IoU",
        "meaning": "overlap",
    }
    design["task"]["classes"] = list(classes)
    return as_run(of, design)


def decoded(svg: str) -> list[np.ndarray]:
    found = re.findall(r'href="data:image/png;base64,([A-Za-z0-9+/=]+)"', svg)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")) for data in found]


def test_image_truth_and_predictions_are_shown_pixel_by_pixel() -> None:
    picture = next(each for each in pictures(run()) if each.key == "masks")
    image, truth, *predictions = decoded(picture.panels[0])
    np.testing.assert_array_equal(image, IMAGE)
    assert len(predictions) == 6  # the losses in colour
    legend = [tuple(bytes.fromhex(colour)) for colour in re.findall(r'fill="#(\w{6})"', picture.panels[1])]
    assert len(set(legend)) == 4
    assert legend[3] == (128, 128, 128)
    for mask, shown in ((MASK, truth), (PREDICTED, predictions[0])):
        np.testing.assert_array_equal(shown, np.array(legend)[np.where(mask == 255, 3, mask)])
    assert [name in picture.panels[1] for name in ("sky", "road", "car", "ignored")] == [True] * 4


def test_the_page_holds_its_pictures_and_loads_nothing() -> None:
    page = render(run((HOSTILE, "road", "car")))
    assert "img-src data:" in page
    assert "mean IoU, %" in page
    assert "<script>alert" not in page
    assert set(re.findall(r' href="(\w*:)', page)) == {"data:"}


def test_a_run_without_pictures_draws_none() -> None:
    whole = run()
    bare = replace(whole, results=replace(whole.results, originals=()))
    assert all(picture.key != "masks" for picture in pictures(bare))


def test_damaged_pictures_are_told() -> None:
    whole = run()
    image, mask = whole.results.originals
    damaged = replace(whole, results=replace(whole.results, originals=(replace(image, shape=(4, 6, 1)), mask)))
    with pytest.raises(ValueError, match="'image 7' is damaged"):
        pictures(damaged)
