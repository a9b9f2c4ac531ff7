"""Pictures in a folder: an owner's own triggers, or a caller's own decoys."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import DataError, FormatError
from ticketguard.storage.atomic import is_folder, listed, make_folder, read_bytes, write_bytes
from ticketguard.storage.documents import read_npy
from ticketguard.storage.pictures import PICTURE_CHANNELS, picture_from, png_bytes

SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", ".npy")
FILE_LIMIT = 16 << 20


def read_folder(folder: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Every picture of a folder in the order of file names: uint8 (n, C, H, W), all of `shape` (C, H, W).

    Grey and RGB pictures, and `.npy` arrays of uint8. Raises `DataError` when there are none or one does not fit.
    """
    if not is_folder(folder):
        raise DataError(f"{folder}: no such folder of pictures")
    files = [path for path in listed(folder) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise DataError(f"{folder}: no pictures in it ({', '.join(SUFFIXES)})")
    return np.stack([_read(path, shape) for path in files])


def write_folder(folder: Path, images: NDArray[np.uint8]) -> None:
    """Write uint8 images (n, C, H, W) so that `read_folder` gives them back in order."""
    make_folder(folder)
    for number, image in enumerate(images):
        content, suffix = file_bytes(image)
        write_bytes(folder / f"{number:05d}{suffix}", content)


def file_bytes(image: NDArray[np.uint8]) -> tuple[bytes, str]:
    """One image (C, H, W) as the content of a file and its suffix: a PNG when it is grey or RGB, else a NumPy
    array.
    """
    if image.shape[0] in PICTURE_CHANNELS:
        return png_bytes(image), ".png"
    buffer = io.BytesIO()
    np.save(buffer, image, allow_pickle=False)
    return buffer.getvalue(), ".npy"


def _read(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    if path.suffix.lower() == ".npy":
        array = read_npy(path, limit=FILE_LIMIT)
    else:
        content = read_bytes(path, limit=FILE_LIMIT)
        try:
            array = picture_from(content, grey=shape[0] == 1, size=(shape[2], shape[1]))
        except FormatError as problem:
            raise DataError(f"{path}: {problem}") from problem
    if array.dtype != np.uint8 or array.shape != shape:
        raise DataError(f"{path}: expected a uint8 picture of shape {shape}")
    return np.ascontiguousarray(array)
