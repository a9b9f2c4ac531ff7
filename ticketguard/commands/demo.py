"""`ticketguard demo`."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ticketguard.claims.registration import GRINDING_BITS
from ticketguard.commands.common import PASSPHRASE_VARIABLE, PATH, json_option, print_json, show
from ticketguard.errors import UsageError
from ticketguard.storage.atomic import is_folder, is_there, listed

if TYPE_CHECKING:
    from rich.table import Table

    from ticketguard.demo import Row

# The demo's secrets protect nothing; a newcomer should not be asked for a passphrase.
DEMO_PASSPHRASE = "demo"  # noqa: S105


@click.command()
@click.option("--out", type=PATH, help="Folder for everything the demo makes; by default ticketguard-demo-TIME here.")
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def command(out: Path | None, seed: int, as_json: bool) -> None:
    """Run the whole story on real handwritten digits: 12 s on a quiet machine with two cores, longer on a busy one.

    A ticket is found by iterative magnitude pruning, signed, trained, claimed, attacked and verified; an independent model
    and a wrong key are tested too. Needs scikit-learn for its bundled digits (pip install 'ticketguard[demo]').

    Example:  ticketguard demo
    """
    from ticketguard.demo import demo

    started = time.monotonic()
    folder = out or Path(f"ticketguard-demo-{time.strftime('%Y%m%d-%H%M%S')}")
    if is_there(folder) and not is_folder(folder):
        raise UsageError(f"{folder} is a file: the demo needs a folder of its own")
    if is_there(folder) and listed(folder):
        raise UsageError(f"{folder} is not empty: the demo needs a folder of its own")
    given = os.environ.get(PASSPHRASE_VARIABLE)
    rows = demo(folder, given or DEMO_PASSPHRASE, seed=seed, say=lambda text: click.echo(text, err=as_json))
    if as_json:
        print_json({"folder": str(folder), "rows": [row.to_json() for row in rows]})
        return
    show("", _table(rows), "")
    rule = next(row.verdict.rule for row in rows if row.verdict is not None)
    stamped = replace(rule, grinding_bits=GRINDING_BITS["rfc3161"])
    click.echo(
        "bits: -log2 of the false-positive probability of the best test; a match needs "
        f"{rule.bar_bits:g} ({stamped.bar_bits:g} with a time stamp)."
    )
    click.echo("A match says that the suspect is not independent of the owner's secret; lawful access is not excluded.")
    word = "your passphrase" if given else f"passphrase {DEMO_PASSPHRASE!r}"
    click.echo(
        f"Everything is in {folder} ({word}), made in {time.monotonic() - started:.0f} s. Go on with, for example:"
    )
    click.echo(f"  ticketguard verify {folder}/permuted.safetensors --signed {folder}/signed")


def _table(rows: list[Row]) -> Table:
    from ticketguard.report.text import decision, plain_table

    table = plain_table()
    table.add_column("suspect", no_wrap=True)
    table.add_column("accuracy", justify="right")
    table.add_column("verdict")
    table.add_column("bits", justify="right")
    table.add_column("by")
    for row in rows:
        best = row.verdict.best if row.verdict else None
        table.add_row(
            row.suspect,
            "" if row.accuracy is None else f"{row.accuracy:.2f} %",
            decision(row.verdict.decision) if row.verdict else "",
            f"{best.bits:,.1f}" if best else "",
            f"{best.test}, {best.view}" if best else "",
        )
    return table
