"""Plot the evidence of independent controls against the bound: python benchmarks/plot_controls.py controls/cells.jsonl OUT.png

Only `unrelated` models are plotted: the others (`unsigned`, `other-owner`) share the support of one unsigned ticket, so under
one key they repeat nearly the same draw, and a curve through them would show that one draw. Needs `ticketguard[benchmarks]`.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ticketguard.evidence import Verdict

INCHES, DPI = (8.0, 5.0), 120
# Told apart in grey too: colours of Okabe and Ito.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def draw(evidence: Mapping[str, list[float]], title: str) -> Figure:
    """How often independent suspects reach how many bits, for each test, against the bound 2^-bits (+ three standard errors).

    A curve that stays below the dashed line keeps its promise.
    """
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    most = max(max(values) for values in evidence.values())
    bits = np.linspace(0.0, max(most, 4.0) + 1.0, 400)
    bound = 2.0**-bits
    axes.plot(bits, bound, color="#a3201a", linestyle="--", label="bound 2^-bits")
    error = np.sqrt(bound * (1 - bound) / min(map(len, evidence.values())))
    axes.fill_between(bits, bound, bound + 3 * error, color="#a3201a", alpha=0.12, label="+ three standard errors")
    for colour, (name, values) in zip(COLOURS, evidence.items(), strict=False):
        share = 1.0 - np.arange(len(values)) / len(values)
        axes.step(np.sort(values), share, where="pre", color=colour, label=f"{name}, n = {len(values):,}")
    axes.set_yscale("log")
    axes.set_ylim(0.3 / max(map(len, evidence.values())), 1.5)
    axes.set_xlabel("evidence of an independent suspect, bits")
    axes.set_ylabel("share of suspects with at least so much")
    axes.set_title(title)
    axes.grid(visible=True, color="#d3d8db", linewidth=0.6)
    axes.legend(fontsize=8)
    return figure


def main(cells: str, out: str) -> None:
    """Read the verdicts of every control in `cells` and write the picture."""
    found: dict[str, list[float]] = defaultdict(list)
    models = 0
    for line in Path(cells).read_text(encoding="utf-8").splitlines():
        result = json.loads(line)["result"]
        if result["control"] and result["cell"]["attack"] == "unrelated":
            models += 1
            for item in Verdict.from_json(result["verdict"]).evidence:
                found[item.test].append(item.bits)
    figure = draw(found, title=f"{models} independent models, {sum(map(len, found.values())):,} tests")
    # No version of the library inside: the same numbers give the same file.
    figure.savefig(out, format="png", metadata={"Software": None})


if __name__ == "__main__":
    main(*sys.argv[1:3])
