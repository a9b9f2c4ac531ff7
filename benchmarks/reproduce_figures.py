"""The pictures of `reproduce.py`'s page, drawn from the steps that ran: key masks, pruning and add-on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from key_panels import draw_key_masks, pyplot_or_none, save
from steps import READINGS, TEXT, Steps

COLOURS = {"unsigned": "#000000", "edge": "#0072B2", "qr": "#009E73", "qr+edge+triggers": "#D55E00"}
MARKERS = {"unsigned": "s", "edge": "o", "qr": "^", "qr+edge+triggers": "D"}
# log2 of the false-positive rate that a MATCH without a time stamp needs: 40 bits, 80 for grinding, 6 for 64 tests.
BAR = 126
# Points of V1's losses that the panels show.
DEPTH = 20


def figures(path: Path, steps: Steps) -> str:
    """Write the pictures beside the page at `path` and return the part of it that shows them."""
    made = []
    for name, caption, draw in (
        (
            "figure-v1",
            "V1: retrained accuracy by key-mask size, for each score (the paper's Figures 2 and 3)",
            _key_masks,
        ),
        ("figure-pruning", "V2, V3 and the edge code under one-shot magnitude pruning (Figure 5)", _pruning),
        ("figure-added", "V2 under add-on: accuracy and what each reading decodes (Figure 6)", _added),
    ):
        target = path.with_name(f"{name}.svg")
        if draw(target, steps):
            made.append(f"![{caption}]({target.name})\n\n{caption}. Bars: standard deviation over seeds.")
    return "## Figures\n\n" + "\n\n".join(made) if made else ""


def _key_masks(path: Path, steps: Steps) -> bool:
    scores = {
        name: {
            share: steps.pick("locked", kind="v1", score=name, share=share)
            for share in steps.values("share", score=name)
        }
        for name in steps.values("score", kind="v1")
    }
    forged = {share: steps.pick("forged", kind="fake1", share=share) for share in steps.values("share", kind="fake1")}
    return draw_key_masks(path, scores, unlocked=steps.clean("unsigned"), forged={"omp": forged}, depth=DEPTH)


def _line(axes: Any, points: Iterable[tuple[float, list[float]]], **style: Any) -> None:
    """Means with their spread, against strengths in percent; points that did not run are left out."""
    known = sorted((100 * strength, values) for strength, values in points if values)
    means = [mean(values) for _, values in known]
    spreads = [stdev(values) if len(values) > 1 else 0 for _, values in known]
    style = {"markersize": 4, "linewidth": 1.3, "elinewidth": 0.8, "capsize": 2} | style
    axes.errorbar([x for x, _ in known], means, yerr=spreads, **style)


def _points(steps: Steps, key: str, attack: str, variant: str) -> list[tuple[float, list[float]]]:
    strengths = steps.values("strength", attack=attack, variant=variant)
    found = [(s, steps.pick(key, kind="attack", attack=attack, strength=s, variant=variant)) for s in strengths]
    return [(0.0, steps.clean(variant, key)), *found]


def _rate(steps: Steps, key: str, attack: str, variant: str) -> list[tuple[float, list[float]]]:
    """Share of seeds whose code decodes, in percent, without a spread."""
    decoded = _points(steps, key, attack, variant)
    return [(s, [100 * sum(text == TEXT for text in texts) / len(texts)]) for s, texts in decoded if texts]


def _pruning(path: Path, steps: Steps) -> bool:
    pyplot = pyplot_or_none()
    variants = [name for name in COLOURS if len(_points(steps, "accuracy", "prune-magnitude", name)) > 1]
    if pyplot is None or not variants:
        return False
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(10.4, 3.4))
    for name in variants:
        style = {"color": COLOURS[name], "marker": MARKERS[name], "label": name}
        _line(left, _points(steps, "accuracy", "prune-magnitude", name), **style)
        if "edge" in name:
            # The two lie on each other: a large hollow marker under a small full one.
            hollow = {"markersize": 8, "fillstyle": "none"} if name == "edge" else {}
            _line(middle, _points(steps, "bits", "prune-magnitude", name), **(style | hollow))
    middle.axhline(BAR, color="#a3201a", linestyle="--", linewidth=1, label=f"bar of MATCH, {BAR}")
    middle.set(yscale="log", ylabel="best evidence, bits")
    v3 = "qr+edge+triggers"
    asked = max(steps.clean(v3, "of"), default=0)
    if asked:
        right_ones = [
            (s, [100 * n / asked for n in found]) for s, found in _points(steps, "triggers", "prune-magnitude", v3)
        ]
        _line(right, right_ones, color=COLOURS[v3], marker="D", label="triggers right (V3)")
    if "qr" in variants:
        _line(
            right,
            _rate(steps, "text", "prune-magnitude", "qr"),
            color=COLOURS["qr"],
            marker="^",
            label="QR decodes (V2)",
        )
    right.set(ylabel="% of triggers, % of seeds", ylim=(-4, 104))
    left.set(ylabel="accuracy, %")
    _finish(pyplot, figure, "pruned, % of the edges", path)
    return True


def _added(path: Path, steps: Steps) -> bool:
    pyplot = pyplot_or_none()
    accuracy = _points(steps, "accuracy", "fake2", "qr")
    if pyplot is None or len(accuracy) < 2:
        return False
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8.4, 3.4))
    _line(left, accuracy, color=COLOURS["qr"], marker="^", label="accuracy")
    _line(left, [(s, [100 * w for w in wrong]) for s, wrong in _points(steps, "wrong", "fake2", "qr")],
          color="#D55E00", marker="x", linestyle="--", label="wrong modules")  # fmt: skip
    left.set(ylabel="%", ylim=(0, None))
    for (key, label), marker, style in zip(READINGS.items(), "os^", ("-", "--", "-."), strict=True):
        _line(right, _rate(steps, key, "fake2", "qr"), marker=marker, linestyle=style, label=label)
    right.set(ylabel="code decodes, % of seeds", ylim=(-4, 104))
    _finish(pyplot, figure, "added, % of the pruned weights", path)
    return True


def _finish(pyplot: Any, figure: Any, xlabel: str, path: Path) -> None:
    for axes in figure.axes:
        axes.set_xlabel(xlabel)
        axes.grid(linewidth=0.4, alpha=0.5)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7.5)
    figure.tight_layout()
    save(pyplot, figure, path)
