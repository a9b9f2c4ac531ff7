"""`ticketguard triggers export`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.bundle import Bundle
from ticketguard.commands.common import PATH, json_option, passphrase, print_json, require_output_folder


@click.group()
def command() -> None:
    """Work with the trigger images of a signed ticket."""


@command.command()
@click.argument("signed", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder for the PNG files and index.csv.")
@click.option(
    "--with-labels", is_flag=True, help="Write the secret target labels as well: only for training elsewhere."
)
@json_option
def export(signed: Path, out: Path, with_labels: bool, as_json: bool) -> None:
    """Write the trigger images as PNG files, to query somebody else's service.

    Answers go into a CSV file with the columns index,label and then to `verify --predictions`.

    Example:  ticketguard triggers export signed/ --out queries/
    """
    from ticketguard.triggers.export import export as write
    from ticketguard.triggers.plan import required_plan
    from ticketguard.triggers.render import render

    require_output_folder(out, empty=True)
    bundle = Bundle(signed)
    opening = bundle.open(passphrase())
    plan = required_plan(opening.registration)
    triggers = render(opening, plan, own_images=bundle.own_images(opening.registration))
    files = write(out, triggers, classes=plan.classes if with_labels else None)
    images = len(files) - 1
    if as_json:
        print_json({"folder": str(out), "images": images, "classes": list(plan.classes)})
    else:
        click.echo(f"{images} images and index.csv in {out}")
        click.echo(f"answers may be class names or indices: {', '.join(plan.classes)}")
