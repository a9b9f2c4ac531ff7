from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from xml.etree.ElementTree import Element

import html5lib
import numpy as np
import pytest

from tests.report.examples import (
    FILES,
    HOSTILE,
    evidence,
    make_case,
    make_judgement,
    make_result,
    make_suite,
    make_verdict,
)
from ticketguard.evidence import CAVEAT, Rule, Verdict, decide
from ticketguard.report.charts import MOST_BARS, curve, evidence_bars
from ticketguard.report.facts import judgement_facts, made_facts, registration_facts
from ticketguard.report.html import judgement_page, suite_page, verdict_page
from ticketguard.report.markdown import escaped, suite_markdown, verdict_markdown
from ticketguard.report.pictures import mask_picture, qr_picture
from ticketguard.report.words import DOES_NOT_PROVE, bits
from ticketguard.storage.hostile import visible
from ticketguard.suite.results import SuiteResult

# Elements and attributes that make a browser fetch or run something.
ACTIVE = {"script", "link", "iframe", "object", "embed", "form", "base", "video", "audio", "use", "foreignObject"}
FETCHING = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"}


def parsed(page: str) -> Element:
    """The document by an HTML5 parser that raises on any error."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)


def text_of(page: str) -> str:
    return " ".join("".join(parsed(page).find("body").itertext()).split())  # type: ignore[union-attr]


def elements(page: str, tag: str) -> Iterator[Element]:
    return (item for item in parsed(page).iter() if str(item.tag).rpartition("}")[2] == tag)


def pages(verdict: Verdict, suite: SuiteResult) -> list[str]:
    pictures = [
        mask_picture("conv1", np.arange(12).reshape(3, 4)),
        qr_picture(np.eye(21, dtype=np.bool_), text="key"),
    ]
    empty = decide([], Rule())
    return [
        verdict_page(verdict, suspect="s.safetensors", pictures=pictures),
        verdict_page(empty, suspect=""),
        suite_page(suite, machine={"cores": "2"}),
        suite_page(replace(suite, results=(), timings={})),
    ]


def test_pages_parse_load_nothing_and_run_nothing(verdict: Verdict, suite: SuiteResult) -> None:
    for page in pages(verdict, suite):
        for item in parsed(page).iter():
            name = str(item.tag).rpartition("}")[2]
            assert name not in ACTIVE
            assert not any(key.startswith("on") for key in map(str, item.attrib))
            assert all(item.attrib[key].startswith("data:image/png;") for key in FETCHING & item.attrib.keys())
        assert "http:" not in page
        assert "https:" not in page
        assert "url(" not in page
        assert "@import" not in page


def test_pages_have_one_title_ordered_headings_and_named_tables(verdict: Verdict, suite: SuiteResult) -> None:
    for page in pages(verdict, suite):
        root = parsed(page)
        assert root.attrib["lang"] == "en"
        levels = [int(item.tag[1]) for item in root.iter() if re.fullmatch(r"h[1-6]", str(item.tag))]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        for table in elements(page, "table"):
            assert table.find("caption") is not None
            assert all(cell.attrib["scope"] in ("row", "col") for cell in table.iter("th"))
        ids = [item.attrib["id"] for item in root.iter() if "id" in item.attrib]
        assert len(ids) == len(set(ids))
        for item in root.iter():
            assert item.attrib.get("aria-labelledby", ids[0]) in ids
            if item.attrib.get("role") in ("img", "region"):
                assert item.attrib["aria-label"]
            if item.attrib.get("role") == "region":
                assert item.attrib["tabindex"] == "0", "what scrolls must be reachable by keyboard"
        assert all(image.attrib["alt"] for image in elements(page, "img"))


def test_hostile_words_stay_words(suite: SuiteResult) -> None:
    verdict = make_verdict(supplied_by=HOSTILE, notes=(HOSTILE,), context={HOSTILE: {HOSTILE: [HOSTILE]}})
    hostile = replace(
        make_result("prune", 0.1, 500.0, 98.0), label=HOSTILE, reason=HOSTILE, unit=HOSTILE, cell=suite.results[0].cell
    )
    picture = qr_picture(np.eye(21, dtype=np.bool_), text=HOSTILE, title=HOSTILE)
    for page in (
        verdict_page(verdict, suspect=HOSTILE, pictures=[picture]),
        suite_page(
            replace(suite, plan=HOSTILE, dataset=HOSTILE, results=(hostile, *suite.results[1:])),
            machine={HOSTILE: HOSTILE},
        ),
    ):
        assert "<script" not in page
        assert "<img src=x" not in page
        assert not {"\x1b", "\u202e", "\ud83d"} & set(page)
        page.encode("utf-8")
        assert r"\x1b[2J\u202egnp.exe\ud83d" in text_of(page)
        assert "<script>alert(1)</script>" in text_of(page)


def test_a_very_long_name_is_cut_and_says_so(verdict: Verdict) -> None:
    page = verdict_page(verdict, suspect="a" * 50_000)
    assert len(page) < 60_000
    assert "49,000 characters more" in text_of(page)


def test_every_number_of_a_verdict_is_on_the_page(verdict: Verdict) -> None:
    page = verdict_page(verdict, suspect="s")
    said = text_of(page)
    for item in verdict.evidence:
        for number in (
            bits(item.bits),
            f"{item.matches:,}",
            f"{item.n:,}",
            str(item.erasures),
            bits(item.capacity_bits),
            f"{item.bits:,.6f}",
        ):
            assert number in said
        assert item.null in said
    rule = verdict.rule
    for number in (verdict.bar_bits, verdict.against_chance_bits, verdict.against_search_bits):
        assert bits(number) in said
    assert f"{rule.tests} tests paid for, 6.000000 bits" in said
    assert f"{rule.grinding_bits:g} bits for a claimant who searched" in said
    for words in (verdict.supplied_by, *verdict.notes, verdict.reason, CAVEAT, *DOES_NOT_PROVE, "ab" * 32):
        assert words in said


def test_the_verdict_can_be_read_back_from_its_page(verdict: Verdict) -> None:
    (code,) = elements(verdict_page(verdict, suspect="s"), "code")
    assert Verdict.from_json(json.loads("".join(code.itertext()))) == verdict


def test_the_caveat_stands_beside_every_match_and_only_there() -> None:
    assert CAVEAT in text_of(verdict_page(make_verdict(), suspect="s"))
    assert CAVEAT not in text_of(verdict_page(make_verdict(3.0), suspect="s"))


@pytest.mark.parametrize("decision", ["MATCH", "NO MATCH", "INCONCLUSIVE"])
def test_the_decision_comes_first_in_words_and_as_a_symbol(decision: str) -> None:
    verdict = {"MATCH": make_verdict(), "NO MATCH": make_verdict(3.0, leaves=0), "INCONCLUSIVE": make_verdict(90.0)}[
        decision
    ]
    (heading,) = elements(verdict_page(verdict, suspect="s"), "h1")
    assert verdict.decision == decision
    assert decision in "".join(heading.itertext())
    assert "".join(heading.itertext())[0] in "✓○?"


def test_very_many_tests_are_all_in_the_table_but_not_all_in_the_chart() -> None:
    page = verdict_page(make_verdict(leaves=64), suspect="s")
    (rows,) = [table.find("tbody") for table in elements(page, "table")]
    assert rows is not None
    assert len(rows) == 67
    assert sum(1 for item in elements(page, "svg")) == MOST_BARS
    assert f"{67 - MOST_BARS} tests of single leaves are in the table only" in text_of(page)


def test_a_suite_shows_prices_lost_rows_and_reasons(suite: SuiteResult) -> None:
    page = suite_page(suite, machine={"processor": "Example 3000"})
    said = text_of(page)
    assert "0 of 2 attacks leave the mark readable" in said
    for price in suite.prices:
        assert price.removed
        assert f"{price.points:.1f} points at {price.strength:g}" in said
    for item in suite.results:
        assert item.label in said
        assert item.reason in said
        if item.accuracy is not None and item.edge_bits is not None:
            assert f"{item.accuracy:.2f}" in said
            assert bits(item.edge_bits) in said
    for words in ("NOT RUN", "Example 3000", suite.subject, "1 examined; none matched.", *DOES_NOT_PROVE):
        assert words in said


def test_a_control_that_matched_is_said_loudly(suite: SuiteResult) -> None:
    false = make_result("unrelated", 1.0, 500.0, 97.5, control=True)
    assert "1 of them matched, which must never happen" in text_of(suite_page(replace(suite, results=(false,))))


def test_controls_that_could_not_run_are_not_examined(suite: SuiteResult) -> None:
    ran, other, failed = (
        make_result("unrelated", strength, 5.5, accuracy, control=True)
        for strength, accuracy in ((1.0, 97.5), (2.0, 97.5), (3.0, None))
    )
    for results, words in (
        ((ran, other, failed), "Controls made without the secret: 2 examined, 1 not run; none matched."),
        ((failed,), "Controls made without the secret: 0 examined, 1 not run. "),
    ):
        assert words in text_of(suite_page(replace(suite, results=results)))


def test_the_heat_map_says_in_signs_what_it_says_in_colours(suite: SuiteResult) -> None:
    others = (
        make_result("=cmd()", 2.0, 500.0, 97.0),
        make_result("unrelated", 2.0, 5.5, 97.5, control=True),
    )
    tables = list(elements(suite_page(replace(suite, results=(*suite.results, *others))), "table"))
    (heat,) = [table for table in tables if table.attrib.get("class") == "heat"]
    cells = {"".join(cell.itertext()): cell.attrib.get("class", "") for cell in heat.iter("td")}
    assert "lost" not in cells["0.1✓ 3,240"]
    assert "lost" in cells["0.9? 40"]
    assert "lost" in cells["0.3? 80"], "of two seeds the weaker one is shown"
    assert "lost" not in cells["1? 6"], "a control is not lost"
    assert "lost" not in cells["1–"], "what could not run is not lost"


def test_the_heat_map_rounds_and_has_no_row_for_a_single_strength() -> None:
    results = (
        make_result("prune", 0.1, 4592.9, 98.0),
        make_result("prune", 0.2, 4592.4, 98.0),
        make_result("permute", 1.0, 4000.0, 98.0),
        make_result("permute", 1.0, 4000.0, 98.0, seed=1),
    )
    page = suite_page(replace(make_suite(), results=results))
    (heat,) = [table for table in elements(page, "table") if table.attrib.get("class") == "heat"]
    words = " ".join("".join(heat.itertext()).split())
    assert "✓ 4,593" in words
    assert "✓ 4,592" in words
    assert "permute" not in words
    assert "Attacks by strength" not in text_of(suite_page(replace(make_suite(), results=results[2:])))


def test_prices_begin_with_what_ends_the_mark_the_cheapest_first() -> None:
    results = (
        make_result("kept", 0.1, 500.0, 98.0),
        make_result("dear", 0.1, 5.0, 48.0),
        make_result("kept-too", 0.1, 500.0, 98.0),
        make_result("cheap", 0.1, 5.0, 97.0),
    )
    page = suite_page(replace(make_suite(), results=results))
    prices = next(iter(elements(page, "table")))
    assert [row[0].text for row in prices.iter("tr")][1:] == ["cheap", "dear", "kept", "kept-too"]


def test_reasons_have_a_row_of_their_own_and_those_of_matches_are_folded_away(suite: SuiteResult) -> None:
    page = suite_page(suite)
    cells = list(elements(page, "table"))[-1]
    reasons = [row for row in cells.iter("tr") if row.attrib.get("class") == "why"]
    others = [item for item in suite.results if item.decision != "MATCH"]
    assert ["".join(row.itertext()) for row in reasons] == [item.reason for item in others]
    columns = len(next(iter(cells.iter("tr"))))
    assert all(row[0].attrib["colspan"] == str(columns) for row in reasons)
    (folded,) = elements(page, "details")
    assert "open" not in folded.attrib
    assert all(item.reason in "".join(folded.itertext()) for item in suite.results if item.decision == "MATCH")


def test_marks_that_would_hide_each_other_are_one_with_all_strengths() -> None:
    results = [make_result("prune", strength, 4000.0, 98.0) for strength in (16.0, 8.0)]
    results += [make_result("prune", 4.0, 4000.0, 80.0), make_result("prune", 2.0, 60.0, 20.0)]
    suite = replace(make_suite(), results=tuple(results))
    drawn = curve(suite.prices[0], 98.25, 126.0)
    assert [(dot.strengths, dot.lost) for dot in drawn.dots] == [("2", True), ("8, 16", False), ("4", False)]
    assert len(drawn.spots) == 4
    page = suite_page(suite)
    assert any(text.text == "8, 16" for text in elements(page, "text"))
    titles = ["".join(item.itertext()) for item in elements(page, "title")]
    assert any("strength 16: " in title and "strength 8: " in title for title in titles)


def test_bars_tell_apart_what_passes_and_leave_the_bar_in_sight() -> None:
    tests = [evidence("support", "pooled", 5212.0, n=5212), evidence("support", "leaf 0", 633.0, n=1300)]
    chart = evidence_bars(decide(tests, Rule()))
    first, second = (row.width for row in chart.rows)
    assert (first, chart.top) == (100.0, 5212.0)
    assert 30 < second < 40
    assert 10 < chart.mark < second - 10
    assert all(row.width <= row.possible <= 100 for row in chart.rows)
    labels = {tick.label: tick.at for tick in chart.ticks}
    assert labels["2,000"] == pytest.approx(100 * (2000 / 5212) ** 0.5, abs=0.01)
    places = sorted([0.0, chart.mark, 100.0, *labels.values()])
    assert min(after - before for before, after in pairwise(places)) > 13
    weak = evidence_bars(decide([evidence("support", "pooled", 3.0, n=125)], Rule()))
    assert 85 < weak.mark < 95
    assert "square-root scale" in text_of(verdict_page(make_verdict(), suspect="s"))


def test_one_is_not_many(verdict: Verdict) -> None:
    alone = decide([evidence("support", "pooled", 512.0)], Rule())
    assert "1 test," in text_of(verdict_page(alone, suspect="s"))
    judged = replace(make_judgement(verdict), checks=make_judgement(verdict).checks[:1])
    judge = ("ef" * 32, "2026-11-28T01:00:00Z")
    assert "1 check." in text_of(judgement_page(judged, make_case(), suspect="s", judge=judge, files=FILES))
    one = replace(make_suite(), results=make_suite().results[:1])
    assert "1 cell in the plan" in text_of(suite_page(one))


def test_what_it_proves_comes_before_the_tests_and_pictures_last(verdict: Verdict) -> None:
    picture = mask_picture("conv1", np.arange(12).reshape(3, 4))
    page = verdict_page(verdict, suspect="s", facts=FACTS, pictures=[picture])
    headings = ["".join(item.itertext()) for item in elements(page, "h2")]
    assert headings == [
        "Evidence and the bar", "What this proves, and what it does not", "The case", "Every test, passed or not",
        "How the suspect was read", "Recompute it", "Pictures",
    ]  # fmt: skip
    (folded,) = [item for item in elements(page, "details") if list(item.iter("img"))]
    assert "open" not in folded.attrib
    assert "weights" in "".join(folded[0].itertext())


REGISTERED = make_case().registration
FACTS = (
    *registration_facts(REGISTERED, b"a registration"),
    *made_facts(datetime(2026, 11, 28, 1, 2, 3, tzinfo=UTC)),
)


def test_a_verdict_names_its_case_on_the_page_and_in_markdown(verdict: Verdict) -> None:
    digest = hashlib.sha256(b"a registration").hexdigest()
    shown = text_of(verdict_page(verdict, suspect="s", facts=FACTS))
    plain = verdict_markdown(verdict, suspect="s", facts=FACTS)
    for words in (digest, "56" * 32, "2026-11-28T01:02:03Z", "ticketguard"):
        assert words in shown
        assert words in plain
    assert visible(HOSTILE) in shown
    assert escaped(HOSTILE) in plain
    assert dict(FACTS)["Owner, as registered"] == HOSTILE
    # The same facts make the same page: the date is given, not looked up.
    assert verdict_page(verdict, suspect="s", facts=FACTS) == verdict_page(verdict, suspect="s", facts=FACTS)


def test_a_suite_names_its_model_and_calls_the_run_a_run(suite: SuiteResult) -> None:
    page = text_of(suite_page(suite, facts=(("Model (SHA-256 of its manifest)", "9a" * 32),)))
    assert f"Run id (SHA-256){suite.subject}" in page
    assert f"Model (SHA-256 of its manifest){'9a' * 32}" in page
    assert "9a" * 32 in suite_markdown(suite, facts=(("Model", "9a" * 32),))


def test_a_printed_section_may_go_on_on_the_next_page(verdict: Verdict) -> None:
    (style,) = elements(verdict_page(verdict, suspect="s"), "style")
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", "".join(style.itertext()))
    kept = [name for names, rule in rules if "break-inside: avoid" in rule for name in names.split(",")]
    assert {name.strip() for name in kept} == {"tr", "li", ".facts", "figure", ".card"}


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_words_have_the_contrast_that_wcag_asks_for(verdict: Verdict, theme: int) -> None:
    (style,) = elements(verdict_page(verdict, suspect="s"), "style")
    blocks = re.findall(r":root \{(.*?)\}", "".join(style.itertext()), re.DOTALL)
    colours = dict(re.findall(r"--(\w[\w-]*): (#[0-9a-f]{6})", blocks[theme]))
    for ink in ("ink", "muted", "match", "none", "unsure", "link", "mark"):
        for ground in ("paper", "card"):
            high, low = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def test_a_judgement_shows_every_check_and_model_and_the_test_below(verdict: Verdict) -> None:
    judged = make_judgement(verdict)
    for found in (judged, replace(judged, outcome="MATCH", controls={}, priority={"status": "unproven"})):
        judge = ("ef" * 32, "2026-11-28T01:00:00Z")
        page = judgement_page(found, make_case(), suspect=HOSTILE, judge=judge, files=FILES)
        text = text_of(page)
        assert all(words in text for words in ("12" * 32, "34" * 32, "ef" * 32, "Every test"))
        for data in (b"a registration", b"a claim"):
            assert hashlib.sha256(data).hexdigest() in text
        assert f"Claimant, as registered{visible(HOSTILE)} Claimant's key id{'56' * 32}" in text
        assert f"Claim signed by the successor key{'78' * 32}" in text
        assert dict(judgement_facts(found, make_case(), judge))["Judged at"].startswith(judge[1])
        named = visible(FILES["ab" * 32])
        assert f"{named}, sha256 {'ab' * 8}: 400 bits" in text
        assert all(f"control {visible(FILES[digest])}" in text for digest in found.controls)
        assert f"Service{visible(HOSTILE)} Answers recorded bynot stated" in text
        assert all(digest in text for digest in found.controls)
        assert not any(str(item.tag) in ACTIVE for item in parsed(page).iter())
        top = text[: text.index("What was checked")]
        assert (CAVEAT in top) == (found.outcome == "MATCH")
        assert ("does not count" in top) == (found.outcome == "VOID")
        assert ("No control was given" in text) == (not found.controls)
        assert ("2026-11-28T00:00:00Z" in text) == ("time" in found.priority)
