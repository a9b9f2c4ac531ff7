"""Masks: exact counts, stable ties, values that nobody changes afterwards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ticketguard import masks
from ticketguard.errors import FormatError, UsageError
from ticketguard.masks import Mask, keep_largest, spread, support

SCORES = hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=6), elements=st.sampled_from([0.0, 1.0, 2.5]))


@given(st.lists(SCORES, min_size=1, max_size=4), st.data())
def test_exactly_k_are_kept_and_none_smaller_than_a_pruned_one(arrays, data):
    scores = {f"w{number}": array for number, array in enumerate(arrays)}
    flat = np.concatenate([array.ravel() for array in arrays])
    kept = data.draw(st.integers(0, flat.size))
    mask = keep_largest(scores, kept)
    bits = np.concatenate([mask[name].ravel() for name in scores])
    assert mask.kept == kept
    assert kept in (0, flat.size) or flat[bits].min() >= flat[~bits].max()


@pytest.mark.parametrize("kept", [0, 1, 5, 11, 12])
def test_all_equal_weights_keep_exactly_k_the_first_ones(kept):
    mask = keep_largest({"a": np.ones((2, 3)), "b": np.ones((6,))}, kept)
    bits = np.concatenate([mask["a"].ravel(), mask["b"].ravel()])
    assert bits.tolist() == [True] * kept + [False] * (12 - kept)


def test_within_restricts_the_candidates():
    within = Mask({"a": np.array([True, False, True, False])})
    mask = keep_largest({"a": np.array([1.0, 9.0, 2.0, 9.0])}, 1, within=within)
    assert mask["a"].tolist() == [False, False, True, False]
    with pytest.raises(UsageError, match="cannot keep 3 weights of 2"):
        keep_largest({"a": np.ones(4)}, 3, within=within)


@pytest.mark.parametrize("kept", [-1, 5])
def test_impossible_numbers_are_refused(kept):
    with pytest.raises(UsageError, match="cannot keep"):
        keep_largest({"a": np.ones(4)}, kept)


def test_the_spread_is_that_of_the_kept_weights_whatever_the_parts(monkeypatch):
    generator = np.random.default_rng(0)
    weights = generator.normal(3.0, 0.1, size=(40, 30)).astype(np.float32)
    kept = generator.random(weights.shape) < 0.3
    # To the last bit: new edges of a signed ticket start from it.
    assert spread(weights, kept) == np.std(weights[kept].astype(np.float64))
    monkeypatch.setattr(masks, "SPREAD_PART", 7)
    assert spread(weights, kept) == pytest.approx(np.std(weights[kept].astype(np.float64)), rel=1e-12)
    assert spread(weights, np.zeros_like(kept)) == 0.0


def test_no_layers_keep_nothing():
    assert keep_largest({}, 0).kept == 0
    assert Mask({}).density == 1.0


def test_counts_and_shares():
    mask = Mask({"a": np.array([[True, False], [False, False]]), "b": np.array([True] * 4)})
    assert (mask.kept, mask.size, mask.density, mask.sparsity) == (5, 8, 0.625, 0.375)
    assert list(mask) == ["a", "b"]
    assert len(mask) == 2


def test_masks_are_read_only_and_boolean():
    mask = Mask({"a": np.ones(3, dtype=np.bool_)})
    with pytest.raises(ValueError, match="read-only"):
        mask["a"][0] = False
    with pytest.raises(FormatError, match="expected booleans, found uint8"):
        Mask({"a": np.ones(3, dtype=np.uint8)})


def test_support_keeps_what_is_not_zero_nan_included():
    found = support({"a": np.array([0.0, -0.0, 1e-45, np.nan, np.inf]), "b": np.ones(2)}, ["a"])
    assert list(found) == ["a"]
    assert found["a"].tolist() == [False, False, True, True, True]


def test_masks_are_compared_by_value_and_shown_in_one_line():
    mask, same = (Mask({"a": np.eye(3) > 0, "b": np.ones(2) > 0}) for _ in range(2))
    assert mask == same
    assert hash(mask) == hash(same)
    assert mask != Mask({"a": np.eye(3) > 0, "b": np.zeros(2) > 0})
    assert mask != Mask({"a": np.eye(3) > 0, "b": np.ones((2, 1)) > 0})
    assert mask != Mask({name: mask[name] for name in ("b", "a")})
    assert mask != Mask({"a": np.eye(3) > 0})
    assert mask != {"a": np.eye(3) > 0}
    assert repr(mask) == "Mask(2 layers, 5 of 11 weights kept)"
