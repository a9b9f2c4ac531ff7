"""Pictures in a folder: an owner's own triggers, or a caller's own decoys."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import DataError, UsageError
from ticketguard.storage.atomic import is_folder, listed, make_folder, read_bytes, write_bytes
from ticketguard.storage.documents import read_npy

SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", ".npy")
FILE_LIMIT = 16 << 20
PICTURE_CHANNELS = (1, 3)


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


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """One uint8 image (C, H, W) with one channel (grey) or three (RGB) as a PNG file; lossless."""
    # Imported here: judging predictions needs no picture library.
    from PIL import Image

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] not in PICTURE_CHANNELS:
        raise UsageError(f"PNG files hold uint8 images with 1 or 3 channels, not {image.dtype} {image.shape}")
    pixels = np.ascontiguousarray(image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _read(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    # Imported here: most probes need no pictures but drawn ones.
    from PIL import Image, UnidentifiedImageError

    try:
        if path.suffix.lower() == ".npy":
            array = read_npy(path, limit=FILE_LIMIT)
        else:
            with Image.open(io.BytesIO(read_bytes(path, limit=FILE_LIMIT))) as picture:
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
    if array.dtype != np.uint8 or array.shape != shape:
        raise DataError(f"{path}: expected a uint8 picture of shape {shape}")
    return np.ascontiguousarray(array)
