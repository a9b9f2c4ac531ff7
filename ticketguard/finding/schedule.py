"""Which pruning rate comes next: equal rounds, or for extreme tickets (Chen et al. 2021) falling rates until one breaks it."""

from __future__ import annotations

from ticketguard.finding.config import FindConfig, Round


def next_rate(config: FindConfig, rounds: tuple[Round, ...]) -> float | None:
    """The rate of the round after `rounds` (the dense model first), or None when the search is over."""
    if config.extreme:
        return _next_falling_rate(config, rounds)
    return config.rate if len(rounds) - 1 < config.rounds else None


def _next_falling_rate(config: FindConfig, rounds: tuple[Round, ...]) -> float | None:
    """The next rate: the last one while it works, the following one after an undone round, None after the last rate.

    Also None when `max_rounds` rounds were tried or only one weight is left.
    """
    tried = rounds[1:]
    if len(tried) >= config.max_rounds or (tried and tried[-1].accepted and tried[-1].kept <= 1):
        return None
    undone = sum(not entry.accepted for entry in tried)
    return config.rates[undone] if undone < len(config.rates) else None


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
