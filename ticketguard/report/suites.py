"""What a report needs to know of a suite: structural types of `ticketguard.suite`'s values, as imports only point down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

# Units of attacks that have no strength.
ONE_STRENGTH = ("", "on")


class CellLike(Protocol):
    """One cell of the grid."""

    @property
    def attack(self) -> str: ...  # noqa: D102
    @property
    def strength(self) -> float: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


class ResultLike(Protocol):
    """What one cell came to: accuracy and refused in percent, evidence in bits; None where nothing was measured."""

    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def cell(self) -> CellLike: ...  # noqa: D102
    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def lossless(self) -> bool: ...  # noqa: D102
    @property
    def control(self) -> bool: ...  # noqa: D102
    @property
    def decision(self) -> str: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102
    @property
    def accuracy(self) -> float | None: ...  # noqa: D102
    @property
    def refused(self) -> float: ...  # noqa: D102
    @property
    def edge_bits(self) -> float | None: ...  # noqa: D102
    @property
    def trigger_bits(self) -> float | None: ...  # noqa: D102
    @property
    def bar_bits(self) -> float | None: ...  # noqa: D102
    @property
    def hidden(self) -> bool: ...  # noqa: D102
    @property
    def epochs(self) -> float: ...  # noqa: D102
    @property
    def images(self) -> int: ...  # noqa: D102


class PointLike(Protocol):
    """One point of an attack's curve."""

    @property
    def strength(self) -> float: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def accuracy(self) -> float: ...  # noqa: D102
    @property
    def edge_bits(self) -> float | None: ...  # noqa: D102
    @property
    def trigger_bits(self) -> float | None: ...  # noqa: D102
    @property
    def decision(self) -> str: ...  # noqa: D102


class PriceLike(Protocol):
    """The price of removal of one attack."""

    @property
    def attack(self) -> str: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def removed(self) -> bool: ...  # noqa: D102
    @property
    def hidden(self) -> bool: ...  # noqa: D102
    @property
    def strength(self) -> float: ...  # noqa: D102
    @property
    def points(self) -> float | None: ...  # noqa: D102
    @property
    def epochs(self) -> float: ...  # noqa: D102
    @property
    def images(self) -> int: ...  # noqa: D102
    @property
    def curve(self) -> Sequence[PointLike]: ...  # noqa: D102


class TimingLike(Protocol):
    """Seconds that a cell took."""

    @property
    def attack(self) -> float: ...  # noqa: D102
    @property
    def verify(self) -> float: ...  # noqa: D102


class SuiteLike(Protocol):
    """A whole suite."""

    @property
    def plan(self) -> str: ...  # noqa: D102
    @property
    def subject(self) -> str: ...  # noqa: D102
    @property
    def accuracy(self) -> float: ...  # noqa: D102
    @property
    def dataset(self) -> str: ...  # noqa: D102
    @property
    def results(self) -> Sequence[ResultLike]: ...  # noqa: D102
    @property
    def timings(self) -> Mapping[str, TimingLike]: ...  # noqa: D102
    @property
    def prices(self) -> Sequence[PriceLike]: ...  # noqa: D102
    @property
    def false_matches(self) -> Sequence[ResultLike]: ...  # noqa: D102


def strongest(result: ResultLike | PointLike) -> float:
    """The most raw bits of any test; 0 when nothing was tested."""
    return max((value for value in (result.edge_bits, result.trigger_bits) if value is not None), default=0.0)


def bar_of(suite: SuiteLike) -> float | None:
    """The bar of the suite's verdicts; None when no cell ran."""
    return next((item.bar_bits for item in suite.results if item.bar_bits is not None), None)


def price_words(price: PriceLike) -> str:
    """The headline of one attack: what it cost to remove the mark, or how far it was not removed."""
    at = "" if price.unit in ONE_STRENGTH else f" at {price.strength:g}"
    if not price.removed:
        return f"not removed{at.replace(' at ', ' up to ')}"
    lost = price.points or 0.0
    cost = f"{lost:.1f} points" if lost > 0 else "nothing" if lost == 0 else f"nothing (accuracy rose by {-lost:.1f})"
    return f"removed for {cost}{at}"


def work_words(price: PriceLike) -> str:
    """Training that the attack took."""
    epochs = f"{price.epochs:g} epoch{'' if price.epochs == 1 else 's'}"
    return f"{epochs}, {price.images:,} images" if price.epochs else "no training"


def not_run(suite: SuiteLike) -> list[tuple[str, str]]:
    """What could not run and why, in order: cells of several seeds that failed alike are one line with their number."""
    counts = Counter((row.label, row.reason) for row in suite.results if row.accuracy is None)
    return [(label + (f" ({count} seeds)" if count > 1 else ""), reason) for (label, reason), count in counts.items()]


def seconds(suite: SuiteLike, result: ResultLike) -> str:
    """Seconds that a cell took, attack and verification together; a dash when they were not kept."""
    timing = suite.timings.get(result.digest)
    return "–" if timing is None else f"{timing.attack + timing.verify:.1f}"


def total_time(suite: SuiteLike) -> str:
    """Time of all cells together."""
    found = sum(timing.attack + timing.verify for timing in suite.timings.values())
    return (
        f"{found:.0f} s of attacking and verifying"
        if found < 120
        else f"{found / 60:.1f} min of attacking and verifying"
    )
