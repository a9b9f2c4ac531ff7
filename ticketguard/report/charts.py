"""Geometry of the charts in a page, as values that the templates draw as SVG: no drawing library, and they follow the theme."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, hypot, log10, sqrt
from typing import TYPE_CHECKING

from ticketguard.evidence import Evidence, Verdict
from ticketguard.report.suites import strongest

if TYPE_CHECKING:
    from ticketguard.suite.price import Price
    from ticketguard.suite.results import Result

# The scale of bars goes at least this far beyond what evidence has to reach.
REACH = 1.25
MOST_BARS = 24
# Labels of an axis are at least this far apart, in percent of it: room for a number on a phone.
APART = 14.0
# Marks closer than this, in SVG units, would hide each other.
NEAR = 7.0
LEVELS = 8
PLOT_WIDTH, PLOT_HEIGHT = 320, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 34


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark on an axis: `at` in SVG units, or in percent of it."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar: `width` and `possible` in percent of the track."""

    item: Evidence
    width: float
    possible: float
    passes: bool


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Evidence bars on one square-root scale from 0 to `top` bits: 126 and 15,000 bits have to share one picture.

    The bar to pass is at `mark` percent; `ticks` are in percent too; `left_out` tests are not drawn.
    """

    rows: tuple[Bar, ...]
    top: float
    mark: float
    ticks: tuple[Tick, ...]
    left_out: int


def evidence_bars(verdict: Verdict) -> Bars:
    """Bars of a verdict's tests in their order; of very many tests only the pooled and the strongest ones."""
    chosen = list(verdict.evidence)
    if len(chosen) > MOST_BARS:
        ranked = sorted(chosen, key=lambda item: (item.scope != "pooled", -item.bits))[:MOST_BARS]
        chosen = [item for item in chosen if item in ranked]
    reached = [value for item in chosen for value in (item.bits, item.capacity_bits)]
    top = max([REACH * max(verdict.bar_bits, 1.0), *reached])

    def along(found: float) -> float:
        return round(100 * sqrt(max(found, 0.0) / top), 3)

    rows = tuple(
        Bar(
            item=item,
            width=along(item.bits),
            possible=along(item.capacity_bits),
            passes=item.bits >= verdict.bar_bits,
        )
        for item in chosen
    )
    mark = along(verdict.bar_bits)
    return Bars(
        rows=rows, top=top, mark=mark, ticks=_ticks(top, mark, along), left_out=len(verdict.evidence) - len(rows)
    )


def _ticks(top: float, mark: float, along: Callable[[float], float]) -> tuple[Tick, ...]:
    """Round numbers of bits below `top`, the largest first, that have room beside each other, the bar and both ends."""
    taken = [0.0, mark, 100.0]
    ticks = []
    for power in range(ceil(log10(top)), -1, -1):
        for digit in (5, 2, 1):
            at = along(digit * 10.0**power)
            if at < 100 and all(abs(at - other) >= APART for other in taken):
                taken.append(at)
                ticks.append(Tick(at=at, label=f"{digit * 10**power:,}"))
    return tuple(ticks)


@dataclass(frozen=True, kw_only=True)
class HeatCell:
    """One attack at one strength, its weakest seed: `level` 0 to 8 is the evidence against the bar, as a colour.

    `lost`: the mark could not be read any more; never true of a control or of a cell that could not run.
    """

    strength: float
    result: Result
    bits: float
    level: int
    lost: bool


@dataclass(frozen=True, kw_only=True)
class HeatRow:
    """All strengths of one attack."""

    attack: str
    unit: str
    control: bool
    cells: tuple[HeatCell, ...]


def heat_map(results: Sequence[Result], bar_bits: float | None) -> tuple[HeatRow, ...]:
    """Rows of attacks in the suite's order, strengths rising; of one strength there is nothing to compare, and no row.

    Of several seeds the one with the weakest evidence is shown; of a control the one with the strongest. Cells that could not
    run are shown with 0 bits.
    """
    by_attack: dict[str, dict[float, list[Result]]] = {}
    for item in results:
        by_attack.setdefault(item.cell.attack, {}).setdefault(item.cell.strength, []).append(item)
    rows = []
    for attack, strengths in by_attack.items():
        if len(strengths) == 1:
            continue
        cells = []
        for strength, group in sorted(strengths.items()):
            worst = max(group, key=strongest) if group[0].control else min(group, key=strongest)
            found = strongest(worst)
            cells.append(
                HeatCell(
                    strength=strength,
                    result=worst,
                    bits=found,
                    level=level(found, bar_bits or 1.0),
                    lost=worst.accuracy is not None and not worst.control and worst.decision != "MATCH",
                )
            )
        first = next(iter(strengths.values()))[0]
        rows.append(HeatRow(attack=attack, unit=first.unit, control=first.control, cells=tuple(cells)))
    return tuple(rows)


def level(found: float, bar_bits: float) -> int:
    """A step of the colour scale: below 4 the evidence misses the bar, 8 is ten times the bar or more."""
    share = found / bar_bits
    if share < 1:
        return min(3, floor(4 * share))
    return min(LEVELS, 4 + floor(4 * log10(share)))


@dataclass(frozen=True, kw_only=True)
class Spot:
    """Where one cell of the suite lies in a curve."""

    x: float
    y: float
    strength: float
    seed: int
    accuracy: float
    bits: float
    decision: str


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One cell of the suite in a curve, or several whose marks would hide each other: `strengths` says which."""

    x: float
    y: float
    cells: tuple[Spot, ...]
    lost: bool

    @property
    def strengths(self) -> str:
        """The strengths of its cells, rising, each once."""
        return ", ".join(f"{value:g}" for value in sorted({spot.strength for spot in self.cells}))

    @property
    def leftwards(self) -> bool:
        """Whether there is more room for words to the left of it."""
        return self.x > PLOT_WIDTH / 2

    @property
    def words_at(self) -> float:
        """The base line of words about it: above it, or below where there is no room."""
        return round(self.y - 8 if self.y > TOP + 14 else self.y + 18, 1)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Accuracy (percent, rightwards) against evidence (bits, upwards, logarithmic from 1) of one attack, in SVG units.

    `spots`: every cell; `dots`: what is drawn of them, those where the mark is lost first; `lines`: points of a polyline
    through the spots in order of strength, one per seed; `bar`: height of the bar to pass; `start`: accuracy of the released
    model.
    """

    price: Price
    spots: tuple[Spot, ...]
    dots: tuple[Dot, ...]
    lines: tuple[str, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bar: float | None
    start: float


def curve(price: Price, before: float, bar_bits: float | None) -> Curve:
    """Lay out one attack's curve; `before` is the released model's accuracy in percent."""
    accuracies = [point.accuracy for point in price.curve] + [before]
    low, high = floor(min(accuracies) / 5) * 5, ceil(max(accuracies) / 5) * 5
    high = max(high, low + 5)
    most = max([strongest(point) for point in price.curve] + [bar_bits or 1.0])
    decades = max(1, ceil(log10(most + 1)))

    def across(accuracy: float) -> float:
        return round(LEFT + (PLOT_WIDTH - LEFT - RIGHT) * (accuracy - low) / (high - low), 1)

    def up(found: float) -> float:
        return round(PLOT_HEIGHT - BOTTOM - (PLOT_HEIGHT - TOP - BOTTOM) * log10(max(found, 1.0)) / decades, 1)

    spots = tuple(
        Spot(
            x=across(point.accuracy),
            y=up(strongest(point)),
            strength=point.strength,
            seed=point.seed,
            accuracy=point.accuracy,
            bits=strongest(point),
            decision=point.decision,
        )
        for point in price.curve
    )
    return Curve(
        price=price,
        spots=spots,
        dots=_dots(spots),
        lines=_lines(spots),
        x_ticks=tuple(Tick(at=across(value), label=f"{value:g}") for value in _steps(low, high)),
        y_ticks=tuple(
            Tick(at=up(10.0**power), label=f"{10**power:,}" if power else "≤ 1") for power in range(decades + 1)
        ),
        bar=None if bar_bits is None else up(bar_bits),
        start=across(before),
    )


def _dots(spots: Sequence[Spot]) -> tuple[Dot, ...]:
    """One mark for all spots of a kind that lie within `NEAR` of the first of them; kinds differ in size and show together."""
    groups: list[list[Spot]] = []
    for spot in spots:
        for group in groups:
            if _lost(group[0]) == _lost(spot) and hypot(group[0].x - spot.x, group[0].y - spot.y) < NEAR:
                group.append(spot)
                break
        else:
            groups.append([spot])
    dots = [Dot(x=group[0].x, y=group[0].y, cells=tuple(group), lost=_lost(group[0])) for group in groups]
    return tuple(sorted(dots, key=lambda dot: not dot.lost))


def _lost(spot: Spot) -> bool:
    return spot.decision != "MATCH"


def _lines(spots: Sequence[Spot]) -> tuple[str, ...]:
    seeds = sorted({spot.seed for spot in spots})
    groups = [sorted((spot for spot in spots if spot.seed == seed), key=lambda spot: spot.strength) for seed in seeds]
    return tuple(" ".join(f"{spot.x},{spot.y}" for spot in group) for group in groups if len(group) > 1)


def _steps(low: float, high: float) -> list[float]:
    """At most six round values from `low` to `high`, which are multiples of 5."""
    step = next(step for step in (1, 5, 10, 20, 25, 50) if (high - low) / step <= 5)
    return [low + step * index for index in range(floor((high - low) / step) + 1)]
