"""`ticketguard audit`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ticketguard.claims import keys
from ticketguard.commands.cases import (
    case_options,
    control_files,
    read_case,
    read_transcript,
    require_controls,
    show_checks,
    show_numbers,
)
from ticketguard.commands.common import PATH, json_option, passphrase, print_json
from ticketguard.commands.precious import warn_of_secrets
from ticketguard.verify.audit import audit


@click.command()
@click.argument("public", metavar="CLAIM", type=PATH)
@click.option("--reveal", "reveal_path", type=PATH, required=True, help="The reveal that the claim rests on.")
@click.option("--suspect", type=PATH, help="Your model, as it was judged.")
@click.option("--transcript", type=PATH, help="Your service's answers, as they were judged.")
@click.option(
    "--control", "controls", type=PATH, multiple=True, help="A model that has nothing to do with it; repeatable."
)
@click.option("--answers", type=PATH, multiple=True, help="A transcript of an independent service; repeatable.")
@click.option("--key", "key_path", type=PATH, help="Your secret key, when the reveal is encrypted to you.")
@case_options
@json_option
def command(
    public: Path,
    reveal_path: Path,
    controls: tuple[Path, ...],
    answers: tuple[Path, ...],
    key_path: Path | None,
    as_json: bool,
    **files: Any,
) -> int:
    """Check a claim against yourself: recompute it, try it on independent models, list what remains to be argued.

    CLAIM is the claimant's public folder. Exit code 0: every check held and the suspect matches; 1: anything else.

    Example:  ticketguard audit public/ --reveal reveal.dsse.json --suspect mine.safetensors --control other.safetensors
    """
    key = None if key_path is None else keys.load_secret(key_path, passphrase())
    case = read_case(public, reveal_path, controls=controls, key=key, **files)
    warn_of_secrets(public)
    require_controls(case, control_files(controls, case.control_digests))
    recorded = [read_transcript(path) for path in answers]
    found = audit(case, answers=recorded)
    decision = found.verdict.decision if found.verdict else "NOT TESTED"
    if as_json:
        checks = [asdict(check) for check in found.checks]
        verdict = found.verdict.to_json() if found.verdict else None
        print_json({"sound": found.sound, "checks": checks, "grounds": list(found.grounds), "verdict": verdict})
    else:
        click.echo(f"{'every check holds' if found.sound else 'A CHECK FAILS'}; the suspect: {decision}")
        show_checks(
            found.checks,
            control_files((*controls, *answers), (*case.control_digests, *(each.digest for each in recorded))),
        )
        if found.verdict is None:
            click.echo()
        else:
            show_numbers(found.verdict)
        click.echo("what remains to be argued:")
        for ground in found.grounds:
            click.echo(f"  - {ground}")
    return 0 if found.sound and decision == "MATCH" else 1
