"""`ticketguard trace`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.bundle import Bundle
from ticketguard.claims.registration import frame_counts
from ticketguard.commands.common import PATH, json_option, passphrase, print_json
from ticketguard.licensing import trace
from ticketguard.masks import Mask
from ticketguard.storage.suspects import read_any


@click.command()
@click.argument("suspect", type=PATH)
@click.option("--signed", type=PATH, required=True, help="The owner's signed folder, with its secret and licences.")
@json_option
def command(suspect: Path, signed: Path, as_json: bool) -> int:
    """Name the licensees that SUSPECT came from.

    The probability of naming anybody innocent is at most 2^-20 over all licences together. Exit code 0: somebody is named; 1:
    nobody is.

    Example:  ticketguard trace suspect.safetensors --signed signed/
    """
    bundle = Bundle(signed)
    opening, secret = bundle.unlock(passphrase())
    licenses = bundle.read_licenses()
    # In memory, for every reading asks for them.
    base = Mask(dict(bundle.read_mask()))
    reference = frame_counts(base, opening.registration.layers)
    found = trace(read_any(suspect), base, opening, secret.master, licenses, reference)
    names = {item.serial: item.licensee for item in licenses}
    if as_json:
        rows = [
            {"licensee": names[serial], "serial": serial, "bits": round(bits, 3), "named": serial in found.named}
            for serial, bits in found.evidence.items()
        ]
        print_json({"suspect": str(suspect), "barBits": found.bar_bits, "read": found.read, "licences": rows})
        return 0 if found.named else 1
    for serial in sorted(found.named, key=lambda item: -found.evidence[item]):
        click.echo(
            f"NAMED  {names[serial]}  (licence {serial}, {found.evidence[serial]:.1f} bits, bar {found.bar_bits:.0f})"
        )
    if not found.named:
        best = max(found.evidence.values())
        click.echo(
            f"NOBODY NAMED among {len(licenses)} licences: the strongest gives {best:.1f} bits, bar {found.bar_bits:.0f}"
        )
    click.echo(
        f"read {found.read} of {found.bits} fingerprint bits; naming anybody innocent: at most 2^-{found.bar_bits:.0f}"
    )
    for note in found.notes:
        click.echo(f"note: {note}")
    if found.named:
        click.echo("The owner could have made this copy too: see docs/protocol.md on symmetric fingerprints.")
    return 0 if found.named else 1
