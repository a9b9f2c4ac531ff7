from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from ticketguard.evidence import Evidence, Rule, Verdict, decide
from ticketguard.suite.plan import Cell
from ticketguard.suite.results import Result, SuiteResult, Timing
from ticketguard.verify.judge import Case, Check, Judgement

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[2J\u202egnp.exe\ud83d"


def evidence(test: str, scope: str, bits: float, *, view: str = "stored", n: int = 1000) -> Evidence:
    return Evidence(
        test=test,
        scope=scope,
        view=view,
        n=n,
        matches=n - 123,
        log2_p=-bits,
        capacity_bits=float(n),
        erasures=7,
        null=f"the null of {test}",
    )


def make_verdict(best: float = 512.25, *, leaves: int = 4, **changes: object) -> Verdict:
    tests = [evidence(test, "pooled", best / (1 + index)) for index, test in enumerate(("support", "magnitude"))]
    tests += [evidence("triggers", f"leaf {leaf}", 11.5 + leaf, n=640 + leaf) for leaf in range(leaves)]
    tests.append(evidence("support", "pooled", 0.0, view="aligned"))
    given: dict[str, object] = {
        "notes": ("permuted in 9 groups, 112 dummy channels dropped",),
        "supplied_by": "the owner",
        "context": {"suspect": "a.safetensors", "sha256": "ab" * 32},
        **changes,
    }
    return decide(tests, Rule(), **given)  # type: ignore[arg-type]


def make_judgement(verdict: Verdict) -> Judgement:
    """A judgement with everything hostile that others may have put into it."""
    return Judgement(
        outcome="VOID",
        reason="the claim is void: its mark is in a control model too",
        checks=(
            Check(name="own mark", passed=True, detail=HOSTILE),
            Check(name="control", passed=False, detail=f"control {'ab' * 8}: 400 bits"),
        ),
        verdict=verdict,
        original=verdict,
        controls={"ab" * 32: make_verdict(notes=(HOSTILE,)), "cd" * 32: decide([], Rule())},
        priority={"status": "stamped", "time": "2026-11-28T00:00:00Z"},
    )


FILES = {"ab" * 32: f"one {HOSTILE}.safetensors", "cd" * 32: "other.safetensors"}


def make_case() -> Case:
    """What a page shows of a case: who claims what of which suspect, and the transcript's own words."""
    key = SimpleNamespace(keyid="56" * 32)
    return cast(
        Case,
        SimpleNamespace(
            registration=SimpleNamespace(owner=HOSTILE, public_key=key),
            registration_payload=b"a registration",
            claim=SimpleNamespace(model="34" * 32, public_key=SimpleNamespace(keyid="78" * 32)),
            claim_payload=b"a claim",
            suspect_digest="12" * 32,
            transcript=SimpleNamespace(service=HOSTILE, recorded_by=""),
        ),
    )


def make_result(
    attack: str, strength: float, bits: float | None, accuracy: float | None, *, seed: int = 0, control: bool = False
) -> Result:
    decision = "NOT RUN" if accuracy is None else "MATCH" if (bits or 0) >= 126 else "INCONCLUSIVE"
    cell = Cell(attack=attack, strength=strength, seed=seed, epochs=3, images=None)
    return Result(
        digest=cell.digest("s"),
        cell=cell,
        label=f"{attack}@{strength:g}",
        unit="share pruned",
        lossless=False,
        control=control,
        decision=decision,
        reason="no layer of that kind" if accuracy is None else f"{bits} bits",
        accuracy=accuracy,
        edge_bits=bits,
        trigger_bits=None if accuracy is None else 3.25,
        bar_bits=None if accuracy is None else 126.0,
        epochs=3.0,
        images=1438,
    )


def make_suite() -> SuiteResult:
    results = [
        *(
            make_result("prune", strength, 4000 * (1 - strength) ** 2, 98 - 60 * strength)
            for strength in (0.1, 0.5, 0.9)
        ),
        make_result("rewire", 0.3, 900.5, 98.0),
        make_result("rewire", 0.3, 80.5, 97.25, seed=1),
        make_result("rewire", 0.7, 44.0, 97.0),
        make_result("=cmd()", 1.0, None, None),
        make_result("unrelated", 1.0, 5.5, 97.5, control=True),
    ]
    return SuiteResult(
        plan="quick",
        subject="cd" * 32,
        accuracy=98.25,
        dataset="digits",
        results=tuple(results),
        timings={item.digest: Timing(attack=1.5, verify=0.25) for item in results},
    )
