"""Transcripts: queries to a suspect service and its answers, frozen by a digest before any leaf is shown.

Decoys belong in it: images that are no triggers hide which of the queries count, so that a service cannot treat them
apart. Once the leaf is known, the judge finds its triggers among the queries by their digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims import canonical, statements
from ticketguard.errors import DataError, FormatError, UsageError
from ticketguard.triggers.labels import Classes
from ticketguard.triggers.plan import TriggerPlan, image_digest
from ticketguard.triggers.render import Images, Triggers
from ticketguard.triggers.score import ERASURE

FORMAT = 1
TYPE = "urn:ticketguard:transcript/v1"
MOST_TEXT = 512


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """Answers of one service: image digest (hex) -> class name, or None when it gave no answer.

    `service` and `recorded_by` are free text: what was queried, and by whom. Law: `parse(t.encode()) == t`.
    """

    service: str
    recorded_by: str
    answers: Mapping[str, str | None]

    def encode(self) -> bytes:
        """The transcript as RFC 8785 JSON: the bytes that are frozen. Queries are sorted by digest."""
        queries = [{"image": image, "label": self.answers[image]} for image in sorted(self.answers)]
        document = {
            "format": FORMAT,
            "type": TYPE,
            "service": self.service,
            "recordedBy": self.recorded_by,
            "queries": queries,
        }
        return canonical.encode(document)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of `encode()`: what a reveal names as its suspect."""
        return hashlib.sha256(self.encode()).hexdigest()


def record(
    images: Images, labels: NDArray[np.int64], classes: Sequence[str], *, service: str, recorded_by: str
) -> Transcript:
    """The transcript of int64 `labels` (-1: no answer) that a service gave to uint8 `images` (n, C, H, W), decoys among them.

    Raises `UsageError` when lengths differ, a label is out of range, or one image got two different answers.
    """
    if len(images) != len(labels) or (len(labels) and not ERASURE <= labels.min() <= labels.max() < len(classes)):
        raise UsageError(f"transcript: {len(images)} images, {len(labels)} labels of {len(classes)} classes do not fit")
    answers: dict[str, str | None] = {}
    for image, label in zip(images, labels.tolist(), strict=True):
        digest, answer = image_digest(image), None if label == ERASURE else classes[label]
        if answers.setdefault(digest, answer) != answer:
            raise UsageError("transcript: one image got two different answers; record the first one only")
    return Transcript(service=service, recorded_by=recorded_by, answers=answers)


def parse(data: bytes) -> Transcript:
    """Read a transcript. Raises `FormatError` for anything but `Transcript.encode()`'s form."""
    document: Any = canonical.parse(data, where="transcript")
    try:
        transcript = Transcript(
            service=_text(document["service"]),
            recorded_by=_text(document["recordedBy"]),
            answers={_image(row["image"]): _label(row["label"]) for row in document["queries"]},
        )
    except (KeyError, TypeError) as problem:
        raise FormatError(f"transcript: field missing or malformed ({problem})") from problem
    if transcript.encode() != data:
        raise FormatError("transcript: not in canonical form, an image twice, or fields beyond version 1")
    return transcript


def from_answers(
    queries: Mapping[str, str], answers: Mapping[str, str], *, service: str, recorded_by: str
) -> Transcript:
    """The transcript of a query folder: `queries` maps index to image digest, `answers` index to label ("" for none).

    Raises `UsageError` for an answer to a query that was not asked.
    """
    unasked = next((index for index in answers if index not in queries), None)
    if unasked is not None:
        raise UsageError(f"transcript: an answer to query {unasked[:20]!r}, which is not among the queries")
    found = {digest: answers.get(index) or None for index, digest in queries.items()}
    return parse(Transcript(service=service, recorded_by=recorded_by, answers=found).encode())


def trigger_answers(transcript: Transcript, triggers: Triggers, plan: TriggerPlan) -> tuple[NDArray[np.int64], int]:
    """Answers to the revealed triggers as int64 labels in pooled order, and how many triggers had none.

    A trigger without an answer counts as wrong, not as an erasure: whoever recorded the transcript chose what to leave out.
    Positions of leaves that are not revealed hold -1. Raises `DataError` for a label that is no registered class.
    """
    predictions = np.full(plan.total, ERASURE, dtype=np.int64)
    missing, classes = 0, Classes(names=plan.classes)
    for image, target, position in zip(
        triggers.images, triggers.labels.tolist(), triggers.indices.tolist(), strict=True
    ):
        answer = transcript.answers.get(image_digest(image))
        missing += answer is None
        predictions[position] = (target + 1) % len(plan.classes) if answer is None else _class_of(answer, classes)
    return predictions, missing


def answered_leaves(transcript: Transcript, digests: Sequence[str], plan: TriggerPlan) -> dict[int, int]:
    """How many triggers of each leaf have an answer; `digests`: of all of them, in pooled order."""
    found = dict.fromkeys(range(plan.leaves), 0)
    for index, digest in enumerate(digests):
        found[index // plan.per_leaf] += transcript.answers.get(digest) is not None
    return found


def _class_of(answer: str, classes: Classes) -> int:
    """A class by its registered name, else by its index: a label map chosen now would be a search."""
    place = classes.place(answer)
    if place is None or not 0 <= place < len(classes.names):
        raise DataError(f"transcript: label {answer[:80]!r} is none of the registered class names")
    return place


def _image(value: object) -> str:
    if not statements.is_digest(value):
        raise FormatError("transcript: an image is not named by its SHA-256 digest")
    return str(value)


def _label(value: object) -> str | None:
    return None if value is None else _text(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MOST_TEXT or not value.isprintable():
        raise FormatError(f"transcript: a text is not printable or longer than {MOST_TEXT} characters")
    return value
