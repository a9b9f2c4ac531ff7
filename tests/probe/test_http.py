from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.probe.faulty import FAULTS, FaultyService, serving
from tests.probe.test_session import answers_of
from tests.thinned import thinned
from ticketguard.claims.opening import Opening
from ticketguard.errors import DataError, TicketguardError, UsageError
from ticketguard.evidence import Verdict
from ticketguard.probe.adapters import input_of
from ticketguard.probe.client import Client, Courtesy, _retry_after, checked_url, headers_from, shown
from ticketguard.probe.endpoint import JsonEndpoint, mapping_from
from ticketguard.probe.oip import OpenInference
from ticketguard.probe.predictor import Predictor
from ticketguard.probe.run import probe, replay
from ticketguard.probe.session import Manners
from ticketguard.triggers.plan import plan_of

pytest.importorskip("httpx", reason="the extra probe is not installed")

QUICK = Courtesy(timeout=5.0, retries=3, rate=0.0, backoff=0.01)
MAPPING = {"image": "png", "at": "instances[0].b64", "label": "predictions[0].label"}


def always() -> bool:
    return True


def connect(kind: str, url: str, opening: Opening, courtesy: Courtesy, **options: Any) -> Predictor:
    plan = plan_of(opening.registration)
    client = Client(courtesy, **options)
    if kind == "oip":
        return OpenInference.connect(client, f"{url}/v2/models/m", plan, input_of(plan), always)
    return JsonEndpoint(client, f"{url}/predict", plan, input_of(plan), mapping_from(MAPPING))


def judge(
    kind: str,
    service: FaultyService,
    opening: Opening,
    path: Path,
    *,
    courtesy: Courtesy = QUICK,
    budget: int = 2000,
    leaf: int | None = None,
) -> Verdict:
    with serving(service) as url:
        predictor = connect(kind, url, opening, courtesy)
        try:
            manners = Manners(budget=budget, workers=6, attempts=courtesy.retries + 1)
            probe(opening, predictor, path, manners=manners, leaf=leaf)
        finally:
            predictor.close()
    assert service.requests <= budget
    return replay(opening, path)


@pytest.mark.parametrize("kind", ["oip", "json"])
@pytest.mark.parametrize(("rate", "decision"), [(0.97, "MATCH"), (0.0, "NO MATCH")])
def test_honest_services(tmp_path: Path, opening: Opening, kind: str, rate: float, decision: str) -> None:
    service = FaultyService(answers_of(opening, rate))
    assert judge(kind, service, opening, tmp_path / "t.jsonl", leaf=1).decision == decision
    assert len(set(service.seen)) == len(service.seen)


def noise(seed: int) -> Callable[[int], str | None]:
    """20 % flips, 20 % refusals, and bursts of everything else."""
    kinds = ["too many", "unavailable", "drop", "garbage", "nonsense", "nan", "redirect", "stall"]
    generator = np.random.default_rng(seed)
    draws = generator.random(5000)
    bursts = generator.choice(kinds, 5000 // 8)

    def fault(number: int) -> str | None:
        if number % 40 < 4:
            return str(bursts[number // 8])
        return "flip" if draws[number] < 0.2 else "refuse" if draws[number] < 0.4 else None

    return fault


@pytest.mark.parametrize(
    ("kind", "rate", "decisions"),
    [
        ("json", 1.0, {"MATCH"}),
        pytest.param("oip", 1.0, {"MATCH"}, marks=pytest.mark.slow()),
        pytest.param("oip", 0.0, {"NO MATCH"}, marks=pytest.mark.slow()),
        pytest.param("json", 0.0, {"NO MATCH"}, marks=pytest.mark.slow()),
    ],
)
def test_noisy_services_get_the_right_verdict(
    tmp_path: Path, opening: Opening, kind: str, rate: float, decisions: set[str]
) -> None:
    service = FaultyService(answers_of(opening, rate), noise(int(rate) + len(kind)))
    verdict = judge(kind, service, opening, tmp_path / "t.jsonl")
    assert verdict.decision in decisions
    assert verdict.evidence[0].erasures > 0


@pytest.mark.parametrize("fault", thinned(sorted(FAULTS), fast=sorted(FAULTS)[::3]))
def test_a_service_with_nothing_but_one_fault_is_inconclusive(tmp_path: Path, opening: Opening, fault: str) -> None:
    service = FaultyService(answers_of(opening, 1.0), lambda number: fault)
    courtesy = Courtesy(timeout=5.0, retries=1, rate=0.0, backoff=0.0)
    if fault == "wait":
        courtesy = Courtesy(timeout=5.0, retries=0, rate=0.0, backoff=0.0)
    verdict = judge("oip", service, opening, tmp_path / "t.jsonl", courtesy=courtesy, budget=60)
    assert verdict.decision == "INCONCLUSIVE"
    assert "in a row" in " ".join(verdict.notes) or "budget" in " ".join(verdict.notes)


@pytest.mark.slow
def test_stalls_beyond_the_time_out_are_failures(tmp_path: Path, opening: Opening) -> None:
    service = FaultyService(answers_of(opening, 1.0), lambda number: "stall" if number % 9 == 0 else None)
    courtesy = Courtesy(timeout=0.3, retries=1, rate=0.0, backoff=0.0)
    verdict = judge("json", service, opening, tmp_path / "t.jsonl", courtesy=courtesy, budget=400, leaf=0)
    assert verdict.decision == "MATCH"


def test_the_budget_counts_retries(tmp_path: Path, opening: Opening) -> None:
    service = FaultyService({}, lambda number: "unavailable")
    verdict = judge("json", service, opening, tmp_path / "t.jsonl", budget=17)
    assert service.requests <= 17
    assert verdict.decision == "INCONCLUSIVE"


def test_a_service_that_sends_us_away_is_left_alone(tmp_path: Path, opening: Opening) -> None:
    service = FaultyService({}, lambda number: "go away")
    judge("json", service, opening, tmp_path / "t.jsonl")
    assert service.requests <= 6  # What was already under way.


def test_retry_after_holds_every_request(opening: Opening) -> None:
    service = FaultyService({}, lambda number: "wait" if number == 0 else None)
    with serving(service) as url:
        client = Client(QUICK)
        response = client.request("POST", f"{url}/v2/x", always, json=_tensor())
        client.close()
    assert response.ok
    assert response.attempts == 2
    assert service.times[1] - service.times[0] >= 1.0


def _tensor() -> dict[str, Any]:
    return {"inputs": [{"name": "images", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.0] * 64}]}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("5", 5),
        (" 7 ", 7),
        ("soon", 0),
        ("-3", 0),
        ("1e9", 0),
        ("9" * 40, 0),
        (format_datetime(datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=90)), 90),
        (format_datetime(datetime(2029, 1, 1, tzinfo=UTC)), 0),
    ],
)
def test_retry_after_is_read(value: str | None, seconds: float) -> None:
    assert _retry_after(value, datetime(2030, 1, 1, tzinfo=UTC)) == seconds


def test_the_rate_limit_spaces_requests() -> None:
    service = FaultyService({})
    with serving(service) as url:
        client = Client(Courtesy(rate=50.0))
        started = time.monotonic()
        for _ in range(6):
            client.request("POST", f"{url}/v2/x", always, json=_tensor())
        client.close()
    assert time.monotonic() - started >= 5 / 50


def test_a_late_comer_does_not_overtake_who_waits() -> None:
    """He arrives at the very moment when the turn of another is due."""
    now, late = [0.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if not late:
            late.append(now[0])
            client._wait_for_turn()
            late.append(now[0])

    client = Client(Courtesy(rate=10.0), sleep=sleep, clock=lambda: now[0])
    client._wait_for_turn()
    client._wait_for_turn()
    client.close()
    assert late == pytest.approx([0.1, 0.2])


def test_a_pause_that_is_asked_for_holds_those_who_wait_already() -> None:
    now, held = [0.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if not held:
            held.append(True)
            client._hold(5.0)

    client = Client(Courtesy(rate=10.0), sleep=sleep, clock=lambda: now[0])
    client._wait_for_turn()
    client._wait_for_turn()
    assert now[0] == pytest.approx(5.1)
    client._wait_for_turn()
    assert now[0] == pytest.approx(5.2)
    client.close()


def test_nothing_is_sent_once_the_budget_is_spent() -> None:
    service = FaultyService({})
    with serving(service) as url:
        client = Client(QUICK)
        response = client.request("POST", f"{url}/v2/x", lambda: False, json=_tensor())
        client.close()
    assert not response.ok
    assert (response.attempts, service.requests) == (0, 0)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "host/x",
        "http://",
        "http://user:hunter2@host/",
        "http://user@host/",
        "http://host:0/",
        "http://host:99999/",
        "http://[::1",
        "",
    ],
)
def test_bad_addresses_are_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(UsageError, match="endpoint") as caught:
        checked_url(url)
    assert "hunter2" not in str(caught.value)


def test_what_is_shown_of_an_address_holds_no_secret() -> None:
    assert shown("https://user:hunter2@host:8443/a/b?key=hunter2#hunter2") == "https://host:8443/a/b"
    assert shown("http://[::1]:80/a") == "http://[::1]:80/a"


def test_headers_come_from_the_environment() -> None:
    found = headers_from({"T": "abc", "K": "k 1"}, token="T", headers={"X-Api-Key": "K"})
    assert found == {"Authorization": "Bearer abc", "X-Api-Key": "k 1"}
    for environment in ({}, {"T": ""}, {"T": "a\nb"}, {"T": "\u00e9"}):
        with pytest.raises(UsageError, match="variable T") as caught:
            headers_from(environment, token="T", headers={})
        assert environment.get("T", "never") not in str(caught.value) or not environment.get("T")


@pytest.mark.parametrize(
    "fault",
    [
        None,
        "drop",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("too many", "garbage", "redirect", "go away")),
    ],
)
def test_the_token_and_the_leaves_show_up_nowhere(
    tmp_path: Path,
    opening: Opening,
    fault: str | None,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not in the transcript, the verdict, logs at the lowest level, or errors; even when the service echoes the
    token."""
    token = "tok-5d1c0ffee"
    caplog.set_level(0)
    service = FaultyService(dict.fromkeys(answers_of(opening, 0.0), token), lambda number: fault)
    service.extra = {"X-Echo": token, "Set-Cookie": f"a={token}", "Location": f"/{token}"}
    errors = []
    with serving(service) as url:
        headers = headers_from({"TOKEN": token}, token="TOKEN", headers={})
        predictor = connect("json", url, opening, Courtesy(timeout=5, retries=0, rate=0, backoff=0), headers=headers)
        assert token not in repr(predictor) + predictor.description
        try:
            probe(opening, predictor, tmp_path / "t.jsonl", manners=Manners(budget=30, workers=2))
        except TicketguardError as problem:
            errors.append(str(problem))
        finally:
            predictor.close()
    assert service.headers[0]["Authorization"] == f"Bearer {token}"
    verdict = replay(opening, tmp_path / "t.jsonl")
    captured = capfd.readouterr()
    everything = [
        (tmp_path / "t.jsonl").read_text(), str(verdict.to_json()), caplog.text, captured.out, captured.err, *errors
    ]  # fmt: skip
    secrets = [token, *(leaf.hex() for leaf in opening.leaves.values())]
    for text in everything:
        assert not any(secret in text for secret in secrets)


def test_an_address_nobody_listens_at_is_one_clear_line(opening: Opening) -> None:
    with pytest.raises(DataError, match="no answer") as caught:
        connect("oip", "http://127.0.0.1:9", opening, Courtesy(retries=0, timeout=2))
    assert "\n" not in str(caught.value)


def test_an_open_inference_address_names_a_model(opening: Opening) -> None:
    plan = plan_of(opening.registration)
    with pytest.raises(UsageError, match="/v2/models/"):
        OpenInference.connect(Client(QUICK), "http://127.0.0.1:9/", plan, input_of(plan), always)
