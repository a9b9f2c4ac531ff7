"""Verdicts and scans on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os.path import commonpath
from pathlib import PurePath

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ticketguard.evidence import UNREAD, Evidence, Verdict
from ticketguard.report import words
from ticketguard.storage.hostile import visible

COLOURS = {"MATCH": "bold green", "NO MATCH": "bold", "INCONCLUSIVE": "bold yellow", "NOT RUN": "dim"}
# Columns between those of a scan, and how many a name gets before the words beside it are wrapped.
GAP = 2
NAME = 24


def plain_table(*headings: str, gap: int = 2) -> Table:
    """A table without lines, `gap` columns apart; columns that need more than a heading are added to it."""
    return Table(*headings, box=None, padding=(0, gap, 0, 0), header_style="dim")


def uncut(table: Table) -> Table:
    """The table, with columns of numbers that keep their width on any terminal: a number cut short is another number."""
    for column in table.columns:
        if column.justify == "right":
            lines = [line for cell in (column.header, *column.cells) for line in str(cell).splitlines()]
            column.min_width = max(map(cell_len, lines), default=0)
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


def scan_table(verdicts: Mapping[str, Verdict], width: int | None = None) -> RenderableType:
    """Many suspects, strongest evidence first.

    On a terminal of `width` columns a folder that all share and a bar that all have to pass stand above and below the table,
    and long names are shortened. Without a `width`, where a program may read it, each line has the whole name and the bar.
    """
    ranked = strongest_first(verdicts)
    tests = [_best_words(verdict.best) for _, verdict in ranked]
    if width is None:
        return _scan_rows(ranked, [visible(name) for name, _ in ranked], tests, bar=True)
    folder = _common_folder([name for name, _ in ranked])
    names = [visible(name.removeprefix(folder)) for name, _ in ranked]
    rules = {verdict.rule for _, verdict in ranked}
    numbers = [f"{verdict.best.bits:,.1f}" if verdict.best else "" for _, verdict in ranked]
    fixed = [
        max(map(cell_len, ("bits", *numbers))),
        max(len("verdict"), *(len(verdict.decision) for _, verdict in ranked)),
    ]
    fixed += [] if len(rules) == 1 else [max(len(f"{rule.bar_bits:.1f}") for rule in rules)]
    room = width - sum(fixed) - GAP * (len(fixed) + 2)
    whole = max(map(cell_len, ("best test", *tests)))
    least = max(cell_len(word) for words_of in ("best test", *tests) for word in words_of.split())
    named = max(map(cell_len, ("suspect", *names)))
    for_tests = max(least, min(whole, room - min(named, NAME)))
    short = [shortened(name, max(room - for_tests, len("suspect"))) for name in names]
    # Two names that would look the same are shown whole.
    rows = _scan_rows(ranked, short if len({*short}) == len(names) else names, tests, bar=len(rules) > 1)
    rows.columns[2].width = for_tests
    title = [Text(f"suspects in {visible(folder)}", style="dim", overflow="fold")] if folder else []
    footer = [Text(f"the bar: {words.bits(rule.bar_bits)} bits = {words.bar_words(rule)}") for rule in rules]
    return Group(*title, rows, *(footer if len(rules) == 1 else []))


def _scan_rows(
    ranked: Sequence[tuple[str, Verdict]], names: Sequence[str], tests: Sequence[str], *, bar: bool
) -> Table:
    """The table of a scan under the `names` to show and the words for the strongest test of each; with the `bar` of each."""
    table = plain_table(gap=GAP)
    table.add_column("suspect", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("best test")
    for heading in ("bits", *(["bar"] if bar else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for (_, verdict), name, test in zip(ranked, names, tests, strict=True):
        table.add_row(
            Text(name),
            decision(verdict.decision),
            Text(test),
            f"{verdict.best.bits:,.1f}" if verdict.best else "",
            *([f"{verdict.bar_bits:.1f}"] if bar else []),
        )
    return uncut(table)


def _best_words(best: Evidence | None) -> str:
    if best is None:
        return "none"
    return f"{best.test}, {best.scope}" + ("" if best.view == "stored" else f", {words.VIEWS[best.view]}")


def _common_folder(names: Sequence[str]) -> str:
    """The folder that all `names` lie in, with a slash at its end; empty where there is none, or only the root."""
    folders = [str(PurePath(name).parent) for name in names]
    if len(folders) < 2 or len({PurePath(folder).is_absolute() for folder in folders}) > 1:
        return ""
    folder = commonpath(folders)
    return f"{folder}/" if all(name.startswith(f"{folder}/") for name in names) else ""


def shortened(text: str, most: int) -> str:
    """`text` in at most `most` columns: what is too much goes out of its middle, because the end of a path says most."""
    if cell_len(text) <= most:
        return text
    end = (most - 1) * 2 // 3
    return f"{set_cell_size(text, most - 1 - end)}…{set_cell_size(text[::-1], end)[::-1]}"


def scan_reasons(verdicts: Mapping[str, Verdict]) -> list[Text]:
    """A line for each suspect of a scan that is INCONCLUSIVE: why, and what of its file was not read."""
    lines = []
    for name, verdict in strongest_first(verdicts):
        if verdict.decision == "INCONCLUSIVE":
            unread = [note for note in verdict.notes if note.startswith(UNREAD)]
            lines.append(Text(visible("; ".join([f"{name}: {verdict.reason}", *unread])), overflow="fold"))
    return lines


def strongest_first(verdicts: Mapping[str, Verdict]) -> list[tuple[str, Verdict]]:
    """Suspects by falling evidence; equal ones by name."""
    return sorted(verdicts.items(), key=lambda item: (-(item[1].best.bits if item[1].best else -1.0), item[0]))
