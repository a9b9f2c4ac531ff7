"""Small documents, read strictly: JSON, JSON lines, CSV and NPY.

No duplicate keys, no NaN in JSON, no pickled objects, nothing oversized and nothing nested without end. Anything else raises
`FormatError`, with the file and the place in one line.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from math import isfinite, prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import FormatError, StorageError
from ticketguard.storage.atomic import read_bytes, reason, write_bytes
from ticketguard.storage.hostile import visible

DOCUMENT_LIMIT = 16 << 20
LINES_LIMIT = 64 << 20
ARRAY_LIMIT = 256 << 20
# Beyond any disk, and small enough that numpy's size arithmetic cannot overflow on a shape such as (0, 2**63).
ELEMENT_LIMIT = 1 << 48
DEPTH_LIMIT = 64
DIMENSION_LIMIT = 8


def parse_json(data: bytes, *, where: str) -> object:
    """The value of one strict JSON text in UTF-8; `where` begins the message of the `FormatError` for anything else."""
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=unique_keys,
            parse_constant=refuse_constant,
            parse_float=finite,
        )
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}: not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise FormatError(f"{where}: JSON nested too deeply") from error
    except json.JSONDecodeError as error:
        raise FormatError(f"{where}: not JSON: {error.msg} at character {error.pos}") from error
    except ValueError as error:
        raise FormatError(f"{where}: not acceptable JSON: {_short(error)}") from error


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object of its pairs, as `json.loads` hands them over; `ValueError` names the first key that comes twice."""
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"key {twice[:60]!a} appears twice")
    return value


def refuse_constant(word: str) -> NoReturn:
    """Refuse NaN and the infinities, which Python reads and JSON does not have."""
    raise ValueError(f"{word} is not a JSON number")


def finite(text: str) -> float:
    """A number with a fraction or an exponent; `ValueError` when no float is as large."""
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"number {text[:60]} is out of range")
    return value


def read_json(path: Path, *, limit: int = DOCUMENT_LIMIT) -> object:
    """The value of a JSON file of at most `limit` bytes and `DEPTH_LIMIT` levels; or an error."""
    value = parse_json(read_bytes(path, limit=limit), where=str(path))
    _check_depth(value, where=str(path))
    return value


def read_object(path: Path) -> dict[str, Any]:
    """As `read_json`, of a JSON object; `FormatError` for any other value."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise FormatError(f"{path}: a JSON object is expected")
    return value


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, atomically; raises `FormatError` for what JSON cannot hold, `StorageError`."""
    write_bytes(path, (encode(value, where=str(path), indent=2) + "\n").encode("utf-8"))


def encode(value: object, *, where: str, indent: int | None = None) -> str:
    """JSON text of a value, compact unless `indent` is given; raises `FormatError` for NaN and for foreign types."""
    try:
        separators = (",", ":") if indent is None else None
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
        # Half a surrogate pair, which JSON can escape, has no bytes.
        text.encode("utf-8")
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"{where}: cannot be written as JSON: {_short(error)}") from error


def append_jsonl(path: Path, value: object) -> None:
    """Add one line of compact JSON to a file, made when missing, and flush it to the disk.

    A last line without its end, left by a write that was interrupted, is cut off first, so that one lost line never damages
    the next. Raises `StorageError`, and `FormatError` for what JSON cannot hold.
    """
    line = (encode(value, where=str(path)) + "\n").encode("utf-8")
    try:
        with open(path, "a+b") as handle:
            end = _end_of_lines(handle)
            if end != handle.seek(0, os.SEEK_END):
                handle.truncate(end)
            handle.write(line)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {reason(error)}") from error


def read_jsonl(path: Path, *, limit: int = LINES_LIMIT) -> list[object]:
    """The values of a file of JSON lines; a last line without its end is what an interrupted write leaves, and ignored."""
    lines = read_bytes(path, limit=limit).split(b"\n")[:-1]
    values = [parse_json(line, where=f"{path}: line {number}") for number, line in enumerate(lines, start=1)]
    for number, value in enumerate(values, start=1):
        _check_depth(value, where=f"{path}: line {number}")
    return values


def read_csv(path: Path, *, limit: int = DOCUMENT_LIMIT) -> list[list[str]]:
    """The rows of a comma-separated table in UTF-8, heading included; blank lines are skipped.

    Raises `FormatError` unless there is a row, and every row has as many fields as the first.
    """
    try:
        text = read_bytes(path, limit=limit).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        # With the number of the line in the file, which blank lines count for.
        rows = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 at byte {error.start}") from error
    except csv.Error as error:
        raise FormatError(f"{path}: not a comma-separated table: {_short(error)}") from error
    if not rows:
        raise FormatError(f"{path}: an empty table")
    fields = len(rows[0][1])
    for number, row in rows:
        if len(row) != fields:
            raise FormatError(f"{path}: line {number} has {len(row)} fields, the first has {fields}")
    return [row for _, row in rows]


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as a comma-separated table in UTF-8 with plain line ends, atomically; raises `StorageError`."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_bytes(path, text.getvalue().encode("utf-8"))


def read_npy(path: Path, *, limit: int = ARRAY_LIMIT) -> NDArray[Any]:
    """The array of an .npy file of booleans, integers or floats, read-only; never runs a pickle.

    Its size is checked against its header first: a header that declares 40 GB costs nothing.
    """
    data = read_bytes(path, limit=limit)
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"version {version} is not read")
        with warnings.catch_warnings():
            # numpy repairs headers of Python 2 and warns about it, which is no news to the user.
            warnings.simplefilter("ignore")
            shape, fortran, dtype = readers[version](stream)
    except (ValueError, TypeError, LookupError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError) as error:
        raise FormatError(f"{path}: not an .npy file: {_short(error)}") from error
    if dtype.kind not in "biuf":
        raise FormatError(f"{path}: holds {_short(dtype)}, not numbers")
    content = memoryview(data)[stream.tell() :]
    # Python accepts True and numbers of thousands of digits here, which numpy refuses and str() does not print.
    possible = len(shape) <= DIMENSION_LIMIT and all(type(extent) is int and extent >= 0 for extent in shape)
    if not possible or prod(max(extent, 1) for extent in shape) > ELEMENT_LIMIT:
        raise FormatError(f"{path}: {len(content)} bytes of data do not make an array of such a shape")
    if prod(shape) * dtype.itemsize != len(content):
        raise FormatError(f"{path}: {len(content)} bytes of data do not make an array of shape {_short(shape)}")
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _end_of_lines(handle: io.BufferedRandom) -> int:
    """The place after the last line end, found from the back."""
    place = handle.seek(0, os.SEEK_END)
    while place:
        start = max(0, place - (1 << 16))
        handle.seek(start)
        found = handle.read(place - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        place = start
    return 0


def _check_depth(value: object, *, where: str) -> None:
    level = [value]
    for _ in range(DEPTH_LIMIT):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if any(isinstance(inner, dict | list) for inner in level):
        raise FormatError(f"{where}: JSON nested more than {DEPTH_LIMIT} levels deep")


def _short(error: object) -> str:
    """The words of another library's error, which may quote a hostile file: one short line."""
    return visible(" ".join(str(error).split()), most=160)
