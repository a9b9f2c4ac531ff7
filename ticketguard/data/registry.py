"""The literal table of data sets, and `load`, which reads one and optionally keeps a seeded subset of its training images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ticketguard.data.cifar import cifar10, cifar100
from ticketguard.data.dataset import Dataset
from ticketguard.data.digits import digits
from ticketguard.data.folders import folder, tiny_imagenet
from ticketguard.data.idx import fashion_mnist
from ticketguard.errors import DataError, UsageError
from ticketguard.storage.atomic import is_folder

DATASETS: dict[str, Callable[[Path], Dataset]] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "fashion-mnist": fashion_mnist,
    "tiny-imagenet": tiny_imagenet,
    "folder": folder,
}
BUNDLED = frozenset({"digits"})


def load(name: str, directory: Path | None = None, *, limit: int | None = None) -> Dataset:
    """The data set `name` read from `directory` (not needed for `digits`), wholly into memory.

    `limit` keeps the first that many training images after a shuffle with a fixed seed; test images are never cut. Raises
    `UsageError` for an unknown name or a limit out of range, `DataError` for missing or damaged files.
    """
    if name not in DATASETS:
        raise UsageError(f"unknown data set {name!r}: one of {', '.join(DATASETS)}")
    if directory is None and name not in BUNDLED:
        raise UsageError(f"data set {name} is read from files: say which directory holds them (--data-dir)")
    where = Path() if directory is None else Path(directory)
    if directory is not None and not is_folder(where):
        raise DataError(f"data set {name}: no directory {where}")
    dataset = DATASETS[name](where)
    return dataset if limit is None else dataset.subset(limit)
