"""Geometry of the charts in a page, as values that the templates draw as SVG: no drawing library, and they follow the theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import TYPE_CHECKING

from ticketguard.evidence import Evidence, Verdict
from ticketguard.report.suites import strongest

if TYPE_CHECKING:
    from ticketguard.suite.price import Price
    from ticketguard.suite.results import Result

# Bars stop at this multiple of the bar that evidence has to pass: 126 and 15,000 bits have to share one picture.
REACH = 2.5
MOST_BARS = 24
LEVELS = 8
PLOT_WIDTH, PLOT_HEIGHT = 320, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 34


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar: `width` and `possible` in percent of the track, `cut` when the evidence goes beyond it."""

    item: Evidence
    width: float
    possible: float
    cut: bool
    passes: bool


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Evidence bars on one linear scale from 0 to `top` bits, the bar to pass at `mark` percent; `left_out` tests not drawn."""

    rows: tuple[Bar, ...]
    top: float
    mark: float
    left_out: int


def evidence_bars(verdict: Verdict) -> Bars:
    """Bars of a verdict's tests in their order; of very many tests only the pooled and the strongest ones."""
    top = REACH * max(verdict.bar_bits, 1.0)
    chosen = list(verdict.evidence)
    if len(chosen) > MOST_BARS:
        ranked = sorted(chosen, key=lambda item: (item.scope != "pooled", -item.bits))[:MOST_BARS]
        chosen = [item for item in chosen if item in ranked]
    rows = tuple(
        Bar(
            item=item,
            width=round(100 * min(item.bits, top) / top, 3),
            possible=round(100 * min(item.capacity_bits, top) / top, 3),
            cut=item.bits > top,
            passes=item.bits >= verdict.bar_bits,
        )
        for item in chosen
    )
    return Bars(
        rows=rows, top=top, mark=round(100 * verdict.bar_bits / top, 3), left_out=len(verdict.evidence) - len(rows)
    )


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
    """Rows of attacks in the suite's order, strengths rising.

    Of several seeds the one with the weakest evidence is shown; of a control the one with the strongest. Cells that could not
    run are shown with 0 bits.
    """
    by_attack: dict[str, dict[float, list[Result]]] = {}
    for item in results:
        by_attack.setdefault(item.cell.attack, {}).setdefault(item.cell.strength, []).append(item)
    rows = []
    for attack, strengths in by_attack.items():
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
class Tick:
    """A mark on an axis: `at` in SVG units."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One cell of the suite in a curve."""

    x: float
    y: float
    strength: float
    seed: int
    accuracy: float
    bits: float
    decision: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Accuracy (percent, rightwards) against evidence (bits, upwards, logarithmic from 1) of one attack, in SVG units.

    `line`: points of a polyline through the seeds' dots in order of strength, one per seed; `bar`: height of the bar to pass;
    `start`: accuracy of the released model.
    """

    price: Price
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

    dots = tuple(
        Dot(
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
        dots=dots,
        lines=_lines(dots),
        x_ticks=tuple(Tick(at=across(value), label=f"{value:g}") for value in _steps(low, high)),
        y_ticks=tuple(
            Tick(at=up(10.0**power), label=f"{10**power:,}" if power else "≤ 1") for power in range(decades + 1)
        ),
        bar=None if bar_bits is None else up(bar_bits),
        start=across(before),
    )


def _lines(dots: Sequence[Dot]) -> tuple[str, ...]:
    seeds = sorted({dot.seed for dot in dots})
    groups = [sorted((dot for dot in dots if dot.seed == seed), key=lambda dot: dot.strength) for seed in seeds]
    return tuple(" ".join(f"{dot.x},{dot.y}" for dot in group) for group in groups if len(group) > 1)


def _steps(low: float, high: float) -> list[float]:
    """At most six round values from `low` to `high`, which are multiples of 5."""
    step = next(step for step in (1, 5, 10, 20, 25, 50) if (high - low) / step <= 5)
    return [low + step * index for index in range(floor((high - low) / step) + 1)]
