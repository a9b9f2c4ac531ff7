"""Damaged and forged transcripts, of probes and for judges: judged, or refused by one line of a project error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.probe.test_session import answers_of, rechained
from tests.storage.mutations import altered, edited, json_bytes
from ticketguard.claims import canonical
from ticketguard.claims.opening import Opening
from ticketguard.errors import TicketguardError
from ticketguard.evidence import Verdict
from ticketguard.probe.predictor import RecordedPredictor
from ticketguard.probe.run import probe, replay
from ticketguard.probe.session import Manners
from ticketguard.probe.transcript import read
from ticketguard.triggers.plan import plan_of
from ticketguard.triggers.render import render
from ticketguard.verify import transcript as frozen

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(FEW, max_examples=1500)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory, opening: Opening) -> list[dict[str, Any]]:
    """A short probe of a model that knows the triggers; with a label map, which the reader looks at as well."""
    path = tmp_path_factory.mktemp("whole") / "t.jsonl"
    names = {str(number): str(number) for number in range(10)}
    known = RecordedPredictor(answers_of(opening, 1.0))
    probe(opening, known, path, manners=Manners(budget=6, workers=1), leaf=0, label_map=names)
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def judged(opening: Opening, path: Path, content: bytes) -> Verdict | None:
    path.write_bytes(content)
    said, verdict = "", None
    try:
        verdict = replay(opening, path)
    except TicketguardError as problem:
        said = str(problem)
    assert said.isprintable()
    assert len(said) < 400 + len(str(path))
    return verdict


def check_forged(opening: Opening, path: Path, forged: Any) -> None:
    """Six answers, two of them perhaps made up: whatever a line says, they are no match."""
    chained = isinstance(forged, list) and all(isinstance(line, dict) for line in forged)
    verdict = judged(opening, path, rechained(forged) if chained else json_bytes(forged) + b"\n")
    assert verdict is None or verdict.decision != "MATCH"


@FEW
@given(data=st.data())
def test_forged_transcripts(tmp_path: Path, opening: Opening, lines: list[dict[str, Any]], data: st.DataObject) -> None:
    check_forged(opening, tmp_path / "t.jsonl", data.draw(altered(lines)))


@pytest.mark.slow
@MANY
@given(data=st.data())
def test_many_forged_transcripts(
    tmp_path: Path, opening: Opening, lines: list[dict[str, Any]], data: st.DataObject
) -> None:
    check_forged(opening, tmp_path / "t.jsonl", data.draw(altered(lines)))


@pytest.mark.slow
@MANY
@given(data=st.data())
def test_many_damaged_transcripts(
    tmp_path: Path, opening: Opening, lines: list[dict[str, Any]], data: st.DataObject
) -> None:
    judged(opening, tmp_path / "t.jsonl", data.draw(edited(rechained(lines))))


@pytest.fixture(scope="module")
def document(opening: Opening) -> dict[str, Any]:
    """A transcript for a judge."""
    triggers = render(opening, plan_of(opening.registration))
    made = frozen.record(
        triggers.images[:5], np.arange(5) - 1, plan_of(opening.registration).classes, service="s", recorded_by="r"
    )
    return json.loads(made.encode())


def check_frozen(content: bytes) -> None:
    said = ""
    try:
        assert frozen.parse(content).encode() == content
    except TicketguardError as problem:
        said = str(problem)
    assert said.isprintable()
    assert len(said) < 400


def canonical_bytes(value: Any) -> bytes:
    """In canonical form where there is one, so that more than the form is looked at."""
    try:
        return canonical.encode(value)
    except TicketguardError:
        return json_bytes(value)


@FEW
@given(data=st.data())
def test_forged_transcripts_for_judges(document: dict[str, Any], data: st.DataObject) -> None:
    check_frozen(data.draw(altered(document).map(canonical_bytes) | edited(canonical_bytes(document))))


@pytest.mark.slow
@MANY
@given(data=st.data())
def test_many_forged_transcripts_for_judges(document: dict[str, Any], data: st.DataObject) -> None:
    check_frozen(data.draw(altered(document).map(canonical_bytes) | edited(canonical_bytes(document))))


@pytest.mark.slow
@pytest.mark.timeout(45)
def test_the_time_to_read_a_transcript_grows_with_its_lines(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    """Not with their square: a forged file of a hundred thousand lines takes a second, as a copy for each took a minute."""
    queries = [{"kind": "ask", "number": number, "image": "0" * 64} for number in range(100_000)]
    (tmp_path / "t.jsonl").write_bytes(rechained([lines[0], *queries]))
    assert len(read(tmp_path / "t.jsonl").asked) == 100_000
