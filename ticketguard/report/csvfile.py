"""Suites and verdicts as comma-separated values (RFC 4180), for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ticketguard.errors import TicketguardError
from ticketguard.evidence import Evidence, Verdict
from ticketguard.storage.hostile import visible

if TYPE_CHECKING:
    from ticketguard.suite.results import SuiteResult

COLUMNS = (
    "attack",
    "strength",
    "seed",
    "label",
    "unit",
    "control",
    "lossless",
    "hidden",
    "decision",
    "accuracy_before",
    "accuracy",
    "refused",
    "edge_bits",
    "trigger_bits",
    "bar_bits",
    "epochs",
    "images",
    "attack_seconds",
    "verify_seconds",
    "reason",
)
VERDICT_COLUMNS = (
    "suspect",
    "decision",
    "reason",
    "against_chance_bits",
    "against_search_bits",
    "bar_bits",
    "plan_tests",
    "suspects",
    "test",
    "scope",
    "view",
    "best",
    "n",
    "matches",
    "erasures",
    "log2_p",
    "bits",
    "capacity_bits",
    "notes",
)
# Characters of a cell: spreadsheets hold 32,767.
MOST = 32_000
# What stands between two notes.
NOTES = " | "
# A spreadsheet runs a cell that begins with one of these as a formula.
FORMULA = ("=", "+", "-", "@")


def suite_csv(suite: SuiteResult) -> str:
    """Every cell of a suite under `COLUMNS`; accuracies in percent, evidence in bits, empty where nothing was measured."""
    rows = []
    for item in suite.results:
        timing = suite.timings.get(item.digest)
        rows.append(
            [
                item.cell.attack,
                item.cell.strength,
                item.cell.seed,
                item.label,
                item.unit,
                int(item.control),
                int(item.lossless),
                int(item.hidden),
                item.decision,
                suite.accuracy,
                item.accuracy,
                item.refused,
                item.edge_bits,
                item.trigger_bits,
                item.bar_bits,
                item.epochs,
                item.images,
                None if timing is None else timing.attack,
                None if timing is None else timing.verify,
                item.reason,
            ]
        )
    return _table(COLUMNS, rows)


def verdicts_csv(results: Mapping[str, Verdict | TicketguardError]) -> str:
    """Every test of every suspect under `VERDICT_COLUMNS`, a row each; evidence in bits, `best` is 1 for the strongest test.

    `notes`: all notes on the reading of the suspect, in each of its rows.

    A suspect on which nothing could be tested, or that could not be read (decision `ERROR`), has one row.
    """
    rows: list[list[Any]] = []
    for name, result in results.items():
        if isinstance(result, TicketguardError):
            rows.append([name, "ERROR", str(result), *[None] * (len(VERDICT_COLUMNS) - 3)])
        else:
            notes = NOTES.join(result.notes)
            rows += [
                [name, *_decided(result), *_tested(item, result.best), notes] for item in result.evidence or [None]
            ]
    return _table(VERDICT_COLUMNS, rows)


def _decided(verdict: Verdict) -> list[Any]:
    bits = [verdict.against_chance_bits, verdict.against_search_bits, verdict.bar_bits]
    return [verdict.decision, verdict.reason, *bits, verdict.rule.tests, verdict.rule.suspects]


def _tested(item: Evidence | None, best: Evidence | None) -> list[Any]:
    if item is None:
        return [None] * 10
    counts = [item.n, item.matches, item.erasures]
    return [item.test, item.scope, item.view, int(item is best), *counts, item.log2_p, item.bits, item.capacity_bits]


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([words(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()


def words(text: str) -> str:
    """A text that no spreadsheet takes for a formula: an apostrophe goes before one that begins like it."""
    shown = visible(text, most=MOST)
    return f"'{shown}" if shown.startswith(FORMULA) else shown
