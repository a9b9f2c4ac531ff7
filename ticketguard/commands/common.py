"""What several commands share: options, the passphrase, JSON on standard output, a progress bar."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ticketguard.bundle import Bundle
from ticketguard.claims import reveal, vault
from ticketguard.errors import TicketguardError, UsageError
from ticketguard.storage.atomic import is_folder, is_there, listed, read_start, require_possible, require_writable
from ticketguard.storage.tensors import INDEX_SUFFIX, read_tensors
from ticketguard.triggers.pictures import SUFFIXES

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress, ProgressColumn

PASSPHRASE_VARIABLE = "TICKETGUARD_PASSPHRASE"  # noqa: S105 - the name of the variable
# How keys and certificates begin.
PEM = b"-----BEGIN "
# Enough of a file to tell what it is: the first lines of a report, whose names and reasons are cut at 1,000 characters.
FIRST_BYTES = 32 << 10
SHARDS = (".safetensors", INDEX_SUFFIX)
# Columns of what goes to a pipe or a file: more than any row has.
WIDEST_LINE = 1 << 14
# How what an option writes begins. It replaces nothing else: any other file may be evidence that somebody froze.
STARTS = {
    "--html": re.compile(
        rb'<!DOCTYPE html>\n(<(html|head|meta) [^>\n]*>\n|<head>\n)*<meta name="generator" content="ticketguard '
    ),
    # The heading, the reason, a caveat, and the first of the numbers, each in our words.
    "--markdown": re.compile(
        rb"# (MATCH|NO MATCH|INCONCLUSIVE): [^\n]*\n\n[^\n]+\n(\*\*[^\n]+\*\*\n)?\n- against chance: [^\n]+\n"
        rb"- against a claimant who searched: "
    ),
    "--csv": re.compile(rb"suspect,decision,reason,against_chance_bits,against_search_bits,bar_bits,"),
    # A query of a time stamp: a short DER sequence of version 1 and the imprint, which names SHA-256. A key begins likewise.
    "--request": re.compile(
        rb"\x30[\x00-\x7f]\x02\x01\x01\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01"
    ),
}
Function = TypeVar("Function", bound=Callable[..., Any])


class FilePath(click.ParamType[Path]):
    """A path that the storage layer will open, so that every complaint about a file is worded in one place."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """A `pathlib.Path` with `~` expanded; an empty text, which would be the current folder, is a usage error of click."""
        if not str(value):
            self.fail("empty: name a path (. is the current folder)", param, ctx)
        return Path(value).expanduser()


PATH = FilePath()


def passphrase(*, confirm: bool = False) -> str:
    """The passphrase, from `TICKETGUARD_PASSPHRASE` or a prompt. Without either: `UsageError`."""
    given = os.environ.get(PASSPHRASE_VARIABLE)
    if given is not None:
        if not given:
            raise UsageError(f"{PASSPHRASE_VARIABLE} is empty: a secret needs a passphrase")
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"a passphrase is needed: set {PASSPHRASE_VARIABLE}, or run on a terminal to be asked")
    typed: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return typed


def json_option(function: Function) -> Function:
    """The `--json` option: one JSON document on standard output instead of text."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")(function)


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document as JSON."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def terminal_width() -> int | None:
    """Columns of the terminal that reads standard output; None for a pipe or a file."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else None


def show(*parts: RenderableType) -> None:
    """Print tables and texts: in a terminal's width, or one line a row, however long and without blanks at its end."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(*parts, sep="\n")
        return
    # Whoever searches what a pipe or a file gets finds no line broken at a width that nobody has.
    console.width = WIDEST_LINE
    with console.capture() as held:
        console.print(*parts, sep="\n")
    click.echo("\n".join(line.rstrip() for line in held.get().splitlines()))


@contextmanager
def bar(*columns: ProgressColumn | str, quiet: bool) -> Iterator[Progress | None]:
    """A progress bar on standard error that vanishes at the end, for the caller to start; None when `quiet`.

    A text among the columns is a template, such as "{task.description}".
    """
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    cells = [TextColumn(column) if isinstance(column, str) else column for column in columns]
    console = Console(stderr=True)
    # Where nobody watches, a bar that vanishes would still leave an empty line in the log.
    shown = Progress(*cells, console=console, transient=True, disable=not console.is_terminal)
    try:
        yield shown
    finally:
        if shown.live.is_started:
            shown.stop()


def refuse_idle(names: Collection[str], why: str) -> None:
    """Raise `UsageError` for an option among `names` that was typed: accepted without effect, it would seem to have one.

    `why` follows the option's name.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in names and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"{parameter.opts[0]} {why}")


def require_output(
    path: Path,
    *,
    inputs: Iterable[Path | None] = (),
    reports: Iterable[Path] = (),
    makes: Path | None = None,
    entry: str | None = None,
    option: str = "--out",
) -> None:
    """Raise unless a command may write `path`, a new file or one that it may replace; for every option that names an output.

    `UsageError` for one of the command's own `inputs` (None: not given) or other `reports`, for a secret or a key, for a
    file of a signed folder other than the one that the command `makes`, for anything that does not begin as what the option
    writes (`STARTS`; an empty file is nothing), and for anything but a tensor file with `entry` in its metadata where that is
    given;
    `StorageError` where a write would fail. Ask before anything is spent.
    """
    require_writable(path)
    place = path.parent.resolve() / path.name
    for given in inputs:
        if given is not None and any(_same(place, file) for file in _files_of(given)):
            raise UsageError(f"{path}: this command reads that file: choose another {option}")
    if any(_same(place, given) for given in reports):
        raise UsageError(f"{path}: two reports need two files: choose another {option}")
    if not is_there(path) or (makes is not None and _same(place, makes)):
        return
    start = read_start(path, FIRST_BYTES)
    precious = vault.is_sealed(start) or start.startswith(PEM)
    begins = STARTS.get(option)
    foreign = (begins is not None and not begins.match(start)) or (entry is not None and not _has_entry(path, entry))
    if precious or _is_kept(place) or (start and foreign):
        raise UsageError(f"{path}: exists and is not a file that this command makes: choose another {option}")


def _has_entry(path: Path, entry: str) -> bool:
    """Whether a file is one of tensors with `entry` in its metadata."""
    try:
        return entry in read_tensors(path).metadata
    except TicketguardError:
        return False


def require_output_folder(path: Path, *, inputs: Iterable[Path | None] = (), empty: bool = False) -> None:
    """Raise `UsageError` unless a command may fill the folder `path`, given by `--out`, which may be missing yet.

    It may not be one of its `inputs`, nor lie where a signed folder keeps licences or pictures, or one of its files. `empty`:
    nor may anything be in it, for files that belong together and would mix with others.
    """
    require_possible(path)
    place = _resolved(path)
    kept = any(_is_kept(step) for step in (place / "any", place, *place.parents))
    if kept or any(given is not None and _same(place, given) for given in inputs):
        raise UsageError(f"{path}: files are kept there that this command may not replace: choose another --out")
    if empty and is_folder(path) and listed(path):
        raise UsageError(f"{path}: files are in that folder already: choose another --out")


def _is_kept(place: Path) -> bool:
    """Whether a resolved path is the place of a file of a signed folder."""
    bundles = [Bundle(folder) for folder in (place.parent, place.parent.parent)]
    return any(is_there(bundle.registration) and bundle.holds(place) for bundle in bundles)


def _files_of(given: Path) -> list[Path]:
    """The files that are read where somebody names `given`: of a folder all shards of a checkpoint and all pictures."""
    if not is_folder(given) and not given.name.endswith(INDEX_SUFFIX):
        return [given]
    folder = given if is_folder(given) else given.parent
    return [file for file in listed(folder) if file.name.endswith(SHARDS) or file.suffix.lower() in SUFFIXES]


def _same(place: Path, other: Path) -> bool:
    """Whether two paths are one file, whatever it is called; they may both be missing yet."""
    return _resolved(place) == _resolved(other) or (
        is_there(place) and is_there(other) and os.path.samefile(place, other)
    )


def _resolved(path: Path) -> Path:
    """As `Path.resolve`, which raises an error of its own for links that lead to themselves."""
    return Path(os.path.realpath(path))


def require_nonce(nonce: str) -> None:
    """Raise `UsageError` unless a judge's nonce has its form, so that a slip of the pen is not taken for a foreign reveal."""
    if not reveal.NONCE.fullmatch(nonce):
        raise UsageError("--nonce: not 16 to 64 bytes in lower-case hexadecimal (openssl rand -hex 32 makes one)")
