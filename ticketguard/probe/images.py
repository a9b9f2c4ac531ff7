"""Pictures from a folder: an owner's own triggers, or a caller's own decoys."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import DataError
from ticketguard.storage.atomic import read_bytes

SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", ".npy")
FILE_LIMIT = 16 << 20


def read_folder(folder: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Every picture of a folder in the order of file names: uint8 (n, C, H, W), all of `shape` (C, H, W).

    Grey and RGB pictures, and `.npy` arrays of uint8. Raises `DataError` when there are none or one does not fit.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of pictures")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{folder}: no pictures in it ({', '.join(SUFFIXES)})")
    return np.stack([_read(path, shape) for path in files])


def _read(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    # Imported here: most probes need no pictures but drawn ones.
    from PIL import Image, UnidentifiedImageError

    data = read_bytes(path, limit=FILE_LIMIT)
    try:
        if path.suffix.lower() == ".npy":
            array = np.load(io.BytesIO(data), allow_pickle=False)
        else:
            with Image.open(io.BytesIO(data)) as picture:
                if picture.size != (shape[2], shape[1]):
                    raise DataError(
                        f"{path}: {picture.size[0]} x {picture.size[1]} pixels, expected {shape[2]} x {shape[1]}"
                    )
                pixels = np.asarray(picture.convert("L" if shape[0] == 1 else "RGB"))
            array = pixels.reshape(shape[1], shape[2], -1).transpose(2, 0, 1)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        ValueError,
        EOFError,
        SyntaxError,
    ) as problem:
        raise DataError(f"{path}: not a picture") from problem
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.shape != shape:
        raise DataError(f"{path}: expected a uint8 picture of shape {shape}")
    return np.ascontiguousarray(array)
