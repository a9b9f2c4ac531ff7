"""`ticketguard transcript queries` and `ticketguard transcript record`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ticketguard.bundle import Bundle
from ticketguard.commands.common import PATH, json_option, passphrase, print_json, require_output, require_output_folder
from ticketguard.errors import DataError, UsageError
from ticketguard.storage.atomic import is_there, read_start, write_bytes
from ticketguard.storage.documents import read_csv

if TYPE_CHECKING:
    from ticketguard.claims.opening import Opening

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
    from ticketguard.triggers.plan import required_plan
    from ticketguard.triggers.queries import query_set

    require_output_folder(out, inputs=(decoy_images,), empty=True)
    bundle = Bundle(signed)
    opening, secret = bundle.unlock(passphrase())
    if leaf not in opening.leaves:
        raise UsageError(f"--leaf {leaf}: the registration has leaves 0 to {opening.registration.leaves - 1}")
    used = secret.used
    if leaf in used:
        # Told before anybody is queried: `reveal` would refuse the leaf when the answers are there.
        raise UsageError(f"--leaf {leaf}: revealed already, for suspect {used[leaf][:16]}; {_left(used, opening)}")
    plan = required_plan(opening.registration)
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

    \b
    Example:  ticketguard transcript record queries/ answers.csv --service https://example.org/api
                  --recorded-by "A notary" --out transcript.json
    """  # noqa: D301 - click reads the backspace
    from ticketguard.triggers.export import INDEX
    from ticketguard.triggers.predictions import COLUMNS
    from ticketguard.verify.transcript import from_answers

    require_output(out, inputs=(folder / INDEX, answers))
    asked = {row[0]: row[2] for row in _table(folder / INDEX, ["index", "file", "sha256"])}
    given = {row[0]: row[1].strip() for row in _table(answers, COLUMNS)}
    transcript = from_answers(asked, given, service=service, recorded_by=recorded_by)
    data = transcript.encode()
    if is_there(out) and read_start(out, len(data) + 1) != data:
        raise UsageError(f"{out} exists already: a reveal may name the transcript in it; choose another --out")
    write_bytes(out, data)
    if as_json:
        print_json({"transcript": str(out), "sha256": transcript.digest, "queries": len(asked), "answers": len(given)})
    else:
        click.echo(f"transcript  {out}  ({len(given)} answers to {len(asked)} queries)")
        click.echo(f"sha256      {transcript.digest}")


def _left(used: Mapping[int, str], opening: Opening) -> str:
    """Which leaves a reveal can still disclose."""
    left = sorted(set(opening.leaves) - set(used))
    return f"unused: {', '.join(map(str, left))}" if left else "none is left: sign a new ticket"


def _table(path: Path, heading: list[str]) -> list[list[str]]:
    """Rows below the heading, with an index that is not repeated first."""
    first, *rows = read_csv(path)
    # Columns of another meaning, file names say, would be frozen as answers.
    if [cell.strip().lower() for cell in first] != heading:
        raise DataError(f"{path}: the first line must be {','.join(heading)}")
    if not rows or len({row[0] for row in rows}) != len(rows):
        raise DataError(f"{path}: expected rows below the heading, with a different index in each")
    return rows
