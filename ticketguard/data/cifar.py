"""CIFAR-10 and CIFAR-100 from their official files, in the binary or the Python layout (Krizhevsky 2009)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ticketguard.data.dataset import Dataset, Images, Labels
from ticketguard.data.files import damaged, locate, read
from ticketguard.data.pickles import load_pickle
from ticketguard.errors import DataError

SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"
PIXELS = 3 * 32 * 32
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One official way to store the images: folders it unpacks to, files per split, how many label bytes or which key."""

    folders: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    records: tuple[int, int]
    label_bytes: int = 1
    key: str = "labels"
    python: bool = False


CIFAR10 = (
    Layout(
        folders=("cifar-10-batches-bin",),
        train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        test=("test_batch.bin",),
        records=(10_000, 10_000),
    ),
    Layout(
        folders=("cifar-10-batches-py",),
        train=tuple(f"data_batch_{i}" for i in range(1, 6)),
        test=("test_batch",),
        records=(10_000, 10_000),
        python=True,
    ),
)
CIFAR100 = (
    Layout(
        folders=("cifar-100-binary",),
        train=("train.bin",),
        test=("test.bin",),
        records=(50_000, 10_000),
        label_bytes=2,
    ),
    Layout(
        folders=("cifar-100-python",),
        train=("train",),
        test=("test",),
        records=(50_000, 10_000),
        key="fine_labels",
        python=True,
    ),
)


def cifar10(directory: Path) -> Dataset:
    """CIFAR-10: 50,000 + 10,000 images of 3 x 32 x 32. `directory` is the unpacked folder or its parent."""
    layout = _choose(directory, CIFAR10)
    return _dataset(
        "cifar10", directory, layout, CIFAR10_CLASSES, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)
    )


def cifar100(directory: Path) -> Dataset:
    """CIFAR-100 with its fine labels: 50,000 + 10,000 images. `directory` is the unpacked folder or its parent."""
    layout = _choose(directory, CIFAR100)
    return _dataset(
        "cifar100",
        directory,
        layout,
        _fine_names(directory, layout),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    )


def _choose(directory: Path, layouts: tuple[Layout, ...]) -> Layout:
    errors = []
    for layout in layouts:
        try:
            locate(directory, layout.folders, layout.train[0], source=SOURCE)
        except DataError as error:
            errors.append(error)
        else:
            return layout
    raise errors[0]


def _dataset(
    name: str,
    directory: Path,
    layout: Layout,
    classes: tuple[str, ...],
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Dataset:
    train = [_batch(directory, layout, file, layout.records[0], len(classes)) for file in layout.train]
    test = [_batch(directory, layout, file, layout.records[1], len(classes)) for file in layout.test]
    return Dataset(
        name=name,
        train_images=np.concatenate([images for images, _ in train]),
        train_labels=np.concatenate([labels for _, labels in train]),
        test_images=np.concatenate([images for images, _ in test]),
        test_labels=np.concatenate([labels for _, labels in test]),
        classes=classes,
        mean=mean,
        std=std,
        augment="crop-flip",
    )


def _batch(directory: Path, layout: Layout, file: str, records: int, classes: int) -> tuple[Images, Labels]:
    path = locate(directory, layout.folders, file, source=SOURCE)
    images, labels = _python_batch(path, layout) if layout.python else _binary_batch(path, layout, records)
    if images.shape != (records, PIXELS) or labels.shape != (records,):
        raise damaged(path, f"{images.shape[0]} images and {labels.shape[0]} labels, expected {records}", source=SOURCE)
    if labels.min() < 0 or labels.max() >= classes:
        raise damaged(path, f"a label outside 0 to {classes - 1}", source=SOURCE)
    return np.ascontiguousarray(images).reshape(-1, 3, 32, 32), labels


def _binary_batch(path: Path, layout: Layout, records: int) -> tuple[Images, Labels]:
    width = layout.label_bytes + PIXELS
    data = np.frombuffer(read(path, expected=records * width, source=SOURCE), dtype=np.uint8).reshape(records, width)
    return data[:, layout.label_bytes :], data[:, layout.label_bytes - 1].astype(np.int64)


def _python_batch(path: Path, layout: Layout) -> tuple[Images, Labels]:
    content = load_pickle(read(path, source=SOURCE), where=path, source=SOURCE)
    data, labels = content.get("data"), content.get(layout.key)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS:
        raise damaged(path, f"'data' is not uint8 rows of {PIXELS}", source=SOURCE)
    if not isinstance(labels, list) or not all(isinstance(label, int) and abs(label) < 1 << 31 for label in labels):
        raise damaged(path, f"'{layout.key}' is not a list of integers", source=SOURCE)
    return data, np.array(labels, dtype=np.int64)


def _fine_names(directory: Path, layout: Layout) -> tuple[str, ...]:
    if layout.python:
        path = locate(directory, layout.folders, "meta", source=SOURCE)
        found = load_pickle(read(path, source=SOURCE), where=path, source=SOURCE).get("fine_label_names")
        names = [name.decode("ascii", "replace") if isinstance(name, bytes) else str(name) for name in found or ()]
    else:
        path = locate(directory, layout.folders, "fine_label_names.txt", source=SOURCE)
        names = read(path, source=SOURCE).decode("ascii", "replace").split()
    if len(names) != 100 or len(set(names)) != 100:
        raise damaged(path, f"{len(names)} class names, expected 100 different ones", source=SOURCE)
    return tuple(names)
