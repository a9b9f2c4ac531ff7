from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import comb, log, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from ticketguard.errors import UsageError
from ticketguard.tails import log2_binomial_tail, log2_signed_sum_bound


def exact_tail(matches: int, n: int, chances: int) -> Fraction:
    return Fraction(sum(comb(n, i) * (chances - 1) ** (n - i) for i in range(matches, n + 1)), chances**n)


def log2_fraction(value: Fraction) -> float:
    """Base-2 logarithm of a positive fraction of any size, good to about 1e-14 of its value."""
    if value > Fraction(1, 2):
        # Near 1 the logarithm is small: a series in 1 - value keeps its relative accuracy.
        return float(np.log1p(-float(1 - value))) / log(2)
    shift = value.denominator.bit_length() - value.numerator.bit_length()
    return log2(float(value * (1 << max(0, shift)))) - max(0, shift)


@pytest.mark.parametrize("chances", [2, 3, 10, 100])
def test_binomial_tail_is_an_upper_bound_within_its_stated_error(chances: int) -> None:
    for n in (1, 2, 3, 5, 17, 64, 128, 256, 700):
        near = {0, 1, 2, n // chances, n // chances + 1, n // 2, n // 2 + 1, 3 * n // 4, n - 1, n}
        for matches in sorted(k for k in near if k <= n):
            exact = log2_fraction(exact_tail(matches, n, chances))
            bound = log2_binomial_tail(matches, n, chances=chances)
            assert bound >= exact - 1e-13 * abs(exact), (chances, n, matches)
            assert bound <= exact + 1e-9, (chances, n, matches)


@settings(max_examples=200, deadline=None)
@given(n=st.integers(1, 400), chances=st.integers(2, 50), data=st.data())
def test_binomial_tail_against_exact_integers(n: int, chances: int, data: st.DataObject) -> None:
    matches = data.draw(st.integers(0, n))
    exact = log2_fraction(exact_tail(matches, n, chances))
    assert -1e-12 <= log2_binomial_tail(matches, n, chances=chances) - exact <= 1e-9


@pytest.mark.parametrize(
    ("matches", "n", "chances"), [(501_000, 1_000_000, 2), (499_000, 1_000_000, 2), (700, 6000, 10)]
)
def test_binomial_tail_against_scipy(matches: int, n: int, chances: int) -> None:
    reference = binom.logsf(matches - 1, n, 1 / chances) / log(2)
    assert 0 <= log2_binomial_tail(matches, n, chances=chances) - reference + 1e-7 <= 1e-6


def test_binomial_tail_does_not_underflow() -> None:
    assert log2_binomial_tail(1_000_000, 1_000_000) == -1_000_000.0
    assert -531_100 < log2_binomial_tail(900_000, 1_000_000) < -530_900
    assert log2_binomial_tail(126, 126) == -126.0


def test_binomial_tail_of_nothing_is_no_evidence() -> None:
    assert log2_binomial_tail(0, 0) == 0.0
    assert log2_binomial_tail(0, 100, chances=10) == 0.0


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 3000), chances=st.integers(2, 20), data=st.data())
def test_binomial_tail_falls_with_every_match(n: int, chances: int, data: st.DataObject) -> None:
    matches = data.draw(st.integers(0, n - 1))
    more = log2_binomial_tail(matches + 1, n, chances=chances)
    assert more <= log2_binomial_tail(matches, n, chances=chances) + 1e-9 <= 1e-9


@pytest.mark.parametrize(("matches", "n", "chances"), [(3, 2, 2), (1, -1, 2), (1, 2, 1), (1, 1 << 41, 2)])
def test_impossible_tails_are_refused(matches: int, n: int, chances: int) -> None:
    with pytest.raises(UsageError, match="no binomial tail"):
        log2_binomial_tail(matches, n, chances=chances)


def exact_signed_sum(values: list[int], signs: list[int]) -> float:
    """log2 P(sum values * S >= observed) by enumeration of the distribution of the sum."""
    counts = {0: 1}
    for value in values:
        following: dict[int, int] = {}
        for total, count in counts.items():
            for moved in (total + value, total - value):
                following[moved] = following.get(moved, 0) + count
        counts = following
    observed = sum(v * s for v, s in zip(values, signs, strict=True))
    return log2_fraction(Fraction(sum(c for t, c in counts.items() if t >= observed), 2 ** len(values)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([-1, 1])), min_size=1, max_size=25))
def test_signed_sum_bound_is_above_the_exact_tail(pairs: list[tuple[int, int]]) -> None:
    values, signs = [v for v, _ in pairs], [s for _, s in pairs]
    bound = log2_signed_sum_bound(np.array(values, dtype=np.float64) / 20, np.array(signs, dtype=np.int8))
    assert exact_signed_sum(values, signs) - 1e-12 <= bound <= 0.0


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_signed_sum_bound_is_close_to_the_binomial_tail_for_equal_values(scale: float) -> None:
    signs = np.repeat(np.array([1, -1], dtype=np.int8), [180, 76])
    bound = log2_signed_sum_bound(np.full(256, scale), signs)
    assert log2_binomial_tail(180, 256) < bound < log2_binomial_tail(180, 256) + 8
    assert bound * 1e6 == pytest.approx(round(bound * 1e6), abs=1e-3)


def test_signed_sum_bound_is_the_minimum_over_a_grid() -> None:
    generator = np.random.default_rng(7)
    for spread in (0.3, 2.0, 6.0):
        values = np.exp(generator.normal(0, spread, 400))
        values /= values.max()
        signs = np.where(values + 0.3 * generator.standard_normal(400) > np.median(values), 1, -1)
        total = float(values @ signs)
        grid = [np.sum(np.logaddexp(x * values, -x * values) - log(2)) - x * total for x in np.logspace(-4, 6, 4001)]
        bound = log2_signed_sum_bound(values, signs.astype(np.int8))
        assert bound == pytest.approx(min(0.0, min(grid) / log(2)), abs=2e-3)


@pytest.mark.parametrize(
    "values", [np.full(1000, 0.25), np.logspace(-99, 0, 1000), np.random.default_rng(1).random(1000)]
)
def test_all_signs_agreeing_give_one_bit_a_value(values: np.ndarray) -> None:
    assert log2_signed_sum_bound(values, np.ones(1000, dtype=np.int8)) == -1000.0


def test_values_that_vanish_beside_the_largest_count_for_nobody() -> None:
    # Squares of 1e-162 are the smallest numbers there are: divided by 9 they were 0, and agreed with every target.
    values = np.concatenate([np.full(4, 9.0), np.full(150, 1e-162) ** 2])
    signs = np.repeat(np.array([1, -1, 1], dtype=np.int8), [4, 75, 75])
    assert log2_signed_sum_bound(values, signs) == -4.0
    assert log2_signed_sum_bound(values[4:], signs[4:]) == 0.0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from([-323, -300, -170, -162, -150, -101, -99, -8, -1, 0, 0.5, 8, 150, 300]), min_size=1, max_size=7
    )
)
def test_signed_sum_bound_holds_over_all_signs_whatever_the_scales(decades: list[float]) -> None:
    values = 10.0 ** np.array(decades)
    patterns = np.array(list(product([-1, 1], repeat=len(values))), dtype=np.int8)
    bounds = np.sort([log2_signed_sum_bound(values, signs) for signs in patterns])
    # Of all patterns, a part of at most p has a bound of at most p.
    assert (np.arange(1, len(bounds) + 1) <= len(bounds) * 2.0**bounds * (1 + 1e-12)).all()


def test_zeros_are_ignored_and_disagreement_is_no_evidence() -> None:
    values = np.array([0.0, 0.0, 0.5, 1.0])
    assert log2_signed_sum_bound(values, np.array([-1, 1, 1, 1], dtype=np.int8)) == -2.0
    assert log2_signed_sum_bound(values, np.array([1, 1, 1, -1], dtype=np.int8)) == 0.0
    assert log2_signed_sum_bound(np.zeros(5), np.ones(5, dtype=np.int8)) == 0.0
    assert log2_signed_sum_bound(np.empty(0), np.empty(0, dtype=np.int8)) == 0.0


@pytest.mark.parametrize(
    ("values", "signs"), [([-1.0], [1]), ([np.nan], [1]), ([np.inf], [1]), ([1.0], [0]), ([1.0, 2.0], [1])]
)
def test_malformed_signed_sums_are_refused(values: list[float], signs: list[int]) -> None:
    with pytest.raises(UsageError, match="signed sum"):
        log2_signed_sum_bound(np.array(values), np.array(signs, dtype=np.int8))


def test_one_tiny_disagreement_stays_finite() -> None:
    values = np.array([1.0] * 50 + [1e-308])
    bound = log2_signed_sum_bound(values, np.array([1] * 50 + [-1], dtype=np.int8))
    assert -51.0 <= bound < -49.0
