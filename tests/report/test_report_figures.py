"""The pictures: well-formed, for light and dark pages, useful whatever the numbers, equal for equal runs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import NDArray
from report_example import CANDIDATES, CONTROLS, HOSTILE, as_run, changed, make_run, row, summary, untrained, usual

from lossmith.catalog import create
from lossmith.comparison.rows import LearnedRow, Row
from lossmith.report.draw_learned import write_curves
from lossmith.report.figures import pictures
from lossmith.report.highlights import GROUND, INK, LOOKS, far_off, highlighted, tone
from lossmith.report.scene import Picture, limits

NAN = math.nan


def drawn(folder: Path, rows: Sequence[Row], recommended: str = "cross_entropy") -> dict[str, Picture]:
    return {picture.key: picture for picture in pictures(make_run(folder, summary(rows, recommended)))}


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


def numbers(svg: str) -> list[float]:
    """The numbers written on a drawing: those of its axes."""
    return [float(t.replace("−", "-")) for t in texts(svg) if re.fullmatch(r"[−-]?[\d.]+", t)]


@pytest.fixture(name="usual_pictures", scope="module")
def _usual_pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Picture, ...]:
    return pictures(make_run(tmp_path_factory.mktemp("run")))


def test_every_picture_is_there_with_a_sentence_on_how_to_read_it(usual_pictures: tuple[Picture, ...]) -> None:
    assert [p.key for p in usual_pictures] == ["differences", "curves", "rates", "budget", "reliability", "shapes"]
    assert all(p.panels and p.reading.endswith(".") for p in usual_pictures)
    assert [len(p.panels) for p in usual_pictures] == [1, 2, len(CONTROLS) + len(CANDIDATES), 1, 2, 2]


def test_losses_that_learned_have_a_picture_of_their_own(tmp_path: Path) -> None:
    learned = LearnedRow(
        (10, 20), (1.0, 1.5), (0.9, 1.2), (1.1, 2.0), (0, 20), (0.1, 0.9), ((1, 1), (2, 1)), 0, "y*c", 0.1
    )
    row_of_it = changed(row("adaptive", 0.981), learned=learned)
    found = drawn(tmp_path, [row("cross_entropy", 0.98), row_of_it])
    assert len(found["learned"].panels) == 2
    assert found["learned"].remarks == (
        "adaptive of the first final training, distilled: y*c, whose gradient is off by 10 %.",
    )
    assert max(numbers(found["learned"].panels[1])) >= 2


def test_the_moments_of_a_loss_in_a_loop_of_ones_own_can_be_drawn(tmp_path: Path) -> None:
    write_curves({"first": create("cross_entropy"), "last": create("focal")}, 4, tmp_path / "curves.svg")
    svg = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert {"first", "last", "strictness, cross-entropy = 1"} <= set(texts(svg))


def test_every_svg_is_well_formed_and_says_what_it_is(usual_pictures: tuple[Picture, ...]) -> None:
    for panel in (panel for picture in usual_pictures for panel in picture.panels):
        root = ElementTree.fromstring(panel)
        assert root.attrib["aria-label"]
        assert root.attrib["role"] == "img"
        assert root[0].tag.endswith("title")
        assert root[0].text == root.attrib["aria-label"]


def test_drawings_take_their_colours_from_the_page(usual_pictures: tuple[Picture, ...]) -> None:
    for panel in (panel for picture in usual_pictures for panel in picture.panels):
        assert "currentColor" in panel
        assert INK not in panel
        assert GROUND not in panel
        assert "#000000" not in panel
        assert "#ffffff" not in panel
        assert "font-family" not in panel


def test_ids_are_unique_and_references_stay_inside_their_drawing(usual_pictures: tuple[Picture, ...]) -> None:
    ids: list[str] = []
    for panel in (panel for picture in usual_pictures for panel in picture.panels):
        own = re.findall(r' id="([^"]+)"', panel)
        ids += own
        assert set(re.findall(r'href="#([^"]+)"', panel) + re.findall(r"url\(#([^)]+)\)", panel)) <= set(own)
    assert len(ids) == len(set(ids))


def test_equal_runs_give_equal_bytes_whatever_the_users_settings(
    tmp_path: Path, usual_pictures: tuple[Picture, ...]
) -> None:
    run = make_run(tmp_path)
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path", "lines.linewidth": 9}):
        assert pictures(run) == usual_pictures
        assert mpl.rcParams["font.size"] == 30


def test_one_loss_at_20_percent_does_not_stretch_the_axes(usual_pictures: tuple[Picture, ...]) -> None:
    by_key = {picture.key: picture for picture in usual_pictures}
    assert max(map(abs, numbers(by_key["differences"].panels[0]))) < 5
    assert "← −78.00 [−78.40, −77.60]" in texts(by_key["differences"].panels[0])
    assert any("parabolic -78.00" in remark for remark in by_key["differences"].remarks)
    for key in ("curves", "budget"):
        assert any("parabolic (ends at" in remark for remark in by_key[key].remarks)
    assert min(n for n in numbers(by_key["budget"].panels[0]) if n > 4) > 90  # 4 settings on the other axis
    assert any("all below: at best 20.0 %" in texts(panel) for panel in by_key["rates"].panels)


def test_dollars_and_angle_brackets_in_a_name_are_just_characters(tmp_path: Path) -> None:
    names = [HOSTILE, "$x_{", "$a$", "a & b", "{{ 7 * 7 }}"]
    by_key = drawn(tmp_path, [row("cross_entropy", 0.98), *(row(name, 0.97) for name in names)])
    assert set(names) <= set(texts(by_key["differences"].panels[0]))
    assert not any("<script" in panel for picture in by_key.values() for panel in picture.panels)


def test_one_arm(tmp_path: Path) -> None:
    assert all(picture.panels for picture in drawn(tmp_path, [row("cross_entropy", 0.98)]).values())


def test_only_arms_that_could_not_be_trained(tmp_path: Path) -> None:
    rows = [untrained(row(name, 0.1), "it diverged") for name in ("cross_entropy", "m")]
    assert any("it diverged" in remark for remark in drawn(tmp_path, rows)["differences"].remarks)


def hollow(of: Row) -> Row:
    """The row with nothing but missing values."""
    none = (NAN, NAN)
    columns = dict.fromkeys(of.training.curve.valid, none)
    curve = replace(of.training.curve, steps=(1, 2), train=columns, valid=columns, lowest=none, highest=none)
    return changed(
        of,
        score=NAN,
        against_reference=of.against_reference
        and replace(of.against_reference, mean=NAN, interval=none, simultaneous=none),
        lrs=none,
        rates=tuple(replace(point, score=NAN, smoothed=NAN) for point in of.tuning.rates),
        curve=curve,
        diagrams=tuple(replace(diagram, x=none, y=none, count=(0, 0)) for diagram in of.diagrams),
        expected_best=none,
        shape=replace(of.shape, p=none, loss=none, strictness=none),
    )


@pytest.mark.parametrize("which", [("m",), ("cross_entropy",), ("cross_entropy", "m")])
def test_missing_values_leave_gaps(tmp_path: Path, which: tuple[str, ...]) -> None:
    rows = [row("cross_entropy", 0.98), row("m", 0.97)]
    by_key = drawn(tmp_path, [hollow(of) if of.name in which else of for of in rows], recommended="m")
    assert not any(re.search(r"[ \">]nan\b", panel) for picture in by_key.values() for panel in picture.panels)


def test_empty_lists_are_no_mistake() -> None:
    of = row("cross_entropy", 0.98)
    nothing: dict[str, tuple[float, ...]] = dict.fromkeys(of.training.curve.valid, ())
    empty = changed(
        of,
        runs=(),
        lrs=(),
        rates=(),
        expected_best=(),
        values=(),
        curve=replace(of.training.curve, steps=(), train=nothing, valid=nothing, lowest=(), highest=()),
        diagrams=(),
        shape=replace(of.shape, **dict.fromkeys(vars(of.shape), ())),
    )
    by_key = {picture.key: picture for picture in pictures(as_run(summary([empty])))}
    assert by_key["rates"].remarks == ("No learning rates are recorded.",)


# --- which losses stand out ----------------------------------------------------------------------------------


def test_highlighted_are_cross_entropy_the_recommended_label_smoothing_and_the_top_of_the_table() -> None:
    names = [f"loss {i}" for i in range(12)]
    of = summary(usual([*names, "parabolic"]).rows, recommended="loss 9")
    looks = highlighted(of, far_off(of, 0.1))
    assert list(looks) == ["cross_entropy", "loss 9", "label_smoothing (tuned)", "loss 0", "loss 1", "loss 2"]
    assert looks["cross_entropy"].colour == INK
    assert len({(look.colour, look.dashes, look.marker) for look in looks.values()}) == len(looks)


def test_cross_entropy_again_the_untrained_and_the_far_off_are_never_highlighted_for_their_rank() -> None:
    rows = [*usual(("m", "parabolic")).rows, untrained(row("mae", 0.999), "it diverged")]
    of = summary(rows, recommended="cross_entropy")
    assert list(highlighted(of, far_off(of, 0.1))) == ["cross_entropy", "label_smoothing (tuned)", "m"]


def test_far_off_is_less_than_half_the_way_from_chance_or_three_times_the_errors() -> None:
    def far(reference: float, score: float, chance: float) -> bool:
        return "x" in far_off(summary([row("cross_entropy", reference), row("x", score)]), chance)

    assert far(0.98, 0.90, 0.1)
    assert not far(0.98, 0.95, 0.1)
    assert not far(0.60, 0.40, 0.1)
    assert far(0.60, 0.30, 0.1)
    assert far(0.98, NAN, 0.1)
    assert far_off(summary([row("cross_entropy", 0.5)]), 0.5) == frozenset()


def test_tones_tell_better_from_worse() -> None:
    def of(kind: str) -> str:
        return tone(replace(row("m", 0.9), kind=kind))

    assert [of(k) for k in ("better than both", "worse", "equivalent", "undecided", "could not be trained", "?")] == [
        "better",
        "worse",
        "even",
        "open",
        "out",
        "open",
    ]


# --- colours -------------------------------------------------------------------------------------------------

# Machado, Oliveira, Fernandes (2009), "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# severity 1.0, on linear RGB.
BLINDNESS = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}


def linear(colour: str) -> NDArray[np.float64]:
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ rgb.clip(0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def grounds() -> list[str]:
    style = (files("lossmith.report") / "templates" / "report.css").read_text()
    return re.findall(r"--ground: (#[0-9a-f]{6})", style)


def test_colours_are_readable_on_light_and_dark_ground() -> None:
    assert len(grounds()) == 2
    assert min(contrast(look.colour, ground) for look in LOOKS for ground in grounds()) >= 3


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_stay_apart_under_colour_blindness(kind: str) -> None:
    seen = [lab(np.array(BLINDNESS[kind]) @ linear(look.colour)) for look in LOOKS]
    apart = [float(np.linalg.norm(a - b)) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(apart) > 25  # 2.3 is just noticeable


def test_limits_pass_over_what_is_missing() -> None:
    assert limits([NAN]) is None
    assert limits([1.0, NAN, 3.0], margin=0.5) == (0.0, 4.0)
    low, high = limits([2.0]) or (0.0, 0.0)
    assert low < 2 < high
