"""Canonical JSON: RFC 8785 out, a strict reader in (docs/protocol.md, Statements and envelopes).

The reader refuses what makes two parsers disagree or one of them suffer: duplicate keys, NaN and infinity, integers of
2^53 and more, lone surrogates, documents over 1 MiB, nesting over 32 levels.
"""

from __future__ import annotations

import json
import re
from typing import Any

import rfc8785

from ticketguard.errors import FormatError
from ticketguard.storage.documents import finite, refuse_constant, unique_keys

MOST_BYTES = 1 << 20
MOST_DEPTH = 32
INTEGER_LIMIT = 1 << 53
# The closing quote may be missing: a string that never ends reaches to the end of the document, for the parser as well, and a
# search that gave it up would begin again at every quote inside it.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def encode(obj: object) -> bytes:
    """Compact RFC 8785 JSON of plain Python data (dict, list, tuple, str, int, float, bool, None).

    Raises `FormatError` for what RFC 8785 cannot say: NaN, integers of 2^53 and more, lone surrogates, other types.
    Law: `parse(encode(x)) == x` for JSON data within the limits of `parse`.
    """
    try:
        return bytes(rfc8785.dumps(obj))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as problem:
        raise FormatError(f"JSON: a value cannot be written in canonical form ({problem})") from problem


def parse(data: bytes, *, where: str = "JSON") -> Any:
    """Read one JSON document strictly; `where` opens the error message.

    Accepts any whitespace and key order; a caller that needs the canonical form compares with `encode`. Raises
    `FormatError`.
    """
    if len(data) > MOST_BYTES:
        raise FormatError(f"{where}: {len(data)} bytes, more than the {MOST_BYTES} allowed")
    if _depth(data) > MOST_DEPTH:
        raise FormatError(f"{where}: nested deeper than {MOST_DEPTH} levels")
    try:
        parsed = json.loads(
            data.decode("utf-8", errors="strict"),
            object_pairs_hook=unique_keys,
            parse_int=_integer,
            parse_float=finite,
            parse_constant=refuse_constant,
        )
        _encodable(parsed)
    except UnicodeError as problem:
        raise FormatError(f"{where}: text that is not valid Unicode") from problem
    except json.JSONDecodeError as problem:
        raise FormatError(f"{where}: not JSON ({problem.msg} at character {problem.pos})") from problem
    except ValueError as problem:
        raise FormatError(f"{where}: {problem}") from problem
    return parsed


def _depth(data: bytes) -> int:
    """Deepest nesting of brackets outside strings, known before the recursive parser starts."""
    depth = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(data):
        token = match.group()
        if token in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif token in (b"]", b"}"):
            depth -= 1
    return deepest


def _integer(text: str) -> int:
    # The length first: converting a million digits would take quadratic time.
    if len(text) > 17 or abs(int(text)) >= INTEGER_LIMIT:
        raise ValueError("an integer of 2^53 or more")
    return int(text)


def _encodable(value: object) -> None:
    """Raise `UnicodeEncodeError` when any string holds a lone surrogate."""
    if isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode("utf-8")
            _encodable(item)
    elif isinstance(value, list):
        for item in value:
            _encodable(item)
