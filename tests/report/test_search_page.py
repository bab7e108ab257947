"""The page of a search holds every number, believes nothing it was given, and is the same for the same search."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from html_page import Page, body
from report_example import HOSTILE
from search_example import final, make_search, write_search

from lossmith.evolution.findings import Choice, Found
from lossmith.report.evolution.page import render_search, write_search_report
from lossmith.report.evolution.said import descent
from lossmith.report.evolution.search_run import load_search
from made_search import (
    CONTROL_WINNER,
    FILTERS,
    FORMULAS,
    WINNER,
    candidate,
    control,
    found,
    lineage,
    stopped,
    strategy,
    write_found,
)


def spaced(text: str) -> str:
    return text.replace("−", "-")


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_search(tmp_path_factory.mktemp("search"), found(comparisons=("comparisons/digits",)))
    write_search_report(load_search(folder))
    return folder


@pytest.fixture(name="page", scope="module")
def _page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def alone(of: Found, folder: Path) -> str:
    """The page of a search without comparisons."""
    write_found(folder, replace(of, comparisons=()))
    return render_search(load_search(folder))


def test_every_tag_is_closed_and_no_id_is_used_twice(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for drawing in re.findall(r"<svg xmlns.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawing)


def test_the_verdict_comes_first_and_the_winner_next(page: str) -> None:
    assert found().verdict.replace("[", "[") in spaced(body(page, "verdict"))
    assert page.index('id="verdict"') < page.index('id="winner"') < page.index('id="final"') < page.index('id="hall"')
    text = body(page, "winner")
    assert WINNER in text
    assert CONTROL_WINNER in text
    assert page.count('class="formula"') == 2
    assert "it is most like label_smoothing:epsilon=0.03" in text
    assert "Convex in logits" in text
    assert "Known losses" in text  # of the whole certificate


def test_every_member_of_both_halls_of_fame(page: str) -> None:
    rows = [
        [Page(cell).text for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        for row in re.findall(r"<tr.*?</tr>", page[page.index('id="hall"') : page.index('id="choice"')], re.DOTALL)
    ]
    for search in (strategy(), control()):
        for rank, member in enumerate(search.hall_of_fame, start=1):
            row = next(row for row in rows if row[:2] == [str(rank), f"{member.scores[0]:.4f}"])
            assert row[2:6] == [
                f"{member.error:.4f}",
                member.formula,
                str(member.complexity),
                f"{member.rung + 1} of 3",
            ]
            assert row[6] == f"{member.lr_factor:g}"


def test_every_count_of_the_filters_and_rungs_with_its_share(page: str) -> None:
    text = body(page, "survival")
    made = sum(FILTERS.values()) + 4200
    for name, count in {
        **FILTERS,
        "trained on rung 1": 4200,
        "trained on rung 2": 610,
        "trained on rung 3": 74,
    }.items():
        assert f"{name}{count:,}{100 * count / made:.1f} %" in text
    assert "640 candidates pushed the wrong way" in text
    rungs = body(page, "rungs")
    for words in ("8,3021,1850.47", "1,1851440.58", "30 chosen at random", "1 of them (3.3 %)", "0.0023 %", "0.081 %"):
        assert words in rungs


def test_the_choice_and_the_descent(page: str) -> None:
    text = body(page, "choice")
    for score, error in (
        ("0.0902", "–"),
        ("0.0911", "0.0013"),
        ("no score", "–"),
        ("0.0967", "–"),
        ("0.0991", "0.0019"),
    ):
        assert f"{score}{error}" in text
    assert text.count("chosen") == 2
    descent = body(page, "lineage")
    for member in lineage():
        if member.number != 5100:  # one of two versions of the same constants
            assert f"#{member.number} " in descent
    assert "#0 named loss cross_entropy, 4 nodes, 0.0921 nats on rung 3" in descent
    assert "one-point crossover of #7011 and #6400" in descent
    assert "#7011 tuned constants of #3000" in descent
    assert "with 1 earlier version of its constants" in descent


def test_the_final_comparison_with_intervals_and_a_link_to_its_report(page: str, folder: Path) -> None:
    text = spaced(body(page, "final"))
    assert "the winner98.62+0.62 [+0.22, +1.02]" in text
    assert "random search's winner98.11+0.11 [-0.29, +0.51]" in text
    for row in final().rows:
        assert f"{100 * row.score:.2f}" in text
    links = [a["href"] for tag, a in Page(page).tags if tag == "a" and not str(a["href"]).startswith("#")]
    assert links == ["comparisons/digits/report.html"]
    assert (folder / str(links[0])).is_file()


def test_what_was_asked_for_is_said(page: str) -> None:
    text = body(page, "method")
    for words in (
        "The search saw 1,077 examples",
        "40 % of the labels for training were changed",
        "the formulas of cross_entropy, brier",
        "60 steps",
        "temperature",
    ):
        assert words in text
    assert "torch 2.13.0" in body(page, "plan")


def test_nothing_is_loaded_and_nothing_runs(page: str) -> None:
    assert "<script" not in page
    for tag, attributes in Page(page).tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "image", "foreignobject"}
        assert not {"src", "srcset", "data", "action", "onload", "onclick"} & set(attributes)
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    assert page.count("http://") == page.count('xmlns="http://www.w3.org/2000/svg"')


def test_the_same_search_gives_the_same_page(tmp_path: Path) -> None:
    of = found(winner="formula(-y*log(p))", control_winner=None)
    assert alone(of, tmp_path / "a") == alone(of, tmp_path / "b")


def test_a_search_that_was_stopped_says_so(tmp_path: Path) -> None:
    page = render_search(make_search(tmp_path, stopped()))
    text = Page(page).text
    assert "Run the same command again to resume" in text
    assert "There was none." in body(page, "method")
    for section in ("winner", "final", "choice"):
        assert f'id="{section}"' not in page
        assert f'href="#{section}"' not in page
    assert FORMULAS[0] in body(page, "hall")


def test_a_search_that_found_nothing_yet_has_a_page(tmp_path: Path) -> None:
    bare = replace(strategy(), trained=(0, 0, 0), course=(), hall_of_fame=(), lineage=())
    page = alone(stopped(searches=(bare,)), tmp_path)
    assert "No candidate was trained." in body(page, "front")


def test_an_ancestor_that_could_not_be_trained(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"rung": -1, "scores": (), "error": float("nan"), "lr_factor": float("nan")}
    odd = candidate(5, 4, (), fitness=float("inf"), **nothing)
    page = alone(stopped(searches=(replace(strategy(), lineage=(candidate(0, 8120, (4,)), odd)),)), tmp_path)
    assert "#4 seed, 10 nodes, not trained" in body(page, "lineage").replace("named loss", "seed")
    assert "nan" not in Page(page).text


def test_several_problems_are_drawn_by_mean_rank(tmp_path: Path) -> None:
    page = alone(found(problems=("digits: mlp", "wine: linear"), winner="", control_winner=None), tmp_path)
    assert "mean rank" in body(page, "front")
    assert "fitness is its mean rank" in body(page, "method")


def test_words_made_of_markup_are_escaped_everywhere(tmp_path: Path) -> None:
    member = candidate(0, 1, (), formula=f"</style>{HOSTILE}", operator=HOSTILE)
    hostile = replace(
        strategy(), strategy=HOSTILE, filters={HOSTILE: 3}, hall_of_fame=(member,), lineage=(member,), rescued=1
    )
    of = found(
        name=HOSTILE,
        problems=(HOSTILE,),
        searches=(hostile,),
        choices=(Choice(HOSTILE, 1, HOSTILE, 0.1, 0.0, True),),
        winner=HOSTILE,
        control_winner=HOSTILE,
        verdict=HOSTILE,
    )
    page = alone(of, tmp_path)
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert Page(page).open == []
    assert Page(page).text.count(HOSTILE) > 10
    assert "It could not be described" in body(page, "winner")


def test_scores_of_different_rungs_are_not_drawn_on_one_axis(tmp_path: Path) -> None:
    """Three of twelve and three of five members were last trained on a shorter rung."""
    slow = replace(control(), course=control().course[:4])
    page = alone(found(searches=(strategy(), slow), winner="", control_winner=None), tmp_path)
    assert "6 members of the halls of fame were last trained on shorter rungs" in body(page, "front")
    assert "No point of random search lies on that rung." in body(page, "course")


def test_a_simple_candidate_that_is_far_worse_does_not_stretch_the_axis(tmp_path: Path) -> None:
    far = tuple(candidate(11, number, scores=(2.0,), fitness=2.0, complexity=3, rung=2) for number in (1, 2))
    searches = (replace(strategy(), hall_of_fame=(*strategy().hall_of_fame, *far)), control())
    page = alone(found(searches=searches, winner="", control_winner=None), tmp_path)
    assert "2 of the simplest candidates lie above the axis." in body(page, "front")


def test_finalists_stand_by_score_and_those_without_one_last(tmp_path: Path) -> None:
    page = alone(found(choices=found().choices[::-1], winner="", control_winner=None), tmp_path)
    text = body(page, "choice")
    assert text.index("0.0902") < text.index("0.0911") < text.index("no score") < text.index("0.0967")


def test_an_ancestor_with_two_children_is_not_folded_into_one_of_them() -> None:
    shared = candidate(1, 3, (), operator="constants")
    one, other = (candidate(1, number, (3,), operator="constants") for number in (4, 5))
    child = candidate(0, 6, (4, 5), operator="uniform crossover")
    steps = list(descent(replace(strategy(), lineage=(child, other, one, shared)), {}))
    assert [step.candidate.number for step in steps] == [6, 5, 4, 3]
    assert not any(step.repeats for step in steps)
