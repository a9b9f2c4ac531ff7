"""Which pruning rate comes next: a fixed number of equal rounds."""

from __future__ import annotations

from ticketguard.finding.config import FindConfig, Round
from ticketguard.finding.extreme import next_falling_rate


def next_rate(config: FindConfig, rounds: tuple[Round, ...]) -> float | None:
    """The rate of the round after `rounds` (the dense model first), or None when the search is over."""
    if config.extreme:
        return next_falling_rate(config, rounds)
    return config.rate if len(rounds) - 1 < config.rounds else None


def kept_after(kept: int, rate: float) -> int:
    """Weights left when the share `rate` of `kept` is pruned: at least one goes, and at least one stays."""
    return max(1, min(kept - 1, kept - round(rate * kept)))


def accepts(config: FindConfig, *, winning: bool) -> bool:
    """Whether a trained round stands: always, except that extreme tickets undo what no longer matches."""
    return winning or not config.extreme


def specification(rounds: tuple[Round, ...]) -> str:
    """The accepted rates in order with their counts, as in Table 1 of Chen et al. 2021: "0.2 x 7, 0.1 x 1"."""
    counts: list[tuple[float, int]] = []
    for entry in rounds[1:]:
        if not entry.accepted:
            continue
        if counts and counts[-1][0] == entry.rate:
            counts[-1] = (entry.rate, counts[-1][1] + 1)
        else:
            counts.append((entry.rate, 1))
    return ", ".join(f"{rate:g} x {count}" for rate, count in counts)
