"""The literal presets: a name (its default grid), or a name with strengths, epochs or seeds of its own."""

from __future__ import annotations

from typing import Any

LOSSLESS: list[Any] = [
    "permute",
    "rescale",
    "sign-flip",
    "dummy-zero",
    "dummy-clique",
    "dummy-split",
    "fold-norm",
    "fill",
    "rename",
]
# Each lossless attack on top of 30 % magnitude pruning, to be compared with that pruning alone; quantized too.
STACKED: list[Any] = [
    ("prune-magnitude+permute", [0.3]),
    ("prune-magnitude+rescale", [0.3]),
    ("prune-magnitude+sign-flip", [0.3]),
    ("prune-magnitude+dummy-zero", [0.3]),
    ("prune-magnitude+dummy-clique", [0.3]),
    ("prune-magnitude+dummy-split", [0.3]),
    ("prune-magnitude+fold-norm", [0.3]),
    ("prune-magnitude+fill", [0.3]),
    ("prune-magnitude+rename", [0.3]),
    ("prune-magnitude+quantize@16", [0.3]),
    ("prune-magnitude+quantize@8", [0.3]),
    ("permute+finetune", [0.01]),
]
TRIGGERS: list[Any] = ["input-flip", "input-jpeg", "input-noise", "input-blur", "input-depth", "query-filter"]
CONTROLS: list[Any] = ["unrelated", "unsigned", "other-owner"]

PRESETS: dict[str, dict[str, Any]] = {
    # Under three minutes on handwritten digits with two cores.
    "quick": {
        "epochs": 3,
        "attacks": [
            ("prune-magnitude", [0.1, 0.3, 0.5, 0.7, 0.9]),
            ("prune-random", [0.1, 0.3]),
            ("finetune", [0.01, 0.1]),
            ("add-on", [0.01, 0.05, 0.1]),
            ("quantize", [16, 8, 5, 4]),
            "bf16",
            ("permute", [1]),
            ("rescale", [4]),
            ("dummy-split", [0.25]),
            "fold-norm",
            "rename",
            ("prune-magnitude+permute", [0.3]),
            ("densify", [0.1]),
            ("rewire-cell", [0.3, 0.7]),
            ("overwrite", [0.15]),
            "leaked-one",
            "leaked-all",
            ("input-jpeg", [65]),
            {"name": "distill", "epochs": 6},
            *CONTROLS,
        ],
    },
    # Every attack, at the strengths of its own grid.
    "standard": {
        "epochs": 3,
        "attacks": [
            "prune-magnitude",
            "prune-random",
            "quantize",
            "bf16",
            "finetune",
            "ftll",
            "rtal",
            "rtll",
            "densify",
            "densify-prune",
            "retrain-l2",
            "retrain-smoothing",
            "adversarial",
            "add-on",
            "rewire-cell",
            "rewire-row",
            "rewire-guided",
            "duplicate-eraser",
            "weight-noise",
            "weight-shift",
            "fine-pruning",
            "overwrite",
            "leaked-one",
            "leaked-all",
            "licensee-copy",
            *LOSSLESS,
            *STACKED,
            "fake1",
            "fake2",
            "fake3",
            "transfer",
            "nad",
            "unlearn",
            *TRIGGERS,
            "distill",
            "distill-other",
            "extract-soft",
            *CONTROLS,
        ],
    },
}
# The same with three seeds and a longer budget.
PRESETS["full"] = {**PRESETS["standard"], "seeds": [0, 1, 2], "epochs": 10}
