"""`ticketguard transcript queries` and `ticketguard transcript record`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.bundle import Bundle
from ticketguard.commands.common import PATH, json_option, passphrase, print_json
from ticketguard.errors import DataError, UsageError
from ticketguard.storage.atomic import write_bytes
from ticketguard.storage.documents import read_csv

# A transcript has at most 1 MiB: some ten thousand queries.
MOST_DECOYS = 8192


@click.group()
def command() -> None:
    """Query a suspect service so that a judge can use the answers."""


@command.command()
@click.argument("signed", type=PATH)
@click.option("--leaf", type=int, required=True, help="The leaf that will be revealed for these answers.")
@click.option(
    "--decoys",
    type=click.IntRange(0, MOST_DECOYS),
    default=200,
    show_default=True,
    help="Pictures mixed in that are no triggers.",
)
@click.option("--decoy-images", type=PATH, help="Folder of your own decoys, for triggers that are your own pictures.")
@click.option("--out", type=PATH, required=True, help="Folder for the pictures and index.csv.")
@json_option
def queries(signed: Path, leaf: int, decoys: int, decoy_images: Path | None, out: Path, as_json: bool) -> None:
    """Write one leaf's triggers among decoys, for somebody trusted to send to the suspect service.

    Example:  ticketguard transcript queries signed/ --leaf 0 --decoys 200 --out queries/
    """
    from ticketguard.triggers.export import export
    from ticketguard.triggers.pictures import read_folder
    from ticketguard.triggers.plan import plan_of
    from ticketguard.triggers.queries import query_set

    bundle = Bundle(signed)
    opening = bundle.open(passphrase())
    plan = plan_of(opening.registration)
    if plan is None:
        raise UsageError(f"{signed}: this registration has no triggers")
    own = bundle.own_images(opening.registration)
    mixed_in = None if decoy_images is None else read_folder(decoy_images, plan.shape)
    files = export(out, query_set(opening, plan, leaf, decoy_count=decoys, own_images=own, own_decoys=mixed_in))
    if as_json:
        print_json({"folder": str(out), "queries": len(files) - 1})
    else:
        click.echo(f"{len(files) - 1} pictures and index.csv in {out}; record the answers as CSV index,label")


@command.command()
@click.argument("folder", metavar="QUERIES", type=PATH)
@click.argument("answers", type=PATH)
@click.option("--service", required=True, help="What was queried.")
@click.option("--recorded-by", required=True, help="Who sent the queries.")
@click.option("--out", type=PATH, required=True, help="The transcript to write.")
@json_option
def record(folder: Path, answers: Path, service: str, recorded_by: str, out: Path, as_json: bool) -> None:
    """Freeze the answers (CSV index,label) to the queries of a folder as a transcript.

    Example:  ticketguard transcript record queries/ answers.csv --service https://example.org/api
              --recorded-by "A notary" --out transcript.json
    """
    from ticketguard.verify.transcript import from_answers

    asked = {row[0]: row[2] for row in _table(folder / "index.csv", 3)}
    given = {row[0]: row[1].strip() for row in _table(answers, 2)}
    transcript = from_answers(asked, given, service=service, recorded_by=recorded_by)
    write_bytes(out, transcript.encode())
    if as_json:
        print_json({"transcript": str(out), "sha256": transcript.digest, "queries": len(asked), "answers": len(given)})
    else:
        click.echo(f"transcript  {out}  ({len(given)} answers to {len(asked)} queries)")
        click.echo(f"sha256      {transcript.digest}")


def _table(path: Path, columns: int) -> list[list[str]]:
    """Rows below the heading, with an index that is not repeated first."""
    rows = [row for row in read_csv(path)[1:] if row]
    if not rows or any(len(row) < columns for row in rows) or len({row[0] for row in rows}) != len(rows):
        raise DataError(
            f"{path}: expected a heading, then {columns} columns or more with a different index in each row"
        )
    return rows
