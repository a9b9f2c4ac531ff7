"""`ticketguard find`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ticketguard.commands.common import PATH, json_option, print_json, refuse_idle
from ticketguard.commands.training_options import chosen_recipe, data_options, load_data, progress, recipe_options
from ticketguard.errors import UsageError

if TYPE_CHECKING:
    from ticketguard.finding import FindConfig, FindProgress, FindResult

DENSITY = 0.2
TICKET = "ticket.safetensors"


@click.command()
@data_options
@click.option("--arch", default="convnet", show_default=True, help="Network: a name, or package.module:callable.")
@recipe_options
@click.option(
    "--density", type=float, help=f"Share of the prunable weights that the rounds leave; by default {DENSITY}."
)
@click.option("--rounds", type=int, default=3, show_default=True, help="Pruning rounds; each removes an equal share.")
@click.option(
    "--extreme", is_flag=True, help="Go on at falling rates until the ticket stops winning (the paper's tickets)."
)
@click.option("--prune-first", is_flag=True, help="Prune the first layer too.")
@click.option("--prune-classifier", is_flag=True, help="Prune the classifier too.")
@click.option(
    "--seed",
    "seeds",
    type=int,
    multiple=True,
    default=(0,),
    show_default=True,
    help="Repeat it to search with several.",
)
@click.option("--jobs", type=int, default=1, show_default=True, help="Searches of several seeds at a time.")
@click.option(
    "--out",
    type=PATH,
    required=True,
    help="Run folder; an interrupted search goes on there. Several seeds: OUT/seed-N.",
)
@json_option
def command(
    data: str,
    data_dir: Path | None,
    limit: int | None,
    arch: str,
    recipe: str | None,
    epochs: int | None,
    overrides: tuple[str, ...],
    compiled: bool,
    density: float | None,
    rounds: int,
    extreme: bool,
    prune_first: bool,
    prune_classifier: bool,
    seeds: tuple[int, ...],
    jobs: int,
    out: Path,
    as_json: bool,
) -> int:
    """Find a winning ticket by iterative magnitude pruning with late rewinding.

    Exit code 0: the ticket wins (within 1 point of the dense model); 1: it does not, or no round
    kept one.

    Example:  ticketguard find --data digits --arch convnet --out run/
    """
    from ticketguard.finding import FindConfig, find, find_many, rate_for
    from ticketguard.models import fitted

    if density is not None and rounds == 0:
        raise UsageError(f"--density {density} with --rounds 0: no round is there to prune to it")
    density = DENSITY if density is None else density
    if not 0 < density < 1:
        raise UsageError(f"--density must be between 0 and 1, not {density}")
    if jobs < 1:
        raise UsageError(f"--jobs must be at least 1, not {jobs}")
    if len(seeds) == 1:
        refuse_idle({"jobs"}, "goes with several --seed: here it has no effect")
    dataset = load_data(data, data_dir, limit)
    config = FindConfig(
        architecture=fitted(arch, shape=dataset.shape, classes=len(dataset.classes)),
        recipe=chosen_recipe(recipe, data, epochs, overrides=overrides, compiled=compiled),
        rounds=rounds,
        # Without rounds no rate is asked for.
        rate=rate_for(density, rounds) if rounds else FindConfig.rate,
        seed=seeds[0],
        first=prune_first,
        classifier=prune_classifier,
        extreme=extreme,
    )
    if len(seeds) > 1:
        winning = _report_all(find_many(config, seeds, dataset, out, jobs=jobs), out, config, as_json)
    else:
        with progress("finding", quiet=as_json) as show:
            result = find(
                config,
                dataset,
                out,
                on_progress=None if show is None else lambda where: show(where.report, _stage(where)),
            )
        winning = result.winning
        if as_json:
            print_json(_summary(result, out))
        else:
            _report(result, out, config, dataset.name)
    return 0 if winning else 1


def _report(result: FindResult, out: Path, config: FindConfig, data: str) -> None:
    """What one search on the data set `data` found."""
    mask = result.ticket.mask
    click.echo(f"dense model  {result.dense_accuracy:.2f} % on {data}")
    click.echo(f"ticket       {result.ticket_accuracy:.2f} %, {mask.kept} edges ({mask.density:.1%} kept)")
    click.echo(f"pruning      {result.specification or 'none'}")
    click.echo(f"file         {out / TICKET}")
    if not result.winning:
        click.echo(f"not a winning ticket: {_losing(result, config)}")


def _report_all(found: Iterator[tuple[int, FindResult]], out: Path, config: FindConfig, as_json: bool) -> bool:
    """A line as each search ends, or one document; whether every ticket wins."""
    rows: list[dict[str, Any]] = []
    reasons: dict[str, None] = {}
    for seed, result in found:
        if not result.winning:
            reasons[_losing(result, config)] = None
        folder = out / f"seed-{seed}"
        rows.append({"seed": seed, **_summary(result, folder)})
        if not as_json:
            verdict = "" if result.winning else ", not a winning ticket"
            accuracies = f"dense {result.dense_accuracy:.2f} %, ticket {result.ticket_accuracy:.2f} %"
            click.echo(f"seed {seed}: {accuracies}, {result.ticket.mask.kept} edges, {folder / TICKET}{verdict}")
    if as_json:
        print_json({"searches": sorted(rows, key=lambda row: row["seed"])})
    else:
        for reason in reasons:
            click.echo(f"a ticket that does not win: {reason}")
    return not reasons


def _losing(result: FindResult, config: FindConfig) -> str:
    """Why a ticket does not win, and what to do."""
    if not result.pruned:
        return "no round kept a winning ticket, so nothing is pruned"
    points = "1 point" if config.tolerance == 1 else f"{config.tolerance:g} points"
    return f"it is more than {points} below the dense model; keep more weights or train longer"


def _summary(result: FindResult, folder: Path) -> dict[str, Any]:
    return {
        "ticket": str(folder / TICKET),
        "denseAccuracy": result.dense_accuracy,
        "ticketAccuracy": result.ticket_accuracy,
        "winning": result.winning,
        "edges": result.ticket.mask.kept,
        "density": result.ticket.mask.density,
        "specification": result.specification,
    }


def _stage(where: FindProgress) -> str:
    """Which training run this is: the dense one, or a round of how many."""
    if where.stage == 0:
        return "dense model"
    of = "" if where.stages is None else f" of {where.stages - 1}"
    return f"round {where.stage}{of}, {where.density:.0%} kept"
