from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ticketguard.claims.keys import SecretKey
from ticketguard.claims.opening import Opening
from ticketguard.errors import AuthenticityError, FormatError, TicketguardError, UsageError
from ticketguard.probe.judging import Tally, begin_fields, tally
from ticketguard.probe.predictor import CallablePredictor, RecordedPredictor, Reply, Take
from ticketguard.probe.run import probe, replay
from ticketguard.probe.schedule import Parameters, make_schedule, one_leaf
from ticketguard.probe.session import Manners, Session, State
from ticketguard.probe.transcript import Log, read
from ticketguard.storage.atomic import exclusive_file
from ticketguard.triggers.plan import image_digest, plan_of
from ticketguard.triggers.render import render

ALONE = Manners(workers=1)


def answers_of(opening: Opening, rate: float, seed: int = 0) -> dict[str, str]:
    """A model that learnt a share `rate` of the triggers, by image digest."""
    triggers = render(opening, plan_of(opening.registration))
    generator = np.random.default_rng(seed)
    learnt = generator.random(len(triggers.labels)) < rate
    labels = np.where(learnt, triggers.labels, generator.integers(0, 10, len(learnt)))
    return {image_digest(image): str(label) for image, label in zip(triggers.images, labels, strict=True)}


class Service:
    """A predictor that answers triggers as told and decoys at random, and remembers what it was asked."""

    description = "a test service"

    def __init__(self, answers: dict[str, Any], reply: Callable[[str, Any], Reply] | None = None) -> None:
        self.answers, self.reply, self.asked = answers, reply, []

    def ask(self, image: np.ndarray, take: Take) -> Reply:
        if not take():
            return Reply(status="over budget", attempts=0)
        digest = image_digest(image)
        self.asked.append(digest)
        answer = self.answers.get(digest, int(digest[:2], 16) % 10)
        return self.reply(digest, answer) if self.reply else Reply(status="answered", answer=answer)

    def close(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(("rate", "decision"), [(0.9, "MATCH"), (0.6, "MATCH"), (0.0, "NO MATCH")])
def test_a_probe_stops_when_settled_and_its_replay_agrees(
    tmp_path: Path, opening: Opening, rate: float, decision: str
) -> None:
    service = Service(answers_of(opening, rate))
    path = tmp_path / "t.jsonl"
    transcript = probe(opening, service, path, manners=ALONE)
    verdict = replay(opening, path)
    assert verdict.decision == decision
    assert len(service.asked) == len(transcript.asked) < 384
    assert len(set(service.asked)) == len(service.asked)
    assert "saved" in verdict.notes[0]
    assert verdict.context["saved"] > 0
    assert verdict == replay(opening, path)


def test_one_leaf_is_enough_and_spares_the_others(tmp_path: Path, opening: Opening) -> None:
    service = Service(answers_of(opening, 0.95))
    probe(opening, service, tmp_path / "t.jsonl", manners=ALONE, leaf=2)
    verdict = replay(opening, tmp_path / "t.jsonl")
    assert (verdict.decision, verdict.evidence[0].scope) == ("MATCH", "leaf 2")
    spared = render(opening, plan_of(opening.registration)).images[:128]
    assert not {image_digest(image) for image in spared} & set(service.asked)


def test_a_search_among_many_services_raises_the_bar(tmp_path: Path, opening: Opening) -> None:
    service = Service(answers_of(opening, 1.0))
    probe(opening, service, tmp_path / "t.jsonl", manners=ALONE)
    assert replay(opening, tmp_path / "t.jsonl").decision == "MATCH"
    assert replay(opening, tmp_path / "t.jsonl", suspects=1 << 30).decision == "INCONCLUSIVE"
    probe(opening, service, tmp_path / "u.jsonl", manners=ALONE, suspects=1 << 30)
    assert replay(opening, tmp_path / "u.jsonl", suspects=1 << 30).decision == "MATCH"


def test_decoys_are_mixed_in_and_the_order_is_the_sessions_own(tmp_path: Path, opening: Opening) -> None:
    triggers = {image_digest(image) for image in render(opening, plan_of(opening.registration)).images}
    orders = []
    for name in ("a", "b"):
        service = Service({})
        probe(opening, service, tmp_path / name, manners=Manners(workers=1, early=False), decoys=0.5, leaf=0)
        orders.append(service.asked)
    first = orders[0]
    assert len(first) == 96
    assert len(set(first) & triggers) == 64
    assert 12 < sum(digest in triggers for digest in first[:32]) < 31
    assert orders[0] != orders[1]


def test_the_budget_is_never_exceeded(tmp_path: Path, opening: Opening) -> None:
    service = Service(answers_of(opening, 0.9))
    probe(opening, service, tmp_path / "t.jsonl", manners=Manners(budget=20, workers=8))
    verdict = replay(opening, tmp_path / "t.jsonl")
    assert len(service.asked) <= 20
    assert verdict.decision == "INCONCLUSIVE"
    assert "budget" in " ".join(verdict.notes)


@pytest.mark.parametrize(
    "reply",
    [
        lambda digest, answer: Reply(status="refused", detail="HTTP 403"),
        lambda digest, answer: Reply(status="answered", answer="a tench"),
        lambda digest, answer: Reply(status="answered", answer=10),
        lambda digest, answer: Reply(status="answered", answer=(0.1, 0.9)),
        lambda digest, answer: Reply(status="answered", answer=(float("nan"),) * 10),
        lambda digest, answer: Reply(status="malformed"),
    ],
)
def test_services_without_usable_answers_are_given_up_and_inconclusive(
    tmp_path: Path, opening: Opening, reply: Callable[[str, Any], Reply]
) -> None:
    service = Service({}, reply)
    transcript = probe(opening, service, tmp_path / "t.jsonl", manners=ALONE)
    verdict = replay(opening, tmp_path / "t.jsonl")
    assert len(service.asked) == 24
    assert "24 times in a row" in str(transcript.ended)
    assert verdict.decision == "INCONCLUSIVE"


def test_refusals_and_flips_leave_a_match_standing(tmp_path: Path, opening: Opening) -> None:
    generator = np.random.default_rng(1)

    def noisy(digest: str, answer: Any) -> Reply:
        if generator.random() < 0.2:
            return Reply(status="refused")
        return Reply(status="answered", answer=int(generator.integers(0, 10)) if generator.random() < 0.2 else answer)

    probe(opening, Service(answers_of(opening, 0.98), noisy), tmp_path / "t.jsonl", manners=ALONE)
    verdict = replay(opening, tmp_path / "t.jsonl")
    assert verdict.decision == "MATCH"
    assert verdict.evidence[0].erasures > 0
    assert "refused" in " ".join(verdict.notes)


def test_inconsistent_answers_are_erasures(tmp_path: Path, opening: Opening) -> None:
    seen: set[str] = set()

    def wavering(digest: str, answer: Any) -> Reply:
        again = digest in seen
        seen.add(digest)
        if int(digest[:2], 16) < 64:
            return Reply(status="answered", answer=3 if again else 4)
        return Reply(status="answered", answer=answer)

    probe(
        opening,
        Service(answers_of(opening, 1.0), wavering),
        tmp_path / "t.jsonl",
        manners=Manners(workers=1, early=False),
        repeats=2,
        decoys=0,
        leaf=0,
    )
    verdict = replay(opening, tmp_path / "t.jsonl")
    evidence = verdict.evidence[0]
    assert verdict.decision == "MATCH"
    assert evidence.matches == evidence.n == 64 - evidence.erasures
    assert evidence.erasures == sum(int(digest[:2], 16) < 64 for digest in seen) > 0
    assert "different answers" in " ".join(verdict.notes)


def test_a_label_map_is_charged_for_the_services_vocabulary(tmp_path: Path, opening: Opening) -> None:
    words = [f"word {number}" for number in range(10)]
    learnt = answers_of(opening, 0.95)
    service = Service({digest: words[int(answer)] for digest, answer in learnt.items()})
    service.reply = lambda digest, answer: Reply(
        status="answered", answer=answer if isinstance(answer, str) else "a word beyond the map"
    )
    label_map = {word: str(number) for number, word in enumerate(words)}
    states: list[State] = []
    probe(opening, service, tmp_path / "t.jsonl", manners=ALONE, label_map=label_map, on_state=states.append)
    verdict = replay(opening, tmp_path / "t.jsonl")
    assert verdict.decision == "MATCH"
    assert "25.3 bits charged" in verdict.evidence[0].null  # log2(11! / 1!)
    # It stopped at the bar that it is judged by.
    assert states[-1].bits == verdict.evidence[0].bits >= verdict.bar_bits > states[-2].bits


def test_a_refused_map_leaves_no_file(tmp_path: Path, opening: Opening) -> None:
    with pytest.raises(TicketguardError, match="exactly once"):
        probe(opening, Service({}), tmp_path / "t.jsonl", manners=ALONE, label_map={"a": "0"})
    assert not (tmp_path / "t.jsonl").exists()


def test_progress_is_told(tmp_path: Path, opening: Opening) -> None:
    states: list[State] = []
    probe(opening, Service(answers_of(opening, 0.9)), tmp_path / "t", manners=ALONE, on_state=states.append)
    assert [state.queries for state in states] == list(range(1, len(states) + 1))
    assert states[-1].bits >= states[-1].bar_bits == 126.0


def test_the_seconds_left_follow_the_pace_and_each_answer_is_counted_once(
    tmp_path: Path, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Tally:
        calls.append(len(arguments[1]))
        return tally(*arguments, **options)

    monkeypatch.setattr("ticketguard.probe.session.tally", counted)
    schedule = make_schedule(
        one_leaf(opening, 0), plan_of(opening.registration), Parameters(salt="0123456789", decoys=0)
    )
    states: list[State] = []
    # Each query takes one tick of this clock, and the look at it after the answer another.
    clock = itertools.count().__next__
    session = Session(
        predictor=Service(answers_of(opening, 0.9)),
        schedule=schedule,
        log=Log.begin(tmp_path / "t", begin_fields(opening, schedule, service="a test service")),
        bar_bits=20.0,
        manners=ALONE,
        clock=clock,
        on_state=states.append,
    )
    session.run()
    assert calls == [state.queries for state in states]
    assert [state.seconds_left for state in states] == [3.0 * (len(schedule.order) - done) for done in calls]


def test_a_tally_is_that_of_the_answers_alone(opening: Opening) -> None:
    schedule = make_schedule(opening, plan_of(opening.registration), Parameters(salt="0123456789", decoys=7, repeats=2))
    assert sorted(number for numbers in schedule.copies.values() for number in numbers) == list(
        range(len(schedule.order))
    )
    last = [schedule.copies[image][-1] for image in schedule.triggers]
    assert last == sorted(last)
    assert sorted(schedule.triggers) == list(range(len(schedule.targets)))


def test_callables_and_recorded_answers(tmp_path: Path, opening: Opening) -> None:
    learnt = answers_of(opening, 1.0)

    def scores(images: np.ndarray) -> np.ndarray:
        return np.eye(10)[[int(learnt.get(image_digest(image), 0)) for image in images]]

    probe(opening, CallablePredictor(scores), tmp_path / "a", manners=ALONE)
    assert replay(opening, tmp_path / "a").decision == "MATCH"
    probe(opening, RecordedPredictor(learnt), tmp_path / "b", manners=ALONE, decoys=0)
    assert replay(opening, tmp_path / "b").decision == "MATCH"
    probe(opening, RecordedPredictor({}), tmp_path / "c", manners=ALONE)
    assert replay(opening, tmp_path / "c").decision == "INCONCLUSIVE"


def test_the_end_is_signed_and_every_change_shows(tmp_path: Path, opening: Opening, owner: SecretKey) -> None:
    path = tmp_path / "t.jsonl"
    transcript = probe(
        opening, Service(answers_of(opening, 0.9)), path, manners=Manners(budget=12, workers=1), key=owner
    )
    assert transcript.keyid == owner.public.keyid
    lines = path.read_bytes().split(b"\n")[:-1]
    for number in range(len(lines)):
        value = json.loads(lines[number])
        for changed in ({**value, "time": "2000-01-01"}, {**value, "label": "0"}, None):
            if changed == value:
                continue
            edited = lines.copy()
            edited[number : number + 1] = [] if changed is None else [json.dumps(changed).encode()]
            path.write_bytes(b"\n".join(edited) + b"\n")
            if changed is None and number == len(lines) - 1:
                assert read(path).keyid is None  # A signature that is taken off is missing, not forged.
                continue
            if number == len(lines) - 1:
                assert read(path).keyid == owner.public.keyid  # Its own line's time is not signed.
                continue
            with pytest.raises((AuthenticityError, FormatError), match="line"):
                read(path)


def test_transcripts_of_another_secret_or_service_are_refused(tmp_path: Path, opening: Opening) -> None:
    from dataclasses import replace

    path = tmp_path / "t.jsonl"
    probe(opening, Service({}), path, manners=Manners(budget=5))
    other = replace(opening, leaves={leaf: bytes(32) for leaf in opening.leaves})
    with pytest.raises(AuthenticityError, match="not those of this registration"):
        replay(other, path)
    with pytest.raises(AuthenticityError, match="another registration"):
        replay(replace(opening, payload=b"another"), path)
    with pytest.raises(UsageError, match="has ended"):
        probe(opening, Service({}), path, manners=ALONE)
    with exclusive_file(path), pytest.raises(UsageError, match="another process works on"):
        probe(opening, Service({}), path, manners=ALONE)


JUNK = [None, True, -1, 7, 1e300, "", "x", [], [1], {}, {"a": 1}, "\u0000", 1 << 70]


def rechained(lines: list[dict[str, Any]]) -> bytes:
    """The lines as a transcript whose chain is right, whatever they say."""
    texts, previous = [], "0" * 64
    for line in lines:
        texts.append(json.dumps({**line, "previous": previous}, separators=(",", ":")).encode() + b"\n")
        previous = hashlib.sha256(texts[-1][:-1]).hexdigest()
    return b"".join(texts)


def test_hostile_transcripts_raise_nothing_but_our_errors(tmp_path: Path, opening: Opening) -> None:
    """Every field of every kind of line replaced by junk, with the chain put right again."""
    path = tmp_path / "t.jsonl"
    probe(opening, Service({}), path, manners=Manners(budget=3, workers=1), leaf=0)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    refused, accepted = 0, set()
    for number, line in enumerate(lines):
        fields = [(name,) for name in line if name != "previous"] + [
            ("schedule", name) for name in line.get("schedule", {})
        ]
        for field, junk in itertools.product(fields, [*JUNK, "gone"]):
            changed = json.loads(json.dumps(lines))
            target = changed[number] if len(field) == 1 else changed[number][field[0]]
            if junk == "gone":
                del target[field[-1]]
            else:
                target[field[-1]] = junk
            path.write_bytes(rechained(changed))
            try:
                replay(opening, path)
            except TicketguardError as problem:
                refused += "\n" not in str(problem)
            else:
                accepted.add(field[-1])
    # Free text, times, and numbers that are only shown may say anything; nothing that the verdict follows from may.
    assert not {"format", "kind", "registration", "scope", "classes", "salt", "decoys", "repeats", "sha256"} & accepted
    assert refused > 300


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), length=st.integers(0, 60), junk=st.binary(max_size=20))
def test_damaged_transcripts_raise_nothing_but_our_errors(
    tmp_path: Path, opening: Opening, place: int, length: int, junk: bytes
) -> None:
    whole = tmp_path / "whole.jsonl"
    if not whole.exists():
        probe(opening, Service({}), whole, manners=Manners(budget=5, workers=1), leaf=0)
    data = whole.read_bytes()
    place %= len(data)
    damaged = data[:place] + junk + data[place + length :]
    (tmp_path / "t.jsonl").write_bytes(damaged)
    with contextlib.suppress(TicketguardError):
        # The last line of an unsigned transcript can still be changed; all lines before it are what they were.
        replay(opening, tmp_path / "t.jsonl")
        kept = damaged.split(b"\n")[:-2]
        assert data.split(b"\n")[: len(kept)] == kept


@pytest.mark.parametrize("torn", [b"", b'{"kind":"begin","format":1'])
def test_a_first_line_that_was_never_finished_is_no_transcript(tmp_path: Path, opening: Opening, torn: bytes) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(torn)
    probe(opening, Service({}), path, manners=Manners(budget=3))
    assert len(read(path).asked) == 3


@pytest.mark.parametrize("other", [b"a file of mine", b"{}\n"])
def test_other_files_are_never_touched(tmp_path: Path, opening: Opening, other: bytes) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(other)
    with pytest.raises(TicketguardError):
        probe(opening, Service({}), path, manners=Manners(budget=3))
    assert path.read_bytes() == other


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import importlib.util
spec = importlib.util.spec_from_file_location("helpers", {tests!r} + "/test_session.py")
helpers = importlib.util.module_from_spec(spec); spec.loader.exec_module(helpers)
spec = importlib.util.spec_from_file_location("conf", {tests!r} + "/conftest.py")
conf = importlib.util.module_from_spec(spec); spec.loader.exec_module(conf)
opening = conf.make_opening()
log = open({asked!r}, "a")
def slow(digest, answer):
    log.write(digest + "\\n"); log.flush()
    time.sleep(0.03)
    return helpers.Reply(status="answered", answer=answer)
service = helpers.Service(helpers.answers_of(opening, {rate}), slow)
helpers.probe(opening, service, Path({path!r}), manners=helpers.Manners(workers=3, budget=500))
"""


def over(path: Path) -> bool:
    """Whether the transcript has its last line; a torn or missing one has not."""
    try:
        return read(path).ended is not None
    except TicketguardError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "decision"), [(0.95, "MATCH"), (0.0, "NO MATCH")])
def test_killed_at_any_moment_it_goes_on_without_asking_twice(
    tmp_path: Path, opening: Opening, rate: float, decision: str
) -> None:
    path, asked = tmp_path / "t.jsonl", tmp_path / "asked.txt"
    script = CHILD.format(tests=str(Path(__file__).parent), path=str(path), asked=str(asked), rate=rate)
    generator = np.random.default_rng(int(10 * rate) + 1)
    for attempt in range(12):
        child = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
        if attempt < 2:
            already = path.stat().st_size if path.exists() else 0
            deadline = time.monotonic() + 30
            while (not path.exists() or path.stat().st_size <= already) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(generator.uniform(0.02, 0.3))
            os.kill(child.pid, signal.SIGKILL)
        # On a fast machine the last line may be written before the kill arrives: then nothing is left to resume.
        if child.wait(timeout=60) == 0 or over(path):
            break
    else:
        pytest.fail(f"the probe never ended: {child.returncode}")
    queries = asked.read_text().split()
    assert len(queries) == len(set(queries)) <= 500
    transcript = read(path)
    assert len(transcript.interrupted) <= 6
    assert replay(opening, path).decision == decision


def test_queries_wait_a_random_while_and_never_more_than_the_workers_are_under_way(
    tmp_path: Path, opening: Opening
) -> None:
    lock, under_way, most, pauses = threading.Lock(), 0, 0, []

    def busy(digest: str, answer: Any) -> Reply:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.005)
        with lock:
            under_way -= 1
        return Reply(status="answered", answer=answer)

    parameters = Parameters(salt="0123456789abcdef", decoys=10)
    schedule = make_schedule(one_leaf(opening, 0), plan_of(opening.registration), parameters)
    session = Session(
        predictor=Service(answers_of(opening, 0.0), busy),
        schedule=schedule,
        log=Log.begin(tmp_path / "t", begin_fields(opening, schedule, service="a test service")),
        bar_bits=126.0,
        manners=Manners(workers=3, jitter=0.7, early=False),
        sleep=pauses.append,
    )
    session.run()
    assert most == 3
    assert len(pauses) == len(schedule.order)
    assert 0.0 <= min(pauses) < 0.2
    assert 0.5 < max(pauses) <= 0.7
