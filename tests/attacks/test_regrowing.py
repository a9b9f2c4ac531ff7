"""Dropping and growing edges: exact counts, the smallest go, cells keep their numbers."""

from __future__ import annotations

import numpy as np

from ticketguard.attacks.regrowing import regrow, smallest
from ticketguard.graph.cells import cell_counts, layer_of


def test_rewiring_in_the_cell_keeps_counts(victim) -> None:
    kept = np.asarray(victim.model.mask[victim.names[0]])
    layer = layer_of("layer", kept.shape)
    scores = np.random.default_rng(0).random(kept.shape)
    drop = smallest(scores, kept, 0.5)
    assert drop.sum() == round(0.5 * kept.sum())
    assert scores[drop].max() <= scores[kept & ~drop].min()
    after = regrow(kept, drop, layer.cell, np.random.default_rng(1))
    assert np.array_equal(cell_counts(layer, after), cell_counts(layer, kept))
    assert np.all(after[kept & ~drop])
    # An edge stays only in a cell that has fewer empty places than dropped edges.
    crowded = np.repeat(cell_counts(layer, drop) > layer.cell - cell_counts(layer, kept), layer.cell, axis=1)
    assert not np.any(after & drop & ~crowded.reshape(kept.shape))
    assert np.mean(after[drop]) < 0.01
    full = np.ones((4, 10), np.bool_)
    assert np.array_equal(regrow(full, full, 8, np.random.default_rng(2)), full)
