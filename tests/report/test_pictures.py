from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from ticketguard.errors import UsageError
from ticketguard.report import machine
from ticketguard.report.pictures import LARGEST, mask_picture, qr_picture


def pixels_of(png: str) -> np.ndarray:
    data = base64.b64decode(png.removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_a_mask_picture_is_darker_where_more_is_kept() -> None:
    counts = np.array([[0, 1, 9], [9, 0, 4]])
    picture = mask_picture("conv1.weight", counts)
    pixels = pixels_of(picture.png).astype(int)
    order = np.argsort(counts.ravel(), kind="stable")
    assert (np.diff(pixels.ravel()[order]) <= 0).all()
    assert pixels[0, 0] == 255
    assert (picture.width, picture.height) == (3, 2)
    assert "2 output channels by 3 cells; 33% of them are empty, the fullest keeps 9" in picture.alt


def test_a_large_layer_is_thinned_and_says_so() -> None:
    picture = mask_picture("fc.weight", np.ones((2 * LARGEST + 1, 5), dtype=np.int64))
    assert pixels_of(picture.png).shape[0] <= LARGEST
    assert "drawn thinned" in picture.alt


def test_an_empty_layer_is_white() -> None:
    assert (pixels_of(mask_picture("x", np.zeros((2, 2), dtype=np.int64)).png) == 255).all()


@pytest.mark.parametrize("counts", [np.zeros((0, 3)), np.zeros(3), np.array([[-1]])])
def test_a_mask_picture_needs_a_matrix_of_counts(counts: np.ndarray) -> None:
    with pytest.raises(UsageError, match="a matrix of counts"):
        mask_picture("x", counts.astype(np.int64))


def test_a_qr_picture_draws_each_dark_module_once_inside_its_quiet_zone() -> None:
    modules = np.random.default_rng(0).random((21, 21)) < 0.5
    picture = qr_picture(modules, text=None)
    assert picture.path.count("M") == int(modules.sum())
    assert picture.width == 29
    row, column = np.argwhere(modules)[0] + 4
    assert f"M{column} {row}h1v1h-1z" in picture.path
    assert "cannot be decoded" in picture.alt
    with pytest.raises(UsageError, match="square"):
        qr_picture(modules[:3], text=None)


def test_machine_facts_name_what_results_depend_on() -> None:
    facts = machine.machine_facts()
    assert {"Python", "torch", "numpy", "system", "cores"} <= facts.keys()
    assert all(facts.values())
    assert machine.installed("no-such-package-of-ours") == ""
