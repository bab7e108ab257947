"""The page holds every number, loads nothing, believes nothing it was given, and is the same for the same run."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import tomli_w
from html_page import Page, body
from report_example import CANDIDATES, HOSTILE, as_run, changed, make_run, plan, row, summary, untrained, usual

from lossmith.comparison.headlines import FEWER_STEPS, HEADLINES
from lossmith.comparison.verdict import RULES
from lossmith.report.page import render, write_report
from lossmith.tasks import Classification


@pytest.fixture(name="page", scope="module")
def _page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render(make_run(tmp_path_factory.mktemp("run")))


@pytest.fixture(name="hostile", scope="module")
def _hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = [
        row("cross_entropy", 0.98),
        changed(row(HOSTILE, 0.981), notes=(HOSTILE,), verdict=f"{HOSTILE} is fine.", kind=HOSTILE),
        untrained(row(f"</style>{HOSTILE}", 0.3), HOSTILE),
    ]
    of = replace(
        summary(rows, recommended=HOSTILE),
        headline=HOSTILE,
        noise=HOSTILE,
        metric=HOSTILE,
        speed_sentences=(HOSTILE,),
    )
    return render(make_run(tmp_path_factory.mktemp("hostile"), of))


def test_every_tag_is_closed(page: str) -> None:
    assert Page(page).open == []


def test_every_loss_and_every_number_of_the_leaderboard(page: str) -> None:
    rows = re.findall(r"<tr class=.*?</tr>", page, re.DOTALL)
    for of in usual().rows:
        start = re.compile(rf'<th scope="row">{re.escape(html.escape(of.name))}(</th>| <span)')
        line = next(row for row in rows if start.search(row.replace("<wbr>", "")))
        cells = [html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<td.*?</td>", line)]
        wanted = [str(of.rank), f"{100 * of.score:.2f}", of.kind]
        for gap in (of.against_reference, of.against_rival):
            if gap is not None and gap.interval is not None:
                low, high = gap.interval
                shown = f"{100 * gap.mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
                wanted.append(shown.replace("-", "−").replace("−0.00", "+0.00"))
        against = of.against_reference
        if against is not None and against.simultaneous is not None:
            wanted += ["[" + ", ".join(f"{100 * b:+.2f}" for b in against.simultaneous).replace("-", "−") + "]"]
            wanted += ["0.046", "0.57", "0.10, 0.17", "75", "0.87 [0.71, 1.06]"]
        wanted += ["0.093 → 0.074", "3.1 → 1.3", "1.2", "48", "0.004 (0.002 to 0.004)", "2.3"]
        assert set(wanted) <= set(cells)
    assert "epsilon 0.3 (0.2 to 0.4), default in 1 of 3 folds" in page


def test_the_contents_stand_in_their_order(page: str) -> None:
    ids = re.findall(r'<section id="([a-z]+)"', page)
    figures = ["differences", "curves", "rates", "budget", "reliability", "shapes"]
    ends = ["method", "rules", "scored", "notes", "plan"]
    assert ids == ["verdict", "leaderboard", "verdicts", *figures, *ends]
    assert "digits" in page[: page.index("<section")]
    assert "mlp" in page[: page.index("<section")]


def test_verdicts_headline_noise_recommendation_and_fewer_steps(page: str) -> None:
    text = Page(page).text.replace("−", "-")
    of = usual()
    for sentence in (of.headline, of.noise, of.recommendation, *of.speed_sentences):
        assert sentence in text
    for each in of.rows:
        assert each.verdict in text or each.kind == "reference"


def test_how_it_was_done_names_what_was_decided_beforehand(page: str) -> None:
    text = body(page, "method")
    for fact in (
        "5 test folds",
        "1,150 examples to train on, 287 to validate, 360 to test",
        "10 % of the labels are wrong in training and validation",
        "16 trainings for tuning in each repeat in each fold",
        "4 learning rates",
        "done 3 times in each fold",
        "Adam, 50 steps of 64 examples, cosine decay",
        "before any test outcome was opened",
        "5 losses were tested",
        "Holm",
        "delta = 0.5 points",
        "the chance of seeds, of tuning, of which examples validate",
    ):
        assert fact in text
    assert "23 trained models have been scored" in body(page, "scored")


def test_the_rules_are_those_of_the_verdicts(page: str) -> None:
    text = body(page, "rules").replace("−", "-")
    assert all(rule.kind.value in text for rule in RULES)
    for claim in (*RULES, *HEADLINES, FEWER_STEPS):
        said = claim.worded(Classification.words)
        assert said.condition in text
        assert said.sentence in text
        assert "{reference}" not in said.sentence


def test_a_page_speaks_of_its_task_and_leaves_the_names_of_users_alone() -> None:
    """A data set or a loss may be called as the words for classification are."""
    design = plan(["mse", "cross-entropy minus CE", "huber (tuned)"]) | {"name": "cross-entropy.csv"}
    design["task"] = {"name": "regression", "summary": "regression", "guess": 0.0, "metric": "R2", "meaning": "R2"}
    of = usual(("cross-entropy minus CE", "m"))
    mse = replace(of.rows[0], name="mse", against_reference=None, kind="reference")
    rows = (mse, *(row for row in of.rows if row.role == "candidate"))
    design["arms"] = [{"name": row.name} for row in rows]
    run = as_run(replace(of, rows=rows, reference="mse", rival=None), design)
    text = Page(render(run)).text
    assert "cross-entropy.csv" in text
    assert "cross-entropy minus CE" in text
    assert "Minus squared error, points" in text
    assert "better than tuned squared error and Huber loss" in body(render(run), "rules")
    assert "cross-entropy" not in body(render(run), "method") + body(render(run), "rules")


def test_the_plan_is_there_as_toml_and_the_versions(page: str) -> None:
    text = html.unescape(re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)[0])
    assert text.strip() == tomli_w.dumps(plan([row.name for row in usual().rows])).strip()
    assert "torch 2.13.0" in body(page, "plan")


def test_notes_say_what_was_odd(tmp_path: Path) -> None:
    odd = changed(row("m", 0.97), diverged=1, extended_share=0.00213, notes=("it ends inside a cycle",))
    rows = [row("cross_entropy", 0.98), odd, untrained(row("mae", 0.1), "2 of its 3 final trainings diverged")]
    text = body(render(make_run(tmp_path, summary(rows))), "notes")
    assert "1 of its 3 final trainings diverged." in text
    assert "continued by its tangent for 0.21 % of the examples" in text
    assert "it ends inside a cycle" in text
    assert "could not be trained under this budget: 2 of its 3 final trainings diverged." in text


# --- offline -------------------------------------------------------------------------------------------------


def test_nothing_is_loaded(page: str) -> None:
    for tag, attributes in Page(page).tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "image", "foreignobject"}
        assert not {"src", "srcset", "data", "action", "background", "poster", "onload", "onclick"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert "@import" not in page
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    assert set(re.findall(r"https?://[^\"'<\s]*", page)) == {"http://www.w3.org/2000/svg"}
    assert page.count("http://") == page.count('xmlns="http://www.w3.org/2000/svg"')


def test_only_our_own_script_may_run(page: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for tag, a in Page(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_light_dark_phone_and_paper_are_provided_for(page: str) -> None:
    for rule in ("prefers-color-scheme: dark", "@media print", "max-width: 40rem", "overflow-x: auto", "system-ui"):
        assert rule in page
    assert 'name="viewport"' in page


# --- what was given is not believed --------------------------------------------------------------------------


def test_a_name_made_of_markup_is_escaped_everywhere(hostile: str) -> None:
    assert hostile.count("<script") == 1
    assert hostile.count("</style>") == 1
    page = Page(hostile)
    assert page.open == []
    assert page.text.count(HOSTILE) > 10
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_its_pictures_are_well_formed_too(hostile: str) -> None:
    drawings = re.findall(r"<svg xmlns.*?</svg>", hostile, re.DOTALL)
    found = [ElementTree.fromstring(drawing) for drawing in drawings]
    assert sum(HOSTILE in "".join(root.itertext()) for root in found) >= 2


# --- the file ------------------------------------------------------------------------------------------------


def test_equal_runs_give_equal_pages(tmp_path: Path, page: str) -> None:
    file = write_report(make_run(tmp_path / "elsewhere"))
    assert file == tmp_path / "elsewhere" / "report.html"
    assert file.read_text(encoding="utf-8") == page
    assert sorted(path.name for path in file.parent.iterdir()) == [
        "plan.toml",
        "report.html",
        "results.csv",
        "results.parquet",
        "summary.json",
    ]


def test_thirty_losses_and_missing_values() -> None:
    names = [f"loss_{i}" for i in range(26)]
    of = usual((*names, CANDIDATES[-1]))
    bare = [changed(r, share_won=None, speed=None, lrs=(), values=(), gradient_ratio=float("nan")) for r in of.rows]
    text = render(as_run(replace(of, rows=tuple(bare), rival=None)))
    assert all(name in text for name in names)
    assert "nan" not in Page(text).text
    assert len(text) < 2_000_000
