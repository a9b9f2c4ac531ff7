"""Tails of null distributions, as base-2 logarithms: upper bounds that never underflow and never flatter a claim.

Every error of the floating-point arithmetic is pushed towards 0 bits, so a p-value from here is at most too large.
"""

from __future__ import annotations

from math import ceil, isqrt, lgamma, log, log1p, log2

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import UsageError

MOST_TRIALS = 1 << 40
# lgamma, log and the products below are each good to a few units in the last place.
_UNITS = 8.0 * float(np.finfo(np.float64).eps)
_STEPS_PER_BIT = 1_000_000
_NEWTON_STEPS = 60
_LARGEST_X = 1e300
# Of the largest value in a sum: what is smaller is left out before it can vanish among roundings.
NEGLIGIBLE = 1e-100

Floats = NDArray[np.float64]


def log2_binomial_tail(matches: int, n: int, *, chances: int = 2) -> float:
    """`log2 P(X >= matches)` for X ~ Binomial(`n`, 1 / `chances`): an upper bound, exact but for its rounding.

    Its excess over the true value is at most `2^-46 (lgamma(n + 1) + n ln chances + 100)` bits: 1e-10 at n = 1,000,
    3e-7 at n = 1,000,000. With `matches == n` it is `-n log2 chances`, exact when `chances` is a power of two. 0.0
    for `matches <= 0`. Raises `UsageError` when `matches` exceeds `n` or a number is out of range.

    Method: the first term by lgamma, the others by the ratios of neighbouring terms, the rest by a geometric series.
    """
    if not 0 <= n <= MOST_TRIALS or matches > n or not 2 <= chances <= MOST_TRIALS:
        raise UsageError(f"no binomial tail for {matches} matches of {n} at 1 in {chances}")
    if matches <= 0:
        return 0.0
    if matches == n:
        exact = chances & (chances - 1) == 0
        return -n * log2(chances) * (1.0 if exact else 1.0 - _UNITS)
    if matches * chances > n:
        first, slack = _log_term(matches, n, chances)
        total, rounding = _upper_series(matches, n, chances)
        return min(0.0, (first + log(total) + slack + rounding) / log(2))
    first, slack = _log_term(matches - 1, n, chances)
    total, rounding = _lower_series(matches - 1, n, chances)
    below = np.exp(first + log(total) - slack - rounding)
    return min(0.0, log1p(-float(below)) / log(2) * (1.0 - _UNITS))


def _log_term(k: int, n: int, chances: int) -> tuple[float, float]:
    """`ln P(X = k)` and a bound on its rounding error."""
    parts = (
        lgamma(n + 1.0),
        -lgamma(k + 1.0),
        -lgamma(n - k + 1.0),
        -n * log(chances),
        (n - k) * log(chances - 1),
    )
    return sum(parts), _UNITS * (sum(abs(part) for part in parts) + 1.0)


def _reach(n: int, terms: int) -> int:
    """How many neighbouring terms to sum: over 24 standard deviations, the rest is bounded."""
    return min(terms, 64 + 12 * isqrt(n))


def _upper_series(k: int, n: int, chances: int) -> tuple[float, float]:
    """`P(X >= k) / P(X = k)` for k above the mean (an upper bound), and the rounding error of its logarithm."""
    reach = _reach(n, n - k)
    i = np.arange(k, k + reach, dtype=np.float64)
    ratios = (n - i) / ((i + 1.0) * (chances - 1.0))
    terms = np.cumprod(ratios)
    # Ratios fall, so what follows the last term is less than a geometric series.
    rest = float(terms[-1] * ratios[-1] / (1.0 - ratios[-1])) if reach < n - k else 0.0
    return 1.0 + float(terms.sum()) + rest, _UNITS * reach


def _lower_series(k: int, n: int, chances: int) -> tuple[float, float]:
    """`P(X <= k) / P(X = k)` for k below the mean (a lower bound), and the rounding error of its logarithm."""
    reach = _reach(n, k)
    i = np.arange(k, k - reach, -1, dtype=np.float64)
    terms = np.cumprod(i * (chances - 1.0) / (n - i + 1.0))
    return 1.0 + float(terms.sum()), _UNITS * (reach + 1)


def log2_signed_sum_bound(values: NDArray[np.floating], signs: NDArray[np.integer]) -> float:
    """Upper bound on `log2 P(sum values_i * S_i >= sum values_i * signs_i)` for independent fair signs S_i = +-1.

    Chernoff: the minimum over x >= 0 of `exp(-x t) prod cosh(x values_i)` with t the observed sum; every x gives a
    valid bound, so an imperfect minimum only costs bits. `values` are finite and >= 0, `signs` +1 or -1, both
    one-dimensional; values up to `NEGLIGIBLE` of the largest are left out of the sum, with their signs. The result is a
    multiple of 1e-6 bits, rounded up, at most 0.0, and `-n` when all n signs in the sum are +1 (the limit x -> infinity).
    Raises `UsageError` for values that are negative or not finite, or signs that are not +-1.
    """
    v, s = np.asarray(values, dtype=np.float64), np.asarray(signs)
    if v.ndim != 1 or s.shape != v.shape or not np.all(np.isfinite(v) & (v >= 0)) or not np.all(np.abs(s) == 1):
        raise UsageError("signed sum: values must be finite and not negative, signs +1 or -1, both of one length")
    # By size alone, so the bound holds for the rest. A value that scaling rounds to 0 would count for and never against.
    used = v > NEGLIGIBLE * v.max(initial=0.0)
    v, s = v[used], s[used]
    if v.size == 0:
        return 0.0
    if (s > 0).all():
        return float(-v.size)
    v = v / v.max()
    against = float(v[s < 0].sum())
    if 2.0 * against >= float(v.sum()):
        return 0.0
    bits = _log_bound(v, against, _minimiser(v, against)) / log(2)
    # Pairwise sums of n terms of at most 1 err by far less than the half step that is added before rounding up.
    return min(0.0, ceil(bits * _STEPS_PER_BIT + 0.5) / _STEPS_PER_BIT)


def _log_bound(v: Floats, against: float, y: float) -> float:
    """`ln(exp(-x t) prod cosh(x v))` at y = 2 x, in a form without cancellation or overflow."""
    return float(np.log1p(np.exp(-y * v)).sum()) + y * against - v.size * log(2)


def _minimiser(v: Floats, against: float) -> float:
    """The y >= 0 at which `sum v / (1 + exp(y v)) = against`, where the derivative of `_log_bound` vanishes.

    Newton on the logarithm of both sides, kept inside a bracket: that function is close to a straight line both where
    the terms are exponentials and, against log y, where they spread over many scales.
    """
    low, high = 0.0, min(_LARGEST_X, v.size / against)
    y = min(high, 2.0 * (float(v.sum()) - 2.0 * against) / float(v @ v))
    for _ in range(_NEWTON_STEPS):
        small = np.exp(-y * v)
        share = v * small / (1.0 + small)
        total = float(share.sum())
        if total > against:
            low = y
        else:
            high = y
        slope = float((share * v / (1.0 + small)).sum())
        step = total * log(total / against) / slope if total > 0 and slope > 0 else np.inf
        following = y + step
        if not low < following < high:
            following = low**0.5 * high**0.5 if low > 0 and high / low > 4 else (low + high) / 2
        if abs(following - y) <= 1e-7 * y:
            return following
        y = following
    return y


def log2_two_point_bound(
    high: NDArray[np.floating], low: NDArray[np.floating], chance: NDArray[np.floating], observed: float
) -> float:
    """Upper bound on `log2 P(sum X_i >= observed)` for independent X_i, `high_i` with probability `chance_i`, else `low_i`.

    Chernoff over a fixed grid of 96 exponents, then the best one's neighbourhood: every exponent gives a valid bound, so an
    imperfect minimum only costs bits. Arrays are one-dimensional and finite, chances in (0, 1). A multiple of 1e-6 bits,
    rounded up, at most 0.0.
    """
    if len(high) == 0:
        return 0.0
    # The logarithm of the bound is convex in the exponent and starts with slope mean - observed: nothing is to be had here.
    if observed <= float((chance * high + (1.0 - np.asarray(chance)) * low).sum()):
        return 0.0
    top, bottom = np.log(chance), np.log1p(-np.asarray(chance, dtype=np.float64))
    scale = float(np.abs(np.concatenate([high, low])).max()) or 1.0

    def bound(x: float) -> float:
        return float(np.logaddexp(top + x * high, bottom + x * low).sum()) - x * observed

    grid = np.geomspace(1e-4, 1e2, 96) / scale
    best = int(np.argmin([bound(float(x)) for x in grid]))
    finer = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], 64)
    bits = min(bound(float(x)) for x in finer) / log(2)
    return min(0.0, ceil(bits * _STEPS_PER_BIT + 0.5) / _STEPS_PER_BIT)
