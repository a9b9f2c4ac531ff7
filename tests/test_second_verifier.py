"""The judge and an independent verifier that shares no line with it agree on the fixture case."""

import ast
import importlib.util
import json
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest

from ticketguard.claims import envelope
from ticketguard.claims.reveal import parse_time
from ticketguard.commands.cases import read_case
from ticketguard.storage.tensors import read_tensors, write_tensors
from ticketguard.triggers.plan import plan_of
from ticketguard.triggers.render import render
from ticketguard.verify import judge as judging
from ticketguard.verify import verdicts
from ticketguard.verify.transcript import trigger_answers
from ticketguard.verify.verifier import Examiner

FIXTURES = Path(__file__).parents[1] / "fixtures"
CASES = [FIXTURES / "case-v1", FIXTURES / "case-v1-squared"]
SOURCE = Path(__file__).parent / "second_verifier.py"
NOW = parse_time("2026-06-01T12:00:00Z")
NONCE = "5e" * 32


@pytest.fixture(params=CASES, ids=lambda folder: folder.name)
def folder(request):
    """One committed case for each test plan of version 1."""
    return request.param


@pytest.fixture(scope="module")
def second():
    spec = importlib.util.spec_from_file_location("second_verifier", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def judged(folder, name, **what):
    case = read_case(folder / "public", folder / f"{name}.dsse.json", **what)
    return case, judging.judge(case, nonce=NONCE, now=NOW)


@pytest.mark.parametrize(
    ("suspect", "reveal", "outcome"),
    [("suspect", "reveal", "MATCH"), ("unrelated", "reveal-unrelated", "NO MATCH")],
)
def test_both_verifiers_read_the_same_evidence(second, folder, suspect, reveal, outcome):
    path = folder / f"{suspect}.safetensors"
    case, found = judged(folder, reveal, suspect=path)
    assert found.outcome == outcome
    assert second.manifest_digest(second.read_tensors(path.read_bytes())) == case.suspect_digest
    other = second.verify(folder / "public", folder / f"{reveal}.dsse.json", path)
    for item in found.verdict.evidence:
        n, matches, log2_p = other[item.test]
        assert (item.n, item.matches) == (n, matches)
        assert 0 <= item.log2_p - log2_p < 0.01 if item.test == "support" else abs(item.log2_p - log2_p) < 0.01


def wide(weight, rng):
    """As float64 of too many scales for squares."""
    return weight.astype(np.float64) * 2.0 ** rng.integers(-300, 301, weight.shape)


def half(weight, rng):
    """As half precision, with infinities among them."""
    return np.where(rng.random(weight.shape) < 0.05, np.inf, weight).astype(np.float16)


@pytest.mark.parametrize("stored", [wide, half])
def test_both_verifiers_read_odd_weights_alike(second, folder, tmp_path, stored):
    case, rng = judged(folder, "reveal", suspect=folder / "suspect.safetensors")[0], np.random.default_rng(3)
    weights = {name: np.asarray(case.suspect[name]) for name in case.suspect}
    odd = {
        name: stored(weight, rng) if name in case.registration.layers else weight for name, weight in weights.items()
    }
    write_tensors(tmp_path / "odd.safetensors", odd, {})
    opening = judging.opened(case)
    found = Examiner(opening).verify(read_tensors(tmp_path / "odd.safetensors"))
    other = second.verify(folder / "public", folder / "reveal.dsse.json", tmp_path / "odd.safetensors")
    for item in found.evidence:
        n, matches, log2_p = other[item.test]
        assert (item.n, item.matches) == (n, matches)
        assert abs(item.log2_p - log2_p) < 0.01


@pytest.mark.parametrize(("name", "outcome"), [("stolen", "MATCH"), ("honest", "NO MATCH")])
def test_both_verifiers_count_the_same_answers(second, folder, name, outcome):
    case, found = judged(folder, f"reveal-{name}", transcript=folder / f"answers-{name}.json")
    assert found.outcome == outcome
    plan = plan_of(case.registration)
    labels, _ = trigger_answers(case.transcript, render(judging.opened(case), plan), plan)
    revealed = labels[plan.indices(case.reveal.index)]
    n, matches, log2_p = second.answers(folder / "public", folder / f"reveal-{name}.dsse.json", revealed.tolist())
    best = found.verdict.best
    assert (best.n, best.matches) == (n, matches)
    assert 0 <= best.log2_p - log2_p < 0.01


def test_committed_verdict_is_recomputed_bit_for_bit(folder):
    """Also the promise to old cases: version 1 is judged the same for ever."""
    case = read_case(
        folder / "public",
        folder / "reveal.dsse.json",
        suspect=folder / "suspect.safetensors",
        controls=[folder / "unrelated.safetensors"],
    )
    signed = (folder / "verdict.dsse.json").read_bytes()
    assert verdicts.recompute(signed, case).outcome == "MATCH"
    statement = json.loads(b64decode(json.loads(signed)["payload"]))
    assert statement["predicateType"] == "urn:ticketguard:verdict/v1"
    assert envelope.open(signed).payload


def test_second_verifier_refuses_what_does_not_belong(second, folder, tmp_path):
    from cryptography.exceptions import InvalidSignature

    for name in ("registration.dsse.json", "claim.dsse.json", "ticket.safetensors"):
        (tmp_path / name).write_bytes((folder / "public" / name).read_bytes())
    second.open_case(tmp_path, folder / "reveal.dsse.json")
    (tmp_path / "withdrawal.dsse.json").write_text("{}")
    with pytest.raises(AssertionError):
        second.open_case(tmp_path, folder / "reveal.dsse.json")
    (tmp_path / "withdrawal.dsse.json").unlink()
    with pytest.raises(AssertionError):
        second.open_envelope((folder / "reveal.dsse.json").read_bytes(), ["00" * 32])
    text = (folder / "reveal.dsse.json").read_text()
    wrapper = json.loads(text)
    wrapper["payload"] = wrapper["payload"][:-8] + "AAAA" + wrapper["payload"][-4:]
    (tmp_path / "reveal.dsse.json").write_text(json.dumps(wrapper))
    with pytest.raises((InvalidSignature, ValueError)):
        second.open_case(tmp_path, tmp_path / "reveal.dsse.json")


def test_second_verifier_is_short_and_shares_nothing():
    source = SOURCE.read_text()
    assert len(source.splitlines()) < 150
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {name.split(".")[0] for name in imported} <= {"base64", "hashlib", "json", "math", "numpy", "cryptography"}
