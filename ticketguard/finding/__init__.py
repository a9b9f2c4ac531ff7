"""Finding winning tickets: iterative magnitude pruning with late rewinding, and extreme tickets."""

from __future__ import annotations

from ticketguard.finding.config import FALLING_RATES, FindConfig, FindProgress, FindResult, Round, rate_for
from ticketguard.finding.imp import find
from ticketguard.finding.many import find_many

__all__ = ["FALLING_RATES", "FindConfig", "FindProgress", "FindResult", "Round", "find", "find_many", "rate_for"]
