"""Pictures there and back, and files that only pretend to be some."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ticketguard.errors import FormatError, UsageError
from ticketguard.storage.pictures import jpeg_bytes, picture_from, png_bytes


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 7), (3, 9, 5)])
def test_png_is_lossless(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    size = shape[2], shape[1]
    np.testing.assert_array_equal(picture_from(png_bytes(image), grey=shape[0] == 1, size=size), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_close_and_closer_in_full_colour(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (channels, 16, 16), dtype=np.uint8)
    off = [
        np.abs(
            picture_from(jpeg_bytes(image, quality=98, full_colour=full), grey=channels == 1) - image.astype(int)
        ).mean()
        for full in (True, False)
    ]
    assert off[0] < 3
    assert off[0] < off[1] or channels == 1


def test_a_picture_is_read_in_the_channels_that_are_asked_for() -> None:
    buffer = io.BytesIO()
    Image.new("P", (4, 3)).save(buffer, format="PNG")
    assert picture_from(buffer.getvalue(), grey=True).shape == (1, 3, 4)
    assert picture_from(buffer.getvalue(), grey=False).shape == (3, 3, 4)


def test_what_is_no_picture_or_of_another_size_is_refused() -> None:
    content = png_bytes(np.zeros((1, 5, 4), dtype=np.uint8))
    with pytest.raises(FormatError, match=r"^4 x 5 pixels, expected 5 x 4$"):
        picture_from(content, grey=True, size=(5, 4))
    for damaged in (b"", b"\x89PNG broken", content[:40], content[: len(content) // 2]):
        with pytest.raises(FormatError, match=r"^not a picture$"):
            picture_from(damaged, grey=True)


@pytest.mark.parametrize("image", [np.zeros((2, 4, 4), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((1, 4, 4))])
def test_other_arrays_have_no_picture(image: np.ndarray) -> None:
    with pytest.raises(UsageError, match="PNG files hold uint8 images with 1 or 3 channels"):
        png_bytes(image)
    with pytest.raises(UsageError, match="JPEG files hold"):
        jpeg_bytes(image, quality=90)
