"""Disputes: two claims match one suspect; who was first? (docs/protocol.md, Disputes)

(1) A mark that is in the other's original, while the other's is not in one's own, was there first. (2) Both or neither: the
earlier trusted time stamp, on a registration whose committed frame the suspect shows, if the later frame lies inside this
one, or is in the suspect by chance at most and so are the edges of its claimant's original. (3) Otherwise nobody can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ticketguard.claims.reveal import format_time
from ticketguard.errors import UsageError
from ticketguard.storage.tensors import TensorFile
from ticketguard.tickets import Weights
from ticketguard.verify.coincidence import MOST_COINCIDENCE, coincidence
from ticketguard.verify.containment import containment
from ticketguard.verify.judge import Case, Check, Judgement, examine, judged, rule_of
from ticketguard.verify.lineage import chance_overlap, frame_overlap, frame_weights

# A frame is in the suspect when the overlap is this, and this many times what alignment finds in random frames.
LEAST_OVERLAP = 0.3
OVER_CHANCE = 1.5
# It is not in the suspect when the overlap is at most this, and this many times the same: pruning leaves something in between.
NO_OVERLAP = 0.1
AT_CHANCE = 1.1
# Checks that must hold before there is a dispute; all others are findings, which speak for one side or the other.
CONDITIONS = ("A verifies", "B verifies", "two claimants")

Outcome = Literal["A PRIOR", "B PRIOR", "UNDECIDED"]
Shown = Literal["yes", "maybe", "no"]


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
    found_a, found_b = judged(a, nonce=nonce, now=now), judged(b, nonce=nonce, now=now)
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
    for case in (a, b):
        case.require_unchanged()
    return Dispute(outcome=outcome, reason=reason, checks=tuple(checks), a=found_a, b=found_b)


def _who_stands(a: Judgement, b: Judgement) -> str:
    stands = [name for name, found in (("A", a), ("B", b)) if found.outcome == "MATCH"]
    return f"only {stands[0]}'s claim matches the suspect" if stands else "neither claim matches the suspect"


def _mark_in(case: Case, other: TensorFile, name: str) -> Check:
    verdict = examine(case.examiner, other, rule_of(case))
    return Check(name=name, passed=verdict.decision == "MATCH", detail=f"{verdict.decision}: {verdict.reason}")


def _by_time(a: Case, b: Case, suspect: TensorFile, checks: list[Check]) -> tuple[Outcome, str]:
    """Rule (2); appends what it checked. A stamp counts only when the suspect shows the frame it committed to."""
    cases = {"A": a, "B": b}
    shown = {name: _shows(suspect, case, f"{name}'s frame in the suspect", checks) for name, case in cases.items()}
    for name, case in cases.items():
        detail = f"{format_time(case.stamp.time)} by {case.stamp.authority}" if case.stamp else "no trusted time stamp"
        checks.append(Check(name=f"{name}'s time stamp", passed=case.stamp is not None, detail=detail))
    if "yes" not in shown.values():
        return "UNDECIDED", "the marks do not decide, and the suspect shows neither registered frame"
    times = {name: case.stamp.time for name, case in cases.items() if case.stamp}
    if not times or any(shown[name] != "no" for name in cases.keys() - times.keys()):
        return "UNDECIDED", "the marks do not decide, and a trusted time stamp is missing: priority is unproven"
    if len(set(times.values())) < len(times):
        return "UNDECIDED", "the marks do not decide, and both registrations were stamped in the same second"
    first = min(times, key=lambda name: times[name])
    last = "B" if first == "A" else "A"
    outcome: Outcome = "A PRIOR" if first == "A" else "B PRIOR"
    # A frame that is hard to see, or hidden by whoever made the suspect, is no reason to prefer a later one.
    if shown[first] == "maybe":
        reason = f"whether the suspect shows {first}'s frame, which was stamped earlier, cannot be told from chance"
        return "UNDECIDED", reason
    if shown[first] == "no":
        reason = f"the suspect does not show {first}'s frame, which was stamped earlier: it may be hidden, or a decoy"
        return "UNDECIDED", reason
    if shown[last] == "no":
        if _made_from(suspect, cases[last], f"{last}'s original in the suspect", checks):
            reason = f"only {first}'s frame is shown, but the suspect has the edges of {last}'s original: it may be fitted in"
            return "UNDECIDED", reason
        return (
            outcome,
            f"only {first}'s registration commits to a frame that the suspect shows, and no earlier one is stamped",
        )
    if not _inside(cases[last], cases[first], f"{last}'s frame inside {first}'s", checks):
        reason = f"{last}'s frame was not made from {first}'s, which was stamped earlier: it may share an ancestor, or nothing"
        return "UNDECIDED", reason
    return outcome, f"{first}'s registration of this frame was stamped earlier, at {format_time(times[first])}"


def _made_from(suspect: TensorFile, case: Case, what: str, checks: list[Check]) -> bool:
    """Whether the suspect has edges where the claimant's original has them, more than a mark put into it would make."""
    found = coincidence(suspect, case.original, case.registration, case.reference)
    detail = f"{found:.2f} of its edges beyond chance, {MOST_COINCIDENCE:.2f} may be of a mark"
    checks.append(Check(name=what, passed=found > MOST_COINCIDENCE, detail=detail))
    return found > MOST_COINCIDENCE


def _inside(later: Case, earlier: Case, what: str, checks: list[Check]) -> bool:
    """Whether the later frame shows the earlier and lies inside it: no suspect, made after both, can bring that about."""
    frame = frame_weights(later.registration, later.reference)
    shown = _shows(frame, earlier, what.replace("inside", "shows"), checks)
    found = containment(frame, earlier.registration, earlier.reference)
    detail = f"{found.outside:.1%} of its edges are outside, {found.chance:.1%} would be by chance"
    checks.append(Check(name=what, passed=found.holds, detail=detail))
    return shown == "yes" and found.holds


def _shows(weights: Weights, case: Case, what: str, checks: list[Check]) -> Shown:
    overlap = frame_overlap(weights, case.registration, case.reference)
    chance = chance_overlap(weights, case.registration, case.reference)
    needed = max(LEAST_OVERLAP, OVER_CHANCE * chance)
    absent = max(NO_OVERLAP, AT_CHANCE * chance)
    detail = f"overlap {overlap:.2f}, {needed:.2f} is needed, and up to {absent:.2f} is none"
    checks.append(Check(name=what, passed=overlap >= needed, detail=detail))
    return "yes" if overlap >= needed else "maybe" if overlap > absent else "no"
