"""Handwritten digits bundled with scikit-learn: 1,797 real images of 8 x 8 pixels, available without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ticketguard.data.dataset import Dataset, moments
from ticketguard.errors import DataError

SPLIT_SEED = 20111  # the split is part of the data set: every ticket on digits uses the same one
TEST_SHARE = 0.2


def digits(directory: Path) -> Dataset:  # noqa: ARG001
    """The digits, grey levels 0 to 16 scaled to 0 to 255, 80 % training and 20 % test by a fixed seed.

    The directory is not used. Raises `DataError` when scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("data set digits needs scikit-learn: pip install 'ticketguard[demo]'") from error
    bundle = load_digits()
    images = np.rint(bundle.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bundle.target.astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    cut = round(len(images) * TEST_SHARE)
    test, train = order[:cut], order[cut:]
    mean, std = moments(images[train])
    return Dataset(
        name="digits",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        classes=tuple(str(digit) for digit in range(10)),
        mean=mean,
        std=std,
    )
