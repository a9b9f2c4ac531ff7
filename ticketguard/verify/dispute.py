"""Disputes: two claims match one suspect; who was first? (docs/protocol.md, Disputes)

(1) A mark that is in the other's original, while the other's is not in one's own, was there first. (2) Both or neither: the
earlier trusted time stamp, on a registration whose committed frame the suspect overlaps; when it overlaps both, they must
overlap each other. (3) Otherwise nobody can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ticketguard.claims.reveal import format_time
from ticketguard.errors import UsageError
from ticketguard.storage.tensors import TensorFile
from ticketguard.tickets import Weights
from ticketguard.verify.judge import Case, Check, Judgement, examine, judge, rule_of
from ticketguard.verify.lineage import chance_overlap, frame_overlap, frame_weights

# A frame is in the suspect when the overlap is this, and this many times what alignment finds in random frames.
LEAST_OVERLAP = 0.3
OVER_CHANCE = 1.5
# Checks that must hold before there is a dispute; all others are findings, which speak for one side or the other.
CONDITIONS = ("A verifies", "B verifies", "two claimants")

Outcome = Literal["A PRIOR", "B PRIOR", "UNDECIDED"]


@dataclass(frozen=True, kw_only=True)
class Dispute:
    """The outcome, one sentence of reason, and every check that led to it: see `CONDITIONS`."""

    outcome: Outcome
    reason: str
    checks: tuple[Check, ...]
    a: Judgement
    b: Judgement


def settle(a: Case, b: Case, *, nonce: str, now: datetime) -> Dispute:
    """Apply the rule to two cases about one suspect. Raises what `judge` raises when a file of either does not belong."""
    if a.suspect is None or b.suspect is None or a.suspect_digest != b.suspect_digest:
        raise UsageError("a dispute is about one suspect model: give both cases the same weights")
    found_a, found_b = judge(a, nonce=nonce, now=now), judge(b, nonce=nonce, now=now)
    checks = [
        Check(name="A verifies", passed=found_a.outcome == "MATCH", detail=f"{found_a.outcome}: {found_a.reason}"),
        Check(name="B verifies", passed=found_b.outcome == "MATCH", detail=f"{found_b.outcome}: {found_b.reason}"),
    ]
    outcome: Outcome = "UNDECIDED"
    if a.registration.public_key == b.registration.public_key:
        reason = "both claims are made with one key: there is one claimant"
        checks.append(Check(name="two claimants", passed=False, detail=reason))
    elif not all(check.passed for check in checks):
        reason = "there is no dispute to decide: " + _who_stands(found_a, found_b)
    else:
        in_b, in_a = (
            _mark_in(a, b.original, "A's mark in B's original"),
            _mark_in(b, a.original, "B's mark in A's original"),
        )
        checks += [in_b, in_a]
        if in_b.passed != in_a.passed:
            outcome = "A PRIOR" if in_b.passed else "B PRIOR"
            first, other = ("A", "B") if in_b.passed else ("B", "A")
            reason = (
                f"{first}'s mark is in {other}'s original, {other}'s is not in {first}'s: {first}'s was there first"
            )
        else:
            outcome, reason = _by_time(a, b, a.suspect, checks)
    return Dispute(outcome=outcome, reason=reason, checks=tuple(checks), a=found_a, b=found_b)


def _who_stands(a: Judgement, b: Judgement) -> str:
    stands = [name for name, found in (("A", a), ("B", b)) if found.outcome == "MATCH"]
    return f"only {stands[0]}'s claim matches the suspect" if stands else "neither claim matches the suspect"


def _mark_in(case: Case, other: TensorFile, name: str) -> Check:
    verdict = examine(case.examiner, other, rule_of(case))
    return Check(name=name, passed=verdict.decision == "MATCH", detail=f"{verdict.decision}: {verdict.reason}")


def _by_time(a: Case, b: Case, suspect: TensorFile, checks: list[Check]) -> tuple[Outcome, str]:
    """Rule (2); appends what it checked. A stamp counts only when the suspect shows the frame it committed to."""
    overlaps = [_overlap(case, suspect, name, checks) for case, name in ((a, "A"), (b, "B"))]
    for case, name in ((a, "A"), (b, "B")):
        detail = f"{format_time(case.stamp.time)} by {case.stamp.authority}" if case.stamp else "no trusted time stamp"
        checks.append(Check(name=f"{name}'s time stamp", passed=case.stamp is not None, detail=detail))
    # A claimant whose registered frame is not in the suspect did not register what the suspect was made from.
    left = [(case, name) for case, name, shown in zip((a, b), "AB", overlaps, strict=True) if shown]
    if not left:
        return "UNDECIDED", "the marks do not decide, and the suspect shows neither registered frame"
    if any(case.stamp is None for case, _ in left):
        return "UNDECIDED", "the marks do not decide, and a trusted time stamp is missing: priority is unproven"
    if len(left) == 2 and not (_related(left[0], left[1], checks) or _related(left[1], left[0], checks)):
        reason = "the suspect shows two frames that have nothing in common: whoever made it put one of them in"
        return "UNDECIDED", reason
    times = {name: case.stamp.time for case, name in left if case.stamp}
    first = min(times, key=lambda name: times[name])
    if list(times.values()).count(times[first]) > 1:
        return "UNDECIDED", "the marks do not decide, and both registrations were stamped in the same second"
    outcome: Outcome = "A PRIOR" if first == "A" else "B PRIOR"
    if len(left) == 1:
        return outcome, f"only {first}'s stamped registration commits to a frame that the suspect shows"
    return outcome, f"{first}'s registration of this frame was stamped earlier, at {format_time(times[first])}"


def _related(one: tuple[Case, str], other: tuple[Case, str], checks: list[Check]) -> bool:
    """Whether one committed frame is in the other: no suspect, made after both, can bring that about."""
    (case, name), (second, called) = one, other
    frame = frame_weights(second.registration, second.reference)
    return _shows(frame, case, f"{name}'s frame in {called}'s", checks)


def _overlap(case: Case, suspect: TensorFile, name: str, checks: list[Check]) -> bool:
    return _shows(suspect, case, f"{name}'s frame in the suspect", checks)


def _shows(weights: Weights, case: Case, what: str, checks: list[Check]) -> bool:
    overlap = frame_overlap(weights, case.registration, case.reference)
    needed = max(LEAST_OVERLAP, OVER_CHANCE * chance_overlap(weights, case.registration, case.reference))
    shown = overlap >= needed
    checks.append(Check(name=what, passed=shown, detail=f"overlap {overlap:.2f}, {needed:.2f} is needed"))
    return shown
