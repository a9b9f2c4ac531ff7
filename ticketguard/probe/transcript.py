"""The transcript of a probe: one JSON line an event, chained by hashes, signed at the end, resumable after a crash.

Every line holds the SHA-256 of the line before it, so that nothing can be taken out or changed without all later
lines. A query is written down before it is sent: what was under way when a process died is known, counts as an
erasure, and is never sent a second time. Answers are kept as registered class names or not at all, so that nothing a
service says (a token it echoes, say) ends up here; its body is kept as a digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ticketguard.claims import canonical, envelope, statements
from ticketguard.claims.keys import SecretKey
from ticketguard.errors import AuthenticityError, FormatError, UsageError
from ticketguard.storage.atomic import is_there, read_bytes, remove, write_bytes
from ticketguard.storage.documents import append_jsonl, encode, parse_json
from ticketguard.verify.transcript import TYPE as FROZEN

FORMAT = 1
NAME = "transcript"
FILE_LIMIT = 256 << 20
START = "0" * 64
FIRST_BYTES = b'{"kind":"begin",'
STATUSES = ("answered", "refused", "failed", "malformed", "unknown label", "over budget")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One answered query. `label`: index of a registered class, None for an erasure; `unknown`: short digest of an
    answer that is no class name, for counting a service's vocabulary.
    """

    number: int
    label: int | None
    status: str
    attempts: int
    unknown: str | None = None


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """A transcript as read: its first line, the numbers that were asked with their image digests, the answers by
    number.

    `ended`: the reason in its last line, None when it is still open; `keyid`: hex id of the key that signed it, None
    unsigned; `head`: SHA-256 of its last line; `digest`: SHA-256 of all bytes.
    """

    begin: Mapping[str, Any]
    asked: Mapping[int, str]
    answers: Mapping[int, Recorded]
    ended: str | None
    keyid: str | None
    head: str
    digest: str

    @property
    def interrupted(self) -> list[int]:
        """Queries that were sent, or about to be, when a process died."""
        return sorted(self.asked.keys() - self.answers.keys())


class Log:
    """The transcript while it is written, from one thread. Make it with `begin` or `resume`."""

    def __init__(self, path: Path, head: str) -> None:
        self.path = path
        self._head = head
        self._before = bytes(read_bytes(path, limit=FILE_LIMIT)) if is_there(path) else None

    @classmethod
    def begin(cls, path: Path, fields: Mapping[str, Any]) -> Log:
        """Start a new file with what is fixed before the first query. Raises `UsageError` when it exists."""
        if begun(path):
            raise UsageError(f"{path}: exists already: a transcript is never overwritten")
        log = cls(path, START)
        log._append("begin", {"format": FORMAT, **fields})
        return log

    @classmethod
    def resume(cls, path: Path) -> tuple[Log, Transcript]:
        """Go on with an interrupted file. Raises `UsageError` when it has ended."""
        transcript = read(path)
        if transcript.ended is not None:
            raise UsageError(f"{path}: this probe has ended ({transcript.ended}); judge it with verify --transcript")
        return cls(path, transcript.head), transcript

    def ask(self, number: int, image: str) -> None:
        """Before query `number` is sent: the hex digest of its image."""
        self._append("ask", {"number": number, "image": image})

    def answer(self, recorded: Recorded, label: str | None, *, response: str | None, seconds: float) -> None:
        """After its answer: the class name, or None."""
        self._append(
            "answer",
            {
                "number": recorded.number,
                "label": label,
                "status": recorded.status,
                "attempts": recorded.attempts,
                "unknown": recorded.unknown,
                "response": response,
                "seconds": round(seconds, 3),
            },
        )

    def end(self, reason: str, key: SecretKey | None = None) -> None:
        """Close the transcript and sign it: a DSSE envelope over the digest of every line before."""
        self._append("end", {"reason": reason})
        if key is None:
            return
        payload = _signed(read_bytes(self.path, limit=FILE_LIMIT), reason, key.public.spki)
        self._append("signature", {"envelope": envelope.sign(payload, key).decode()})

    def take_back(self) -> None:
        """Put the file back as it was found. Only for queries of which nothing was sent."""
        if self._before is None:
            remove(self.path)
        else:
            write_bytes(self.path, self._before)

    def _append(self, kind: str, fields: Mapping[str, Any]) -> None:
        line = {
            "kind": kind,
            **fields,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "previous": self._head,
        }
        append_jsonl(self.path, line)
        self._head = hashlib.sha256(encode(line, where=str(self.path)).encode()).hexdigest()


def _signed(before: bytes | memoryview, reason: Any, spki: bytes) -> bytes:
    """The statement that a signature is over: all lines before it, why the probe ended, and the signer's own key."""
    predicate = {"format": FORMAT, "publicKey": statements.encode_bytes(spki), "reason": reason}
    return canonical.encode(statements.statement([("transcript", hashlib.sha256(before).hexdigest())], NAME, predicate))


def begun(path: Path) -> bool:
    """Whether there is a file, other than what a crash leaves of one whose first line was not written to its end."""
    if not is_there(path):
        return False
    data = read_bytes(path, limit=FILE_LIMIT)
    return bool(data) and (b"\n" in data or not data.startswith(FIRST_BYTES))


def read(path: Path) -> Transcript:
    """Read and check a transcript: the chain, the order of events, the signature when there is one.

    A torn last line, which a crash leaves behind, is dropped. Raises `FormatError` for a malformed file and
    `AuthenticityError` when the chain is broken or the signature does not hold.
    """
    data = read_bytes(path, limit=FILE_LIMIT)
    if not data.startswith(FIRST_BYTES) and FROZEN.encode() in data:
        raise FormatError(f"{path}: made by `ticketguard transcript record`: a judge reads it, with judge --transcript")
    whole = data[: data.rfind(b"\n") + 1]
    # Views, not copies: what comes before a line is looked at once, by the signature.
    view = memoryview(whole)
    reader = _Reader(str(path))
    position = 0
    for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
        reader.line(line, view[:position], f"{path}: line {number}")
        position += len(line) + 1
    if reader.begin is None:
        raise FormatError(f"{path}: not a transcript: it has no first line")
    return Transcript(
        begin=reader.begin,
        asked=reader.asked,
        answers=reader.answers,
        ended=reader.ended,
        keyid=reader.keyid,
        head=reader.head,
        digest=hashlib.sha256(whole).hexdigest(),
    )


class _Reader:
    """The state of a transcript, line after line."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.begin: dict[str, Any] | None = None
        self.classes: dict[str, int] = {}
        self.asked: dict[int, str] = {}
        self.answers: dict[int, Recorded] = {}
        self.reason: Any = None
        self.ended: str | None = None
        self.keyid: str | None = None
        self.head = START

    def line(self, line: bytes, before: bytes | memoryview, where: str) -> None:
        """Take one line; `before` holds the bytes of all earlier ones."""
        value: Any = parse_json(line, where=where)
        if not isinstance(value, dict) or str(value.get("kind")) not in HANDLERS:
            raise FormatError(f"{where}: not an event of a transcript")
        if value.get("previous") != self.head:
            raise AuthenticityError(f"{where}: does not follow from the line before: this transcript was changed")
        kind = value["kind"]
        if (kind == "begin") != (self.begin is None) or self.keyid or (self.ended is not None) != (kind == "signature"):
            raise FormatError(f"{where}: {kind} is out of place")
        try:
            HANDLERS[kind](self, value, before, where)
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise FormatError(f"{where}: field missing or malformed ({type(problem).__name__})") from problem
        self.head = hashlib.sha256(line).hexdigest()

    def _begin(self, value: dict[str, Any], before: bytes | memoryview, where: str) -> None:
        del before
        if type(value["format"]) is not int or value["format"] != FORMAT:
            raise FormatError(
                f"{where}: a transcript of another format than {FORMAT}, which is all that this version knows"
            )
        classes, label_map = value["classes"], value.get("labelMap")
        texts = [value["registration"], value["scope"], value["service"], *classes, *(label_map or {}).values()]
        fitting = isinstance(classes, list) and isinstance(label_map, dict | None) and len(classes) >= 2
        if not fitting or not all(isinstance(text, str) for text in texts) or not isinstance(value["schedule"], dict):
            raise FormatError(f"{where}: what is declared has fields of other types")
        self.classes = {name: index for index, name in enumerate(classes)}
        self.begin = value

    def _ask(self, value: dict[str, Any], before: bytes | memoryview, where: str) -> None:
        del before
        number, image = value["number"], value["image"]
        if type(number) is not int or number < 0 or number in self.asked or not statements.is_digest(image):
            raise FormatError(f"{where}: a query out of range or asked twice")
        self.asked[number] = image

    def _answer(self, value: dict[str, Any], before: bytes | memoryview, where: str) -> None:
        del before
        number, label, attempts = value["number"], value["label"], value["attempts"]
        if number not in self.asked or number in self.answers or value["status"] not in STATUSES:
            raise FormatError(f"{where}: an answer to nothing, or a second one")
        if type(attempts) is not int or attempts < 0 or (label is not None) != (value["status"] == "answered"):
            raise FormatError(f"{where}: label, status and attempts do not fit")
        unknown = value["unknown"]
        if unknown is not None and not isinstance(unknown, str):
            raise FormatError(f"{where}: the digest of an unknown label is a text")
        if label is not None and label not in self.classes:
            raise FormatError(f"{where}: the label is none of the class names")
        self.answers[number] = Recorded(
            number=number,
            label=None if label is None else self.classes[label],
            status=value["status"],
            attempts=attempts,
            unknown=unknown,
        )

    def _end(self, value: dict[str, Any], before: bytes | memoryview, where: str) -> None:
        del before, where
        self.reason = value["reason"]
        self.ended = str(self.reason)[:500]

    def _signature(self, value: dict[str, Any], before: bytes | memoryview, where: str) -> None:
        opened = envelope.open_self_signed(value["envelope"].encode(), where=where)
        # Nothing in the statement is the signer's to choose: it is compared whole, not field by field.
        if opened.payload != _signed(before, self.reason, opened.public.spki):
            raise AuthenticityError(f"{where}: the signature is not over this transcript")
        self.keyid = opened.keyid


HANDLERS: dict[str, Callable[[_Reader, dict[str, Any], bytes | memoryview, str], None]] = {
    "begin": _Reader._begin,
    "ask": _Reader._ask,
    "answer": _Reader._answer,
    "end": _Reader._end,
    "signature": _Reader._signature,
}
