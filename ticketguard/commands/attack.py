"""`ticketguard attack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ticketguard.commands.common import PATH, json_option, print_json, refuse_idle, require_output, show
from ticketguard.commands.training_options import chosen_recipe, load_data
from ticketguard.errors import UsageError

if TYPE_CHECKING:
    from ticketguard.tickets import Model


@click.command()
@click.argument("name", required=False)
@click.argument("model", type=PATH, required=False)
@click.option("--strength", type=float, help="How hard; by default the middle of the attack's own grid.")
@click.option("--out", type=PATH, help="Attacked weights, as safetensors.")
@click.option("--data", help="The attacker's data set, for attacks that train or query.")
@click.option("--data-dir", type=PATH, help="Folder that holds the data set (not needed for digits).")
@click.option("--limit", type=int, help="The attacker has only this many training images.")
@click.option("--epochs", type=int, default=3, show_default=True, help="Epochs of attacks that train.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--list", "listing", is_flag=True, help="List all attacks with their default strengths.")
@json_option
def command(
    name: str | None,
    model: Path | None,
    strength: float | None,
    out: Path | None,
    data: str | None,
    data_dir: Path | None,
    limit: int | None,
    epochs: int,
    seed: int,
    listing: bool,
    as_json: bool,
) -> None:
    """Attack MODEL with the attack NAME (or a stack of them, a+b) the way a thief would: without the owner's secret.

    \b
    Examples:  ticketguard attack prune-magnitude signed/model.safetensors --strength 0.5 --out attacked.safetensors
               ticketguard attack permute+finetune signed/model.safetensors --data digits --out attacked.safetensors
               ticketguard attack --list
    """  # noqa: D301 - click reads the backspace
    if listing:
        _list(as_json)
        return
    if name is None or model is None or out is None:
        raise UsageError("name an attack, a model and --out FILE; ticketguard attack --list shows all attacks")
    from ticketguard import api
    from ticketguard.attacks.base import Victim
    from ticketguard.attacks.registry import make, takes_strength, trains
    from ticketguard.storage.tensors import write_tensors
    from ticketguard.training import module_of
    from ticketguard.training.evaluate import require_fit

    attack = make(name, strength)
    if not takes_strength(name):
        refuse_idle({"strength"}, f"goes with parts that name none of their own: with {name} it has no effect")
    if not trains(name):
        refuse_idle({"epochs"}, f"goes with attacks that train: with {name} it has no effect")
    if data is None:
        refuse_idle({"data_dir", "limit"}, "goes with --data: here it has no effect")
    require_output(out, inputs=(model,), entry="attack")
    released = _released(model)
    dataset = None if data is None else load_data(data, data_dir, limit)
    if dataset is not None:
        require_fit(module_of(released), dataset)
    victim = Victim(
        model=released,
        dataset=dataset,
        symmetry=api.symmetry_for(released)[0],
        recipe=chosen_recipe(None, data or "", epochs),
        seed=seed,
    )
    attacked = attack.run(victim)
    if attacked.hidden:
        raise UsageError(f"{attack!r} hides a model behind a service and changes no weights: measure it with a suite")
    architecture = {"name": attacked.architecture.name, "arguments": dict(attacked.architecture.arguments)}
    write_tensors(out, attacked.weights, {"attack": {"label": repr(attack), "architecture": architecture}})
    if as_json:
        cost = {"epochs": attacked.epochs, "images": attacked.images}
        print_json({"attack": repr(attack), "victim": str(model), "out": str(out), **cost})
        return
    work = f" after {attacked.epochs:g} epochs over {attacked.images:,} images" if attacked.epochs else ""
    click.echo(f"{attack!r}: wrote {out}{work}")


def _released(path: Path) -> Model:
    """The released model to attack; `UsageError` for anything else."""
    from ticketguard.storage.tensors import read_tensors
    from ticketguard.tickets import Model, read_ticket

    found = read_ticket(path)
    if isinstance(found, Model):
        return found
    if "attack" in read_tensors(path).metadata:
        raise UsageError(
            f"{path}: attacked already; for both attacks name a stack, a+b, and the model it was made from"
        )
    what = "a ticket" if found.mask else "weights without the masks and the network that they belong to"
    raise UsageError(f"{path}: {what}, not a trained model: attacks start from what a thief gets")


def _list(as_json: bool) -> None:
    from ticketguard.attacks.registry import ATTACKS

    does = {name: " ".join((kind.__doc__ or "").split("\n\n")[0].split()) for name, kind in ATTACKS.items()}
    if as_json:
        rows = [
            {"name": name, "strengths": list(kind.strengths), "unit": kind.unit, "does": does[name]}
            for name, kind in ATTACKS.items()
        ]
        print_json({"attacks": rows})
        return
    from ticketguard.report.text import plain_table

    table = plain_table("attack", "strengths", "what it does")
    for name, kind in ATTACKS.items():
        values = " ".join(f"{value:g}" for value in kind.strengths) if kind.unit else ""
        table.add_row(name, values, does[name])
    show(table)
