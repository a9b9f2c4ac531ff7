"""Words and numbers that every form of a report shares, so that terminal, page and Markdown say the same."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, log10
from typing import TYPE_CHECKING

from ticketguard.evidence import Evidence, Rule, Verdict

if TYPE_CHECKING:
    from ticketguard.verify.judge import Check

SYMBOLS = {"MATCH": "✓", "NO MATCH": "○", "INCONCLUSIVE": "?", "VOID": "✗"}
PRIORITY = {
    "unproven": "no trusted time stamp: when it was registered is the claimant's word",
    "stamped": "registered before {time}, by a time stamp that the judge trusts",
}
VIEWS = {"stored": "as stored", "aligned": "aligned", "turned": "kernels turned"}
TESTS = {
    "support": "Kept weights: in each readable pair of positions exactly one is kept, and the secret says which",
    "magnitude": "Sizes of weights: in each pair one weight is larger, and the secret says which",
    "squared-magnitude": "Sizes of weights: in each pair one weight is larger, and the secret says which; large weigh most",
    "triggers": "Answers to secret pictures, whose labels the secret drew",
}
FORMULAS = {
    "support": "p = P(Binomial(n, 1/2) ≥ matches), exact up to rounding upwards",
    "magnitude": "p ≤ min over x ≥ 0 of exp(−x t) ∏ cosh(x vᵢ), with vᵢ the differences of a pair's sizes in the layer brought "
    "to equal scale, at most 1, and t the sum of those that agree minus those that do not",
    "squared-magnitude": "p ≤ min over x ≥ 0 of exp(−x t) ∏ cosh(x vᵢ), with vᵢ the squared differences of a pair's sizes in "
    "the layer brought to equal scale, at most 9, and t the sum of those that agree minus those that do not",
    "triggers": "p = P(Binomial(n, 1/C) ≥ matches) for C classes, exact up to rounding upwards",
}
PROVES = (
    "A match means that the suspect is not independent of the registered secret: had it been made without the secret, in "
    "whatever way, so much agreement would have at most the stated probability.",
    "The bound holds for every suspect however it was made, and, with the allowance g, against a claimant who searched for a "
    "secret that fits.",
)
DOES_NOT_PROVE = (
    "It does not say who copied from whom, nor that anything unlawful happened: lawful or unwitting access is not excluded.",
    "It does not say who owns the model, nor who came first: that takes the claim, a trusted time stamp and a judge.",
    "No match does not show that a suspect is independent: an attacker who pays enough accuracy can erase the mark.",
)


def bits(value: float) -> str:
    """Bits with one decimal, as in the reason of a verdict."""
    return f"{value:,.1f}"


def whole(value: float) -> str:
    """Bits without decimals, rounded."""
    return f"{value:,.0f}"


def count(number: int, noun: str) -> str:
    """A number of things: `1 test`, `1,000 tests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def probability(value: float) -> str:
    """2^-value as a bound: a power of two, or a number, and a power of ten where it says more."""
    power = floor(value)
    return f"at most 2^-{power} (1 in 10^{floor(power * log10(2))})" if power > 13 else f"at most 1 in {2**power:,}"


def check_words(check: Check, files: Mapping[str, str]) -> str:
    """What a check found; of a control the file's name as well, where `files` (hex digest -> name) has it.

    No check names a file by itself: it is signed, and whoever recomputes the verdict may call the file otherwise.
    """
    if check.name == "control":
        for digest, name in files.items():
            if check.detail.startswith(f"control {digest[:16]}: "):
                return f"{name}, sha256 {check.detail.removeprefix('control ')}"
    return check.detail


def bar_words(rule: Rule) -> str:
    """What the bar is made of."""
    suspects = f" x {rule.suspects:,} suspects" if rule.suspects > 1 else ""
    return (
        f"{rule.threshold_bits:g} + {rule.grinding_bits:g} for a search (g) + "
        f"{rule.multiplicity_bits:.1f} for M = {rule.tests:,} tests{suspects}"
    )


def chance_words(verdict: Verdict) -> str:
    """What the evidence against chance means."""
    found = verdict.against_chance_bits
    return f"a false match: {probability(found)}" if found >= 1 else "nothing beyond chance"


def test_name(item: Evidence) -> str:
    """Test, scope and view of one piece of evidence."""
    return f"{item.test}, {item.scope}, {VIEWS[item.view]}"
