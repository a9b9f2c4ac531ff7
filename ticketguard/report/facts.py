"""Which case a report is about: who registered what, what was tested, when. The same rows on page, Markdown and terminal."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING

from ticketguard.claims.registration import Registration
from ticketguard.claims.reveal import format_time
from ticketguard.report import words
from ticketguard.report.machine import installed

if TYPE_CHECKING:
    from ticketguard.verify.judge import Case, Judgement

# Name and value of each row; strangers' words are in them, as they came.
Facts = tuple[tuple[str, str], ...]
# A digest of tensors, whatever file holds them: the number that `inspect`, a reveal and a verdict give for the same model.
SUSPECT = "Suspect (SHA-256 of its manifest)"
MODEL = "Model (SHA-256 of its manifest)"
ANSWERS = "Answers (SHA-256 of the file)"
TRANSCRIPT = "Transcript (SHA-256)"


def registration_facts(registered: Registration, payload: bytes, *, who: str = "Owner") -> Facts:
    """The name and the whole key id of `who` registered, and the digest by which claims and reveals name the registration."""
    return (
        (f"{who}, as registered", registered.owner or "not stated"),
        (f"{who}'s key id", registered.public_key.keyid),
        ("Registration (SHA-256)", hashlib.sha256(payload).hexdigest()),
    )


def made_facts(now: datetime) -> Facts:
    """When a report was made, in UTC, and by which version."""
    return (("Report made", format_time(now)), ("Made by", maker()))


def maker() -> str:
    """The name of this program, and its version where that is known."""
    return f"ticketguard {installed('ticketguard')}".rstrip()


def claim_facts(case: Case) -> Facts:
    """The claimant, the claim and the suspect of a judge's case."""
    own, signer = case.registration.public_key.keyid, case.claim.public_key.keyid
    return (
        *registration_facts(case.registration, case.registration_payload, who="Claimant"),
        *((("Claim signed by the successor key", signer),) if signer != own else ()),
        ("Claim (SHA-256)", hashlib.sha256(case.claim_payload).hexdigest()),
        (SUSPECT if case.transcript is None else TRANSCRIPT, case.suspect_digest),
    )


def judgement_facts(found: Judgement, case: Case, judge: tuple[str, str]) -> Facts:
    """`claim_facts`, whose answers a transcript holds by its own words, and by whom and when it was judged.

    `judge`: key id and time of the one who signed the verdict.
    """
    keyid, judged_at = judge
    said = case.transcript
    recorded = () if said is None else (("Service", said.service), ("Answers recorded by", said.recorded_by))
    priority = words.PRIORITY[found.priority["status"]].format(time=found.priority.get("time", ""))
    return (
        *claim_facts(case),
        *((name, value or "not stated") for name, value in recorded),
        ("Judged by", f"the holder of key {keyid}"),
        ("Judged at", f"{judged_at}, by the judge's own word"),
        ("Priority", priority),
        ("Made by", maker()),
    )
