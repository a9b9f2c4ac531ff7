"""Results: one value per cell, its line of JSON, and the value of a whole suite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ticketguard.errors import FormatError, UsageError
from ticketguard.storage.atomic import is_there, write_bytes
from ticketguard.storage.documents import encode, read_json, read_jsonl, write_json
from ticketguard.storage.hostile import visible
from ticketguard.suite.plan import Cell
from ticketguard.suite.price import Price, prices

FORMAT = 1
NOT_RUN = "NOT RUN"
CELLS_FILE, RESULTS_FILE, SUITE_FILE = "cells.jsonl", "results.jsonl", "suite.json"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one cell came to. Everything here is a function of the configuration; times are kept apart (`Timing`).

    `label`: the attack with all its parameters; `accuracy`: in percent, None when the attack could not run; `refused`: percent
    of honest test queries refused; `decision`: of the verifier, or "NOT RUN" with its `reason`; `edge_bits`, `trigger_bits`:
    the strongest raw evidence (None: not tested), `bar_bits`: what a match takes; `hidden`: judged by predictions alone;
    `epochs` over `images`: the attacker's work; `verdict`: the whole verdict as JSON, every test in it.
    """

    digest: str
    cell: Cell
    label: str
    unit: str
    lossless: bool
    control: bool
    decision: str
    reason: str
    accuracy: float | None = None
    refused: float = 0.0
    edge_bits: float | None = None
    trigger_bits: float | None = None
    bar_bits: float | None = None
    hidden: bool = False
    epochs: float = 0.0
    images: int = 0
    verdict: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; `Result.from_json(x.to_json()) == x`."""
        return asdict(self)

    @staticmethod
    def from_json(document: object) -> Result:
        """Read `to_json`. Raises `FormatError`."""
        try:
            if not isinstance(document, dict) or set(document) != {item.name for item in fields(Result)}:
                raise FormatError("suite result: fields missing or unknown")
            return Result(**{**document, "cell": Cell(**document["cell"])})
        except TypeError as problem:
            raise FormatError(f"suite result: {problem}") from problem


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds that a cell took: attacking, and verifying (accuracy included)."""

    attack: float
    verify: float


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """A whole suite: the subject, the plan's name, every result in the plan's order, and the times of those that ran.

    `accuracy`: of the released model, in percent; `subject`: digest of everything that results depend on; `settings`: its
    parts by name (none in files of earlier versions).
    """

    plan: str
    subject: str
    accuracy: float
    dataset: str
    results: tuple[Result, ...]
    timings: Mapping[str, Timing]
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def prices(self) -> tuple[Price, ...]:
        """The price of removal of each attack, controls left out."""
        return prices(self.results, self.accuracy)

    @property
    def false_matches(self) -> tuple[Result, ...]:
        """Controls that matched: there must be none."""
        return tuple(item for item in self.results if item.control and item.decision == "MATCH")

    def to_json(self) -> dict[str, Any]:
        """The suite as plain JSON, prices included; times under `timings`."""
        return {
            "format": FORMAT,
            "plan": self.plan,
            "subject": self.subject,
            "settings": dict(self.settings),
            "dataset": self.dataset,
            "accuracy": self.accuracy,
            "results": [item.to_json() for item in self.results],
            "prices": [asdict(item) for item in self.prices],
            "timings": {digest: asdict(item) for digest, item in self.timings.items()},
        }

    @staticmethod
    def from_json(document: object) -> SuiteResult:
        """Read `to_json`; prices are computed anew. Raises `FormatError`."""
        try:
            if not isinstance(document, dict) or document["format"] != FORMAT:
                raise FormatError("suite: not a suite result of a known version")
            return SuiteResult(
                plan=document["plan"],
                subject=document["subject"],
                accuracy=document["accuracy"],
                dataset=document["dataset"],
                results=tuple(Result.from_json(item) for item in document["results"]),
                timings={digest: Timing(**item) for digest, item in document["timings"].items()},
                settings=dict(document.get("settings", {})),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise FormatError(f"suite: field missing or malformed ({problem})") from problem


def line_of(result: Result, timing: Timing) -> dict[str, Any]:
    """The line that is written as a cell ends."""
    return {"result": result.to_json(), "timing": asdict(timing)}


def read_cells(folder: Path) -> dict[str, tuple[Result, Timing]]:
    """Finished cells of a suite folder by digest; none when it holds no such file. Raises `FormatError`."""
    path = folder / CELLS_FILE
    if not is_there(path):
        return {}
    found = {}
    for value in read_jsonl(path):
        if not isinstance(value, dict) or set(value) != {"result", "timing"}:
            raise FormatError(f"{path}: a line is not a suite result; move the file away to start anew")
        result = Result.from_json(value["result"])
        try:
            found[result.digest] = (result, Timing(**value["timing"]))
        except TypeError as problem:
            raise FormatError(f"{path}: a line is not a suite result ({problem})") from problem
    return found


def write_results(folder: Path, suite: SuiteResult) -> None:
    """Write `results.jsonl` (deterministic: no times) and `suite.json` (everything)."""
    write_lines(folder / RESULTS_FILE, [item.to_json() for item in suite.results])
    write_json(folder / SUITE_FILE, suite.to_json())


def write_lines(path: Path, documents: Sequence[Mapping[str, Any]]) -> None:
    """Write documents as JSON lines, atomically."""
    text = "".join(encode(document, where=str(path)) + "\n" for document in documents)
    write_bytes(path, text.encode("utf-8"))


def require_same_suite(
    folder: Path, plan: str, subject: str, wanted: Mapping[str, Cell], *, settings: Mapping[str, str], grown: str
) -> None:
    """Raise `UsageError` where the folder holds a suite whose results this one, of the cells `wanted`, would take the place of.

    `settings`: the parts of `subject`; `grown`: the subject that this one adds something to, whose suite may go on as this one.
    """
    if not is_there(folder / SUITE_FILE):
        return
    held = read_suite(folder)
    differences = [] if held.plan == plan else [f"plan: {held.plan} there, {plan} here"]
    if held.subject not in (subject, grown):
        differences += list(_changed(held.settings, settings)) or ["model, data or settings"]
    else:
        cells = set(wanted.values())
        lost = [item.cell for item in held.results if item.cell not in cells]
        if lost:
            differences.append(f"{len(lost)} of its results are not in this plan{_elsewhere(lost, cells)}")
    if differences:
        raise UsageError(f"{folder}: holds another suite ({'; '.join(differences)}): use another directory")


def _changed(there: Mapping[str, str], here: Mapping[str, str]) -> Iterator[str]:
    """The settings that differ, in words; none where those of a folder are not known."""
    for name in here if there else ():
        old, new = (_brief(str(values.get(name, ""))) for values in (there, here))
        if old != new:
            yield f"{name}: {old} there, {new} here"


def _brief(value: str) -> str:
    """A setting for people: of a digest its beginning."""
    return visible(f"sha256 {value[:16]}" if len(value) == 64 else value or "none", most=80)


def _elsewhere(lost: Sequence[Cell], wanted: Iterable[Cell]) -> str:
    """The field of a cell that alone keeps these from being in the plan, and its values: `: seed 0 there, 1 here`."""
    for name in ("seed", "epochs", "images"):
        there, here = ({getattr(cell, name) for cell in cells} for cells in (lost, wanted))
        if not there & here:
            old, new = (
                ", ".join(sorted("all" if value is None else str(value) for value in some)) for some in (there, here)
            )
            return f": {name} {old} there, {new} here"
    return ""


def read_suite(folder: Path) -> SuiteResult:
    """The suite that a folder holds."""
    return SuiteResult.from_json(read_json(folder / SUITE_FILE, limit=1 << 30))
