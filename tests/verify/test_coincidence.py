"""Coincidence of edges: 1 for the same, 0 for others of the same counts, and nothing that is added hides it."""

import numpy as np
import pytest

from ticketguard.graph.cells import cell_counts, layer_of
from ticketguard.verify.coincidence import MOST_COINCIDENCE, coincidence

SHAPES = {"0.weight": (32, 24, 3, 3), "1.weight": (20, 64)}


class Registered:
    """What coincidence reads of a registration."""

    layers = {name: layer_of(name, shape) for name, shape in SHAPES.items()}  # noqa: RUF012 - read only
    channel_groups = None


def model(seed, density=0.25):
    rng = np.random.default_rng(seed)
    return {
        name: np.where(rng.random(shape) < density, rng.normal(size=shape), 0).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def measured(suspect, original):
    reference = {name: cell_counts(Registered.layers[name], weight != 0) for name, weight in original.items()}
    return coincidence(suspect, original, Registered(), reference)


def test_the_same_edges():
    assert measured(model(1), model(1)) == pytest.approx(1)


def test_pruned_and_edges_added_elsewhere():
    original, rng = model(1), np.random.default_rng(2)
    for size in (1e-3, 1.0, 100.0):
        suspect = {
            name: np.where(rng.random(w.shape) < 0.5, w, np.where(rng.random(w.shape) < 0.2, size, 0)).astype(
                np.float32
            )
            for name, w in original.items()
        }
        assert measured(suspect, original) > MOST_COINCIDENCE


def test_noise_everywhere_hides_nothing():
    suspect = {name: (w + 1e-3).astype(np.float32) for name, w in model(1).items()}
    assert measured(suspect, model(1)) > 0.9


@pytest.mark.parametrize("seed", range(2, 6))
def test_other_edges_are_at_chance(seed):
    assert measured(model(seed, density=0.1 * seed), model(1)) == pytest.approx(0, abs=0.06)


def test_where_nothing_can_be_compared_it_is_zero():
    assert measured({"x": np.ones((2, 2), np.float32)}, model(1)) == 0
