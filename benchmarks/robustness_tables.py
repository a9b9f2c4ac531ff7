"""The tables of docs/robustness.md from finished suites, as Markdown.

python benchmarks/robustness_tables.py suite/               # every cell, then the price of every attack
python benchmarks/robustness_tables.py controls/ --controls # the strongest raw evidence of every control
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ticketguard.report.suites import price_words, strongest, work_words
from ticketguard.storage.documents import read_json, read_jsonl
from ticketguard.suite.price import prices
from ticketguard.suite.results import RESULTS_FILE, SUITE_FILE, Result


def bits(value: float | None) -> str:
    """Bits with three digits or so; a dash where nothing was tested."""
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{abs(value):.1f}"


def cells(results: Sequence[Result]) -> list[str]:
    """One row for each cell."""
    lines = ["| attack | accuracy | edge code | triggers | verdict | epochs |", "|---|---:|---:|---:|---|---:|"]
    for result in results:
        name = f"`{result.label}`" + (" (control)" if result.control else "")
        name += f", seed {result.cell.seed}" if result.cell.seed else ""
        if result.accuracy is None:
            lines.append(f"| {name} | – | – | – | not run: {result.reason} | |")
            continue
        edge = None if result.hidden else result.edge_bits
        found = f"{bits(edge)} | {bits(result.trigger_bits)} | {result.decision}"
        lines.append(f"| {name} | {result.accuracy:.1f} | {found} | {result.epochs:g} |")
    return lines


def priced(results: Sequence[Result], before: float) -> list[str]:
    """One row for each attack."""
    lines = ["| attack | price | work |", "|---|---|---|"]
    return lines + [
        f"| `{price.attack}` | {price_words(price)} | {work_words(price)} |" for price in prices(results, before)
    ]


def controls(results: Sequence[Result]) -> list[str]:
    """One row for each control."""
    lines = ["| control | accuracy | highest raw evidence | verdict |", "|---|---:|---:|---|"]
    for result in results:
        name = f"`{result.cell.attack}`, seed {result.cell.seed}"
        if result.accuracy is None:
            lines.append(f"| {name} | – | – | not run: {result.reason} |")
            continue
        lines.append(f"| {name} | {result.accuracy:.1f} | {strongest(result):.1f} | {result.decision} |")
    return lines


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--controls", action="store_true")
    options = parser.parse_args()
    results = [Result.from_json(line) for line in read_jsonl(options.suite / RESULTS_FILE)]
    before = float(read_json(options.suite / SUITE_FILE)["accuracy"])
    tables = [controls(results)] if options.controls else [cells(results), priced(results, before)]
    print("\n\n".join("\n".join(table) for table in tables))


if __name__ == "__main__":
    main()
