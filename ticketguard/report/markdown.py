"""Verdicts and suites as Markdown tables (GitHub's flavour), for reports that other people write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ticketguard.evidence import Verdict
from ticketguard.report import words
from ticketguard.report.facts import Facts
from ticketguard.report.suites import (
    bar_of,
    controls_words,
    examined_controls,
    lost_first,
    not_run,
    price_words,
    seconds,
    work_words,
)
from ticketguard.storage.hostile import visible

if TYPE_CHECKING:
    from ticketguard.suite.results import SuiteResult

# What Markdown, or HTML inside it, would read as markup inside a line, and the beginnings of links that need no markup.
SPECIAL = re.compile(r"[\\`*_\[\]<>|~&$]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def escaped(text: str) -> str:
    """`text` as plain words inside a line of Markdown: no link, no HTML, no table cell can begin in it."""
    return SPECIAL.sub(lambda found: "\\" + found.group(), visible(text))


def verdict_markdown(verdict: Verdict, *, suspect: str, facts: Facts = ()) -> str:
    """One verdict: decision, both numbers, the case (`facts`), notes, every test, and what it does and does not prove."""
    rows = [
        [
            words.test_name(item),
            f"{item.bits:,.6f}",
            "yes" if item.bits >= verdict.bar_bits else "no",
            f"{item.matches:,}",
            f"{item.n:,}",
            f"{item.erasures:,}",
            words.bits(item.capacity_bits),
        ]
        for item in verdict.evidence
    ]
    lines = [
        f"# {verdict.decision}: {escaped(suspect)}",
        "",
        f"{escaped(verdict.reason)}.",
        *([f"**{verdict.caveat}**"] if verdict.caveat else []),
        "",
        f"- against chance: {words.bits(verdict.against_chance_bits)} bits; {words.chance_words(verdict)}",
        f"- against a claimant who searched: {words.bits(verdict.against_search_bits)} bits; "
        f"{verdict.rule.threshold_bits:g} are needed",
        f"- the bar: {words.bits(verdict.bar_bits)} bits = {words.bar_words(verdict.rule)}",
        *_facts(facts),
        f"- supplied by: {escaped(verdict.supplied_by) or 'not stated'}",
        *(f"- note: {escaped(note)}" for note in verdict.notes),
        "",
        *table(("test", "−log2 p", "passes", "matches", "n", "erased", "possible"), rows, left=1),
        "",
        *(f"- {sentence}" for sentence in (*words.PROVES, *words.DOES_NOT_PROVE)),
    ]
    return "\n".join(lines) + "\n"


def suite_markdown(suite: SuiteResult, *, machine: Mapping[str, str] | None = None, facts: Facts = ()) -> str:
    """A suite: the price of removal of each attack, then every cell, lost or not, the model (`facts`) and the machine."""
    bar = bar_of(suite)
    lines = [
        f"# Attack suite: {escaped(suite.plan)}",
        "",
        f"Released model: {suite.accuracy:.2f} % on {escaped(suite.dataset)}. "
        + (f"A match takes {words.bits(bar)} bits. " if bar is not None else "")
        + f"Controls made without the secret: {controls_words(suite)}; "
        + f"{len(suite.false_matches)} of {len(examined_controls(suite))} matched.",
        "",
        "## Price of removal",
        "",
        *table(
            ("attack", "price", "work", "strength means"),
            [
                [escaped(price.attack), escaped(price_words(price)), work_words(price), escaped(price.unit)]
                for price in lost_first(suite.prices)
            ],
            left=4,
        ),
        "",
        "## Every cell",
        "",
        *table(
            ("attack", "verdict", "seed", "accuracy", "edge bits", "trigger bits", "epochs", "images", "s"),
            [
                [
                    escaped(item.label) + (" (control)" if item.control else ""),
                    item.decision,
                    str(item.cell.seed),
                    _number(item.accuracy, 2),
                    _number(item.edge_bits, 1),
                    _number(item.trigger_bits, 1),
                    f"{item.epochs:g}",
                    f"{item.images:,}",
                    seconds(suite, item),
                ]
                for item in suite.results
            ],
            left=2,
        ),
        "",
        *(f"- not run: {escaped(label)}: {escaped(reason)}" for label, reason in not_run(suite)),
        *_facts(facts),
        *(f"- {escaped(name)}: {escaped(value)}" for name, value in (machine or {}).items()),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _facts(facts: Facts) -> list[str]:
    """A line of a list for each fact."""
    return [f"- {escaped(name[:1].lower() + name[1:])}: {escaped(value)}" for name, value in facts]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> list[str]:
    """Lines of a table whose first `left` columns are words and whose others are numbers, right-aligned."""
    rule = ["---" if index < left else "---:" for index in range(len(headings))]
    return [f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows)]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
