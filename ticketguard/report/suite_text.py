"""A suite on a terminal: every cell, then the price of removing the mark by each attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ticketguard.report.suites import examined_controls, not_run, price_words, seconds, strongest, work_words
from ticketguard.report.text import decision, plain_table, uncut

if TYPE_CHECKING:
    from ticketguard.suite.price import Price
    from ticketguard.suite.results import SuiteResult


def suite_text(suite: SuiteResult) -> RenderableType:
    """Two tables, a line on the controls, a warning where one matched, and the reasons of cells that could not run."""
    parts: list[RenderableType] = [cells_table(suite), Text(""), prices_table(suite.prices)]
    controls = examined_controls(suite)
    if controls:
        highest = max(strongest(row) for row in controls)
        false = len(suite.false_matches)
        parts += [
            Text(""),
            Text(f"controls: {false} of {len(controls)} match; highest raw evidence {highest:.1f} bits"),
        ]
    if suite.false_matches:
        names = ", ".join(dict.fromkeys(row.label for row in suite.false_matches))
        warning = "WARNING: a control made without the secret matched, which must never happen"
        parts.append(Text(f"{warning}: {names}", "bold red"))
    parts += [Text(f"not run: {label}: {reason}", "dim") for label, reason in not_run(suite)]
    return Group(*parts)


def cells_table(suite: SuiteResult) -> Table:
    """One row per cell: accuracy before and after, evidence, verdict, seconds; units stand below, for narrow terminals."""
    table = plain_table(gap=1)
    table.add_column("attack", overflow="fold")
    for heading in ("before\n%", "after\n%", "edge\nbits", "trigger\nbits"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    for row in suite.results:
        table.add_row(
            row.label + (f" seed {row.cell.seed}" if row.cell.seed else ""),
            f"{suite.accuracy:.2f}",
            "" if row.accuracy is None else f"{row.accuracy:.2f}",
            _bits(row.edge_bits),
            _bits(row.trigger_bits),
            decision(row.decision),
            seconds(suite, row),
        )
    return uncut(table)


def prices_table(prices: Sequence[Price]) -> Table:
    """One row per attack: accuracy points given up before the verdict stops being a match, and the work it took."""
    table = plain_table()
    table.add_column("attack", overflow="fold", min_width=18)
    table.add_column("price of removal")
    table.add_column("work", no_wrap=True)
    for row in prices:
        style = "" if row.removed else "green"
        table.add_row(row.attack, Text(price_words(row), style), work_words(row))
    return table


def _bits(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
