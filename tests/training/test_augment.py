from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketguard.training.augment import crop_flip, plan_epoch
from ticketguard.training.batches import Batches, Normalizer


def by_hand(images, padding, top, left, flip):
    """The usual way: pad, cut and mirror one image after the other."""
    out = []
    for image, t, x, mirrored in zip(images.numpy(), top.tolist(), left.tolist(), flip.tolist(), strict=True):
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        cut = padded[t : t + image.shape[0], x : x + image.shape[1]]
        out.append(cut[:, ::-1] if mirrored else cut)
    return np.stack(out)


@given(seed=st.integers(0, 2**32), height=st.integers(1, 9), width=st.integers(1, 9), channels=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_one_gather_equals_image_by_image(seed, height, width, channels):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (5, height, width, channels), generator=generator, dtype=torch.uint8)
    plan = plan_epoch(5, "crop-flip", generator, torch.device("cpu"))
    ours = crop_flip(images, 4, plan.top, plan.left, plan.flip)
    np.testing.assert_array_equal(ours.numpy(), by_hand(images, 4, plan.top, plan.left, plan.flip))


def test_choices_are_uniform_and_cover_every_image():
    plan = plan_epoch(20_000, "crop-flip", torch.Generator().manual_seed(0), torch.device("cpu"))
    assert plan.order.sort().values.tolist() == list(range(20_000))
    counts = torch.bincount(plan.top, minlength=9)
    assert len(counts) == 9
    assert (counts.float() / 20_000 - 1 / 9).abs().max() < 0.01
    assert abs(plan.flip.float().mean().item() - 0.5) < 0.02
    still = plan_epoch(100, "none", torch.Generator().manual_seed(0), torch.device("cpu"))
    assert not still.flip.any()
    assert not still.top.any()


def test_batches_are_normalized_and_channels_last():
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 4), dtype=np.uint8)
    device = torch.device("cpu")
    batches = Batches(images, np.arange(6), Normalizer((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), device), "none", device)
    plan = plan_epoch(6, "none", torch.Generator().manual_seed(1), device)
    pixels, labels = batches.take(plan, 2, 5)
    expected = (images[plan.order[2:5]] / 255 - np.reshape([0.1, 0.2, 0.3], (3, 1, 1))) / np.reshape(
        [0.5, 0.6, 0.7], (3, 1, 1)
    )
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-5)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == plan.order[2:5].tolist()
