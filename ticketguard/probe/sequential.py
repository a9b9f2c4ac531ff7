"""The sequential trigger test: evidence that stays valid whenever one stops (Ville's inequality).

Under the null every answer matches its secret label with probability 1/C, whatever was asked and answered before. So
the likelihood ratio of "matches with probability q" to "with probability 1/C" is a non-negative martingale that
starts at 1, and so is every fixed mixture of such ratios: an e-process. By Ville's inequality (1939; see Ramdas et
al., "Game-theoretic statistics and safe anytime-valid inference", 2023) it ever reaches 1/alpha with probability at
most alpha, under any rule for stopping.

A session that asks every trigger may also use the exact binomial tail; taking the better of the two costs one bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log2

from ticketguard.errors import UsageError
from ticketguard.tails import log2_binomial_tail

# Match rates worth looking for, and their weights: a trained model's first, then what attacks leave of it.
ALTERNATIVES = ((0.9, 0.5), (0.97, 0.125), (0.75, 0.125), (0.55, 0.125), (0.35, 0.125))
TWO_LOOKS_BITS = 1.0
# Sums of a few thousand logarithms err by less than this.
ROUNDING_BITS = 1e-6


# A session follows the same beginning again after every answer.
@lru_cache(maxsize=1 << 16)
def log2_e_value(matches: int, n: int, *, classes: int) -> float:
    """log2 of the e-process after `matches` of `n` answers at 1 in `classes`, rounded down. It depends on nothing
    else.
    """
    if not 0 <= matches <= n or classes < 2:
        raise UsageError(f"no e-value for {matches} matches of {n} at 1 in {classes}")
    terms = [
        log2(weight) + matches * log2(rate * classes) + (n - matches) * log2((1 - rate) / (1 - 1 / classes))
        for rate, weight in _alternatives(classes)
    ]
    peak = max(terms)
    return peak + log2(sum(2.0 ** (term - peak) for term in terms)) - ROUNDING_BITS


def _alternatives(classes: int) -> list[tuple[float, float]]:
    """Rates above chance, their weights summing to 1."""
    above = [(rate, weight) for rate, weight in ALTERNATIVES if rate > 1.2 / classes]
    total = sum(weight for _, weight in above)
    return [(rate, weight / total) for rate, weight in above]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a sequential test stands: answers counted, matches, and the highest log2 e-value on the way."""

    classes: int
    n: int = 0
    matches: int = 0
    peak: float = 0.0

    def after(self, matched: bool) -> Progress:
        """The state after one more answer."""
        n, matches = self.n + 1, self.matches + matched
        peak = max(self.peak, log2_e_value(matches, n, classes=self.classes))
        return Progress(classes=self.classes, n=n, matches=matches, peak=peak)

    def log2_p(self, *, complete: bool) -> float:
        """Upper bound on log2 p; with `complete`, every trigger of the plan was asked and the binomial tail counts as
        well.
        """
        whole = log2_binomial_tail(self.matches, self.n, chances=self.classes) if complete else 0.0
        return min(0.0, min(-self.peak, whole) + TWO_LOOKS_BITS)

    def passes(self, bar_bits: float) -> bool:
        """Whether the sequential evidence alone reaches the bar by now."""
        return -self.log2_p(complete=False) >= bar_bits

    def can_pass(self, bar_bits: float, remaining: int) -> bool:
        """Whether it could still be reached if all `remaining` triggers matched."""
        n, matches = self.n + remaining, self.matches + remaining
        best = max(
            self.peak,
            log2_e_value(matches, n, classes=self.classes),
            -log2_binomial_tail(matches, n, chances=self.classes),
        )
        return best - TWO_LOOKS_BITS >= bar_bits
