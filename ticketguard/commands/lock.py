"""`ticketguard lock`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.commands.common import PATH, json_option, print_json, refuse_idle, require_output
from ticketguard.commands.training_options import load_data
from ticketguard.errors import UsageError

KEY, LOCKED = "key.safetensors", "locked.safetensors"


@click.command()
@click.argument("ticket_path", metavar="TICKET", type=PATH)
@click.option("--out", type=PATH, required=True, help=f"Folder to write {LOCKED} and {KEY} to.")
@click.option(
    "--score",
    default="ewp",
    show_default=True,
    help="What chooses the key: omp, ewp, ewp-sampled, betweenness, betweenness-weighted, random-paths, random, taylor, "
    "hessian, integrated-gradients, synflow.",
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="The key's share of the ticket's edges.",
)
@click.option("--data", help="Data set for scores that look at gradients.")
@click.option("--data-dir", type=PATH, help="Folder that holds the data set.")
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def command(
    ticket_path: Path,
    out: Path,
    score: str,
    share: float,
    data: str | None,
    data_dir: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Split an untrained ticket into a locked ticket and a small key that its owner keeps (the paper's V1).

    The locked ticket trains to less until the key is merged again. Both files name each other by digest.

    Example:  ticketguard lock run/ticket.safetensors --score ewp --share 0.05 --out locked/
    """
    from ticketguard.finding.locking import scores_of
    from ticketguard.signatures.keymask import lock, write_key
    from ticketguard.storage.atomic import is_folder, is_there, make_folder
    from ticketguard.tickets import read_ticket, write_ticket

    if is_folder(out):  # else there is nothing to destroy
        for name in (KEY, LOCKED):
            require_output(out / name, inputs=(ticket_path,))
            if is_there(out / name):
                raise UsageError(
                    f"{out / name} exists already: without its key a locked ticket stays so; choose another --out"
                )
    ticket = read_ticket(ticket_path)
    if not ticket.mask:
        raise UsageError(f"{ticket_path}: no masks, so there is nothing to lock; find makes a ticket")
    if data is None:
        refuse_idle({"data_dir"}, "goes with --data: here it has no effect")
    dataset = None if data is None else load_data(data, data_dir, None)
    key, locked = lock(ticket, scores_of(ticket, score, dataset=dataset, seed=seed), share, score=score)
    make_folder(out)
    write_key(out / KEY, key)
    write_ticket(out / LOCKED, locked)
    if as_json:
        print_json({
            "locked": str(out / LOCKED), "key": str(out / KEY), "keyEdges": key.edges, "lockedEdges": locked.mask.kept,
            "score": score,
        })  # fmt: skip
        return
    click.echo(f"locked  {out / LOCKED}  ({locked.mask.kept:,} edges: may be released)")
    click.echo(f"key     {out / KEY}  ({key.edges:,} edges by {score}: keep it; it is not encrypted)")
    click.echo("next    verify-lock retrains both to see what the key is worth; a key too small is worth nothing")
