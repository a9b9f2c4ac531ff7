"""The suite: a grid of attacks x strengths x seeds, measured from outside, resumable, the same on every engine."""

from __future__ import annotations

from ticketguard.suite.bench import Bench, prepare
from ticketguard.suite.engines import ENGINES, EngineOptions
from ticketguard.suite.plan import Cell, Entry, Plan, preset, read_plan
from ticketguard.suite.price import Price
from ticketguard.suite.results import Result, SuiteResult, Timing, read_suite
from ticketguard.suite.runner import Progress, run_bench, run_suite

__all__ = [
    "ENGINES",
    "Bench",
    "Cell",
    "EngineOptions",
    "Entry",
    "Plan",
    "Price",
    "Progress",
    "Result",
    "SuiteResult",
    "Timing",
    "prepare",
    "preset",
    "read_plan",
    "read_suite",
    "run_bench",
    "run_suite",
]
