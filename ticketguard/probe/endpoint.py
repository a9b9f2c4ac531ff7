"""A generic JSON endpoint, described by a small mapping: where the image goes, and where the answer comes back."""

from __future__ import annotations

import base64
import copy
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ticketguard.errors import FormatError, UsageError
from ticketguard.probe.adapters import Input, pixels_for, prepare
from ticketguard.probe.client import Client, failure, shown
from ticketguard.probe.predictor import Image, Reply, Take, reply_of
from ticketguard.storage.documents import encode, parse_json
from ticketguard.storage.hostile import visible
from ticketguard.storage.pictures import jpeg_bytes, png_bytes
from ticketguard.triggers.plan import TriggerPlan

KINDS = ("png", "jpeg", "list", "multipart")
FIELDS = {"image", "at", "body", "label", "scores", "input"}
MOST_STEPS = 16
STEP = re.compile(r"([^.\[\]]+)|\[(\d{1,6})\]")


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """How an endpoint is spoken to.

    `image`: "png" or "jpeg" (base64 text), "list" (nested numbers) or "multipart" (a PNG file in a form); `at`: path
    of the image in the request, or the form's field name; `body`: what else the request holds; `label` or `scores`:
    path of the answer in the response. A path is like `instances[0].image`.
    """

    image: str
    at: str
    body: Mapping[str, Any]
    label: str | None = None
    scores: str | None = None
    input: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.image not in KINDS or (self.label is None) == (self.scores is None):
            raise UsageError(f"mapping: image is one of {', '.join(KINDS)}, and either label or scores has a path")
        if not isinstance(self.body, dict) or not isinstance(self.at, str):
            raise UsageError("mapping: body is a JSON object, at a path")
        # What cannot be sent shows now, not in the middle of a probe.
        encode([self.at, self.body], where="mapping")
        if self.image != "multipart":
            steps(self.at)
        steps(self.label if self.label is not None else self.scores)


def mapping_from(document: object) -> Mapped:
    """Read a mapping from parsed JSON. Raises `UsageError`."""
    if not isinstance(document, dict) or set(document) - FIELDS or not {"image", "at"} <= set(document):
        raise UsageError(
            f"mapping: a JSON object with image, at and label or scores; fields: {', '.join(sorted(FIELDS))}"
        )
    return Mapped(**{"body": {}, **document})


def steps(path: object) -> list[str | int]:
    """The steps of a path like `a.b[0].c`: object keys and list indices. Raises `UsageError`."""
    if not isinstance(path, str) or not 1 <= len(path) <= 500:
        raise UsageError("mapping: a path is a text like predictions[0].label")
    found: list[str | int] = []
    position = 0
    for match in STEP.finditer(path):
        if path[position : match.start()] not in (("",) if not found or match[2] else (".",)):
            break
        found.append(match[1] if match[1] is not None else int(match[2]))
        position = match.end()
    if position != len(path) or not 1 <= len(found) <= MOST_STEPS:
        raise UsageError(f"mapping: {path[:60]!a} is not a path like predictions[0].label")
    return found


def pick(value: Any, path: list[str | int]) -> Any:
    """The value at a path; raises KeyError, IndexError or TypeError when there is none."""
    for step in path:
        if isinstance(step, str) and not isinstance(value, dict):
            raise TypeError("not an object")
        if isinstance(step, int) and not isinstance(value, list):
            raise TypeError("not a list")
        value = value[step]
    return value


def place(document: Any, path: list[str | int], value: object) -> Any:
    """`document` with `value` at `path`; objects and lists are made on the way, list indices may only append."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, str):
        made: dict[str, Any] = dict(document) if isinstance(document, dict) else {}
        return {**made, step: place(made.get(step), rest, value)}
    items: list[Any] = list(document) if isinstance(document, list) else []
    if step > len(items):
        raise UsageError(f"mapping: a list cannot start at index {step}")
    inner = items[step] if step < len(items) else None
    return [*items[:step], place(inner, rest, value), *items[step + 1 :]]


class JsonEndpoint:
    """A service that takes one image a POST request and answers with JSON."""

    def __init__(self, client: Client, url: str, plan: TriggerPlan, wanted: Input, mapped: Mapped) -> None:
        self.description = shown(url)
        self.input = wanted
        self._client, self._url, self._plan, self._mapped = client, url, plan, mapped
        self._answer = steps(mapped.label if mapped.label is not None else mapped.scores)
        # A path that the body does not allow shows now, not in the middle of a probe.
        self._content(np.zeros(plan.shape, dtype=np.uint8))

    def ask(self, image: Image, take: Take) -> Reply:
        """One POST request."""
        response = self._client.request("POST", self._url, take, **self._content(image))
        if not response.ok:
            return failure(response)
        digest = hashlib.sha256(response.body).hexdigest()
        try:
            found = pick(parse_json(response.body, where="answer"), self._answer)
            reply = reply_of(self._array(found), digest, attempts=response.attempts, shown=self._safe)
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, FormatError):
            path = self._mapped.label if self._mapped.label is not None else self._mapped.scores
            kind = "label" if self._mapped.label is not None else "scores"
            return Reply(
                status="malformed",
                attempts=response.attempts,
                response=digest,
                detail=f"a malformed answer: no {kind} at {visible(str(path), most=80)}",
                said=self._safe(response.body.decode("utf-8", "replace")),
            )
        return reply

    def _safe(self, text: str) -> str:
        return self._client.safe(self._url, text)

    def _array(self, found: object) -> np.ndarray[Any, Any]:
        if self._mapped.scores is not None:
            return np.array(found, dtype=np.float64).reshape(-1)
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise TypeError("a label is a text or an integer")
        return np.array([found])

    def _content(self, image: Image) -> dict[str, Any]:
        kind = self._mapped.image
        if kind == "list":
            encoded: object = prepare(image, self.input, self._plan).tolist()
        else:
            pixels = pixels_for(image, self.input)
            picture = jpeg_bytes(pixels, quality=98, full_colour=True) if kind == "jpeg" else png_bytes(pixels)
            if kind == "multipart":
                data = {
                    key: value if isinstance(value, str) else encode(value, where="mapping")
                    for key, value in self._mapped.body.items()
                }
                return {"files": {self._mapped.at: ("image.png", picture, "image/png")}, "data": data}
            encoded = base64.b64encode(picture).decode("ascii")
        return {"json": place(copy.deepcopy(dict(self._mapped.body)), steps(self._mapped.at), encoded)}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
