"""Plot the evidence of independent controls against the bound: python benchmarks/plot_controls.py controls/cells.jsonl OUT.png

Only `unrelated` models are plotted: the others (`unsigned`, `other-owner`) share the support of one unsigned ticket, so under
one key they repeat nearly the same draw, and a curve through them would show that one draw.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from ticketguard.evidence import Verdict
from ticketguard.report.plots import null_png


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
    title = f"{models} independent models, {sum(map(len, found.values())):,} tests"
    Path(out).write_bytes(null_png({name: np.array(bits) for name, bits in found.items()}, title=title))


if __name__ == "__main__":
    main(*sys.argv[1:3])
