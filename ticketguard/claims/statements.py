"""In-toto Statements v1 (https://in-toto.io/Statement/v1): a subject's digest and a predicate about it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from ticketguard.errors import FormatError

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_URI = "urn:ticketguard:{name}/v1"
MOST_SUBJECTS = 64
MOST_TEXT = 512
_HEX = re.compile(r"[0-9a-f]{64}")


def statement(subjects: Sequence[tuple[str, str]], name: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """The statement whose predicate type is `urn:ticketguard:<name>/v1`; subjects are (name, hex SHA-256) pairs."""
    return {
        "_type": TYPE,
        "subject": [{"name": label, "digest": {"sha256": sha256}} for label, sha256 in subjects],
        "predicateType": PREDICATE_URI.format(name=name),
        "predicate": dict(predicate),
    }


def predicate(parsed: object, name: str) -> dict[str, Any]:
    """The predicate of a parsed statement of type `name`. Raises `FormatError` for another type or shape."""
    if not isinstance(parsed, dict) or set(parsed) != {"_type", "subject", "predicateType", "predicate"}:
        raise FormatError("statement: not an in-toto statement of exactly four fields")
    if parsed["_type"] != TYPE:
        raise FormatError("statement: not an in-toto Statement v1")
    expected = PREDICATE_URI.format(name=name)
    if parsed["predicateType"] != expected:
        raise FormatError(f"statement: of type {str(parsed['predicateType'])[:80]!r}, expected {expected}")
    subjects(parsed)
    content = parsed["predicate"]
    if not isinstance(content, dict):
        raise FormatError("statement: the predicate is not an object")
    return content


def subjects(parsed: Mapping[str, Any]) -> dict[str, str]:
    """Subjects of a parsed statement: name -> hex SHA-256. Raises `FormatError`."""
    listed = parsed["subject"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_SUBJECTS:
        raise FormatError(f"statement: between 1 and {MOST_SUBJECTS} subjects are needed")
    found: dict[str, str] = {}
    for item in listed:
        if not isinstance(item, dict) or set(item) != {"name", "digest"} or not isinstance(item["name"], str):
            raise FormatError("statement: a subject has other fields than name and digest")
        digest = item["digest"]
        if not isinstance(digest, dict) or set(digest) != {"sha256"} or not is_digest(digest["sha256"]):
            raise FormatError("statement: a subject's digest is not one SHA-256")
        found[item["name"]] = digest["sha256"]
    if len(found) != len(listed):
        raise FormatError("statement: two subjects have one name")
    return found


def is_text(value: object) -> TypeGuard[str]:
    """Whether `value` is a printable text of 1 to 512 characters."""
    return isinstance(value, str) and 0 < len(value) <= MOST_TEXT and value.isprintable()


def is_digest(value: object) -> TypeGuard[str]:
    """Whether `value` is 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def encode_bytes(data: bytes) -> str:
    """Standard base64 with padding (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def decode_bytes(text: object) -> bytes:
    """Bytes of canonical base64: standard alphabet, full padding, no stray bits. Raises `FormatError`."""
    try:
        if isinstance(text, str) and encode_bytes(data := base64.b64decode(text, validate=True)) == text:
            return data
    except (binascii.Error, ValueError) as problem:
        raise FormatError("base64: characters or padding that do not belong") from problem
    raise FormatError("base64: not in canonical form")
