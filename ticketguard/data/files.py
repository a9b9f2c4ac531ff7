"""Finding and reading data files, with errors that say which file, where it was looked for, and where people get it."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from ticketguard.errors import DataError

LIMIT = 1 << 30  # bytes of one data file, unpacked; the largest official one is Fashion-MNIST's 47 MB


def locate(directory: Path, folders: tuple[str, ...], name: str, *, source: str) -> Path:
    """The file `name` in `directory` or one of its `folders`; `DataError` naming all places and `source` if there is none."""
    places = [directory, *(directory / folder for folder in folders)]
    for place in places:
        for candidate in (place / name, place / (name + ".gz")):
            if os.path.isfile(candidate):
                return candidate
    looked = " and ".join(str(place) for place in places)
    raise DataError(f"{name} not found: looked in {looked}; people get it from {source}")


def read(path: Path, *, expected: int | None = None, source: str) -> bytes:
    """Contents of a data file, unpacked when it ends in .gz. Raises `DataError` when it is unreadable or of a wrong size."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                data = stream.read(LIMIT + 1)
        else:
            with path.open("rb") as raw:
                data = raw.read(LIMIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, str(error), source=source) from error
    if len(data) > LIMIT:
        raise damaged(path, f"over {LIMIT} bytes", source=source)
    if expected is not None and len(data) != expected:
        raise damaged(path, f"{len(data)} bytes, expected {expected}", source=source)
    return data


def damaged(path: Path, why: str, *, source: str) -> DataError:
    """The error for a file that is there but not what it should be."""
    return DataError(f"{path} is damaged ({why}): get it again from {source}")
