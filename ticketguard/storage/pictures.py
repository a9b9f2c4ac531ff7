"""Pictures as the content of files: PNG and JPEG of an image, and the image of whatever Pillow reads.

An image is uint8 (C, H, W) with one channel (grey) or three (RGB). Pillow is imported when there is a picture: a verdict and a
help page need none.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import FormatError, UsageError

PICTURE_CHANNELS = (1, 3)


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """One image as a PNG file; lossless. Raises `UsageError` for other types and shapes."""
    return _encoded(image, "PNG")


def jpeg_bytes(image: NDArray[np.uint8], *, quality: int, full_colour: bool = False) -> bytes:
    """One image as a JPEG file of that `quality` (1 to 100), the colours as fine as the brightness if `full_colour`.

    Raises `UsageError` for other types and shapes.
    """
    # -1 leaves it to Pillow, which stores colours at half the resolution.
    return _encoded(image, "JPEG", quality=quality, subsampling=0 if full_colour else -1)


def picture_from(content: bytes, *, grey: bool, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The image in a picture file, in grey or RGB; `size` (width, height) is checked before anything is unpacked.

    Raises `FormatError` in words that want the name of the file before them.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as picture:
            if size is not None and picture.size != size:
                raise FormatError(f"{picture.size[0]} x {picture.size[1]} pixels, expected {size[0]} x {size[1]}")
            pixels = np.asarray(picture.convert("L" if grey else "RGB"))
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        ValueError,
        EOFError,
        SyntaxError,
    ) as problem:
        raise FormatError("not a picture") from problem
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _encoded(image: NDArray[np.uint8], form: str, **options: Any) -> bytes:
    from PIL import Image

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] not in PICTURE_CHANNELS:
        raise UsageError(f"{form} files hold uint8 images with 1 or 3 channels, not {image.dtype} {image.shape}")
    pixels = np.ascontiguousarray(image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=form, **options)
    return buffer.getvalue()
