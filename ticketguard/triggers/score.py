"""Scoring: predictions against targets become trigger evidence (docs/protocol.md, Tests)."""

from __future__ import annotations

from math import ceil, lgamma, log, log2

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims.opening import Opening
from ticketguard.errors import DataError
from ticketguard.evidence import Evidence
from ticketguard.tails import log2_binomial_tail
from ticketguard.triggers.plan import TriggerPlan
from ticketguard.triggers.render import targets

# The label of a trigger without an answer.
ERASURE = -1

Labels = NDArray[np.int64]


def score(predictions: Labels, expected: Labels) -> tuple[int, int, int]:
    """`(n, matches, erasures)` of int64 predictions (-1: no answer) against target labels of the same length."""
    answered = predictions != ERASURE
    n = int(answered.sum())
    return n, int((predictions[answered] == expected[answered]).sum()), len(predictions) - n


def label_map_bits(classes: int, names: int | None = None) -> float:
    """What a label map chosen after the fact costs, in bits, rounded up to a millionth.

    It is one of `names! / (names - classes)!` one-to-one maps of the committed classes to the `names` labels that a
    service uses (as many as there are classes by default: log2 of `classes!`).
    """
    total = max(classes, names or 0)
    bits = (lgamma(total + 1) - lgamma(total - classes + 1)) / log(2)
    return ceil(bits * 1e6 + 0.5) / 1e6


def trigger_tests(
    opening: Opening, plan: TriggerPlan, predictions: Labels, *, charge_bits: float = 0.0
) -> list[Evidence]:
    """Trigger evidence: pooled when every leaf is open, then each revealed leaf alone.

    `predictions`: int64 in pooled order, `plan.total` of them, -1 for an erasure. `charge_bits` is taken off every
    test: the price of a label map supplied afterwards. Raises `DataError` for predictions of another length or out of
    range.
    """
    if predictions.shape != (plan.total,) or predictions.min() < ERASURE or predictions.max() >= len(plan.classes):
        raise DataError(
            f"predictions: expected {plan.total} labels of {len(plan.classes)} classes, found {predictions.shape}"
        )
    expected = targets(opening, plan)
    scopes = {f"leaf {leaf}": (predictions[plan.indices(leaf)], labels) for leaf, labels in expected.items()}
    if len(expected) == plan.leaves:
        scopes = {"pooled": (predictions, np.concatenate(list(expected.values()))), **scopes}
    return [
        evidence_of(*score(*pair), classes=len(plan.classes), scope=scope, charge_bits=charge_bits)
        for scope, pair in scopes.items()
    ]


def evidence_of(
    n: int, matches: int, erasures: int, *, classes: int, scope: str = "pooled", charge_bits: float = 0.0
) -> Evidence:
    """The exact binomial test of `matches` among `n` answers at 1 in `classes`."""
    charged = f"; {charge_bits:.1f} bits charged for a label map supplied afterwards" if charge_bits else ""
    return Evidence(
        test="triggers",
        scope=scope,
        view="stored",
        n=n,
        matches=matches,
        log2_p=min(0.0, log2_binomial_tail(matches, n, chances=classes) + charge_bits),
        capacity_bits=max(0.0, n * log2(classes) - charge_bits),
        erasures=erasures,
        null=f"the answers are independent of the secret labels: each matches with probability 1/{classes}{charged}",
    )
