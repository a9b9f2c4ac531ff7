"""`ticketguard probe`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.bundle import Bundle
from ticketguard.commands.common import PATH, json_option, passphrase, print_json
from ticketguard.commands.probing import Request, answered, probe_options, run


@click.command()
@click.argument("endpoint")
@click.option("--signed", type=PATH, required=True, help="The signed folder, with its secret.")
@click.option("--out", type=PATH, required=True, help="The transcript: a new file, or an interrupted one to continue.")
@click.option("--recorded-by", default="", help="Who records; goes into the transcript.")
@probe_options
@json_option
def command(endpoint: str, signed: Path, out: Path, as_json: bool, **options: object) -> int:
    """Ask a service about the triggers and record a transcript, without judging it.

    ENDPOINT is the URL of an Open Inference Protocol model (.../v2/models/NAME) or, with --mapping, of any JSON
    service; or an .onnx file. Judge the transcript, here or elsewhere, with verify --transcript. Exit code 0: done;
    1: not one usable answer.

    \b
    Example:  ticketguard probe https://host/v2/models/digits --signed signed/ --out transcript.jsonl --budget 400
    """  # noqa: D301 - click wants the character itself
    request = Request(endpoint=endpoint, transcript=out, options=options)
    bundle = Bundle(signed)
    transcript = run(bundle, bundle.open(passphrase()), request, quiet=as_json)
    usable = answered(transcript)
    code = 0 if usable else 1
    if as_json:
        print_json(
            {
                "transcript": str(out),
                "sha256": transcript.digest,
                "queries": len(transcript.asked),
                "answered": usable,
                "ended": transcript.ended,
                "signedBy": transcript.keyid,
            }
        )
        return code
    click.echo(f"{len(transcript.asked)} queries, {usable} usable answers; ended because {transcript.ended}")
    click.echo(f"transcript: {out} (sha256 {transcript.digest}, {'signed' if transcript.keyid else 'not signed'})")
    return code
