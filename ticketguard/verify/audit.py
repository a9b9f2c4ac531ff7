"""The audit: what an accused can check about a claim alone, and which grounds for rejecting it remain (docs/judge.md).

It needs no judge: reveal, public files and models of the accused's own choice. A nonce and an expiry bind the judge, not the
accused, so an audit does not look at them; it does look at which suspect the leaf was disclosed for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ticketguard.claims.opening import Opening
from ticketguard.evidence import Rule, Verdict
from ticketguard.signatures.carriers import all_carriers
from ticketguard.tails import log2_binomial_tail
from ticketguard.triggers.plan import plan_of
from ticketguard.triggers.render import render
from ticketguard.verify.judge import (
    Case,
    Check,
    claim_checks,
    examine,
    examine_transcript,
    form_checks,
    priority_of,
    rule_of,
)
from ticketguard.verify.lineage import chance_overlap, frame_overlap
from ticketguard.verify.transcript import Transcript

# A draw of target bits as lopsided as this happens once in a million registrations.
LOPSIDED_BITS = 20.0
FORM = ("signatures", "registration", "frame", "leaf", "original")


@dataclass(frozen=True, kw_only=True)
class Audit:
    """`checks`: what was recomputed, and whether it held; `grounds`: what no computation settles; `verdict` on the suspect."""

    checks: tuple[Check, ...]
    grounds: tuple[str, ...]
    verdict: Verdict | None

    @property
    def sound(self) -> bool:
        """Whether every check held."""
        return all(check.passed for check in self.checks)


def audit(case: Case, *, answers: Sequence[Transcript] = ()) -> Audit:
    """Recompute a claim from its reveal and test it on models that have nothing to do with it.

    The case's controls are weights of independent models and known ancestors, `answers` transcripts of independent services
    over the same queries. A claim whose mark is in any of them, or not in its own model, proves nothing.
    """
    opening, examiner, rule = case.opening, case.examiner, rule_of(case)
    original = examine(examiner, case.original, rule, supplied_by="owner")
    others = {key: examine(examiner, file, rule) for key, file in zip(case.control_digests, case.controls, strict=True)}
    others |= {item.digest: _answered(opening, case, item, rule) for item in answers}
    checks = [check for check in form_checks(case) if check.name in FORM]
    checks += [*_parameters(case, rule), _carriers(opening), *_triggers(case, opening)]
    checks += [*_frozen(case), *claim_checks(original, others)]
    verdict = None
    if case.suspect is not None:
        verdict = examine(examiner, case.suspect, rule)
    elif case.transcript is not None:
        verdict = _answered(opening, case, case.transcript, rule)
    case.require_unchanged()
    return Audit(checks=tuple(checks), grounds=tuple(_grounds(case, checks, len(others), verdict)), verdict=verdict)


def _answered(opening: Opening, case: Case, transcript: Transcript, rule: Rule) -> Verdict:
    return examine_transcript(opening, transcript, rule, own_images=case.own_images)


def _parameters(case: Case, rule: Rule) -> list[Check]:
    """The rule as this reader must apply it, not as the claimant may have reported it."""
    registered = case.registration
    detail = (
        f"{registered.tests} tests, {rule.grinding_bits:.0f} bits for a claimant who searched, bar {rule.bar_bits:.1f} bits; "
        f"{sum(entry.pairs for entry in registered.table)} pairs per leaf in {len(registered.table)} layers"
    )
    return [Check(name="parameters", passed=True, detail=detail)]


def _carriers(opening: Opening) -> Check:
    """Carriers drawn again from the leaf: their number, and whether their target bits look like fair coins."""
    drawn = [carriers for layers in all_carriers(opening).values() for carriers in layers.values()]
    total, ones = sum(len(item.bits) for item in drawn), sum(int(item.bits.sum()) for item in drawn)
    bits = -float(log2_binomial_tail(max(ones, total - ones), total))
    detail = f"{total} pairs drawn again from the leaf, {ones} target bits are 1"
    return Check(name="carriers", passed=bits < LOPSIDED_BITS, detail=detail)


def _frozen(case: Case) -> list[Check]:
    """Whether the leaf was disclosed for this very suspect: whoever saw it before could have put the mark into another."""
    if case.suspect is None and case.transcript is None:
        return []
    shown, found = case.reveal, case.suspect_digest
    meant = (shown.kind, shown.suspect) == (case.kind, found)
    detail = f"the reveal was made for {shown.kind} {shown.suspect[:16]}, this is {case.kind} {found[:16]}"
    return [Check(name="suspect", passed=meant, detail=detail)]


def _triggers(case: Case, opening: Opening) -> list[Check]:
    plan = plan_of(case.registration)
    if plan is None:
        return []
    if plan.source == "owner" and case.own_images is None:
        detail = "the owner's own images were not given, so their digests could not be compared"
        return [Check(name="triggers", passed=False, detail=detail)]
    count = len(render(opening, plan, own_images=case.own_images).labels)
    return [Check(name="triggers", passed=True, detail=f"{count} triggers and their labels drawn again from the leaf")]


def _grounds(case: Case, checks: Sequence[Check], others: int, verdict: Verdict | None) -> list[str]:
    """What remains to be argued about, in words; failed checks first."""
    grounds = [f"{check.name}: {check.detail}" for check in checks if not check.passed]
    if others == 0:
        grounds.append("the claim was tested on no independent model: give some of your own with --control")
    if priority_of(case)["status"] == "unproven":
        grounds.append(
            "priority is unproven: no trusted time stamp dates the registration, and its own word counts for nothing"
        )
    if case.suspect is not None:
        overlap = frame_overlap(case.suspect, case.registration, case.reference)
        chance = chance_overlap(case.suspect, case.registration, case.reference)
        grounds.append(
            f"who supplied the suspect, and is it what the accused runs? Compare its digest {case.suspect_digest[:16]} "
            f"(frame overlap with the ticket {overlap:.2f}, by chance up to {chance:.2f})"
        )
    elif case.transcript is not None:
        grounds.append(
            "who recorded the answers, and from which service? A transcript proves only that somebody wrote it "
            f"({case.transcript.recorded_by or 'nobody'} says so); have the judge repeat the queries"
        )
    if verdict is not None and verdict.best is not None and verdict.decision == "MATCH":
        spare = int(verdict.best.bits - verdict.bar_bits)
        grounds.append(
            "how many models did the claimant examine before this one? Each counts as a test, with judge --suspects: "
            f"this evidence is a match among up to 2^{spare}"
        )
    return [
        *grounds,
        "lawful access: a licence, a purchase, or a model built in good faith on somebody else's copy also match",
        "published material: a released signed ticket, or triggers that reached scraped training data, also match",
    ]
