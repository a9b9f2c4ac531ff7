"""Kernels inside larger ones: found by size and magnitude, wherever they lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketguard.graph.windows import MOST_POSITIONS, kernel_within, window


@pytest.mark.parametrize(
    ("shape", "kernels", "found"),
    [
        ((8, 4, 5, 5), {(3, 3)}, (3, 3)),
        ((8, 4, 3, 3), {(1, 1)}, (1, 1)),
        ((8, 4, 5, 3), {(3, 3)}, (3, 3)),
        ((8, 4, 5), {(3,), (3, 3)}, (3,)),
        ((8, 4, 3, 3), {(3, 3)}, None),
        ((8, 4, 7, 7), {(3, 3), (5, 5)}, None),
        ((8, 4, 5, 5), {(3, 3), (5, 5)}, None),
        ((8, 4, 2, 5), {(3, 3)}, None),
        ((8, 4), {(3, 3)}, None),
        ((8, 4), {()}, None),
        ((8, 4, MOST_POSITIONS, 3), {(3, 3)}, None),
    ],
)
def test_only_one_size_may_fit(shape, kernels, found):
    assert kernel_within(shape, kernels) == found


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.sampled_from([0.0, 1e-9, np.nan]))
def test_a_kernel_is_found_where_it_lies(top, bottom, left, right, around):
    values = np.random.default_rng(0).normal(size=(4, 3, 3, 3)) * (np.random.default_rng(1).random((4, 3, 3, 3)) < 0.4)
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=around)
    assert window(padded, (3, 3)) == (top, left)


def test_nothing_lies_at_the_first_place():
    for values in (
        np.zeros((2, 2, 5, 5)),
        np.full((2, 2, 5, 5), np.inf),
        np.ones((2, 2, 5, 5)),
        np.zeros((0, 2, 5, 5)),
    ):
        assert window(values, (3, 3)) == (0, 0)


@pytest.mark.parametrize("place", [(0, 1), (1, 0), (1, 1), (2, 0)])
def test_no_edge_outweighs_the_others_by_rescaling(place):
    rng = np.random.default_rng(2)
    values = rng.normal(size=(6, 5, 3, 3)) * (rng.random((6, 5, 3, 3)) < 0.2)
    values[0, 0] = 0.0
    values[0, 0, 0, 2] = 1.0
    scaled = values * 2.0 ** rng.integers(-20, 21, (6, 1, 1, 1)) * 2.0 ** rng.integers(-20, 21, (1, 5, 1, 1))
    scaled[0] *= 2.0**60
    padded = np.pad(scaled, ((0, 0), (0, 0), (place[0], 2 - place[0]), (place[1], 2 - place[1])))
    assert window(padded, (3, 3)) == place
