"""Image folders (one folder per class under `train` and `test`), and Tiny-ImageNet, which is nearly one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ticketguard.data.dataset import Dataset, Images, Labels, moments
from ticketguard.data.files import damaged, locate, read
from ticketguard.errors import DataError, FormatError, StorageError
from ticketguard.storage.atomic import is_folder, listed
from ticketguard.storage.pictures import picture_from

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm"})
TEST_FOLDERS = ("test", "val", "valid", "validation")
TINY_SOURCE = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
OWN = "its owner"


def folder(directory: Path) -> Dataset:
    """Images under `train/<class>/` and `test/<class>/` (or `val/`), all of one size; classes in sorted order."""
    train = directory / "train"
    test = next((directory / name for name in TEST_FOLDERS if is_folder(directory / name)), None)
    if not is_folder(train) or test is None:
        raise DataError(f"image folder {directory}: it needs train/<class>/ and test/<class>/ (or val/<class>/)")
    classes = tuple(sorted(path.name for path in listed(train) if is_folder(path)))
    unknown = sorted({path.name for path in listed(test) if is_folder(path)} - set(classes))
    if not classes or unknown:
        raise DataError(f"image folder {directory}: classes without training images: {', '.join(unknown) or 'all'}")
    return _dataset(
        f"folder-{directory.resolve().name}",
        classes,
        _by_class(train, classes, ""),
        _by_class(test, classes, ""),
        source=OWN,
    )


def tiny_imagenet(directory: Path) -> Dataset:
    """Tiny-ImageNet: 100,000 training and 10,000 validation images of 3 x 64 x 64 in 200 classes (WordNet ids)."""
    listing = locate(directory, ("tiny-imagenet-200",), "wnids.txt", source=TINY_SOURCE)
    root = listing.parent
    classes = tuple(sorted(read(listing, source=TINY_SOURCE).decode("ascii", "replace").split()))
    annotations = locate(root / "val", (), "val_annotations.txt", source=TINY_SOURCE)
    index = {name: position for position, name in enumerate(classes)}
    test = []
    for line in read(annotations, source=TINY_SOURCE).decode("utf-8", "replace").splitlines():
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in index or "/" in fields[0]:
            raise damaged(annotations, f"line {line[:60]!r}", source=TINY_SOURCE)
        test.append((root / "val" / "images" / fields[0], index[fields[1]]))
    return _dataset("tiny-imagenet", classes, _by_class(root / "train", classes, "images"), test, source=TINY_SOURCE)


def _by_class(root: Path, classes: tuple[str, ...], inner: str) -> list[tuple[Path, int]]:
    return [
        (path, label)
        for label, name in enumerate(classes)
        for path in _held(root / name / inner)
        if path.suffix.lower() in SUFFIXES
    ]


def _held(folder: Path) -> list[Path]:
    """What a folder holds; nothing where there is none, as a class may have no test images."""
    try:
        return listed(folder)
    except StorageError as problem:
        if isinstance(problem.__cause__, FileNotFoundError | NotADirectoryError):
            return []
        raise


def _dataset(
    name: str, classes: tuple[str, ...], train: list[tuple[Path, int]], test: list[tuple[Path, int]], *, source: str
) -> Dataset:
    train_images, train_labels = _read_images(name, train, source)
    test_images, test_labels = _read_images(name, test, source)
    mean, std = moments(train_images)
    return Dataset(
        name=name,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=classes,
        mean=mean,
        std=std,
        augment="crop-flip",
    )


def _read_images(name: str, files: list[tuple[Path, int]], source: str) -> tuple[Images, Labels]:
    if not files:
        raise DataError(f"data set {name}: no images found; people get it from {source}")
    images: Images = np.empty(0, dtype=np.uint8)
    for position, (path, _) in enumerate(files):
        try:
            pixels = picture_from(read(path, source=source), grey=False)
        except FormatError as error:
            raise damaged(path, str(error), source=source) from error
        if not position:
            images = np.empty((len(files), *pixels.shape), dtype=np.uint8)
        if pixels.shape != images.shape[1:]:
            raise DataError(
                f"{path}: size {pixels.shape[2]} x {pixels.shape[1]} differs from the first image's; resize them"
            )
        images[position] = pixels
    labels = np.array([label for _, label in files], dtype=np.int64)
    return images, labels
