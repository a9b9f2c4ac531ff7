"""The support of a suspect that was filled or rescaled."""

from __future__ import annotations

import numpy as np
import pytest

from ticketguard.graph.cells import layer_of
from ticketguard.graph.support import cleared, edges, equilibrated, suspect_support


def sparse(seed: int, density: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = rng.random((16, 12, 3, 3)) < density
    return mask * rng.choice([-1.0, 1.0], mask.shape) * rng.uniform(0.5, 1.5, mask.shape), mask


def test_a_sparse_suspect_is_its_non_zero_positions() -> None:
    weights, mask = sparse(0)
    assert np.array_equal(suspect_support(weights, int(mask.sum())), mask)
    assert np.array_equal(suspect_support(weights, int(mask.sum()) + 5), mask)


def test_a_filled_and_rescaled_suspect_gives_its_edges_back() -> None:
    weights, mask = sparse(1)
    rng = np.random.default_rng(2)
    rows, inputs = np.exp2(rng.uniform(-20, 20, (16, 1, 1, 1))), np.exp2(rng.uniform(-20, 20, (1, 12, 1, 1)))
    filled = (weights + (weights == 0) * 1e-9 * rng.standard_normal(weights.shape)) * rows * inputs
    assert np.array_equal(suspect_support(filled, int(mask.sum())), mask)
    plain = np.argsort(-np.abs(filled).ravel())[: int(mask.sum())]
    assert not mask.ravel()[plain].all(), "without equilibration rescaling would have fooled the ranking"


def test_equilibrated_magnitudes_do_not_see_rescaling() -> None:
    magnitude = np.random.default_rng(3).uniform(0.1, 1.0, (8, 6, 9))
    scaled = magnitude * np.exp2(np.arange(8.0))[:, None, None] * np.exp2(-np.arange(6.0))[None, :, None]
    np.testing.assert_allclose(equilibrated(scaled), equilibrated(magnitude), rtol=1e-6)


@pytest.mark.parametrize("kept", [0, 1, 50, 1728])
def test_exactly_the_kept_number_even_when_all_are_equal(kept: int) -> None:
    assert suspect_support(np.ones((16, 12, 9)), kept).sum() == kept


def test_not_a_number_and_zero_layers_are_harmless() -> None:
    weights = np.ones((4, 4))
    weights[0, 0], weights[1, 1] = np.nan, np.inf
    support = suspect_support(weights, 10)
    assert support.sum() == 10
    assert not support[0, 0]
    assert not support[1, 1]
    assert suspect_support(np.zeros((4, 4)), 3).sum() == 0


def test_a_wider_suspect_keeps_edges_in_proportion() -> None:
    layer = layer_of("w", (8, 8, 3, 3))
    dense = np.random.default_rng(4).standard_normal((10, 12, 3, 3))
    assert edges(layer, dense, 100).sum() == -(-100 * dense.size // layer.positions)


@pytest.mark.parametrize("density", [0.2, 0.02])
def test_invisible_weights_are_cleared_and_empty_rows_do_not_count(density: float) -> None:
    weights, mask = sparse(5, density)
    weights[3], mask[3] = 0.0, False
    layer = layer_of("w", weights.shape)
    rng = np.random.default_rng(6)
    scale = np.exp2(rng.uniform(-4, 4, (16, 1, 1, 1))) * np.exp2(rng.uniform(-4, 4, (1, 12, 1, 1)))
    filled = ((weights + (weights == 0) * 1e-9 * rng.standard_normal(weights.shape)) * scale).astype(np.float32)
    found = cleared(layer, filled, int(mask.sum()))
    assert (found[mask] != 0).mean() > 0.99
    assert np.array_equal(edges(layer, found, int(mask.sum()), was_cleared=True), mask & (found != 0))
    assert not edges(layer, found, 10**6, was_cleared=True)[3].any()


def test_sparse_and_truly_dense_layers_are_not_cleared() -> None:
    weights, mask = sparse(7)
    layer = layer_of("w", weights.shape)
    assert cleared(layer, weights, int(mask.sum())) is weights
    dense = weights + 1e-3 * np.random.default_rng(8).standard_normal(weights.shape)
    assert cleared(layer, dense, int(mask.sum())) is dense


def test_scales_beyond_squares_are_levelled_first() -> None:
    rng = np.random.default_rng(4)
    weights = rng.standard_normal((40, 30, 3, 3)) * (rng.random((40, 30, 3, 3)) < 0.2)
    filled = np.where(weights != 0, weights, 1e-9 * rng.standard_normal(weights.shape))
    scaled = filled * 2.0 ** rng.integers(-250, 251, (40, 1, 1, 1)) * 2.0 ** rng.integers(-250, 251, (1, 30, 1, 1))
    assert np.array_equal(suspect_support(scaled, int((weights != 0).sum())), weights != 0)
