"""JSON documents, read strictly: no duplicate keys, no NaN, nothing oversized, nothing nested without end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import NoReturn

from ticketguard.errors import FormatError
from ticketguard.storage.atomic import read_bytes, write_bytes

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

DOCUMENT_LIMIT = 16 << 20
DEPTH_LIMIT = 64


def parse_json(data: bytes, *, where: str) -> object:
    """The value of one strict JSON text in UTF-8; `where` begins the message of the `FormatError` for anything else."""
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}: not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise FormatError(f"{where}: JSON nested too deeply") from error
    except json.JSONDecodeError as error:
        raise FormatError(f"{where}: not JSON: {error.msg} at character {error.pos}") from error
    except ValueError as error:
        raise FormatError(f"{where}: not acceptable JSON: {_short(error)}") from error


def read_json(path: Path, *, limit: int = DOCUMENT_LIMIT) -> object:
    """The value of a JSON file of at most `limit` bytes and `DEPTH_LIMIT` levels; or an error."""
    value = parse_json(read_bytes(path, limit=limit), where=str(path))
    _check_depth(value, where=str(path))
    return value


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, atomically; raises `FormatError` for what JSON cannot hold, `StorageError`."""
    write_bytes(path, (encode(value, where=str(path), indent=2) + "\n").encode("utf-8"))


def encode(value: object, *, where: str, indent: int | None = None) -> str:
    """JSON text of a value, compact unless `indent` is given; raises `FormatError` for NaN and for foreign types."""
    try:
        separators = (",", ":") if indent is None else None
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"{where}: cannot be written as JSON: {_short(error)}") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"key {twice[:60]!a} appears twice")
    return value


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"number {text[:60]} is out of range")
    return value


def _check_depth(value: object, *, where: str) -> None:
    level = [value]
    for _ in range(DEPTH_LIMIT):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise FormatError(f"{where}: JSON nested more than {DEPTH_LIMIT} levels deep")


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
