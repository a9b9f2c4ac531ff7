"""Finding and reading data files, with errors that say which file, where it was looked for, and where people get it."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path

from ticketguard.errors import DataError, FormatError
from ticketguard.storage.atomic import is_there, read_bytes

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
    """Contents of a data file, unpacked when it ends in .gz.

    Raises `DataError` when it is not there, damaged or of a wrong size, `StorageError` when it cannot be read.
    """
    if not is_there(path):
        raise DataError(f"{path} not found; people get it from {source}")
    try:
        data = read_bytes(path, limit=LIMIT)
        if path.suffix == ".gz":
            with gzip.open(io.BytesIO(data)) as stream:
                data = stream.read(LIMIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, str(error), source=source) from error
    except FormatError as error:
        raise damaged(path, f"over {LIMIT} bytes", source=source) from error
    if len(data) > LIMIT:
        raise damaged(path, f"over {LIMIT} bytes", source=source)
    if expected is not None and len(data) != expected:
        raise damaged(path, f"{len(data)} bytes, expected {expected}", source=source)
    return data


def damaged(path: Path, why: str, *, source: str) -> DataError:
    """The error for a file that is there but not what it should be."""
    return DataError(f"{path} is damaged ({why}): get it again from {source}")
