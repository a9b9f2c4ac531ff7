from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ticketguard.errors import TicketguardError, UsageError
from ticketguard.storage.pictures import png_bytes
from ticketguard.triggers.export import export
from ticketguard.triggers.pictures import read_folder, write_folder
from ticketguard.triggers.plan import image_digest, make_plan
from ticketguard.triggers.render import render

CLASSES = tuple(f"class {number}" for number in range(100))
Open = Callable[..., Any]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 5)])
def test_pictures_come_back_as_they_were(tmp_path: Path, opening: Open, shape: tuple[int, int, int]) -> None:
    triggers = render(opening(1), make_plan(shape, CLASSES, leaves=2))
    files = export(tmp_path / "out", triggers)
    assert len(files) == len(triggers.images) + 1
    rows = list(csv.DictReader((tmp_path / "out" / "index.csv").read_text().splitlines()))
    assert [int(row["index"]) for row in rows] == triggers.indices.tolist()
    assert "target" not in rows[0]
    for row, image in zip(rows, triggers.images, strict=True):
        with Image.open(tmp_path / "out" / row["file"]) as picture:
            pixels = np.asarray(picture)
        np.testing.assert_array_equal(pixels.reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1), image)
        assert row["sha256"] == image_digest(image)


def test_targets_are_written_only_when_asked_for(tmp_path: Path, opening: Open) -> None:
    triggers = render(opening(0), make_plan((1, 8, 8), CLASSES, leaves=2))
    export(tmp_path, triggers, classes=CLASSES)
    rows = list(csv.DictReader((tmp_path / "index.csv").read_text().splitlines()))
    assert [row["target"] for row in rows] == [CLASSES[label] for label in triggers.labels]


def test_other_channel_counts_are_arrays(tmp_path: Path, opening: Open) -> None:
    triggers = render(opening(0), make_plan((2, 4, 4), CLASSES, leaves=1))
    files = export(tmp_path, triggers)
    np.testing.assert_array_equal(np.load(files[0], allow_pickle=False), triggers.images[0])
    with pytest.raises(UsageError, match="1 or 3 channels"):
        png_bytes(triggers.images[0])


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 5), (2, 4, 4)])
def test_folders_of_pictures_survive_the_disk(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, *shape), dtype=np.uint8)
    write_folder(tmp_path / "images", images)
    np.testing.assert_array_equal(read_folder(tmp_path / "images", shape), images)


def test_folders_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "small", np.zeros((1, 1, 4, 4), dtype=np.uint8))
    (tmp_path / "empty").mkdir()
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "a.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "objects").mkdir()
    np.save(tmp_path / "objects" / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "floats").mkdir()
    np.save(tmp_path / "floats" / "a.npy", np.zeros((1, 8, 8)))
    for name in ("small", "empty", "garbage", "objects", "floats", "missing"):
        with pytest.raises(TicketguardError, match=name):
            read_folder(tmp_path / name, (1, 8, 8))
