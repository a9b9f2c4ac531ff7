"""What every report says of a suite, in numbers and words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ticketguard.suite.price import Point, Price
    from ticketguard.suite.results import Result, SuiteResult

# Units of attacks that have no strength.
ONE_STRENGTH = ("", "on")


def strongest(result: Result | Point) -> float:
    """The most raw bits of any test; 0 when nothing was tested."""
    return max((value for value in (result.edge_bits, result.trigger_bits) if value is not None), default=0.0)


def lost_first(prices: Iterable[Price]) -> list[Price]:
    """Prices of attacks that end the mark, the cheapest first, and then of the others in the plan's order."""
    return sorted(prices, key=lambda price: (not price.removed, price.points or 0.0))


def bar_of(suite: SuiteResult) -> float | None:
    """The bar of the suite's verdicts; None when no cell ran."""
    return next((item.bar_bits for item in suite.results if item.bar_bits is not None), None)


def price_words(price: Price) -> str:
    """The headline of one attack: what it cost to remove the mark, or how far it was not removed."""
    at = "" if price.unit in ONE_STRENGTH else f" at {price.strength:g}"
    if not price.removed:
        # Fewer bits are the stronger attack: a plan lists them in falling order.
        way = "up" if price.curve[-1].strength >= price.curve[0].strength else "down"
        return f"not removed{at.replace(' at ', f' {way} to ')}"
    lost = price.points or 0.0
    cost = f"{lost:.1f} points" if lost > 0 else "nothing" if lost == 0 else f"nothing (accuracy rose by {-lost:.1f})"
    return f"removed for {cost}{at}"


def work_words(price: Price) -> str:
    """Training that the attack took."""
    epochs = f"{price.epochs:g} epoch{'' if price.epochs == 1 else 's'}"
    return f"{epochs}, {price.images:,} images" if price.epochs else "no training"


def not_run(suite: SuiteResult) -> list[tuple[str, str]]:
    """What could not run and why, in order: cells of several seeds that failed alike are one line with their number."""
    counts = Counter((row.label, row.reason) for row in suite.results if row.accuracy is None)
    return [(label + (f" ({count} seeds)" if count > 1 else ""), reason) for (label, reason), count in counts.items()]


def examined_controls(suite: SuiteResult) -> list[Result]:
    """The controls that ran: one that could not says nothing."""
    return [item for item in suite.results if item.control and item.accuracy is not None]


def controls_words(suite: SuiteResult) -> str:
    """How many controls were examined, and how many could not run."""
    examined, made = len(examined_controls(suite)), sum(item.control for item in suite.results)
    return f"{examined} examined" + (f", {made - examined} not run" if made > examined else "")


def seconds(suite: SuiteResult, result: Result) -> str:
    """Seconds that a cell took, attack and verification together; a dash when they were not kept."""
    timing = suite.timings.get(result.digest)
    return "–" if timing is None else f"{timing.attack + timing.verify:.1f}"


def total_time(suite: SuiteResult) -> str:
    """Time of all cells together."""
    found = sum(timing.attack + timing.verify for timing in suite.timings.values())
    return (
        f"{found:.0f} s of attacking and verifying"
        if found < 120
        else f"{found / 60:.1f} min of attacking and verifying"
    )
