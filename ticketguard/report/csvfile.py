"""Suites as comma-separated values (RFC 4180), one row per cell, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from ticketguard.report.hostile import visible

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
# A spreadsheet runs a cell that begins with one of these as a formula.
FORMULA = ("=", "+", "-", "@")


def suite_csv(suite: SuiteResult) -> str:
    """Every cell of a suite under `COLUMNS`; accuracies in percent, evidence in bits, empty where nothing was measured."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for item in suite.results:
        timing = suite.timings.get(item.digest)
        writer.writerow(
            [
                words(item.cell.attack),
                item.cell.strength,
                item.cell.seed,
                words(item.label),
                words(item.unit),
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
                words(item.reason),
            ]
        )
    return text.getvalue()


def words(text: str) -> str:
    """A text that no spreadsheet takes for a formula: an apostrophe goes before one that begins like it."""
    shown = visible(text)
    return f"'{shown}" if shown.startswith(FORMULA) else shown
