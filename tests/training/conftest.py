from __future__ import annotations

import numpy as np
import pytest

from ticketguard.data import Dataset


@pytest.fixture(scope="session")
def blobs():
    """Four classes of noisy 8 x 8 patterns: learnable in an epoch or two by a tiny network."""
    generator = np.random.default_rng(7)
    patterns = generator.integers(0, 256, (4, 1, 8, 8))

    def split(count):
        labels = np.arange(count) % 4
        noise = generator.integers(-60, 61, (count, 1, 8, 8))
        return np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8), labels

    train, test = split(192), split(64)
    return Dataset(
        name="blobs",
        train_images=train[0],
        train_labels=train[1],
        test_images=test[0],
        test_labels=test[1],
        classes=("a", "b", "c", "d"),
        mean=(0.5,),
        std=(0.25,),
        augment="crop-flip",
    )
