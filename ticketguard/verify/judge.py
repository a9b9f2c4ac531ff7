"""The judge: recomputes everything from public files, tests the claim's own subject and controls, then the suspect.

What fails a check of form or of cryptography raises; what fails statistically makes the claim void, which is a result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from math import ceil, floor
from typing import Any, Literal

from ticketguard.claims import manifest, ownership, reveal
from ticketguard.claims.opening import Opening
from ticketguard.claims.ownership import OwnershipClaim
from ticketguard.claims.registration import GRINDING_BITS, Registration, frame_digest
from ticketguard.claims.reveal import Reveal, SuspectKind
from ticketguard.claims.streams import NO_BEACON
from ticketguard.claims.timestamps import Stamp
from ticketguard.errors import AuthenticityError, StorageError, UsageError
from ticketguard.evidence import Evidence, Rule, Verdict, decide
from ticketguard.graph.cells import Counts
from ticketguard.storage.tensors import TensorFile
from ticketguard.tails import log2_binomial_tail
from ticketguard.triggers.plan import plan_of
from ticketguard.triggers.render import Images, render
from ticketguard.triggers.score import trigger_tests
from ticketguard.verify.transcript import Transcript, trigger_answers
from ticketguard.verify.verifier import Examiner

# Evidence in a signed verdict is rounded down to 1/1024 bit, so that another processor's last digits do not change it.
GRAIN = 1024
ONE_SUSPECT = "a case has one suspect: its weights, or a transcript of its answers"

Outcome = Literal["MATCH", "NO MATCH", "INCONCLUSIVE", "VOID"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was checked, whether it held, and a sentence about it."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """Public files of one case, as values whose signatures were verified when they were read.

    `registration`, `claim` and `reveal` with their exact payloads; `reference` and `ticket`: frame and manifest digest of the
    released ticket; `original`: the model that the claim names; exactly one of `suspect` (weights) and `transcript`;
    `controls`: known ancestors and independent models, which must not match; `stamp`: a trusted time stamp of the
    registration, or None; `own_images`: the owner's own trigger images, when their digests are registered.
    """

    registration: Registration
    registration_payload: bytes
    claim: OwnershipClaim
    claim_payload: bytes
    reveal: Reveal
    reveal_payload: bytes
    reference: Counts
    ticket: str
    original: TensorFile
    suspect: TensorFile | None = None
    transcript: Transcript | None = None
    controls: Sequence[TensorFile] = ()
    stamp: Stamp | None = None
    own_images: Images | None = None

    @property
    def kind(self) -> SuspectKind:
        """What the suspect is known by."""
        return "weights" if self.suspect is not None else "transcript"

    @cached_property
    def control_digests(self) -> tuple[str, ...]:
        """Manifest digests of the controls, in order: each file is read whole, once."""
        return tuple(digest_of(file) for file in self.controls)

    @cached_property
    def original_digest(self) -> str:
        """Manifest digest of the original: the file is read whole, once."""
        return digest_of(self.original)

    @cached_property
    def opening(self) -> Opening:
        """What `opened` gives."""
        return opened(self)

    @cached_property
    def examiner(self) -> Examiner:
        """The examiner of the opening, whose carriers are drawn once. Raises `AuthenticityError` for a foreign ticket."""
        if frame_digest(self.reference) != self.registration.frame:
            raise AuthenticityError("the released ticket's frame is not the registered one: the ticket is another")
        return Examiner(self.opening, reference=lambda: self.reference)

    @cached_property
    def suspect_digest(self) -> str:
        """Manifest or transcript digest of the suspect. Raises `UsageError` unless exactly one of the two is given."""
        if self.suspect is not None and self.transcript is None:
            return digest_of(self.suspect)
        if self.suspect is None and self.transcript is not None:
            return self.transcript.digest
        raise UsageError(ONE_SUSPECT)

    def require_unchanged(self) -> None:
        """Raise `StorageError` unless every model still has the digest that a judgement names, which was taken first.

        Files are mapped, not copied: whoever can write to one could have another model judged under this one's digest.
        """
        suspects = [] if self.suspect is None else [(self.suspect, self.suspect_digest)]
        controls = zip(self.controls, self.control_digests, strict=True)
        for file, digest in [(self.original, self.original_digest), *controls, *suspects]:
            if digest_of(file) != digest:
                raise StorageError(
                    f"{file.path}: changed while it was judged: judge a copy that nobody else can write to"
                )


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The outcome with everything that led to it; `verify.verdicts` signs it.

    `verdict` is about the suspect, `original` about the claim's own subject, `controls` about each control by its digest.
    VOID means that the claim's mark is missing from its own subject, or present in a control.
    """

    outcome: Outcome
    reason: str
    checks: tuple[Check, ...]
    verdict: Verdict
    original: Verdict
    controls: Mapping[str, Verdict]
    priority: Mapping[str, Any]


def digest_of(file: TensorFile) -> str:
    """The manifest digest of a tensor file."""
    return manifest.digest(manifest.manifest(file))


def judge(case: Case, *, nonce: str, now: datetime, supplied_by: str = "", suspects: int = 1) -> Judgement:
    """Check every public file against the others, then test the original, the controls and the suspect.

    `nonce` is the one this judge gave to the owner, `now` the time of judgement (UTC). `suspects`: how many the claimant
    examined to find this one, itself included; each raises the suspect's bar as a test more would, and no other bar. Raises
    `AuthenticityError` when a file does not belong, a digest differs or the reveal has expired, and `StorageError` when a model
    changes meanwhile.
    """
    found = judged(case, nonce=nonce, now=now, supplied_by=supplied_by, suspects=suspects)
    case.require_unchanged()
    return found


def judged(case: Case, *, nonce: str, now: datetime, supplied_by: str = "", suspects: int = 1) -> Judgement:
    """As `judge`, for who reads the models once more and then asks himself whether they are unchanged."""
    examiner, rule = case.examiner, rule_of(case)
    reveal.require_valid(case.reveal, kind=case.kind, suspect=case.suspect_digest, nonce=nonce, now=now)
    original = examine(examiner, case.original, rule, supplied_by="owner")
    controls = {
        key: examine(examiner, file, rule) for key, file in zip(case.control_digests, case.controls, strict=True)
    }
    verdict = _examine_suspect(case, examiner, replace(rule, suspects=suspects), supplied_by)
    checks = [*form_checks(case), *claim_checks(original, controls)]
    outcome, reason = _outcome(checks, verdict)
    return Judgement(
        outcome=outcome,
        reason=reason,
        checks=tuple(checks),
        verdict=verdict,
        original=original,
        controls=dict(sorted(controls.items())),
        priority=priority_of(case),
    )


def opened(case: Case) -> Opening:
    """The opening that the reveal gives, once claim, registration and reveal agree. Raises `AuthenticityError`."""
    registered = case.registration
    ownership.require_same(case.claim, registered, case.registration_payload)
    if case.claim.ticket != case.ticket:
        raise AuthenticityError("the released ticket is not the one that the claim names")
    if case.original_digest != case.claim.model:
        raise AuthenticityError("the model given as the original is not the one that the claim names")
    return reveal.open_reveal(case.reveal, case.registration, case.registration_payload)


def rule_of(case: Case) -> Rule:
    """The rule that this judge applies. Raises as `trusted_grinding` does."""
    return replace(case.opening.rule(), grinding_bits=trusted_grinding(case))


def trusted_grinding(case: Case) -> float:
    """Bits of the grinding allowance: the registered policy's only if a trusted time stamp proves the beacon."""
    if case.registration.beacon == "none" or case.stamp is None:
        return GRINDING_BITS["none"]
    if case.reveal.beacon == NO_BEACON:
        # Embedded before it was stamped: the stamp dates the registration, and lowers nothing.
        return GRINDING_BITS["none"]
    if case.stamp.beacon != case.reveal.beacon:
        raise AuthenticityError("the reveal's beacon is not the one of the registration's time stamp")
    return case.registration.grinding_bits


def priority_of(case: Case) -> dict[str, Any]:
    """What is known about the date of the registration; dates that nobody but the claimant asserts are never reported."""
    if case.stamp is None:
        return {"status": "unproven"}
    return {"status": "stamped", **case.stamp.to_json(), "beacon": case.registration.beacon != "none"}


def examine(examiner: Examiner, weights: TensorFile, rule: Rule, *, supplied_by: str = "") -> Verdict:
    """The verdict on weights under `rule`, its evidence rounded for signing."""
    evidence, notes = examiner.read_weights(weights, rule)
    return _decided(evidence, rule, notes, supplied_by)


def _examine_suspect(case: Case, examiner: Examiner, rule: Rule, supplied_by: str) -> Verdict:
    """The verdict on the suspect's weights, or on its answers."""
    if case.suspect is not None:
        return examine(examiner, case.suspect, rule, supplied_by=supplied_by)
    if case.transcript is None:
        raise UsageError(ONE_SUSPECT)
    return examine_transcript(
        examiner.opening, case.transcript, rule, own_images=case.own_images, supplied_by=supplied_by
    )


def examine_transcript(
    opening: Opening,
    transcript: Transcript,
    rule: Rule,
    *,
    own_images: Images | None = None,
    supplied_by: str = "",
) -> Verdict:
    """The verdict on recorded answers: the open leaves' triggers, found among the queries by their digests.

    Raises `UsageError` without triggers in the registration, and `DataError` for a label that is no registered class.
    """
    plan = plan_of(opening.registration)
    if plan is None:
        raise UsageError("this registration has no triggers: a transcript proves nothing about it")
    predictions, missing = trigger_answers(transcript, render(opening, plan, own_images=own_images), plan)
    notes = [f"{len(transcript.answers)} queries recorded"]
    evidence = trigger_tests(opening, plan, predictions)
    if missing:
        notes.append(f"{missing} triggers of the revealed leaf have no answer; they count as wrong")
        # What was never asked could not have matched: a suspect is not cleared by it.
        evidence = [
            replace(item, capacity_bits=-log2_binomial_tail(item.n - missing, item.n, chances=len(plan.classes)))
            for item in evidence
        ]
    return _decided(evidence, rule, notes, supplied_by)


def _decided(evidence: Sequence[Evidence], rule: Rule, notes: Sequence[str], supplied_by: str) -> Verdict:
    rounded = [grained(item) for item in evidence]
    return decide(rounded, rule, notes=tuple(notes), supplied_by=supplied_by)


def grained(evidence: Evidence) -> Evidence:
    """The evidence with its bits rounded down to 1/1024."""
    return replace(
        evidence,
        log2_p=min(0.0, ceil(evidence.log2_p * GRAIN) / GRAIN),
        capacity_bits=floor(evidence.capacity_bits * GRAIN) / GRAIN,
    )


def form_checks(case: Case) -> list[Check]:
    """What held before any test was run; had it not, the judge would have refused the files."""
    registered, shown = case.registration, case.reveal
    return [
        _held("signatures", f"registration, claim and reveal verify under key {_keys_of(case)}"),
        _held("registration", f"claim and reveal name {hashlib.sha256(case.registration_payload).hexdigest()[:16]}"),
        _held("frame", f"the released ticket has the committed frame {registered.frame[:16]}"),
        _held("leaf", f"leaf {shown.index} of {registered.leaves} is under the registered Merkle root"),
        _held("suspect", f"the reveal was made for this suspect, {shown.suspect[:16]}, and this judge's nonce"),
        _held("expiry", f"the reveal was valid until {reveal.format_time(shown.expires)}"),
        _held("original", f"the original is the model that the claim names, {case.claim.model[:16]}"),
    ]


def claim_checks(original: Verdict, controls: Mapping[str, Verdict]) -> list[Check]:
    """The statistical checks of the claim itself: its mark is in its own subject, and in no control."""
    marked = original.decision == "MATCH"
    checks = [Check(name="own mark", passed=marked, detail=f"the claim's own model: {original.reason}")]
    for digest, verdict in sorted(controls.items()):
        clean = verdict.decision != "MATCH"
        checks.append(Check(name="control", passed=clean, detail=f"control {digest[:16]}: {verdict.reason}"))
    return checks


def _held(name: str, detail: str) -> Check:
    return Check(name=name, passed=True, detail=detail)


def _keys_of(case: Case) -> str:
    """The registration's key, and the successors that signed in its place."""
    own = case.registration.public_key.keyid
    others = sorted({case.claim.public_key.keyid, case.reveal.public_key.keyid} - {own})
    return own[:16] + "".join(f" and its successor {keyid[:16]}" for keyid in others)


def _outcome(checks: Sequence[Check], verdict: Verdict) -> tuple[Outcome, str]:
    failed = next((check for check in checks if not check.passed), None)
    if failed is None:
        return verdict.decision, verdict.reason
    why = "its mark is not in its own model" if failed.name == "own mark" else "its mark is in a control model too"
    return "VOID", f"the claim is void: {why} ({failed.detail})"
