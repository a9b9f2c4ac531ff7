"""Fashion-MNIST from its four official idx files, packed or not (Xiao et al. 2017)."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ticketguard.data.dataset import Dataset, Images, Labels, moments
from ticketguard.data.files import damaged, locate, read

SOURCE = "https://github.com/zalandoresearch/fashion-mnist"
FOLDERS = ("fashion-mnist", "fashion", "FashionMNIST/raw", "raw", "data/fashion")
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
UBYTE = 8


def fashion_mnist(directory: Path) -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28. `directory` holds the files or a folder with them."""
    train_images, train_labels = _split(directory, "train")
    test_images, test_labels = _split(directory, "t10k")
    mean, std = moments(train_images)
    return Dataset(
        name="fashion-mnist",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=CLASSES,
        mean=mean,
        std=std,
        augment="crop-flip",
    )


def _split(directory: Path, split: str) -> tuple[Images, Labels]:
    images = read_idx(locate(directory, FOLDERS, f"{split}-images-idx3-ubyte", source=SOURCE), dimensions=3)
    path = locate(directory, FOLDERS, f"{split}-labels-idx1-ubyte", source=SOURCE)
    labels = read_idx(path, dimensions=1)
    if len(labels) != len(images):
        raise damaged(path, f"{len(labels)} labels for {len(images)} images", source=SOURCE)
    if len(labels) and labels.max() >= len(CLASSES):
        raise damaged(path, f"a label outside 0 to {len(CLASSES) - 1}", source=SOURCE)
    return images[:, None], labels.astype(np.int64)


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """The unsigned bytes of an idx file with that many dimensions. Raises `DataError` when it is anything else."""
    data = read(path, source=SOURCE)
    start = 4 + 4 * dimensions
    if len(data) < start or data[:4] != bytes([0, 0, UBYTE, dimensions]):
        raise damaged(path, f"not an idx file of bytes with {dimensions} dimensions", source=SOURCE)
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    size = prod(shape)
    if size != len(data) - start:
        raise damaged(path, f"{len(data) - start} bytes of data, its header says {size}", source=SOURCE)
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)
