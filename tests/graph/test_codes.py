"""Which code of a quantized weight stands for zero."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ticketguard.graph.codes import less, zero_points

SHAPE = (12, 6, 3, 3)


def centred(codes: np.ndarray) -> np.ndarray:
    return less(codes, zero_points(codes).reshape(-1, *(1,) * (codes.ndim - 1)))


def sparse(density: float = 0.2, seed: int = 0) -> np.ndarray:
    """Codes of a sparse weight whose zero is 0, each code from -50 to 50."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(SHAPE) < density, rng.integers(-50, 51, SHAPE), 0)


@given(st.integers(60, 200), st.integers(0, 50))
def test_the_zero_point_of_a_sparse_weight_does_not_matter(zero: int, seed: int) -> None:
    codes = sparse(seed=seed)
    assert np.array_equal(centred((codes + zero).astype(np.uint8)), codes)
    assert np.array_equal(centred((codes + zero - 128).astype(np.int8)), codes)
    assert np.array_equal(centred((codes + 100 * zero).astype(np.uint16)), codes)
    for wide in (np.uint32, np.int32, np.uint64, np.int64):
        assert np.array_equal(centred((codes + 10_000 * zero).astype(wide)), codes)


def test_every_row_may_have_its_own() -> None:
    zeros = np.arange(100, 100 + SHAPE[0]).reshape(-1, 1, 1, 1)
    assert np.array_equal(centred((sparse() + zeros).astype(np.uint8)), sparse())


def test_wide_codes_are_zero_only_where_they_are_equal() -> None:
    codes = np.full((1, 5), 2**63, np.uint64)
    codes[0, 3] += np.uint64(1)  # float64 does not tell it from the others
    codes[0, 4] = 2**63 + 2**40
    assert np.array_equal(centred(codes), [[0, 0, 0, 1, 2**40]])


def plainly(codes: np.ndarray) -> np.ndarray:
    """docs/protocol.md, Tests, once more."""

    def most(part: np.ndarray) -> tuple[int, bool]:
        values, counts = np.unique(part, return_counts=True)
        return int(values[counts.argmax()]), bool(2 * counts.max() > part.size)

    if len(np.unique(codes)) <= 2:
        return codes.astype(int)
    whole, sure = most(codes)
    rest = whole if sure or codes.dtype.kind == "u" else 0
    rows = (most(row) for row in codes)
    return np.stack(
        [row.astype(int) - (code if enough else rest) for row, (code, enough) in zip(codes, rows, strict=True)]
    )


@given(arrays(st.sampled_from([np.uint8, np.int8, np.uint16, np.int16]), (4, 7), elements=st.integers(0, 5)))
def test_the_page_says_the_same(codes: np.ndarray) -> None:
    assert np.array_equal(centred(codes), plainly(codes))
    assert np.array_equal(centred(codes + codes.dtype.type(90)), plainly(codes + codes.dtype.type(90)))


def test_a_row_without_a_majority_has_that_of_the_whole_weight() -> None:
    codes = sparse()
    codes[3] = np.random.default_rng(1).integers(1, 51, SHAPE[1:])
    assert np.array_equal(centred((codes + 128).astype(np.uint8)), codes)


def test_dense_signed_codes_stay_and_dense_unsigned_ones_lose_the_most_frequent() -> None:
    signed = np.random.default_rng(2).integers(-50, 51, SHAPE)
    assert np.array_equal(centred(signed.astype(np.int8)), signed)
    unsigned = (signed + 128).astype(np.uint8)
    values, counts = np.unique(unsigned, return_counts=True)
    assert np.array_equal(centred(unsigned), unsigned.astype(np.int32) - values[counts.argmax()])


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("one", [1, 255])
def test_masks_stay(kept: float, one: int) -> None:
    mask = ((np.random.default_rng(3).random(SHAPE) < kept) * one).astype(np.uint8)
    assert np.array_equal(centred(mask), mask)


@pytest.mark.parametrize(("shape", "rows"), [((), 1), ((0,), 0), ((3,), 3), ((0, 3), 0), ((3, 0), 3)])
def test_odd_shapes_are_harmless(shape: tuple[int, ...], rows: int) -> None:
    assert not zero_points(np.ones(shape, dtype=np.uint8)).any()
    assert len(zero_points(np.ones(shape, dtype=np.uint8))) == rows
