"""The edge code: laws of drawing, embedding and reading, on random layers and masks."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.readings import read
from ticketguard.claims.streams import Stream
from ticketguard.graph.cells import Layer, cell_counts, layer_of
from ticketguard.masks import Mask
from ticketguard.signatures import edge

LEAVES = 3
GROUPS = LEAVES + 1
SHAPES = st.one_of(
    st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 3), st.integers(2, 3)),
    st.tuples(st.integers(1, 12), st.integers(2, 40)),
    st.tuples(st.integers(1, 8), st.integers(2, 20), st.just(1), st.just(1)),
)


def stream(leaf, label="edge/w", secret=0):
    return Stream(label, bytes(32), leaf, hashlib.sha256(bytes([secret, leaf])).digest())


def drawn(layer, pairs, *, secret=0):
    return [
        edge.draw(layer, pairs, leaf=leaf, groups=GROUPS, stream=stream(leaf, secret=secret)) for leaf in range(LEAVES)
    ]


def signed(layer, kept, carriers):
    moved = [edge.moves(each, kept) for each in carriers]
    return edge.embed(Mask({layer.name: kept}), {layer.name: moved})[layer.name], moved


def values_of(carriers, weights):
    flat = weights.ravel()
    return read(carriers, flat[carriers.first], flat[carriers.second])


@st.composite
def layers_with_masks(draw):
    shape = draw(SHAPES)
    layer = layer_of("w", shape, block=draw(st.integers(2, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return layer, rng.random(shape) < draw(st.floats(0, 1)), draw(st.integers(0, 200))


@settings(max_examples=80, deadline=None)
@given(layers_with_masks())
def test_embedding_keeps_every_cells_count(case):
    layer, kept, pairs = case
    after, _ = signed(layer, kept, drawn(layer, pairs))
    assert np.array_equal(cell_counts(layer, after), cell_counts(layer, kept))


@settings(max_examples=80, deadline=None)
@given(layers_with_masks())
def test_sign_then_read_gives_every_informative_pair(case):
    layer, kept, pairs = case
    carriers = drawn(layer, pairs)
    after, _ = signed(layer, kept, carriers)
    for each in carriers:
        n, matches = values_of(each, after).support()
        flat = kept.ravel()
        assert matches == n == int((flat[each.first] != flat[each.second]).sum())


@settings(max_examples=80, deadline=None)
@given(layers_with_masks())
def test_positions_stay_in_one_cell_of_the_leafs_own_group(case):
    layer, _, pairs = case
    for leaf, carriers in enumerate(drawn(layer, pairs)):
        rows, columns = np.divmod(np.stack([carriers.first, carriers.second]), layer.fan_in)
        cells = rows * (layer.fan_in // layer.cell) + columns // layer.cell
        assert np.array_equal(cells[0], cells[1])
        assert (columns < layer.fan_in // layer.cell * layer.cell).all()
        assert (cells % GROUPS == leaf).all()


@settings(max_examples=80, deadline=None)
@given(layers_with_masks())
def test_no_position_is_used_twice_and_no_leaf_touches_anothers(case):
    layer, _, pairs = case
    carriers = drawn(layer, pairs)
    used = np.concatenate([np.concatenate([each.first, each.second]) for each in carriers])
    assert len(np.unique(used)) == len(used)
    assert all((each.first != each.second).all() for each in carriers)


@settings(max_examples=40, deadline=None)
@given(layers_with_masks())
def test_signing_again_moves_nothing(case):
    layer, kept, pairs = case
    carriers = drawn(layer, pairs)
    after, _ = signed(layer, kept, carriers)
    again, moved = signed(layer, after, carriers)
    assert np.array_equal(again, after)
    assert sum(len(move.source) for move in moved) == 0


def test_fingerprint_groups_cells_are_never_moved():
    layer = layer_of("w", (12, 10, 3, 3))
    kept = np.random.default_rng(0).random(layer.shape) < 0.5
    after, _ = signed(layer, kept, drawn(layer, 400))
    changed = np.flatnonzero((after != kept).ravel()) // layer.cell
    assert len(changed) > 20
    assert LEAVES not in set(changed % GROUPS)


def test_pairs_that_touch_an_earlier_draw_are_dropped_even_when_that_one_was_dropped():
    """One cell of four positions; the words say which pairs are drawn: (0,1), (1,2), (2,3)."""

    class Fixed:
        def words(self, count):
            # cell, first, second as offset from first + 1, bit
            return np.array([[0, 0, 0, 1], [0, 1, 0, 0], [0, 2, 0, 1]], dtype=np.uint64).ravel()[:count]

    layer = Layer(name="w", shape=(1, 4), cell=4)
    carriers = edge.draw(layer, 3, leaf=0, groups=1, stream=Fixed())
    assert carriers.first.tolist() == [0]
    assert carriers.second.tolist() == [1]
    assert carriers.bits.tolist() == [True]


@pytest.mark.parametrize("size", [1 << 10, (1 << 22) + 1])
def test_first_touch_agrees_with_a_plain_loop_on_both_sides_of_its_size_limit(size):
    touched = np.random.default_rng(3).integers(0, 60, (80, 2))
    seen, expected = set(), []
    for pair in touched.tolist():
        expected.append(not seen & set(pair) and pair[0] != pair[1])
        seen |= set(pair)
    distinct = touched[:, 0] != touched[:, 1]
    assert (edge._first_touch(touched, size) & distinct).tolist() == [bool(item) for item in expected]


@pytest.mark.parametrize("shape", [(3, 1), (3, 1, 1, 1)])
def test_layers_without_two_positions_in_a_cell_carry_nothing(shape):
    carriers = edge.draw(Layer(name="w", shape=shape, cell=1), 10, leaf=0, groups=2, stream=stream(0))
    assert len(carriers.first) == len(carriers.bits) == 0


def test_leaf_without_a_cell_of_its_own_carries_nothing():
    layer = layer_of("w", (1, 1, 3, 3))
    assert len(edge.draw(layer, 10, leaf=0, groups=2, stream=stream(0)).first) > 0
    assert len(edge.draw(layer, 10, leaf=1, groups=2, stream=stream(1)).first) == 0


def test_short_last_cells_of_a_row_carry_nothing():
    layer = layer_of("w", (6, 19), block=8)
    carriers = edge.draw(layer, 200, leaf=0, groups=1, stream=stream(0))
    assert (np.concatenate([carriers.first, carriers.second]) % 19 < 16).all()


@pytest.fixture
def marked():
    """A layer, its carriers and signed weights with a spread of scales."""
    layer = layer_of("w", (16, 12, 3, 3))
    rng = np.random.default_rng(1)
    carriers = edge.draw(layer, 300, leaf=0, groups=1, stream=stream(0))
    kept, _ = signed(layer, rng.random(layer.shape) < 0.4, [carriers])
    return layer, carriers, np.where(kept, rng.normal(size=layer.shape), 0)


def test_lossless_rescaling_of_rows_and_input_channels_leaves_the_evidence(marked):
    _, carriers, weights = marked
    rng = np.random.default_rng(2)
    rows = 2.0 ** rng.integers(-6, 7, (16, 1, 1, 1))
    columns = 2.0 ** rng.integers(-6, 7, (1, 12, 1, 1))
    plain, scaled = values_of(carriers, weights), values_of(carriers, weights * rows * columns)
    assert plain.support() == scaled.support()
    # A few rounds leave scales that differ a little; nearly every sign, and the sum, stay.
    assert (plain.sign == scaled.sign).mean() > 0.97
    total = [
        float((found[0] * found[1]).sum()) for found in (plain.magnitude("magnitude"), scaled.magnitude("magnitude"))
    ]
    assert total[1] == pytest.approx(total[0], rel=0.05)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e30, 1e60, 1e120, 1e170, 1e290])
def test_rows_and_channels_of_any_scale_hide_nothing(marked, scale):
    _, carriers, weights = marked
    rows = np.where(np.arange(16) % 3, 1.0, scale).reshape(16, 1, 1, 1)
    columns = np.where(np.arange(12) % 4, 1.0, 1 / scale).reshape(1, 12, 1, 1)
    plain, scaled = values_of(carriers, weights), values_of(carriers, weights * rows * columns)
    assert plain.support() == scaled.support()
    assert (plain.sign == scaled.sign).mean() > 0.97
    found = [float((v * s).sum()) for v, s in (plain.magnitude("magnitude"), scaled.magnitude("magnitude"))]
    assert found[1] == pytest.approx(found[0], rel=0.1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dead", [0.0, 2.3e-162, 1e-310])
def test_dead_filters_whose_squares_vanish_hide_nothing(marked, dead):
    layer, carriers, weights = marked
    rng = np.random.default_rng(3)
    stolen = np.where(weights == 0, 1e-4 * rng.normal(size=layer.shape), weights)
    plain = values_of(carriers, stolen)
    stolen[::5] = dead * np.where(rng.random(stolen[::5].shape) < 0.12, 1.0, 0.45)
    values, signs = values_of(carriers, stolen).magnitude("magnitude")
    before = float(np.prod(plain.magnitude("magnitude"), axis=0).sum())
    assert float((values * signs).sum()) > 0.6 * before


@pytest.mark.parametrize("factor", [1e-200, 2.0**-20, 3.0, 1e200])
def test_scaling_the_whole_layer_changes_nothing(marked, factor):
    _, carriers, weights = marked
    plain, scaled = values_of(carriers, weights), values_of(carriers, weights * factor)
    assert np.array_equal(plain.sign, scaled.sign)
    assert np.allclose(plain.value, scaled.value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_not_finite_weights_are_erasures_and_reach_no_other_pair(marked, poison):
    _, carriers, weights = marked
    spoilt = weights.copy()
    spoilt.reshape(-1)[carriers.first[:7]] = poison
    reading = values_of(carriers, spoilt)
    n, matches = reading.support()
    values, signs = reading.magnitude("squared-magnitude")
    assert reading.erased.sum() == 7
    assert n == matches == int(values_of(carriers, weights).informative[7:].sum())
    assert np.isfinite(values).all()
    assert len(values) == len(signs) <= len(carriers.first) - 7


def test_everything_erased_is_no_evidence(marked):
    _, carriers, weights = marked
    reading = values_of(carriers, np.full_like(weights, np.nan))
    assert reading.support() == (0, 0)
    assert len(reading.magnitude("magnitude")[0]) == 0


def test_reading_needs_nothing_but_carriers_and_values_there(marked):
    """Whatever the suspect holds elsewhere: nothing of it is read."""
    _, carriers, weights = marked
    elsewhere = np.full(weights.size, np.nan)
    positions = np.concatenate([carriers.first, carriers.second])
    elsewhere[positions] = weights.ravel()[positions]
    assert values_of(carriers, elsewhere.reshape(weights.shape)).support() == values_of(carriers, weights).support()


def test_bits_are_read_back_from_the_suspect_alone(marked):
    _, carriers, weights = marked
    reading = values_of(replace(carriers, bits=np.zeros_like(carriers.bits)), weights)
    chosen = reading.informative
    assert chosen.sum() > 50
    assert np.array_equal(reading.kept_first[chosen], carriers.bits[chosen])


def test_evidence_of_the_same_weights_in_half_precision_differs_little(marked):
    _, carriers, weights = marked
    assert values_of(carriers, weights.astype(np.float16)).support() == values_of(carriers, weights).support()


def test_magnitude_ignores_pairs_of_equal_size_and_counts_the_rest():
    layer = Layer(name="w", shape=(1, 1, 2, 3), cell=6)
    carriers = edge.Carriers(
        layer=layer,
        leaf=0,
        first=np.array([0, 2, 4]),
        second=np.array([1, 3, 5]),
        bits=np.array([True, False, True]),
    )
    values, signs = read(carriers, np.array([3.0, -2.0, 1.0]), np.array([-3.0, 1.0, -9.0])).magnitude("magnitude")
    assert signs.tolist() == [-1, -1]
    assert values[0] < values[1] == 1


def test_a_pair_weighs_its_difference_or_the_square_of_it_up_to_the_clip():
    """One row of 16 positions with a single large weight: its RMS is a quarter of that weight."""
    layer = Layer(name="w", shape=(1, 1, 4, 4), cell=16)
    positions = np.arange(16)
    carriers = edge.Carriers(
        layer=layer, leaf=0, first=positions[::2], second=positions[1::2], bits=np.ones(8, dtype=np.bool_)
    )
    weights = np.zeros(8)
    weights[:2] = 1.0, 0.25
    reading = read(carriers, weights, np.zeros(8))
    unit = float(np.sqrt((1 + 0.25**2) / 16))
    assert 1.0 / unit > 3
    # The single row and the single input channel are divided by their RMS over and over: after the first time it is 1.
    assert reading.magnitude("squared-magnitude")[0] == pytest.approx([9, (0.25 / unit) ** 2])
    assert reading.magnitude("magnitude")[0] == pytest.approx([1, 0.25 / unit])
