"""Containment of frames: exact for what was pruned, and the chance of it against many draws."""

import numpy as np
import pytest

from ticketguard.graph.cells import layer_of
from ticketguard.verify.containment import (
    LEAST_BY_CHANCE,
    MOST_OUTSIDE,
    Containment,
    _outside_by_chance,
    containment,
)
from ticketguard.verify.lineage import CHANCE_TRIES, _shuffled, chance_overlap, frame_weights

KNOWN = [
    [[1, 2, 3, 6, 4, 7, 5, 0], [13, 12, 15, 14, 8, 11, 10, 9]],
    [[5, 1, 2, 3, 0, 6, 4, 7], [12, 9, 10, 14, 15, 11, 8, 13]],
]


class Registered:
    """What containment reads of a registration."""

    def __init__(self, *shapes):
        self.layers = {f"{i}.weight": layer_of(f"{i}.weight", shape) for i, shape in enumerate(shapes)}
        self.channel_groups = None


@pytest.fixture
def registered():
    return Registered((24, 16, 3, 3), (10, 64))


@pytest.fixture
def frame(registered):
    rng = np.random.default_rng(1)
    return {
        name: rng.binomial(layer.cell, rng.beta(1, 3, size=(layer.rows, layer.cells_per_row)))
        for name, layer in registered.layers.items()
    }


def weights_of(registered, frame):
    return frame_weights(registered, frame)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 0.7])
def test_what_was_pruned_from_a_frame_is_inside_it(registered, frame, share):
    rng = np.random.default_rng(2)
    later = {name: counts - rng.binomial(counts, share) for name, counts in frame.items()}
    found = containment(weights_of(registered, later), registered, frame)
    assert found.outside == 0
    assert found.holds


def test_one_layer_alone_is_no_frame(registered, frame):
    """Who foresees the pruning of one layer registers that one; the edges of the others are outside of his frame."""
    later = weights_of(registered, frame)
    (name, *_), narrow = frame, Registered((24, 16, 3, 3))
    assert containment({name: later[name]}, narrow, {name: frame[name]}).holds
    found = containment(later, narrow, {name: frame[name]})
    assert found.outside > 0.1
    assert not found.holds


def test_a_frame_in_other_places_is_not_inside(registered, frame):
    later = {name: np.random.default_rng(3).permuted(counts) for name, counts in frame.items()}
    found = containment(weights_of(registered, later), registered, frame)
    assert not found.holds
    assert found.outside == pytest.approx(found.chance, rel=0.25)


def test_a_frame_in_which_anything_fits_proves_nothing(registered, frame):
    later = {name: np.minimum(counts, 3) for name, counts in frame.items()}
    full = {name: np.full_like(counts, registered.layers[name].cell) for name, counts in frame.items()}
    found = containment(weights_of(registered, later), registered, full)
    assert (found.outside, found.chance, found.holds) == (0, 0, False)


def test_where_nothing_is_comparable_everything_is_outside(registered, frame):
    found = containment({"x": np.ones((2, 2), np.float32)}, registered, frame)
    assert (found.outside, found.holds) == (1.0, False)


def test_the_bounds_are_inclusive():
    assert Containment(outside=MOST_OUTSIDE * LEAST_BY_CHANCE, chance=LEAST_BY_CHANCE).holds
    assert not Containment(outside=0.0, chance=LEAST_BY_CHANCE - 1e-9).holds
    assert not Containment(outside=0.021, chance=0.4).holds


def test_chance_is_the_mean_over_random_orders(frame):
    counts = np.random.default_rng(4).integers(0, 8, size=(24, 16))
    reference = frame["0.weight"]
    rng = np.random.default_rng(5)
    drawn = [np.maximum(counts - rng.permuted(reference, axis=1), 0).sum() for _ in range(400)]
    deviation = np.std(drawn) / np.sqrt(len(drawn))
    assert _outside_by_chance(counts, reference) == pytest.approx(np.mean(drawn), abs=5 * deviation)


def test_the_random_places_of_chance_are_known_answers():
    """SHAKE256 and a stable sort, no generator of numpy's: every version of it gives these."""
    counts = np.arange(16).reshape(2, 8)
    assert _shuffled("a.weight", counts, 0).tolist() == KNOWN[0]
    assert _shuffled("a.weight", counts, CHANCE_TRIES - 1).tolist() == KNOWN[1]


def test_chance_overlap_does_not_draw_from_numpy(registered, frame, monkeypatch):
    monkeypatch.setattr(np.random, "default_rng", None)
    weights = weights_of(registered, frame)
    assert chance_overlap(weights, registered, frame) == chance_overlap(weights, registered, frame)
