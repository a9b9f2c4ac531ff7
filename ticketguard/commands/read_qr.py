"""`ticketguard read-qr`."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ticketguard.bundle import Bundle
from ticketguard.commands.common import PATH, json_option, print_json
from ticketguard.errors import UsageError

DARK, LIGHT = "██", "  "


@click.command()
@click.argument("suspect", type=PATH)
@click.option(
    "--signed", type=PATH, required=True, help="The signed folder; its registration says where the code lies."
)
@click.option("--threshold", type=float, default=0.0, show_default=True, help="Drop weights of at most this magnitude.")
@click.option(
    "--owner-model",
    type=PATH,
    help="The owner's own model: drop weights smaller than nine tenths of its edges in that layer (defence to add-on).",
)
@click.option(
    "--least",
    type=click.IntRange(min=1),
    help="Edges that make a kernel dark; by default 1, 2 and 3 are tried in turn. 1 is the paper's reading.",
)
@click.option("--text", help="The true text, to report the share of wrong modules; reading never uses it.")
@json_option
def command(
    suspect: Path,
    signed: Path,
    threshold: float,
    owner_model: Path | None,
    least: int | None,
    text: str | None,
    as_json: bool,
) -> int:
    """Read the QR code in a suspect's topology. Exit code 0 when it decodes, else 1.

    A QR code proves nothing about chance or priority: verify tests the edge code, which does.

    Example:  ticketguard read-qr suspect.safetensors --signed signed/
    """
    from ticketguard.signatures.position import Place
    from ticketguard.signatures.qr import LEAST, owner_threshold, read
    from ticketguard.signatures.symbols import encode

    if not 0 <= threshold < inf:
        raise UsageError(f"--threshold is a magnitude, 0 or more, not {threshold}")
    registered, _ = Bundle(signed).read_registration()
    if registered.qr is None:
        raise UsageError(f"{signed}: this registration has no QR code; sign --code qr makes one")
    place = Place.from_json(registered.qr)
    weights = _layer(suspect, place.layer)
    if owner_model is not None:
        if threshold:
            raise UsageError("--threshold and --owner-model are two ways to give one threshold: leave one out")
        own = _layer(owner_model, place.layer)
        if not own:
            raise UsageError(f"{owner_model}: no layer {place.layer}, so it is not the model of this registration")
        threshold = owner_threshold(own, place)
    truth = encode(text, version=place.version, error=place.error, pattern=place.pattern) if text else None
    reading = read(weights, place, threshold=threshold, least=(least,) if least else LEAST, truth=truth)
    if as_json:
        print_json({
            "suspect": str(suspect), "place": place.to_json(), "text": reading.text, "wrong": reading.wrong,
            "least": reading.least, "threshold": threshold,
            "picture": reading.picture.astype(int).tolist(), "note": reading.note,
        })  # fmt: skip
    else:
        click.echo("\n".join("".join(DARK if dark else LIGHT for dark in row) for row in np.pad(reading.picture, 1)))
        click.echo(f"place  {place.layer}, kernel ({place.row}, {place.column}), version {place.version}-{place.error}")
        dropped = f", magnitudes up to {threshold:.3g} dropped" if threshold else ""
        click.echo(f"dark   kernels of {reading.least} or more edges{dropped}")
        if reading.wrong is not None:
            click.echo(f"wrong  {reading.wrong:.1%} of the data modules")
        click.echo("text   " + (repr(reading.text) if reading.text is not None else "cannot be decoded"))
        click.echo(f"note   {reading.note}")
    return 0 if reading.text is not None else 1


def _layer(path: Path, name: str) -> dict[str, NDArray[Any]]:
    """The one layer that reading needs, if the file has it."""
    from ticketguard.storage.suspects import read_any
    from ticketguard.verify.suspect import effective_weights

    found = effective_weights(read_any(path))
    return {name: found[name].array()} if name in found else {}
