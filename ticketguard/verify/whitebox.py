"""White-box tests: the edge code read from a suspect's weights, for every leaf that is open and for all of them pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ticketguard.evidence import Evidence
from ticketguard.signatures.edge import Reading
from ticketguard.tails import NEGLIGIBLE, log2_binomial_tail, log2_signed_sum_bound

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
    seen = {f"leaf {leaf}": _seen(reading, magnitude) for leaf, reading in readings.items()}
    if len(seen) == leaves:
        seen = {"pooled": _pooled(list(seen.values())), **seen}
    return [test for scope, found in seen.items() for test in _both(found, scope, view, magnitude)]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What the tests use of a reading: counts of the support test, weights and signs of the magnitude test."""

    n: int
    matches: int
    values: NDArray[np.float64]
    signs: NDArray[np.int8]
    erasures: int


def _seen(reading: Reading, test: str) -> _Seen:
    n, matches = reading.support()
    values, signs = reading.magnitude(test)
    return _Seen(n=n, matches=matches, values=values, signs=signs, erasures=int(reading.erased.sum()))


def _pooled(leaves: Sequence[_Seen]) -> _Seen:
    return _Seen(
        n=sum(leaf.n for leaf in leaves),
        matches=sum(leaf.matches for leaf in leaves),
        values=np.concatenate([leaf.values for leaf in leaves]),
        signs=np.concatenate([leaf.signs for leaf in leaves]),
        erasures=sum(leaf.erasures for leaf in leaves),
    )


def _both(seen: _Seen, scope: str, view: str, test: str) -> list[Evidence]:
    support = Evidence(
        test="support",
        scope=scope,
        view=view,
        n=seen.n,
        matches=seen.matches,
        log2_p=log2_binomial_tail(seen.matches, seen.n),
        capacity_bits=float(seen.n),
        erasures=seen.erasures,
        null=SUPPORT_NULL,
    )
    # The bound leaves such values out with their signs: what it does not count is not said to match.
    used = seen.values > NEGLIGIBLE * seen.values.max(initial=0.0)
    values, signs = seen.values[used], seen.signs[used]
    magnitude = Evidence(
        test=test,
        scope=scope,
        view=view,
        n=len(signs),
        matches=int((signs > 0).sum()),
        log2_p=log2_signed_sum_bound(values, signs),
        # Not -0.0 when nothing could be read.
        capacity_bits=max(0.0, -log2_signed_sum_bound(values, np.ones_like(signs))),
        erasures=seen.erasures,
        null=MAGNITUDE_NULL,
    )
    return [support, magnitude]
