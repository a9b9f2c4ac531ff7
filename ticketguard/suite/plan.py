"""Plans: which attacks at which strengths with which seeds, as literal presets or as a TOML or JSON file."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ticketguard.attacks.registry import make, strengths
from ticketguard.claims import canonical
from ticketguard.errors import FormatError, UsageError
from ticketguard.storage.atomic import read_bytes
from ticketguard.storage.documents import parse_json
from ticketguard.suite.presets import PRESETS

PLAN_LIMIT = 1 << 20
MOST_CELLS = 100_000
N = TypeVar("N", int, float)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the grid: an attack (or stack) at one strength with one seed, and the attacker's budget.

    `epochs`: passes that a training attack makes; `images`: training images that the attacker has (None: all of them).
    """

    attack: str
    strength: float
    seed: int
    epochs: int
    images: int | None

    def digest(self, subject: str) -> str:
        """Hex SHA-256 of this configuration on the subject of that digest: the name under which its result is kept."""
        return hashlib.sha256(canonical.encode({"cell": asdict(self), "subject": subject})).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One attack of a plan. None stands for the attack's own grid, or for the plan's seeds and epochs."""

    attack: str
    strengths: tuple[float, ...] | None = None
    seeds: tuple[int, ...] | None = None
    epochs: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A grid: entries, the seeds and epochs that they share, and the attacker's number of training images."""

    name: str
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...] = (0,)
    epochs: int = 3
    images: int | None = None

    def __post_init__(self) -> None:
        if not self.entries or not self.seeds or self.epochs < 1 or (self.images is not None and self.images < 1):
            raise UsageError(f"plan {self.name}: it needs attacks, seeds, at least one epoch and at least one image")
        for cell in self.cells():
            make(cell.attack, cell.strength)

    def cells(self) -> tuple[Cell, ...]:
        """Every cell, in the plan's order: by entry, then strength, then seed; each once."""
        found = [
            Cell(
                attack=entry.attack,
                strength=float(strength),
                seed=seed,
                epochs=entry.epochs or self.epochs,
                images=self.images,
            )
            for entry in self.entries
            for strength in (strengths(entry.attack) if entry.strengths is None else entry.strengths)
            for seed in (self.seeds if entry.seeds is None else entry.seeds)
        ]
        if len(found) > MOST_CELLS:
            raise UsageError(f"plan {self.name}: {len(found)} cells are too many")
        return tuple(dict.fromkeys(found))


def preset(name: str) -> Plan:
    """A preset by name."""
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}: one of {', '.join(PRESETS)}")
    return plan_of({"name": name, **PRESETS[name]}, where=f"preset {name}")


def read_plan(path: Path) -> Plan:
    """A plan from a .toml or .json file with the fields of `Plan`; each of its `attacks` is a name or a table of `Entry`.

    `seeds` may be a number of seeds instead of a list of them.
    """
    data = read_bytes(path, limit=PLAN_LIMIT)
    if path.suffix == ".toml":
        try:
            document: object = tomllib.loads(data.decode("utf-8"))
        # TOML's own errors, UTF-8's, and those of an integer of too many digits.
        except ValueError as problem:
            raise FormatError(f"{path}: not TOML: {problem}") from problem
        except RecursionError as problem:
            raise FormatError(f"{path}: TOML nested too deeply") from problem
    else:
        document = parse_json(data, where=str(path))
    if not isinstance(document, dict):
        raise FormatError(f"{path}: a plan is a table with a list of attacks")
    return plan_of({"name": path.stem, **document}, where=str(path))


def plan_of(document: Mapping[str, Any], *, where: str) -> Plan:
    """A plan from plain values. Raises `FormatError` for unknown or malformed fields, `UsageError` for unknown attacks."""
    known = {"name", "attacks", "seeds", "epochs", "images"}
    if unknown := sorted(set(document) - known):
        raise FormatError(f"{where}: unknown field {unknown[0]!r}; a plan has {', '.join(sorted(known))}")
    rows = document.get("attacks")
    if not isinstance(rows, list | tuple):
        raise FormatError(f"{where}: `attacks` must be a list of names or tables")
    return Plan(
        name=str(document["name"]),
        entries=tuple(_entry(row, where) for row in rows),
        seeds=_seeds(document.get("seeds", [0]), where),
        epochs=_number(document.get("epochs", 3), int, where, "epochs"),
        images=None if document.get("images") is None else _number(document["images"], int, where, "images"),
    )


def _entry(row: object, where: str) -> Entry:
    if isinstance(row, str):
        return Entry(attack=row)
    if isinstance(row, list | tuple) and len(row) == 2:
        row = {"name": row[0], "strengths": row[1]}
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        raise FormatError(f"{where}: an attack is a name, or a table with `name`")
    if unknown := sorted(set(row) - {"name", "strengths", "seeds", "epochs"}):
        raise FormatError(f"{where}: attack {row['name']}: unknown field {unknown[0]!r}")
    return Entry(
        attack=row["name"],
        strengths=None if row.get("strengths") is None else _numbers(row["strengths"], float, where, "strengths"),
        seeds=None if row.get("seeds") is None else _seeds(row["seeds"], where),
        epochs=None if row.get("epochs") is None else _number(row["epochs"], int, where, "epochs"),
    )


def _seeds(values: object, where: str) -> tuple[int, ...]:
    """A list of seeds, or how many: 3 stands for 0, 1 and 2."""
    if isinstance(values, int) and not isinstance(values, bool) and 0 < values <= MOST_CELLS:
        return tuple(range(values))
    seeds = _numbers(values, int, where, "seeds")
    if min(seeds) < 0:
        raise FormatError(f"{where}: seeds count from 0")
    return seeds


def _numbers(values: object, kind: type[N], where: str, what: str) -> tuple[N, ...]:
    if not isinstance(values, list | tuple) or not values:
        raise FormatError(f"{where}: {what} must be a list of numbers")
    return tuple(_number(value, kind, where, what) for value in values)


def _number(value: object, kind: type[N], where: str, what: str) -> N:
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind is int and not isinstance(value, int)):
        shown = repr(value)[:60] if isinstance(value, str | float | bool) else type(value).__name__
        raise FormatError(f"{where}: {what}: {shown} is not {'an integer' if kind is int else 'a number'}")
    try:
        return kind(value)
    except OverflowError as problem:
        raise FormatError(f"{where}: {what}: a number beyond every float") from problem
