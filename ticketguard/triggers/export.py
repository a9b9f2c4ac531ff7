"""Triggers as files: PNG pictures and an index, for querying a service by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ticketguard.storage.atomic import make_folder, write_bytes
from ticketguard.storage.documents import write_csv
from ticketguard.triggers.pictures import file_bytes
from ticketguard.triggers.plan import image_digest
from ticketguard.triggers.render import Triggers

INDEX = "index.csv"


def export(folder: Path, triggers: Triggers, *, classes: Sequence[str] | None = None) -> list[Path]:
    """Write every trigger as a picture named by its pooled index, and `index.csv`; returns the files in order.

    Columns: `index,file,sha256` (of the image's tensor). Target labels stay out, so that the folder can be handed
    around; with `classes` (names in order) a column `target` is added, for an owner who trains elsewhere. Images
    whose channels no PNG holds are written as `.npy`.
    """
    make_folder(folder)
    rows: list[list[object]] = [["index", "file", "sha256", *([] if classes is None else ["target"])]]
    files = []
    for image, label, index in zip(triggers.images, triggers.labels, triggers.indices, strict=True):
        content, suffix = file_bytes(image)
        path = folder / f"{index:05d}{suffix}"
        write_bytes(path, content)
        files.append(path)
        rows.append([int(index), path.name, image_digest(image), *([] if classes is None else [classes[label]])])
    write_csv(folder / INDEX, rows)
    return [*files, folder / INDEX]
