"""Cells: the public geometry that frames and carriers agree on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketguard.errors import UsageError
from ticketguard.graph.cells import Layer, cell_counts, layer_of

SHAPES = st.one_of(
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 6), st.integers(1, 30)),
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)),
)


@pytest.mark.parametrize(
    ("shape", "cell", "cells_per_row", "full"),
    [
        ((64, 32, 3, 3), 9, 32, 2048),
        ((64, 1, 3, 3), 9, 1, 64),
        ((64, 32, 1, 1), 8, 4, 256),
        ((10, 21), 8, 3, 20),
        ((10, 5), 5, 1, 10),
        ((8, 4, 5), 5, 4, 32),
    ],
)
def test_cells_are_kernels_or_blocks_of_inputs(shape, cell, cells_per_row, full):
    layer = layer_of("w", shape)
    assert (layer.cell, layer.cells_per_row, layer.full_cells) == (cell, cells_per_row, full)


def test_block_follows_the_sparsity_pattern_and_leaves_kernels_alone():
    assert layer_of("w", (8, 16), block=4).cell == 4
    assert layer_of("w", (8, 16, 3, 3), block=4).cell == 9


@given(SHAPES, st.integers(2, 9), st.integers(0, 2**32))
def test_counts_are_sums_over_cells_and_add_up(shape, block, seed):
    layer = layer_of("w", shape, block=block)
    kept = np.random.default_rng(seed).random(shape) < 0.5
    counts = cell_counts(layer, kept)
    rows = kept.reshape(layer.rows, -1)
    expected = [
        [int(row[start : start + layer.cell].sum()) for start in range(0, layer.fan_in, layer.cell)] for row in rows
    ]
    assert counts.tolist() == expected
    assert counts.dtype == np.int64
    assert counts.shape == (layer.rows, layer.cells_per_row)


@given(SHAPES, st.integers(2, 9))
def test_full_cells_tile_each_row_from_its_start(shape, block):
    layer = layer_of("w", shape, block=block)
    cells, offsets = np.divmod(np.arange(layer.full_cells * layer.cell), layer.cell)
    positions = layer.positions_of(cells, offsets)
    assert len(np.unique(positions)) == len(positions)
    columns = positions % layer.fan_in
    assert (columns < layer.fan_in // layer.cell * layer.cell).all()
    assert np.array_equal(positions // layer.fan_in, np.sort(positions // layer.fan_in))


@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (3, 0, 3, 3)])
def test_what_is_no_matrix_is_no_layer(shape):
    with pytest.raises(UsageError, match="at least two dimensions"):
        Layer(name="w", shape=shape, cell=3)
