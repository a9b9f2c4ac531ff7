"""Verdicts and scans on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ticketguard.evidence import Evidence, Verdict

COLOURS = {"MATCH": "bold green", "NO MATCH": "bold", "INCONCLUSIVE": "bold yellow"}


def decision(verdict: Verdict) -> Text:
    """The decision in its colour."""
    return Text(verdict.decision, style=COLOURS[verdict.decision])


def verdict_text(verdict: Verdict, suspect: str) -> RenderableType:
    """One verdict in full: decision, reason, both numbers, every test, notes, caveat."""
    rule = verdict.rule
    numbers = Table.grid(padding=(0, 2))
    numbers.add_row("against chance", _chance(verdict))
    numbers.add_row(
        "against search",
        f"{verdict.against_search_bits:.1f} bits against a claimant who searched; {rule.threshold_bits:.0f} are needed",
    )
    numbers.add_row(
        "the bar",
        f"{verdict.bar_bits:.1f} bits = {rule.threshold_bits:.0f} needed + {rule.grinding_bits:.0f} for a search (g) + "
        f"{rule.multiplicity_bits:.1f} for M = {rule.tests * rule.suspects:,} tests",
    )
    if verdict.supplied_by:
        numbers.add_row("supplied by", verdict.supplied_by)
    parts: list[RenderableType] = [
        Text.assemble(decision(verdict), "  ", suspect),
        Text(verdict.reason),
        numbers,
    ]
    if verdict.evidence:
        parts.append(evidence_table(verdict.evidence, verdict.bar_bits))
    parts += [Text(f"note: {note}") for note in verdict.notes]
    if verdict.caveat:
        parts.append(Text(verdict.caveat, style="italic"))
    return Group(*parts)


def _chance(verdict: Verdict) -> str:
    bits = verdict.against_chance_bits
    if bits <= 0:
        return "nothing beyond chance"
    return f"{bits:.1f} bits: a false match has probability at most 2^-{int(bits)}"


def evidence_table(evidence: Sequence[Evidence], bar_bits: float) -> Table:
    """Every test, passed or not."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    erasures = any(item.erasures for item in evidence)
    for heading in ("test", "scope", "read"):
        table.add_column(heading, no_wrap=True)
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
    return table


def scan_table(verdicts: Mapping[str, Verdict]) -> Table:
    """Many suspects, strongest evidence first."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("suspect", overflow="fold")
    table.add_column("verdict")
    table.add_column("best test")
    table.add_column("bits", justify="right")
    table.add_column("bar", justify="right")
    for name, verdict in strongest_first(verdicts):
        best = verdict.best
        table.add_row(
            name,
            decision(verdict),
            f"{best.test}, {best.scope}, {best.view}" if best else verdict.reason,
            f"{best.bits:,.1f}" if best else "",
            f"{verdict.bar_bits:.1f}",
        )
    return table


def strongest_first(verdicts: Mapping[str, Verdict]) -> Iterable[tuple[str, Verdict]]:
    """Suspects by falling evidence; equal ones by name."""
    return sorted(verdicts.items(), key=lambda item: (-(item[1].best.bits if item[1].best else -1.0), item[0]))
