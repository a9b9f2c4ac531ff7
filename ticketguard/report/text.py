"""Verdicts and scans on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ticketguard.evidence import UNREAD, Evidence, Verdict
from ticketguard.report import words
from ticketguard.storage.hostile import visible

COLOURS = {"MATCH": "bold green", "NO MATCH": "bold", "INCONCLUSIVE": "bold yellow", "NOT RUN": "dim"}


def plain_table(*headings: str, gap: int = 2) -> Table:
    """A table without lines, `gap` columns apart; columns that need more than a heading are added to it."""
    return Table(*headings, box=None, padding=(0, gap, 0, 0), header_style="dim")


def uncut(table: Table) -> Table:
    """The table, with columns of numbers that keep their width on any terminal: a number cut short is another number."""
    for column in table.columns:
        if column.justify == "right":
            column.min_width = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
    return table


def decision(word: str) -> Text:
    """A decision in its colour."""
    return Text(word, style=COLOURS[word])


def verdict_text(verdict: Verdict, suspect: str) -> RenderableType:
    """One verdict in full: decision, reason, both numbers, every test, notes, caveat. Readable at 80 columns."""
    parts: list[RenderableType] = [
        Text.assemble(decision(verdict.decision), "  ", visible(suspect), overflow="fold"),
        _sentence(verdict.reason),
        *([Text(verdict.caveat, style="bold")] if verdict.caveat else []),
        "",
        numbers_table(verdict),
    ]
    if verdict.evidence:
        parts += ["", evidence_table(verdict.evidence, verdict.bar_bits)]
    if verdict.notes:
        parts += ["", notes_table(verdict.notes)]
    return Group(*parts)


def notes_table(notes: Sequence[str]) -> Table:
    """What a reader should know about the reading, a note on each line."""
    table = Table.grid(padding=(0, 1))
    for note in notes:
        table.add_row("-", Text(visible(note), overflow="fold"))
    return table


def numbers_table(verdict: Verdict) -> Table:
    """The evidence against chance and against a search, and the bar."""
    rule = verdict.rule
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("against chance", f"{words.bits(verdict.against_chance_bits)} bits", words.chance_words(verdict))
    table.add_row(
        "against search",
        f"{words.bits(verdict.against_search_bits)} bits",
        f"against a claimant who searched; {rule.threshold_bits:g} are needed",
    )
    table.add_row("the bar", f"{words.bits(verdict.bar_bits)} bits", words.bar_words(rule))
    if verdict.supplied_by:
        table.add_row("supplied by", "", Text(visible(verdict.supplied_by), overflow="fold"))
    return table


def _sentence(text: str) -> Text:
    return Text(visible(text[:1].upper() + text[1:]), overflow="fold")


def evidence_table(evidence: Sequence[Evidence], bar_bits: float) -> Table:
    """Every test, passed or not."""
    table = plain_table(gap=1)
    erasures = any(item.erasures for item in evidence)
    for heading in ("test", "scope", "read"):
        table.add_column(heading, overflow="fold")
    for heading in ("matches", "of", *(["erased"] if erasures else []), "bits", "possible"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("passes", no_wrap=True)
    for item in evidence:
        passes = item.bits >= bar_bits
        table.add_row(
            item.test,
            item.scope,
            item.view,
            f"{item.matches:,}",
            f"{item.n:,}",
            *([f"{item.erasures:,}"] if erasures else []),
            f"{item.bits:,.1f}",
            f"{item.capacity_bits:,.0f}",
            "yes" if passes else "no",
            style=None if passes else "dim",
        )
    return uncut(table)


def scan_table(verdicts: Mapping[str, Verdict]) -> Table:
    """Many suspects, strongest evidence first."""
    table = plain_table()
    table.add_column("suspect", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("best test")
    table.add_column("bits", justify="right", no_wrap=True)
    table.add_column("bar", justify="right", no_wrap=True)
    for name, verdict in strongest_first(verdicts):
        best = verdict.best
        table.add_row(
            Text(visible(name)),
            decision(verdict.decision),
            Text(
                f"{best.test}, {best.scope}" + ("" if best.view == "stored" else f", {words.VIEWS[best.view]}")
                if best
                else "none"
            ),
            f"{best.bits:,.1f}" if best else "",
            f"{verdict.bar_bits:.1f}",
        )
    return uncut(table)


def scan_reasons(verdicts: Mapping[str, Verdict]) -> list[Text]:
    """A line for each suspect of a scan that is INCONCLUSIVE: why, and what of its file was not read."""
    lines = []
    for name, verdict in strongest_first(verdicts):
        if verdict.decision == "INCONCLUSIVE":
            unread = [note for note in verdict.notes if note.startswith(UNREAD)]
            lines.append(Text(visible("; ".join([f"{name}: {verdict.reason}", *unread])), overflow="fold"))
    return lines


def strongest_first(verdicts: Mapping[str, Verdict]) -> Iterable[tuple[str, Verdict]]:
    """Suspects by falling evidence; equal ones by name."""
    return sorted(verdicts.items(), key=lambda item: (-(item[1].best.bits if item[1].best else -1.0), item[0]))
