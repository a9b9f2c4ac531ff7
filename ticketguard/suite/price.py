"""The price of removal: what an attacker has to give up before the verdict stops being a match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ticketguard.suite.results import Result


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of an attack's curve: strength, accuracy in percent, raw evidence in bits, decision."""

    strength: float
    seed: int
    accuracy: float
    edge_bits: float | None
    trigger_bits: float | None
    decision: str


@dataclass(frozen=True, kw_only=True)
class Price:
    """The headline of one attack.

    `removed`: some cell was no longer a match; then `points` is the least accuracy given up in such a cell (percentage points,
    negative when the attack improved the model), at `strength`, for `epochs` over `images` training images. Otherwise
    `strength` is the last one tried. `hidden`: judged by predictions alone. `curve`: all cells in the plan's order.
    """

    attack: str
    unit: str
    removed: bool
    hidden: bool
    strength: float
    points: float | None
    epochs: float
    images: int
    curve: tuple[Point, ...]


def prices(results: Sequence[Result], before: float) -> tuple[Price, ...]:
    """The price of every attack in `results`, in order; `before` is the accuracy of the released model in percent.

    Controls are no attacks, and cells that could not run say nothing.
    """
    by_attack: dict[str, list[Result]] = {}
    for result in results:
        if not result.control and result.accuracy is not None:
            by_attack.setdefault(result.cell.attack, []).append(result)
    return tuple(price(group, before) for group in by_attack.values())


def price(group: Sequence[Result], before: float) -> Price:
    """The price of one attack from its cells that ran."""
    lost = [item for item in group if item.decision != "MATCH"]
    cheapest = min(lost, key=lambda item: before - (item.accuracy or 0.0)) if lost else group[-1]
    return Price(
        attack=cheapest.cell.attack,
        unit=cheapest.unit,
        removed=bool(lost),
        hidden=cheapest.hidden,
        strength=cheapest.cell.strength,
        points=round(before - (cheapest.accuracy or 0.0), 4) if lost else None,
        epochs=cheapest.epochs,
        images=cheapest.images,
        curve=tuple(
            Point(
                strength=item.cell.strength,
                seed=item.cell.seed,
                accuracy=item.accuracy or 0.0,
                edge_bits=item.edge_bits,
                trigger_bits=item.trigger_bits,
                decision=item.decision,
            )
            for item in group
        ),
    )
