"""Hypothesis strategies that damage files: blind edits of bytes, and edits of a JSON value that leave it JSON."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

# Numbers and words that readers trip over: ends of integer types, text that numpy or JSON reads in its own way.
TOKENS = [
    *(value.to_bytes(8, "little") for value in (0, 1, 2**31 - 1, 2**31, 2**32, 2**40, 2**53, 2**63 - 1, 2**63, 2**64 - 1)),
    b"\x00", b"\xff", b"\x7f", b"\x80" * 9 + b"\x01", b"\xff\xff\xff\xff\x0f", b"NaN", b"-Infinity", b"1e999", b"null",
    b"true", b"-1", b"9" * 30, b"9" * 5000, b"0x" + b"f" * 5000, b"\\ud800", b"\xed\xa0\x80", b'"', b"\\", b"[" * 200, b"{}",
    b"()", b"(1,)", b"1," * 80, b"'<f16'", b"'|O'", b"'<M8[s]'", b"F64", b"BOOL", b"../", b"\n", b"\r", b",", b":", b" ",
]  # fmt: skip

JUNK = st.one_of(
    st.sampled_from(
        [None, True, False, 0, -1, 1, 2**53, 2**63, 10**400, 1.5, -0.0, 1e308, "", "0", "\ud800", "\u0000"]
    ),
    st.text(max_size=8),
    st.lists(st.integers(-2, 2**70), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
    # Made anew each time: what is drawn is changed in place.
    st.builds(lambda: [[[]]]),
)


@st.composite
def edited(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` after one to four edits: bytes replaced, put in, taken out, repeated, or cut off."""
    data = whole
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 16))
        piece = draw(st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=12))
        match draw(st.sampled_from(["overwrite", "insert", "delete", "repeat", "truncate"])):
            case "overwrite":
                data = data[:start] + piece + data[start + len(piece) :]
            case "insert":
                data = data[:start] + piece + data[start:]
            case "delete":
                data = data[:start] + data[start + length :]
            case "repeat":
                data = data[: start + length] + data[start:]
            case "truncate":
                data = data[:start]
    return data


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with one to three of its places replaced by junk, removed, or filled with each other's content."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places = list(places_of(value))
        if not places:
            return draw(JUNK)
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["junk", "remove", "swap", "rename"])):
            case "junk":
                holder[key] = draw(JUNK)
            case "remove":
                del holder[key]
            case "swap":
                other, place = draw(st.sampled_from(places))
                # A copy: a value inside itself would be no JSON.
                holder[key] = copy.deepcopy(other[place])
            case "rename" if isinstance(holder, dict):
                holder[draw(st.text(max_size=6))] = holder.pop(key)
    return value


def places_of(value: Any) -> Any:
    """Every (container, key) inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from places_of(inner)


def json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")
