"""One small picture for each score that may choose a key mask: the locked ticket between the unlocked one and a forged key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

COLUMNS, WIDTH, HEIGHT = 4, 2.6, 2.1
# Points below the unlocked ticket that the panels show; what falls lower is written at the lower edge.
DEPTH = 12
LOCKED, FORGED, UNLOCKED = "#0072B2", "#D55E00", "#666666"

# Share of the edges -> accuracies, one for each seed.
Curve = Mapping[float, Sequence[float]]


def pyplot_or_none() -> Any:
    """Matplotlib's pyplot, drawing to files, the same bytes for the same numbers; None where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "ticketguard", "svg.fonttype": "none", "font.size": 9}
    from matplotlib import pyplot

    return pyplot


def save(pyplot: Any, figure: Any, path: Path) -> None:
    """Write and close a figure; SVG files carry no date."""
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def draw_key_masks(
    path: Path,
    scores: Mapping[str, Curve],
    *,
    unlocked: Sequence[float],
    forged: Mapping[str, Curve],
    depth: float = DEPTH,
) -> bool:
    """Panels of retrained accuracy against the size of the key mask, `depth` points deep where losses are larger.

    `forged`: the same after joining a forged key, by score; the lock by magnitude stands in for a score that has none. False,
    and no file, without matplotlib or points.
    """
    pyplot = pyplot_or_none()
    drawn = {name: curve for name, curve in scores.items() if any(curve.values())}
    if pyplot is None or not drawn or not unlocked:
        return False
    rows = -(-len(drawn) // COLUMNS)
    size = (COLUMNS * WIDTH, rows * HEIGHT + 0.5)
    figure, grid = pyplot.subplots(rows, COLUMNS, figsize=size, sharex=True, sharey=True, squeeze=False)
    panels = grid.ravel()
    for axes, (name, curve) in zip(panels, drawn.items(), strict=False):
        own = forged.get(name, {})
        stand_in = not any(own.values())
        _panel(axes, name, curve, unlocked, forged.get("omp", {}) if stand_in else own, depth, stand_in=stand_in)
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    shares = sorted({100 * share for curve in drawn.values() for share in curve})
    for axes in panels[max(0, len(drawn) - COLUMNS) : len(drawn)]:
        axes.set_xticks(shares, [f"{share:g}" for share in shares])
        axes.tick_params(labelbottom=True)
    figure.supxlabel("key mask, % of the edges", fontsize=9)
    figure.supylabel("retrained accuracy, %", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncol=len(labels), frameon=False, fontsize=8)
    figure.tight_layout(rect=(0.2 / size[0], 0.15 / size[1], 1, 1 - 0.3 / size[1]))
    save(pyplot, figure, path)
    return True


def _panel(
    axes: Any, name: str, curve: Curve, unlocked: Sequence[float], forged: Curve, depth: float, *, stand_in: bool
) -> None:
    whole = mean(unlocked)
    axes.axhline(whole, color=UNLOCKED, linewidth=1, label="unlocked")
    axes.axhline(whole - 1, color=UNLOCKED, linewidth=1, linestyle=":", label="1 point below")
    for values, colour, style, label in (
        (forged, FORGED, "--x", "forged key (omp lock)" if stand_in and name != "omp" else "forged key"),
        (curve, LOCKED, "-o", "locked"),
    ):
        shares = sorted(share for share, found in values.items() if found)
        axes.errorbar(
            [100 * share for share in shares],
            [mean(values[share]) for share in shares],
            yerr=[stdev(values[share]) if len(values[share]) > 1 else 0 for share in shares],
            fmt=style, color=colour, label=label, markersize=3.5, linewidth=1.2, elinewidth=0.8, capsize=2,
        )  # fmt: skip
    lowest = min(mean(found) for found in (*curve.values(), *forged.values()) if found)
    if lowest < whole - depth:
        axes.set_ylim(whole - depth, whole + 2)
        for share, found in curve.items():
            if found and mean(found) < whole - depth:
                note = {"xytext": (-22, 4), "textcoords": "offset points", "fontsize": 8, "color": LOCKED}
                axes.annotate(f"↓ {mean(found):.0f}", (100 * share, whole - depth), **note)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_title(name, fontsize=9)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
