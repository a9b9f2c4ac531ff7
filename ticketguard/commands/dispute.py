"""`ticketguard dispute`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from ticketguard.claims import keys
from ticketguard.commands.cases import read_case, show_checks
from ticketguard.commands.common import PATH, json_option, passphrase, print_json
from ticketguard.storage.hostile import visible
from ticketguard.verify.dispute import CONDITIONS, settle


@click.command()
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.argument("suspect", type=PATH)
@click.option("--reveal-a", type=PATH, required=True, help="A's reveal for this suspect.")
@click.option("--reveal-b", type=PATH, required=True, help="B's reveal for this suspect.")
@click.option("--nonce", required=True, help="The nonce that you gave to both.")
@click.option("--root", "roots", type=PATH, help="PEM file of the time-stamp authorities that you trust.")
@click.option("--key", "key_path", type=PATH, help="Your secret key, when reveals are encrypted to you.")
@click.option(
    "--withdrawal-a", type=PATH, help="A statement that withdraws A's registration, from wherever you have it."
)
@click.option("--withdrawal-b", type=PATH, help="The same for B's.")
@json_option
def command(
    a: Path,
    b: Path,
    suspect: Path,
    reveal_a: Path,
    reveal_b: Path,
    nonce: str,
    roots: Path | None,
    key_path: Path | None,
    withdrawal_a: Path | None,
    withdrawal_b: Path | None,
    as_json: bool,
) -> int:
    """Decide who was first when the claims in the folders A and B both match SUSPECT.

    First the marks: A's in B's original and not B's in A's makes A prior, and conversely. Then the earlier trusted time
    stamp, if the suspect shows the frame registered under it, and the later claimant's frame was made from that or has
    nothing to do with the suspect. Otherwise UNDECIDED (exit code 1).

    Example:  ticketguard dispute a/ b/ suspect.safetensors --reveal-a a.json --reveal-b b.json --nonce $NONCE
    """
    key = None if key_path is None else keys.load_secret(key_path, passphrase())
    cases = [
        read_case(public, shown, suspect=suspect, roots=roots, key=key, withdrawal=withdrawal)
        for public, shown, withdrawal in ((a, reveal_a, withdrawal_a), (b, reveal_b, withdrawal_b))
    ]
    found = settle(*cases, nonce=nonce, now=datetime.now(UTC))
    if as_json:
        checks = [asdict(check) for check in found.checks]
        print_json({"outcome": found.outcome, "reason": found.reason, "checks": checks})
    else:
        click.echo(f"{found.outcome}: {found.reason}")
        show_checks([check for check in found.checks if check.name in CONDITIONS], {})
        for finding in found.checks:
            if finding.name not in CONDITIONS:
                click.echo(visible(f"  {'yes' if finding.passed else 'no':<4}  {finding.name}: {finding.detail}"))
    return 1 if found.outcome == "UNDECIDED" else 0
