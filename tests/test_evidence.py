from __future__ import annotations

import json
from dataclasses import replace
from math import log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketguard.errors import FormatError, UsageError
from ticketguard.evidence import CAVEAT, TESTS, UNREAD, Evidence, Rule, Verdict, decide


def outcome(bits: float, *, capacity: float = 1000.0, n: int = 1000, **changes: object) -> Evidence:
    plain = Evidence(
        test="support",
        scope="pooled",
        view="stored",
        n=n,
        matches=n // 2,
        log2_p=-bits,
        capacity_bits=capacity,
        erasures=0,
        null="matches are Binomial(n, 1/2)",
    )
    return replace(plain, **changes)


def test_the_bar_is_126_bits_and_66_with_a_beacon() -> None:
    assert Rule().bar_bits == 126.0
    assert Rule(grinding_bits=20).bar_bits == 66.0
    assert Rule(suspects=4).bar_bits == 128.0
    assert log2(192) < Rule(suspects=3).multiplicity_bits < log2(192) + 1e-12


@pytest.mark.parametrize(
    ("bits", "capacity", "decision", "word"),
    [
        (126.0, 1000.0, "MATCH", "match"),
        (125.9, 1000.0, "INCONCLUSIVE", "searched"),
        (26.0, 1000.0, "INCONCLUSIVE", "significant against chance"),
        (25.9, 1000.0, "NO MATCH", "at chance"),
        (0.0, 126.0, "NO MATCH", "at chance"),
        (0.0, 125.9, "INCONCLUSIVE", "too few readable"),
    ],
)
def test_the_rule_at_its_edges(bits: float, capacity: float, decision: str, word: str) -> None:
    verdict = decide([outcome(0.0, capacity=capacity), outcome(bits, capacity=capacity)], Rule())
    assert verdict.decision == decision
    assert word in verdict.reason
    assert "  " not in verdict.reason
    assert verdict.caveat == (CAVEAT if decision == "MATCH" else "")


def test_evidence_is_the_minimum_and_never_a_sum() -> None:
    verdict = decide([outcome(125.0)] * 10, Rule())
    assert verdict.decision == "INCONCLUSIVE"


@pytest.mark.parametrize("evidence", [[], [outcome(0.0, n=0)], [outcome(500.0, n=0), outcome(0.0, n=0)]])
def test_nothing_comparable_is_inconclusive(evidence: list[Evidence]) -> None:
    verdict = decide(evidence, Rule())
    assert not verdict.readable
    assert verdict.decision == "INCONCLUSIVE"
    assert "nothing comparable" in verdict.reason
    assert decide([*evidence, outcome(3.0, n=1)], Rule()).readable


def test_nobody_is_cleared_by_what_was_not_read() -> None:
    notes = ("seen", UNREAD + "1 tensor")
    assert decide([outcome(3.0)], Rule(), notes=("seen",)).decision == "NO MATCH"
    verdict = decide([outcome(3.0)], Rule(), notes=notes)
    assert verdict.decision == "INCONCLUSIVE"
    assert "3.0 bits" in verdict.reason
    assert Verdict.from_json(verdict.to_json()) == verdict
    with pytest.raises(FormatError, match="the numbers say"):
        Verdict.from_json({**verdict.to_json(), "notes": ["seen"]})
    for bits, decision in ((126.0, "MATCH"), (60.0, "INCONCLUSIVE")):
        plain = decide([outcome(bits)], Rule())
        assert replace(plain, notes=notes) == decide([outcome(bits)], Rule(), notes=notes)
        assert plain.decision == decision


def test_two_numbers_against_chance_and_against_search() -> None:
    verdict = decide([outcome(150.0), outcome(3.0)], Rule())
    assert verdict.best is not None
    assert (verdict.best.bits, verdict.against_chance_bits, verdict.against_search_bits) == (150.0, 144.0, 64.0)
    nothing = decide([outcome(3.0)], Rule())
    assert (nothing.against_chance_bits, nothing.against_search_bits) == (0.0, 0.0)
    assert decide([], Rule()).against_chance_bits == 0.0


def test_more_suspects_raise_the_bar() -> None:
    assert decide([outcome(127.0)], Rule()).decision == "MATCH"
    assert decide([outcome(127.0)], Rule(suspects=10)).decision == "INCONCLUSIVE"


def test_no_text_accuses() -> None:
    for bits in (0.0, 50.0, 500.0):
        text = json.dumps(decide([outcome(bits)], Rule()).to_json()).lower()
        assert "stolen" not in text
        assert "theft" not in text


evidences = st.builds(
    lambda n, share, bits, capacity, test, view: outcome(
        bits, capacity=capacity, n=n, matches=int(n * share), test=test, view=view, erasures=n
    ),
    st.integers(0, 10**6),
    st.floats(0, 1),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.sampled_from(list(TESTS)),
    st.sampled_from(["stored", "aligned"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(evidences, max_size=5), st.integers(1, 1000), st.integers(1, 10**6))
def test_verdicts_survive_json(items: list[Evidence], tests: int, suspects: int) -> None:
    verdict = decide(
        items,
        Rule(tests=tests, suspects=suspects),
        notes=("a note",),
        supplied_by="the owner",
        context={"registration": "ab"},
    )
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


@pytest.mark.parametrize(
    "change",
    [
        {"decision": "MATCH"},
        {"reason": "because"},
        {"format": 2},
        {"evidence": [{}]},
        {"rule": {"tests": 0}},
        {"rule": {"bar": 1}},
        {"evidence": None},
        {"readable": False},
        {"readable": 1},
    ],
)
def test_a_verdict_that_does_not_follow_from_its_numbers_is_refused(change: dict[str, object]) -> None:
    document = decide([outcome(3.0)], Rule()).to_json() | change
    with pytest.raises(FormatError, match="verdict"):
        Verdict.from_json(document)


@pytest.mark.parametrize(
    "change",
    [
        {"matches": 1001},
        {"matches": -1},
        {"erasures": -1},
        {"log2_p": 1.0},
        {"log2_p": float("nan")},
        {"log2_p": float("-inf")},
        {"capacity_bits": -1.0},
        {"test": "luck"},
        {"view": "sideways"},
    ],
)
def test_impossible_evidence_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="evidence"):
        outcome(1.0, **change)


def test_impossible_rules_are_refused() -> None:
    for change in ({"tests": 0}, {"suspects": 0}, {"grinding_bits": -1.0}, {"chance_bits": 1000.0}):
        with pytest.raises(UsageError, match="rule"):
            Rule(**change)
