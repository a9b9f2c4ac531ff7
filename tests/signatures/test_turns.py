"""Turned kernels: the eight ways to lay a square on itself, as positions inside a cell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketguard.graph.cells import layer_of
from ticketguard.signatures.turns import TURNS, turned

SHAPES = [(4, 3, 3, 3), (4, 3, 5, 5), (4, 3, 1, 7), (4, 3, 2, 4), (4, 3, 5), (2, 2, 2, 3, 3), (6, 8), (6, 8, 1, 1)]


class Stored:
    """A weight in memory."""

    def __init__(self, values):
        self.flat = values.ravel()

    def gather(self, positions):
        """Values at flat positions."""
        return self.flat[positions]


def read(values, turn):
    layer = layer_of("w", values.shape)
    weight = turned({"w": Stored(values)}, {"w": layer}, turn)["w"]
    return weight.gather(np.arange(layer.positions)).reshape(values.shape)


def test_the_ways_to_turn_a_square_are_seven_and_all_different():
    square = np.arange(9).reshape(1, 1, 3, 3)
    seen = {read(square, turn).tobytes() for turn in TURNS} | {square.tobytes()}
    assert len(seen) == 8
    # A group: what two of them do, one of them does, or nothing.
    assert all(read(read(square, one), two).tobytes() in seen for one in TURNS for two in TURNS)


@given(st.sampled_from(SHAPES), st.sampled_from(sorted(TURNS)), st.integers(0, 99))
def test_a_turn_moves_weights_inside_their_kernels_only(shape, turn, seed):
    values = np.random.default_rng(seed).permutation(np.prod(shape)).reshape(shape)
    found, last = read(values, turn), int(np.prod(shape[2:]))
    assert np.array_equal(np.sort(found.reshape(-1, last)), np.sort(values.reshape(-1, last)))


@pytest.mark.parametrize("turn", TURNS)
def test_kernels_of_a_trained_shape_are_turned_as_images_are(turn):
    values = np.random.default_rng(0).normal(size=(4, 3, 3, 3))
    assert np.array_equal(read(values, turn), TURNS[turn](values))
    oblong, line, dense = np.ones((2, 2, 1, 3)).cumsum().reshape(2, 2, 1, 3), np.arange(24).reshape(2, 3, 4), np.eye(4)
    if TURNS[turn](np.ones((2, 3))).shape == (2, 3):
        assert np.array_equal(read(oblong, turn), TURNS[turn](oblong))
        assert np.array_equal(read(line, turn), TURNS[turn](line[:, :, None])[:, :, 0])
    else:
        assert np.array_equal(read(oblong, turn), oblong)
    assert np.array_equal(read(dense, turn), dense)
