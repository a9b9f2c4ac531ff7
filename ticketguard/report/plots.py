"""Plots for documents, as PNG: evidence against accuracy, and null evidence against its bound. Needs `ticketguard[report]`."""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import UsageError
from ticketguard.report.suites import bar_of, strongest

if TYPE_CHECKING:
    from ticketguard.suite.results import SuiteResult

INCHES, DPI = (8.0, 5.0), 120
# Told apart in grey too: colours of Okabe and Ito, and a marker for each.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vP*X<>"


def curves_png(suite: SuiteResult, *, attacks: tuple[str, ...] | None = None) -> bytes:
    """Evidence (bits, logarithmic) against test accuracy, a line for each attack and seed; `attacks` chooses some.

    Hollow points: the verdict is not MATCH. Raises `UsageError` without matplotlib or for an attack that the suite has not.
    """
    prices = {price.attack: price for price in suite.prices}
    if unknown := sorted(set(attacks or ()) - set(prices)):
        raise UsageError(f"plot: the suite has no attack {unknown[0]!r}; it has {', '.join(prices)}")
    figure, axes = _figure()
    bar = bar_of(suite)
    for index, name in enumerate(attacks or prices):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        points = sorted(prices[name].curve, key=lambda point: (point.seed, point.strength))
        for number, seed in enumerate(dict.fromkeys(point.seed for point in points)):
            mine = [point for point in points if point.seed == seed]
            x = [point.accuracy for point in mine]
            y = [max(strongest(point), 1.0) for point in mine]
            axes.plot(x, y, color=colour, linewidth=1, label=None if number else name, marker=marker, markersize=5)
            lost = [place for place, point in enumerate(mine) if point.decision != "MATCH"]
            axes.plot(
                [x[place] for place in lost],
                [y[place] for place in lost],
                linestyle="",
                marker=marker,
                markersize=7,
                markerfacecolor="white",
                markeredgecolor=colour,
            )
    if bar is not None:
        axes.axhline(bar, color="#a3201a", linestyle="--", linewidth=1.2, label=f"bar, {bar:g} bits")
    axes.axvline(suite.accuracy, color="grey", linestyle=":", linewidth=1, label="released model")
    axes.set_yscale("log")
    axes.set_xlabel("test accuracy, %")
    axes.set_ylabel("strongest evidence, bits")
    axes.set_title(f"What attacks cost: {suite.plan} on {suite.dataset}")
    return _png(figure, axes)


def null_png(evidence: Mapping[str, NDArray[np.floating[Any]]], *, title: str) -> bytes:
    """How often independent suspects reach how many bits, against the bound 2^-bits (+ three standard errors).

    `evidence`: for each test by name, the evidence in bits (E = -log2 p) of suspects made without the secret. A curve that
    stays below the dashed line keeps its promise. Raises `UsageError` without matplotlib or without a number to plot.
    """
    if not evidence or not all(np.size(values) for values in evidence.values()):
        raise UsageError("plot: a null distribution needs at least one number for each test")
    figure, axes = _figure()
    fewest = min(np.size(values) for values in evidence.values())
    most = max(float(np.max(values)) for values in evidence.values())
    bits = np.linspace(0.0, max(most, 4.0) + 1.0, 400)
    bound = 2.0**-bits
    axes.plot(bits, bound, color="#a3201a", linestyle="--", label="bound 2^-bits")
    error = np.sqrt(bound * (1 - bound) / fewest)
    axes.fill_between(bits, bound, bound + 3 * error, color="#a3201a", alpha=0.12, label="+ three standard errors")
    for index, (name, values) in enumerate(evidence.items()):
        ordered = np.sort(np.asarray(values, dtype=np.float64))
        share = 1.0 - np.arange(ordered.size) / ordered.size
        label = f"{name}, n = {ordered.size:,}"
        axes.step(ordered, share, where="pre", color=COLOURS[index % len(COLOURS)], label=label)
    axes.set_yscale("log")
    axes.set_ylim(0.3 / max(np.size(values) for values in evidence.values()), 1.5)
    axes.set_xlabel("evidence of an independent suspect, bits")
    axes.set_ylabel("share of suspects with at least so much")
    axes.set_title(title)
    return _png(figure, axes)


def _figure() -> tuple[Any, Any]:
    """A figure that needs no display and no global state."""
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError as problem:
        raise UsageError("plots need matplotlib: pip install 'ticketguard[report]'") from problem
    figure = figures.Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    return figure, figure.subplots()


def _png(figure: Any, axes: Any) -> bytes:
    axes.grid(visible=True, color="#d3d8db", linewidth=0.6)
    axes.legend(fontsize=8, ncols=1 + (len(axes.get_legend_handles_labels()[0]) > 8))
    buffer = io.BytesIO()
    # No version of the library inside: the same numbers give the same file.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
