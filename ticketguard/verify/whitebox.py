"""White-box tests: the edge code read from a suspect's weights, for every leaf that is open and for all of them pooled."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ticketguard.evidence import Evidence, log2_binomial_tail, log2_signed_sum_bound
from ticketguard.signatures.edge import Reading, join

SUPPORT_NULL = (
    "the suspect's zero pattern is independent of the secret bits: each informative pair matches with probability 1/2"
)
MAGNITUDE_NULL = (
    "the suspect's weights are independent of the secret bits: each pair's sign is a fair coin given its size"
)


def edge_tests(readings: Mapping[int, Reading], *, leaves: int, view: str, magnitude: str) -> list[Evidence]:
    """Support and magnitude tests of every reading; pooled ones when all `leaves` of the registration are open.

    `magnitude`: which test of magnitudes, as the registration names it.
    """
    evidence = []
    if len(readings) == leaves:
        evidence += _both(join(list(readings.values())), "pooled", view, magnitude)
    for leaf, reading in readings.items():
        evidence += _both(reading, f"leaf {leaf}", view, magnitude)
    return evidence


def _both(reading: Reading, scope: str, view: str, test: str) -> list[Evidence]:
    n, matches = reading.support()
    values, signs = reading.magnitude(test)
    erasures = int(reading.erased.sum())
    support = Evidence(
        test="support",
        scope=scope,
        view=view,
        n=n,
        matches=matches,
        log2_p=log2_binomial_tail(matches, n),
        capacity_bits=float(n),
        erasures=erasures,
        null=SUPPORT_NULL,
    )
    magnitude = Evidence(
        test=test,
        scope=scope,
        view=view,
        n=len(signs),
        matches=int((signs > 0).sum()),
        log2_p=log2_signed_sum_bound(values, signs),
        # Not -0.0 when nothing could be read.
        capacity_bits=max(0.0, -log2_signed_sum_bound(values, np.ones_like(signs))),
        erasures=erasures,
        null=MAGNITUDE_NULL,
    )
    return [support, magnitude]
