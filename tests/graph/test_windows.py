"""Kernels inside larger ones: found by size and magnitude, wherever they lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketguard.graph.windows import MOST_LOOKED_AT, MOST_POSITIONS, Windows, _looked_at, kernel_within, windows


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


def place(found: Windows) -> tuple[int, ...]:
    """The one place of all kernels."""
    assert not np.ptp(found.rows, axis=0).any() if len(found.rows) else True
    assert not found.columns.any()
    return tuple(found.rows[0].tolist()) if len(found.rows) else (0,) * len(found.room)


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.sampled_from([0.0, 1e-9, np.nan]))
def test_a_kernel_is_found_where_it_lies(top, bottom, left, right, around):
    values = np.random.default_rng(0).normal(size=(4, 3, 3, 3)) * (np.random.default_rng(1).random((4, 3, 3, 3)) < 0.4)
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=around)
    assert place(windows(padded, (3, 3))) == (top, left)


def test_nothing_lies_at_the_first_place():
    for values in (
        np.zeros((2, 2, 5, 5)),
        np.full((2, 2, 5, 5), np.inf),
        np.ones((2, 2, 5, 5)),
        np.zeros((0, 2, 5, 5)),
    ):
        assert place(windows(values, (3, 3))) == (0, 0)


@pytest.mark.parametrize("where", [(0, 1), (1, 0), (1, 1), (2, 0)])
def test_no_edge_outweighs_the_others_by_rescaling(where):
    rng = np.random.default_rng(2)
    values = rng.normal(size=(6, 5, 3, 3)) * (rng.random((6, 5, 3, 3)) < 0.2)
    values[0, 0] = 0.0
    values[0, 0, 0, 2] = 1.0
    scaled = values * 2.0 ** rng.integers(-20, 21, (6, 1, 1, 1)) * 2.0 ** rng.integers(-20, 21, (1, 5, 1, 1))
    scaled[0] *= 2.0**60
    padded = np.pad(scaled, ((0, 0), (0, 0), (where[0], 2 - where[0]), (where[1], 2 - where[1])))
    assert place(windows(padded, (3, 3))) == where


def shifted(kernels, size, rows, columns):
    """Kernels of another `size`, at the corners `rows` plus `columns`."""
    larger = np.zeros((*kernels.shape[:2], *size))
    for o, i in np.ndindex(*kernels.shape[:2]):
        part = tuple(slice(c, c + k) for c, k in zip(rows[o] + columns[i], kernels.shape[2:], strict=True))
        larger[(o, i, *part)] = kernels[o, i]
    return larger


@pytest.mark.parametrize(
    ("kernel", "size", "density", "noise"),
    [
        ((3, 3), (5, 5), 0.2, 0.0),
        ((3, 3), (7, 7), 0.2, 0.0),
        ((3, 3), (7, 7), 0.1, 0.0),
        ((3, 3), (7, 7), 0.2, 0.01),
        ((3, 3), (7, 3), 0.2, 0.0),
        ((3, 1), (5, 4), 0.4, 0.0),
        ((3,), (9,), 0.4, 0.0),
        ((2, 3, 2), (4, 5, 3), 0.2, 0.0),
    ],
)
def test_channels_that_were_shifted_against_each_other_are_found(kernel, size, density, noise):
    """The output of a channel moves some pixels one way, the kernels that read it the other: the place is a sum."""
    rng = np.random.default_rng(len(size))
    room = np.array(size) - kernel
    kernels = rng.normal(size=(48, 32, *kernel)) * (rng.random((48, 32, *kernel)) < density)
    rows, columns = (rng.integers(0, part + 1, (n, len(size))) for n, part in ((48, room - room // 2), (32, room // 2)))
    larger = shifted(kernels, size, rows, columns)
    scaled = (larger + noise * rng.normal(size=larger.shape)) * 2.0 ** rng.integers(-9, 9, (48, 1, *[1] * len(size)))
    found = windows(scaled, kernel)
    assert not found.together
    assert found.held > (0.999 if noise == 0 else 0.8)
    edges = kernels != 0
    assert np.mean(found.cut(larger)[edges] == kernels[edges]) > 0.99
    positions = rng.integers(0, kernels.size, 200)
    assert np.array_equal(larger.ravel()[found.moved(positions, larger.shape)], found.cut(larger).ravel()[positions])


def test_channels_without_weights_stay_where_the_others_are():
    kernels = np.random.default_rng(4).normal(size=(9, 7, 3, 3))
    kernels[2], kernels[:, 3] = 0.0, 0.0
    rows = np.array([[1, 1]] * 5 + [[2, 0]] * 4)
    found = windows(shifted(kernels, (5, 5), rows, np.zeros((7, 2), int)), (3, 3))
    assert found.rows.tolist() == rows.tolist()
    assert not found.columns.any()


def test_dense_kernels_of_their_own_lie_at_no_one_place():
    found = windows(np.random.default_rng(5).normal(size=(8, 8, 5, 5)), (3, 3))
    assert not found.together
    assert found.held < 0.7


def test_a_search_that_would_take_too_long_is_left_out():
    shape = (2, 2, 63, 63)
    assert _looked_at(shape, (60, 60)) > MOST_LOOKED_AT
    found = windows(np.random.default_rng(6).normal(size=shape), (3, 3))
    assert not found.together
    assert place(found)
