"""The session: asks a schedule through a predictor, writes the transcript, stops as soon as the outcome is
settled.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from random import Random

import numpy as np

from ticketguard.claims.keys import SecretKey
from ticketguard.errors import DataError, UsageError
from ticketguard.probe.judging import Tally, tally
from ticketguard.probe.predictor import Budget, Predictor, Reply
from ticketguard.probe.schedule import Schedule
from ticketguard.probe.transcript import Log, Recorded, Transcript
from ticketguard.storage.hostile import visible
from ticketguard.triggers.labels import Classes, best_classes

MOST_WORKERS = 32
# Class names and characters that the words on a failure show.
MOST_NAMES = 10
MOST_WORDS = 400


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How a session asks.

    `budget`: requests in all, retries included; `workers`: queries under way at once; `jitter`: up to that many
    seconds of random delay before each query; `give_up`: stop after so many queries in a row without a usable answer;
    `attempts`: most requests one query may cost, taken off the budget for each query that a crash interrupted;
    `early`: stop when settled.
    """

    budget: int = 2000
    workers: int = 4
    jitter: float = 0.0
    give_up: int = 24
    attempts: int = 1
    early: bool = True

    def __post_init__(self) -> None:
        if self.budget < 1 or not 1 <= self.workers <= MOST_WORKERS or self.give_up < 1 or self.attempts < 1:
            raise UsageError(f"probe: budget, workers (up to {MOST_WORKERS}), give-up and attempts start at 1")
        if not 0 <= self.jitter <= 3600:
            raise UsageError("probe: the jitter is 0 to 3600 seconds")


@dataclass(frozen=True, kw_only=True)
class State:
    """What a progress display shows: queries done, triggers resolved and in all, requests spent, bits so far, the
    bar, and the seconds that asking the rest would take.
    """

    queries: int
    resolved: int
    triggers: int
    requests: int
    bits: float
    bar_bits: float
    seconds_left: float


OnState = Callable[[State], None]
# Called with the words on every query without a usable answer: for a screen, never for a record.
OnFailure = Callable[[str], None]


@dataclass(kw_only=True)
class Session:
    """One run of a probe, new or resumed: `run` it once.

    `previous` is the transcript so far when resumed. `bar_bits` is the registered rule's. `random` draws the jitter,
    `sleep` and `clock` can be replaced in tests.
    """

    predictor: Predictor
    schedule: Schedule
    log: Log
    bar_bits: float
    manners: Manners
    previous: Transcript | None = None
    label_map: Mapping[str, str] | None = None
    random: Random = field(default_factory=Random)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    on_state: OnState | None = None
    on_failure: OnFailure | None = None

    def run(self, key: SecretKey | None = None) -> str:
        """Ask until settled, out of budget, given up, or done; end and sign the transcript; return the reason.

        Raises `DataError` when no connection came about from the start: then nothing was sent, and the transcript is put back
        to what it was before.
        """
        self._prepare()
        reason = None
        with ThreadPoolExecutor(self.manners.workers) as pool:
            under_way: dict[Future[tuple[Reply, float]], int] = {}
            try:
                while reason is None or under_way:
                    if reason is None:
                        self._fill(pool, under_way)
                    if not under_way:
                        reason = reason or self._why_idle()
                        break
                    done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in sorted(done, key=under_way.__getitem__):
                        self._record(under_way.pop(future), *future.result())
                    reason = reason or self._settled()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        if self._unreached:
            self.log.take_back()
            raise DataError(f"{self.predictor.description}: {self._unreached}: nothing was sent, and nothing recorded")
        self.log.end(reason, key)
        return reason

    def _prepare(self) -> None:
        before = self.previous
        self._classes = Classes(names=self.schedule.classes, label_map=self.label_map)
        self._answers: dict[int, Recorded] = dict(before.answers) if before else {}
        self._lost = before.interrupted if before else []
        self._tallied: Tally | None = None
        asked = before.asked.keys() if before else set()
        self._waiting = deque(number for number in range(len(self.schedule.order)) if number not in asked)
        spent = sum(item.attempts for item in self._answers.values()) + self.manners.attempts * len(self._lost)
        self._budget = Budget(self.manners.budget, spent)
        self._silent = 0
        self._last = ""
        # Why no connection came about, while that is all that happened.
        self._unreached, self._reached = "", False
        self._started, self._done_here = self.clock(), 0

    def _fill(self, pool: ThreadPoolExecutor, under_way: dict[Future[tuple[Reply, float]], int]) -> None:
        """Send queries while there is room. Each is written down first; a budget that may run out keeps the rest
        back.
        """
        while self._waiting and len(under_way) < self.manners.workers and not self._unreached:
            # One request for each query under way and one for the next, or it would only be cut short.
            if self._budget.total - self._budget.spent < len(under_way) + 1:
                return
            number = self._waiting.popleft()
            image = int(self.schedule.order[number])
            self.log.ask(number, self.schedule.digests[image])
            delay = self.random.uniform(0, self.manners.jitter) if self.manners.jitter else 0.0
            under_way[pool.submit(self._ask, image, delay)] = number

    def _ask(self, image: int, delay: float) -> tuple[Reply, float]:
        if delay:
            self.sleep(delay)
        started = self.clock()
        reply = self.predictor.ask(self.schedule.images[image], self._budget.take)
        return reply, self.clock() - started

    def _record(self, number: int, reply: Reply, seconds: float) -> None:
        recorded = self._read(number, reply)
        name = None if recorded.label is None else self.schedule.classes[recorded.label]
        self.log.answer(recorded, name, response=reply.response, seconds=seconds)
        self._answers[number] = recorded
        self._tallied = None
        self._done_here += 1
        self._silent = 0 if recorded.label is not None else self._silent + 1
        self._last = reply.detail or recorded.status
        self._reached = self._reached or reply.reached
        self._unreached = "" if self._reached else self._unreached or (reply.detail if reply.attempts else "")
        if recorded.label is None and self.on_failure is not None:
            self.on_failure(self._words(reply, recorded))
        if self.on_state is not None:
            self.on_state(self._state())

    def _words(self, reply: Reply, recorded: Recorded) -> str:
        """What came in place of a usable answer, with the service's own words."""
        if recorded.status == "unknown label":
            names = ", ".join(map(repr, self.schedule.classes[:MOST_NAMES]))
            more = ", ..." if len(self.schedule.classes) > MOST_NAMES else ""
            known = (
                f"the registered classes are {names}{more}; --label-map translates"
                if self.label_map is None
                else "the label map has no such label"
            )
            said = reply.said or "an answer that fits no class"
            return visible(f"unknown label: {said}; {known}", most=MOST_WORDS)
        return visible(self._last + (f", in: {reply.said}" if reply.said else ""), most=MOST_WORDS)

    def _read(self, number: int, reply: Reply) -> Recorded:
        """The reply as a class index, without a look at any target."""
        status, label, unknown = reply.status, None, None
        if status == "answered":
            try:
                label = self._index(reply.answer)
                status = "answered" if label is not None else "unknown label"
            except DataError:
                status = "unknown label"
            if status == "unknown label":
                unknown = hashlib.sha256(str(reply.answer)[:1000].encode("utf-8", "replace")).hexdigest()[:16]
        return Recorded(number=number, label=label, status=status, attempts=reply.attempts, unknown=unknown)

    def _index(self, answer: object) -> int | None:
        if isinstance(answer, tuple):
            index = int(best_classes(np.array([answer]), len(self.schedule.classes), where="answer")[0])
        else:
            index = self._classes.index(answer, where="answer")
        return None if index < 0 else index

    def _tally(self) -> Tally:
        """The tally of the answers so far, made once after each."""
        if self._tallied is None:
            self._tallied = tally(self.schedule, self._answers, self._lost, label_map=self.label_map)
        return self._tallied

    def _settled(self) -> str | None:
        if self._silent >= self.manners.give_up:
            return f"the service gave no usable answer {self._silent} times in a row (last: {self._last})"
        return self._tally().decided(self.bar_bits) if self.manners.early else None

    def _why_idle(self) -> str:
        return "every query was asked" if not self._waiting else "the query budget is spent"

    def _state(self) -> State:
        found = self._tally()
        pace = (self.clock() - self._started) / max(1, self._done_here)
        return State(
            queries=len(self._answers),
            resolved=found.resolved,
            triggers=found.total,
            requests=self._budget.spent,
            bits=-found.log2_p,
            bar_bits=self.bar_bits,
            seconds_left=pace * len(self._waiting),
        )
