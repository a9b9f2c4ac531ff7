"""Terminal, Markdown and CSV: strangers' names stay plain words, and nothing is lost at 80 columns."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.console import Console, RenderableType

from tests.report.examples import HOSTILE, evidence, make_result, make_suite, make_verdict
from ticketguard.errors import FormatError
from ticketguard.evidence import CAVEAT, UNREAD, Rule, Verdict, decide
from ticketguard.report.csvfile import COLUMNS, VERDICT_COLUMNS, suite_csv, verdicts_csv
from ticketguard.report.markdown import escaped, suite_markdown, verdict_markdown
from ticketguard.report.suite_text import cells_table, suite_text
from ticketguard.report.suites import price_words, work_words
from ticketguard.report.text import evidence_table, scan_reasons, scan_table, shortened, verdict_text
from ticketguard.report.words import bar_words, bits, chance_words, probability
from ticketguard.storage.hostile import visible
from ticketguard.suite.results import SuiteResult, Timing


def printed(renderable: RenderableType, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@given(st.text(max_size=200))
def test_visible_text_prints_and_fits_a_line(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert (shown == text) == text.isprintable()


def test_a_long_text_says_how_much_is_left_out() -> None:
    assert visible("x" * 12, most=10) == "x" * 10 + " … (2 characters more)"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.0, "at most 1 in 2"),
        (13.9, "at most 1 in 8,192"),
        (40.2, "at most 2^-40 (1 in 10^12)"),
        (0.4, "at most 1 in 1"),
    ],
)
def test_probabilities_are_rounded_towards_one(value: float, words: str) -> None:
    assert probability(value) == words


def test_the_bar_says_how_many_suspects_it_pays_for() -> None:
    assert bar_words(Rule()).endswith("6.0 for M = 64 tests")
    assert bar_words(Rule(suspects=1000)).endswith("16.0 for M = 64 tests x 1,000 suspects")


def test_no_probability_is_claimed_for_nothing() -> None:
    assert chance_words(make_verdict()) == "a false match: at most 2^-506 (1 in 10^152)"
    assert chance_words(make_verdict(3.0, leaves=0)) == "nothing beyond chance"
    assert chance_words(decide([], Rule())) == "nothing beyond chance"


def test_a_verdict_on_a_terminal_of_80_columns_loses_nothing(verdict: Verdict) -> None:
    long = replace(verdict, supplied_by="someone " * 30, notes=("a note " * 30, HOSTILE))
    shown = printed(verdict_text(long, "suspect/" * 20 + "model.safetensors"))
    assert max(map(len, shown.splitlines())) <= 80
    joined = "".join(shown.split())
    for words in (verdict.decision, verdict.reason[1:], CAVEAT, "someone " * 30, "a note " * 30, "suspect/" * 20):
        assert "".join(words.split()) in joined
    for item in verdict.evidence:
        assert f"{item.bits:,.1f}" in shown
        assert f"{item.matches:,}" in shown


def test_no_terminal_escape_of_a_stranger_reaches_the_terminal(verdict: Verdict) -> None:
    hostile = replace(verdict, supplied_by=HOSTILE, notes=(HOSTILE,))
    for shown in (printed(verdict_text(hostile, HOSTILE), 200), printed(scan_table({HOSTILE: verdict}), 200)):
        assert not {"\x1b", "\u202e", "\ud83d"} & set(shown)
        assert r"\x1b[2J" in shown


def test_a_scan_shows_the_strongest_first(verdict: Verdict) -> None:
    shown = printed(scan_table({"weak": make_verdict(3.0), "strong": verdict}))
    assert shown.index("strong") < shown.index("weak")
    assert bits(512.25) in shown


@pytest.mark.parametrize("width", [60, 70, 80])
def test_no_terminal_cuts_a_number_short(verdict: Verdict, suite: SuiteResult, width: int) -> None:
    item = replace(
        verdict.evidence[0], test="squared-magnitude", view="turned", n=10_054, matches=9_029, erasures=1_003
    )
    shown = printed(evidence_table([item], 126.0), width)
    for number in ("10,054", "9,029", "1,003", f"{item.bits:,.1f}", f"{item.capacity_bits:,.0f}"):
        assert number in shown
    row = replace(suite.results[0], decision="INCONCLUSIVE", edge_bits=12_345.6, trigger_bits=1_234.5, accuracy=99.12)
    shown = printed(cells_table(replace(suite, results=(row,), accuracy=100.0)), width)
    for word in ("100.00", "99.12", "12,345.6", "1,234.5", "INCONCLUSIVE"):
        assert word in shown
    assert "\u2026" not in shown


def test_a_scan_says_why_a_suspect_is_inconclusive(verdict: Verdict) -> None:
    unread = f"{UNREAD}3 layers of another file"
    nothing = decide((), verdict.rule, notes=("another note", unread))
    (line,) = scan_reasons({"a": verdict, "b": nothing})
    assert line.plain == f"b: {nothing.reason}; {unread}"
    assert "none" in printed(scan_table({"b": nothing}))


def a_scan(*names: str, rule: Rule | None = None) -> dict[str, Verdict]:
    best = evidence("squared-magnitude", "pooled", 5212.0, view="aligned", n=6000)
    return {name: decide([replace(best, log2_p=number - 5212.0)], rule or Rule()) for number, name in enumerate(names)}


@pytest.mark.parametrize("width", [60, 80])
def test_a_scan_on_a_terminal_says_once_what_all_share(width: int) -> None:
    long = "an-organisation/a-model-with-a-long-name/" * 2
    scan = a_scan("hub/models/a.safetensors", f"hub/models/{long}b.safetensors", "hub/models/c/d.pt")
    lines = printed(scan_table(scan, width), width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].split() == ["suspects", "in", "hub/models/"]
    shown = "\n".join(lines)
    assert shown.count("hub/models") == 1
    assert shown.count("126.0") == 1
    assert lines[-1].startswith("the bar: 126.0 bits") or lines[-2].startswith("the bar: 126.0 bits")
    rows = [line for line in lines if " MATCH " in line]
    assert [row.split()[0][-7:] for row in rows] == ["tensors", "tensors", "c/d.pt"]
    assert "…" in rows[1].split()[0]
    # Words are whole wherever the column of tests is wrapped.
    assert shown.count("squared-magnitude,") == shown.count("aligned") == 3
    assert "…" not in printed(scan_table(scan, 200), 200)


def test_a_scan_for_a_program_has_whole_names_and_the_bar_in_each_line() -> None:
    names = ("hub/models/a.safetensors", "hub/models/" + "b" * 60)
    rows = printed(scan_table(a_scan(*names)), 200).splitlines()[1:]
    assert [row.split()[0] for row in rows] == list(names)
    assert all(row.split()[-1] == "126.0" for row in rows)


def test_bars_that_differ_stay_beside_their_suspects() -> None:
    scan = a_scan("a") | a_scan("b", rule=Rule(grinding_bits=20.0))
    shown = printed(scan_table(scan, 80))
    assert [line.split()[-1] for line in shown.splitlines()[1:]] == ["126.0", "66.0"]
    assert "the bar" not in shown


def test_names_that_would_look_alike_are_not_shortened() -> None:
    names = ["x" * 40 + middle + "y" * 40 for middle in "ab"]
    shown = "".join(printed(scan_table(a_scan(*names), 60), 60).split())
    assert "…" not in shown
    assert shown.count("x") + shown.count("y") >= 160


@given(st.text(max_size=60), st.integers(min_value=4, max_value=40))
def test_shortened_names_fit_and_keep_their_end(text: str, most: int) -> None:
    name = visible(text)
    short = shortened(name, most)
    assert cell_len(short) <= most
    assert (short == name) == (cell_len(name) <= most)
    end = short.rpartition("…")[2].lstrip()
    assert name.endswith(end)


def test_a_suites_numbers_have_units(suite: SuiteResult) -> None:
    first, second, *_ = printed(cells_table(suite)).splitlines()
    assert first.split() == ["before", "after", "edge", "trigger"]
    assert second.split() == ["attack", "%", "%", "bits", "bits", "verdict", "seconds"]


def cells_of(line: str) -> list[str]:
    """The cells of a line of a Markdown table; an escaped bar is no border."""
    return line.replace("\\|", "").strip("|").split("|")


def test_markdown_tables_keep_their_shape_whatever_the_names(suite: SuiteResult, verdict: Verdict) -> None:
    result = replace(make_result("a|b\n| c", 0.1, 500.0, 98.0), label=HOSTILE + "|", unit="|")
    hostile = replace(make_suite(), plan=HOSTILE, results=(result, *make_suite().results))
    for text in (suite_markdown(hostile, machine={"cores": "2"}), verdict_markdown(verdict, suspect=HOSTILE)):
        blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
        assert blocks
        for block in blocks:
            assert len({len(cells_of(line)) for line in block}) == 1
        assert "<script" not in text.replace("\\<script", "")
        assert "\x1b" not in text


@given(st.text(alphabet="`*_[]<>()|~&$\\!abc:/w. #-", max_size=30))
def test_escaped_markdown_is_rendered_as_the_words_themselves(text: str) -> None:
    renderer = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    html = renderer.render(f"note: {escaped(text)} end")
    assert html == f"<p>note: {escape(text, quote=False)} end</p>\n"
    assert not re.search(r"(?<!\\)://|www\.", escaped(text)), "GitHub makes links of bare addresses"


def test_markdown_says_everything(suite: SuiteResult, verdict: Verdict) -> None:
    text = suite_markdown(suite, machine={"processor": "Example 3000"})
    assert "Controls made without the secret: 1 examined; 0 of 1 matched." in text
    for price in suite.prices:
        assert price_words(price) in text
    for item in suite.results:
        assert escaped(item.label) in text
    assert "Example 3000" in text
    assert "no layer of that kind" in text
    said = verdict_markdown(verdict, suspect="s")
    assert said.startswith("# MATCH: s\n")
    assert CAVEAT in said
    for item in verdict.evidence:
        assert f"| {item.matches:,} | {item.n:,} |" in said


def test_csv_has_a_row_for_every_cell_and_no_formula(suite: SuiteResult) -> None:
    rows = list(csv.DictReader(io.StringIO(suite_csv(suite))))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(suite.results)
    for row, item in zip(rows, suite.results, strict=True):
        assert row["accuracy"] == ("" if item.accuracy is None else str(item.accuracy))
        assert float(row["strength"]) == item.cell.strength
        assert row["decision"] == item.decision
        assert row["attack_seconds"] == "1.5"
        assert not any(value.startswith(("=", "+", "-", "@")) for value in row.values())
    assert rows[6]["attack"] == "'=cmd()"


def test_a_suite_on_a_terminal_shows_lost_rows_too(suite: SuiteResult) -> None:
    shown = printed(suite_text(suite), 120)
    for item in suite.results:
        assert item.decision in shown
    assert "removed for 1.0 points at 0.3" in shown
    assert suite.results[0].label in printed(suite_text(replace(suite, timings={})), 120)


@pytest.mark.parametrize(
    ("after", "words"),
    [(95.25, "removed for 3.0 points at 0.5"), (98.25, "removed for nothing at 0.5"), (99.0, "accuracy rose by 0.8")],
)
def test_prices_in_words(after: float, words: str) -> None:
    suite = replace(make_suite(), results=(make_result("prune", 0.5, 10.0, after),))
    assert words in price_words(suite.prices[0])
    kept = replace(make_suite(), results=(make_result("prune", 0.5, 1000.0, after),))
    assert price_words(kept.prices[0]) == "not removed up to 0.5"


def test_one_epoch_is_one_and_cells_that_failed_alike_share_a_line() -> None:
    assert work_words(replace(make_suite().prices[0], epochs=1.0)) == "1 epoch, 1,438 images"
    assert work_words(replace(make_suite().prices[0], epochs=0.5)) == "0.5 epochs, 1,438 images"
    unrun = [make_result("unsigned", 1.0, None, None, seed=seed) for seed in range(3)]
    other = make_result("fake3", 1.0, None, None)
    results = (*unrun[:2], other, unrun[2])
    timings = {item.digest: Timing(attack=1.0, verify=0.0) for item in results}
    suite = replace(make_suite(), results=results, timings=timings)
    for text in (printed(suite_text(suite)), suite_markdown(suite)):
        assert re.findall("not run: (.*)", text.replace("\r", "")) == [
            "unsigned@1 (3 seeds): no layer of that kind", "fake3@1: no layer of that kind"
        ]  # fmt: skip


def test_csv_has_a_row_for_every_test_of_every_suspect(verdict: Verdict) -> None:
    results = {
        "=cmd()": verdict,
        "dark": decide([], Rule()),
        "broken": FormatError("broken: no model"),
    }
    rows = list(csv.DictReader(io.StringIO(verdicts_csv(results))))
    assert tuple(rows[0]) == VERDICT_COLUMNS
    *tested, dark, broken = rows
    assert len(tested) == len(verdict.evidence) > 1
    for row, item in zip(tested, verdict.evidence, strict=True):
        assert (row["suspect"], row["decision"]) == ("'=cmd()", "MATCH")
        assert (int(row["n"]), int(row["matches"]), float(row["log2_p"])) == (item.n, item.matches, item.log2_p)
        assert int(row["best"]) == (item is verdict.best)
        assert float(row["bar_bits"]) == verdict.bar_bits
    assert (dark["decision"], dark["test"], dark["plan_tests"]) == ("INCONCLUSIVE", "", "64")
    assert (broken["decision"], broken["reason"], broken["bits"]) == ("ERROR", "broken: no model", "")


def test_csv_has_every_note_beside_the_reason_that_points_to_it() -> None:
    notes = (f"{UNREAD}3 tensors of registered shapes", "permuted in 9 groups " + "x" * 2000, HOSTILE)
    results = {"models/a.safetensors": make_verdict(notes=notes), "b": FormatError("b: no model")}
    *tested, broken = csv.DictReader(io.StringIO(verdicts_csv(results)))
    assert {row["notes"] for row in tested} == {f"{notes[0]} | {notes[1]} | {visible(HOSTILE)}"}
    assert {row["suspect"] for row in tested} == {"models/a.safetensors"}
    assert broken["notes"] == ""
    assert VERDICT_COLUMNS[-1] == "notes"
