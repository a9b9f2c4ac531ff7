"""Options, data and progress of the commands that train."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ticketguard.commands.common import PATH, Function, bar
from ticketguard.errors import UsageError

if TYPE_CHECKING:
    from ticketguard.data import Dataset
    from ticketguard.training import EpochReport, Recipe


# More than anybody trains; a slip of the keyboard is told at once.
MOST_EPOCHS = 100_000
# What `--set` leaves to other options.
OWN_OPTION = ("epochs", "compiled")


def data_options(function: Function) -> Function:
    """`--data`, `--data-dir`, `--limit`."""
    for option in (
        click.option("--limit", type=int, help="Use only this many training images, chosen by a fixed shuffle."),
        click.option("--data-dir", type=PATH, help="Folder that holds the data set (not needed for digits)."),
        click.option("--data", required=True, help="Data set: digits, cifar10, cifar100, fashion-mnist, folder, ..."),
    ):
        function = option(function)
    return function


def recipe_options(function: Function) -> Function:
    """`--recipe`, `--epochs`, `--set` and `--compile`."""
    for option in (
        click.option("--compile", "compiled", is_flag=True, help="Train with torch.compile: pays in long runs only."),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="FIELD=VALUE",
            help="Another value of the recipe, such as weight_decay=5e-4 or milestones=40,60; repeatable.",
        ),
        click.option("--epochs", type=int, help="Epochs instead of the recipe's; its milestones scale along."),
        click.option("--recipe", help="Training recipe: paper, short or digits; by default the data set's."),
    ):
        function = option(function)
    return function


def load_data(name: str, directory: Path | None, limit: int | None) -> Dataset:
    """The data set that the options name."""
    from ticketguard.data import load
    from ticketguard.data.registry import BUNDLED

    if directory is not None and name in BUNDLED:
        raise UsageError(f"--data-dir goes with data sets that are read from files: with {name} it has no effect")
    return load(name, directory, limit=limit)


def chosen_recipe(
    name: str | None, data: str, epochs: int | None, *, overrides: tuple[str, ...] = (), compiled: bool = False
) -> Recipe:
    """The recipe that the options name: `digits` for digits and `short` for the rest, when they name none."""
    from ticketguard.training import RECIPES

    name = name or ("digits" if data == "digits" else "short")
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    recipe = replace(RECIPES[name], compiled=compiled)
    if epochs is not None:
        if not 1 <= epochs <= MOST_EPOCHS:
            raise UsageError(f"epochs must be at least 1 and at most {MOST_EPOCHS:,}, not {epochs}")
        scaled = tuple(round(milestone * epochs / recipe.epochs) for milestone in recipe.milestones)
        recipe = replace(recipe, epochs=epochs, milestones=scaled, rewind_epoch=min(recipe.rewind_epoch, epochs - 1))
    known = {field: value for field, value in recipe.to_json().items() if field not in OWN_OPTION}
    changes: dict[str, Any] = {}
    for item in overrides:
        field, equals, text = item.partition("=")
        if not equals or field not in known:
            raise UsageError(f"--set takes FIELD=VALUE, and no {field[:40]!a}: a recipe has {', '.join(known)}")
        changes[field] = _value(field, text, type(known[field]))
    return replace(recipe, **changes)


def _value(field: str, text: str, kind: type) -> Any:
    """A recipe's value from its text, of the type that the recipe has there."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return tuple(int(part) for part in text.split(",") if part) if kind is list else kind(text)
    except (ValueError, KeyError) as problem:
        words = {bool: "true or false", int: "an integer", float: "a number", list: "integers with commas between"}
        raise UsageError(f"--set {field}: {text[:40]!a} is not {words[kind]}") from problem


@contextmanager
def progress(title: str, *, quiet: bool) -> Iterator[Callable[..., Any] | None]:
    """A progress bar on standard error with accuracy and time left, fed by `show(report, title)`; None when `quiet`."""
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), "{task.fields[accuracy]}", TimeRemainingColumn())
    with bar("{task.description}", *columns, quiet=quiet) as shown:
        if shown is None:
            yield None
            return
        task = shown.add_task(title, total=None, accuracy="")
        shown.start()

        def show(report: EpochReport, stage: str = title) -> None:
            accuracy = "" if report.accuracy is None else f"{report.accuracy:.2f} %"
            shown.update(task, description=stage, total=report.epochs, completed=report.epoch, accuracy=accuracy)

        yield show
