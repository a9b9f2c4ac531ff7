"""Extreme tickets (Chen et al. 2021): prune at falling rates until the smallest one breaks the ticket."""

from __future__ import annotations

from ticketguard.finding.config import FindConfig, Round


def next_falling_rate(config: FindConfig, rounds: tuple[Round, ...]) -> float | None:
    """The next rate: the last one while it works, the following one after an undone round, None after the last rate.

    Also None when `max_rounds` rounds were tried or only one weight is left.
    """
    tried = rounds[1:]
    if len(tried) >= config.max_rounds or (tried and tried[-1].accepted and tried[-1].kept <= 1):
        return None
    undone = sum(not entry.accepted for entry in tried)
    return config.rates[undone] if undone < len(config.rates) else None
