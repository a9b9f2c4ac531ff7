"""`ticketguard convert`."""

from __future__ import annotations

from pathlib import Path

import click

from ticketguard.commands.common import PATH, json_option, print_json, require_output
from ticketguard.errors import UsageError


@click.command()
@click.argument("checkpoint", type=PATH)
@click.option("--out", type=PATH, required=True, help="The ticket or model file to write.")
@click.option("--arch", help="Architecture, so that alignment and training work: resnet20, resnet18, ...")
@click.option("--trained", is_flag=True, help="Take the trained weights instead of the rewind weights.")
@json_option
def command(checkpoint: Path, out: Path, arch: str | None, trained: bool, as_json: bool) -> None:
    """Convert a checkpoint in the layout of the paper's authors (NO-stealing-LTH) to a ticket file.

    Reads state_dict with *.weight_orig and *.weight_mask, normalize.mean and .std, and init_weight. The file is loaded in a
    limited child process and never trusted.

    Example:  ticketguard convert model_SA_best.pth.tar --arch resnet20 --out ticket.safetensors
    """
    from ticketguard.integrations.authors import convert
    from ticketguard.storage.suspects import SAFETENSORS_SUFFIX
    from ticketguard.storage.tensors import read_tensors
    from ticketguard.storage.torchfile import read_torch
    from ticketguard.tickets import write_ticket

    require_output(out, inputs=(checkpoint,), entry="ticketguard")
    if checkpoint.name.endswith(SAFETENSORS_SUFFIX) and "ticketguard" in read_tensors(checkpoint).metadata:
        raise UsageError(f"{checkpoint}: already a ticket of ticketguard; nothing to convert")
    tensors = read_torch(checkpoint, whole=True)
    ticket = convert(tensors, where=str(checkpoint), arch=arch, trained=trained)
    write_ticket(out, ticket)
    mask = ticket.mask
    if as_json:
        print_json(
            {"file": str(out), "kind": ticket.kind, "edges": mask.kept, "density": mask.density, "layers": len(mask)}
        )
        return
    click.echo(f"{ticket.kind:<7} {out}")
    click.echo(f"masks   {len(mask)} layers, {mask.kept:,} of {mask.size:,} weights kept ({mask.density:.3%})")
    if ticket.architecture.name is None:
        click.echo("note    no --arch: everything but alignment and training works")
