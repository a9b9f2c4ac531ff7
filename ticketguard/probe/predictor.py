"""The `Predictor` protocol: whatever answers one image at a time, and the two that need no network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import UsageError
from ticketguard.storage.hostile import visible
from ticketguard.triggers.plan import image_digest

# Characters of an answer that are looked at, to show fewer.
MOST_SAID = 4096

Image = NDArray[np.uint8]
# Takes one request from the budget; False when it is spent.
Take = Callable[[], bool]
Status = Literal["answered", "refused", "failed", "malformed", "unknown label", "interrupted", "over budget"]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back for one image.

    `answer`: a class name or index, or a tuple of scores, one a class; None unless `status` is "answered".
    `attempts`: requests sent; `response`: hex SHA-256 of the body; `detail`: a few words on a failure, free of
    secrets and of the service's own words; `said`: the start of those, for a screen alone. `reached`: False when not
    even a connection came about, so that nothing of the query left this machine.
    """

    status: Status
    answer: str | int | tuple[float, ...] | None = None
    attempts: int = 1
    response: str | None = None
    detail: str = ""
    said: str = ""
    reached: bool = True


class Predictor(Protocol):
    """Answers images, from several threads at once. `description` names the service, without credentials."""

    @property
    def description(self) -> str:
        """What was asked, for reports: a URL without user, password or query, a file name, ..."""
        ...

    def ask(self, image: Image, take: Take) -> Reply:
        """The reply to one uint8 image (C, H, W). Calls `take` before every request and sends none once it says
        False.
        """
        ...

    def close(self) -> None:
        """Give back connections and processes."""
        ...


class Budget:
    """A number of requests that no thread can exceed."""

    def __init__(self, total: int, spent: int = 0) -> None:
        if total < 1:
            raise UsageError(f"the query budget must be at least 1, not {total}")
        self.total = total
        self.spent = spent
        self._lock = Lock()

    def take(self) -> bool:
        """Take one request; False when none is left."""
        with self._lock:
            if self.spent >= self.total:
                return False
            self.spent += 1
            return True


class CallablePredictor:
    """Any function from uint8 images (1, C, H, W) to a label or to scores for them; it is called from one thread at a
    time.
    """

    def __init__(self, function: Callable[[Image], Any], *, description: str = "a Python function") -> None:
        self.description = description
        self._function = function
        self._lock = Lock()

    def ask(self, image: Image, take: Take) -> Reply:
        """Call the function; what it raises is the caller's own and not caught."""
        if not take():
            return Reply(status="over budget", attempts=0)
        with self._lock:
            result = np.asarray(self._function(image[None]))
        return reply_of(result, hashlib.sha256(result.tobytes() if result.dtype != object else b"").hexdigest())

    def close(self) -> None:
        """Nothing to give back."""


class RecordedPredictor:
    """Answers that were recorded before: image digest (hex) -> class name or index, None for no answer."""

    def __init__(self, answers: Mapping[str, str | int | None], *, description: str = "recorded answers") -> None:
        self.description = description
        self._answers = dict(answers)

    def ask(self, image: Image, take: Take) -> Reply:
        """Look the image up."""
        if not take():
            return Reply(status="over budget", attempts=0)
        answer = self._answers.get(image_digest(image))
        return (
            Reply(status="refused", detail="no recorded answer")
            if answer is None
            else Reply(status="answered", answer=answer)
        )

    def close(self) -> None:
        """Nothing to give back."""


def reply_of(result: NDArray[Any], response: str, *, attempts: int = 1, shown: Callable[[str], str] = visible) -> Reply:
    """A reply from an array that holds one label (any shape of one integer or text) or one row of scores.

    `shown` makes what a service says safe to show.
    """
    flat = result.reshape(-1)
    if flat.dtype.kind in "iuUS" and flat.size == 1:
        value = flat[0].item()
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return Reply(
            status="answered", answer=text, attempts=attempts, response=response, said=shown(repr(text)[:MOST_SAID])
        )
    if flat.dtype.kind == "f" and flat.size > 1:
        scores = tuple(float(score) for score in flat)
        said = f"{len(scores)} scores"
        return Reply(status="answered", answer=scores, attempts=attempts, response=response, said=said)
    return Reply(status="malformed", attempts=attempts, response=response, detail="neither one label nor scores")
