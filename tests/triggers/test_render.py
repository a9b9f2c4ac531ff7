from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from ticketguard.errors import DataError, UsageError
from ticketguard.triggers.plan import TriggerPlan, make_plan
from ticketguard.triggers.render import IMAGES_LABEL, TARGETS_LABEL, draw_images, draw_labels, render, targets

CLASSES = tuple("0123456789")


Open = Callable[..., Any]


def plan(shape: tuple[int, int, int] = (1, 8, 8), classes: tuple[str, ...] = CLASSES) -> TriggerPlan:
    return make_plan(shape, classes, leaves=4)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 5, 9), (4, 16, 1)])
def test_pictures_of_any_shape_are_reproducible_distinct_and_structured(
    shape: tuple[int, int, int], opening: Open
) -> None:
    stream = opening(0).stream(IMAGES_LABEL, 0)
    images = draw_images(stream, plan(shape))
    assert images.dtype == np.uint8
    assert images.shape == (64, *shape)
    np.testing.assert_array_equal(images, draw_images(stream, plan(shape)))
    flat = images.reshape(64, -1).astype(np.int64)
    apart = np.abs(flat[:, None] - flat[None]).mean(axis=2) + 255 * np.eye(64)
    assert apart.min() > 8
    assert images.std() > 40


def test_pictures_are_smoother_than_noise(opening: Open) -> None:
    images = draw_images(opening(0).stream(IMAGES_LABEL, 0), plan((3, 32, 32))).astype(np.int64)
    noise = np.random.default_rng(0).integers(0, 256, images.shape)
    assert np.abs(np.diff(images, axis=3)).mean() < 0.35 * np.abs(np.diff(noise, axis=3)).mean()


def test_large_pictures_are_drawn_in_chunks_that_leave_no_trace(opening: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = opening(0).stream(IMAGES_LABEL, 0)
    whole = draw_images(stream, plan())
    monkeypatch.setattr("ticketguard.triggers.render.PIXELS_AT_ONCE", 64 * 7)
    np.testing.assert_array_equal(draw_images(stream, plan()), whole)


def test_the_first_pictures_never_change(opening: Open) -> None:
    """A registration outlives versions: what is drawn from a stream is part of the format."""
    images = draw_images(opening(0).stream(IMAGES_LABEL, 0), plan())
    labels = draw_labels(opening(0).stream(TARGETS_LABEL, 0), plan())
    assert (
        hashlib.sha256(images.tobytes()).hexdigest()
        == "26b8c096af06b81d20a4a79bb538b86a68eae9535e5760e59b6fa41f83e0091d"
    )
    assert labels[:12].tolist() == [5, 7, 6, 3, 0, 9, 6, 8, 0, 1, 5, 8]


def test_labels_are_uniform_and_independent_of_the_pictures(opening: Open) -> None:
    leaves = opening(*range(60))
    small = TriggerPlan(per_leaf=100, leaves=60, shape=(1, 4, 4), classes=CLASSES)
    labels = np.concatenate(list(targets(leaves, small).values()))
    assert chisquare(np.bincount(labels, minlength=10)).pvalue > 1e-4
    bright = render(leaves, small).images.reshape(6000, -1).mean(axis=1) > 127
    table = np.stack([np.bincount(labels[bright], minlength=10), np.bincount(labels[~bright], minlength=10)])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() < 33  # 9 degrees of freedom: beyond it once in 10,000


def test_leaves_keep_their_place_in_the_pooled_order(opening: Open) -> None:
    everything, one = render(opening(0, 1, 2, 3), plan()), render(opening(2), plan())
    np.testing.assert_array_equal(one.indices, np.arange(128, 192))
    np.testing.assert_array_equal(one.images, everything.images[128:192])
    np.testing.assert_array_equal(one.labels, everything.labels[128:192])
    assert len(np.unique(everything.images.reshape(256, -1), axis=0)) == 256


def test_own_images_get_the_streams_labels_and_are_checked(opening: Open) -> None:
    images = np.random.default_rng(3).integers(0, 256, (256, 1, 8, 8), dtype=np.uint8)
    own = make_plan((1, 8, 8), CLASSES, leaves=4, own_images=images)
    triggers = render(opening(1), own, own_images=images)
    np.testing.assert_array_equal(triggers.images, images[64:128])
    np.testing.assert_array_equal(triggers.labels, render(opening(1), plan()).labels)
    with pytest.raises(UsageError, match="own images"):
        render(opening(1), own)
    with pytest.raises(DataError, match="image 64 is missing, or not the one"):
        render(opening(1), own, own_images=images[::-1].copy())
    with pytest.raises(DataError, match="256 uint8 images"):
        render(opening(1), own, own_images=images[:64])
