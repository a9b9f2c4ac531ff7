from __future__ import annotations

from math import exp, inf, log, log2, sqrt

import numpy as np
import pytest

from ticketguard.errors import UsageError
from ticketguard.probe.sequential import ALTERNATIVES, TWO_LOOKS_BITS, Progress, log2_e_value
from ticketguard.tails import log2_binomial_tail

# Looser than any registered bar, so that a bound that does not hold would show in a few thousand runs.
ALPHA = 0.01
TRIGGERS = 256


def stopped(outcomes: np.ndarray, classes: int, bar_bits: float) -> tuple[int, bool]:
    """Answers used and whether the bar was reached, stopping as a session does; one row of `outcomes`."""
    progress = Progress(classes=classes)
    for matched in outcomes:
        progress = progress.after(bool(matched))
        if progress.passes(bar_bits):
            return progress.n, True
        if not progress.can_pass(bar_bits, len(outcomes) - progress.n):
            return progress.n, False
    return progress.n, -progress.log2_p(complete=True) >= bar_bits


def expected_queries(rate: float, *, classes: int, bar_bits: float, total: int) -> float:
    """Expected number of answers until the test stops, when they match with probability `rate`, independently.

    Exact, by following the distribution of the number of matches.
    """
    open_states = np.zeros(total + 1, dtype=np.float64)
    open_states[0] = 1.0
    expected = 0.0
    for n in range(total):
        expected += float(open_states.sum())
        following = open_states * (1 - rate)
        following[1:] += open_states[:-1] * rate
        for matches in np.flatnonzero(following > 1e-12):
            state = _state(int(matches), n + 1, classes)
            if state.passes(bar_bits) or not state.can_pass(bar_bits, total - n - 1):
                following[matches] = 0.0
        open_states = following
    return expected


def wald_queries(rate: float, *, classes: int, bar_bits: float) -> float:
    """Wald's approximation for the likelihood-ratio test that knows the rate: bar / KL(rate || 1/classes), in answers."""
    chance = 1 / classes
    misses = (1 - rate) * log((1 - rate) / (1 - chance)) if rate < 1 else 0.0
    divergence = (rate * log(rate / chance) + misses) / log(2)
    return bar_bits / divergence if rate > chance else inf


def _state(matches: int, n: int, classes: int) -> Progress:
    peak = max(0.0, log2_e_value(matches, n, classes=classes))
    return Progress(classes=classes, n=n, matches=matches, peak=peak)


def follow(outcomes: np.ndarray, *, classes: int) -> Progress:
    """The state after all `outcomes` (True: matched), in order."""
    progress = Progress(classes=classes)
    for matched in outcomes:
        progress = progress.after(bool(matched))
    return progress


def test_the_e_value_is_a_fair_bet() -> None:
    """Its expectation under the null is 1 after any number of answers: a martingale."""
    for classes in (2, 3, 10, 100):
        for n in (1, 7, 40):
            chance = 1 / classes
            mean = 0.0
            for matches in range(n + 1):
                ways = np.prod([(n - i) / (i + 1) for i in range(matches)])
                weight = ways * chance**matches * (1 - chance) ** (n - matches)
                mean += weight * 2 ** log2_e_value(matches, n, classes=classes)
            assert mean == pytest.approx(1.0, abs=1e-5)
            assert mean <= 1.0


def test_weights_sum_to_one() -> None:
    assert sum(weight for _, weight in ALTERNATIVES) == 1.0


def test_nothing_asked_is_no_evidence() -> None:
    assert Progress(classes=10).log2_p(complete=False) == 0.0
    assert Progress(classes=10).log2_p(complete=True) == 0.0


def test_the_peak_is_kept() -> None:
    good = follow(np.ones(60, dtype=bool), classes=10)
    worse = follow(np.concatenate([np.ones(60, dtype=bool), np.zeros(60, dtype=bool)]), classes=10)
    assert worse.log2_p(complete=False) == good.log2_p(complete=False) < -126


def test_the_complete_test_can_be_the_better_one() -> None:
    outcomes = np.tile([True, False, False], 100)
    progress = follow(outcomes, classes=10)
    assert progress.log2_p(complete=True) < progress.log2_p(complete=False)


@pytest.mark.parametrize("bad", [(2, 1, 10), (-1, 1, 10), (0, 0, 1)])
def test_impossible_counts_are_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="e-value"):
        log2_e_value(bad[0], bad[1], classes=bad[2])


def strangers(kind: str, generator: np.random.Generator, targets: np.ndarray) -> np.ndarray:
    """Answers of a model that never saw the targets: uniform, one class, or with the labels' own marginals."""
    if kind == "uniform":
        return generator.integers(0, 10, len(targets))
    if kind == "constant":
        return np.full(len(targets), generator.integers(0, 10))
    # The secret's label counts known exactly, but not their places: in another secret's order.
    marginals = np.bincount(generator.integers(0, 10, len(targets)), minlength=10) + 1.0
    return generator.choice(10, len(targets), p=marginals / marginals.sum())


def peaks(outcomes: np.ndarray, classes: int) -> np.ndarray:
    """Highest log2 e-value on the way of every run: what `Progress` follows one answer at a time, from a table."""
    n = np.arange(1, outcomes.shape[1] + 1)
    table = np.zeros((len(n) + 1, len(n) + 1))
    for count in n:
        table[count, : count + 1] = [log2_e_value(matches, int(count), classes=classes) for matches in range(count + 1)]
    return np.maximum(0.0, table[n, np.cumsum(outcomes, axis=1)].max(axis=1))


@pytest.mark.parametrize("kind", ["uniform", "constant", "biased"])
def test_optional_stopping_keeps_the_bound_for_5000_strangers(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopping at the first crossing, or at the end with the better of the two tests: whatever is best for the
    claimant."""
    generator = np.random.default_rng(list(kind.encode()))
    runs, targets = 5000, generator.integers(0, 10, (5000, TRIGGERS))
    outcomes = np.array([strangers(kind, generator, row) for row in targets]) == targets
    reached = peaks(outcomes, 10)
    for row, peak in zip(outcomes[:5], reached, strict=False):
        assert follow(row, classes=10).peak == pytest.approx(peak)
    tails = {k: log2_binomial_tail(k, TRIGGERS, chances=10) for k in range(TRIGGERS + 1)}
    whole = np.array([tails[k] for k in outcomes.sum(axis=1)])
    log2_p = np.minimum(0.0, np.minimum(-reached, whole) + TWO_LOOKS_BITS)
    share = float(np.mean(log2_p <= log2(ALPHA)))
    with capsys.disabled():
        print(f"\n{kind}: {share:.4f} false matches in {runs} runs at alpha = {ALPHA}")
    assert share <= ALPHA + 3 * sqrt(ALPHA * (1 - ALPHA) / runs)
    assert share > 0.0005, "a test that never rejects would keep every bound"


@pytest.mark.slow
def test_a_peeking_binomial_test_would_break_the_bound() -> None:
    """The control: looking at a fixed-size p-value after every answer rejects far too often."""
    generator = np.random.default_rng(9)
    hits = 0
    for _ in range(200):
        matches = np.cumsum(generator.random(TRIGGERS) < 0.1)
        hits += any(log2_binomial_tail(int(k), n, chances=10) <= log2(ALPHA) for n, k in enumerate(matches, 1))
    assert hits / 200 > ALPHA + 3 * sqrt(ALPHA * (1 - ALPHA) / 200)


def test_a_real_match_takes_as_long_as_the_likelihood_ratio_test(capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(4)
    used = [stopped(generator.random(TRIGGERS) < 0.9, 10, 126.0) for _ in range(100)]
    median = float(np.median([n for n, _ in used]))
    wald = wald_queries(0.9, classes=10, bar_bits=126.0)
    exact = expected_queries(0.9, classes=10, bar_bits=126.0, total=TRIGGERS)
    with capsys.disabled():
        print(f"\n90 % matches, C = 10: median {median:.0f} triggers, exact mean {exact:.1f}, Wald {wald:.1f}")
    assert all(match for _, match in used)
    assert abs(median - wald) <= 0.1 * wald
    assert np.mean([n for n, _ in used]) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(("rate", "classes"), [(0.95, 2), (0.9, 3), (0.8, 100)])
def test_expected_queries_of_other_tasks(rate: float, classes: int) -> None:
    exact = expected_queries(rate, classes=classes, bar_bits=60.0, total=400)
    assert 1.0 <= exact / wald_queries(rate, classes=classes, bar_bits=60.0) < 1.25


def test_chance_needs_for_ever() -> None:
    assert wald_queries(0.1, classes=10, bar_bits=126.0) > exp(700)


def test_futility_stops_a_stranger_before_the_end() -> None:
    generator = np.random.default_rng(2)
    n, match = stopped(generator.random(TRIGGERS) < 0.1, 10, 126.0)
    assert not match
    assert 120 < n < 200
