"""Triggers as files: PNG pictures and an index, for querying a service by hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import UsageError
from ticketguard.storage.atomic import make_folder, write_bytes
from ticketguard.triggers.plan import image_digest
from ticketguard.triggers.render import Triggers

INDEX = "index.csv"
PICTURE_CHANNELS = (1, 3)


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


def export(folder: Path, triggers: Triggers, *, classes: Sequence[str] | None = None) -> list[Path]:
    """Write every trigger as a picture named by its pooled index, and `index.csv`; returns the files in order.

    Columns: `index,file,sha256` (of the image's tensor). Target labels stay out, so that the folder can be handed
    around; with `classes` (names in order) a column `target` is added, for an owner who trains elsewhere. Images
    whose channels no PNG holds are written as `.npy`.
    """
    make_folder(folder)
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["index", "file", "sha256"] + ([] if classes is None else ["target"]))
    files = []
    for image, label, index in zip(triggers.images, triggers.labels, triggers.indices, strict=True):
        picture = image.shape[0] in PICTURE_CHANNELS
        path = folder / f"{index:05d}.{'png' if picture else 'npy'}"
        write_bytes(path, png_bytes(image) if picture else _npy_bytes(image))
        files.append(path)
        writer.writerow([int(index), path.name, image_digest(image)] + ([] if classes is None else [classes[label]]))
    write_bytes(folder / INDEX, table.getvalue().encode())
    return [*files, folder / INDEX]


def _npy_bytes(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, image, allow_pickle=False)
    return buffer.getvalue()
