"""Signed verdicts: a judgement as a `verdict/v1` statement that anyone with the same files recomputes bit for bit."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from datetime import datetime
from typing import Any

from ticketguard.claims import canonical, envelope, statements
from ticketguard.claims.keys import PublicKey, SecretKey
from ticketguard.claims.reveal import format_time, parse_time
from ticketguard.errors import AuthenticityError, FormatError, named
from ticketguard.evidence import Verdict
from ticketguard.verify.judge import Case, Judgement, judge

NAME = "verdict"
FORMAT = 1


def payload_of(case: Case, judgement: Judgement, *, judge_key: PublicKey, nonce: str, now: datetime) -> bytes:
    """The statement as RFC 8785 JSON; its subjects are the suspect and the claim's own model."""
    predicate = {
        "format": FORMAT,
        "publicKey": statements.encode_bytes(judge_key.spki),
        "judgedAt": format_time(now),
        "nonce": nonce,
        "registration": _sha256(case.registration_payload),
        "claim": _sha256(case.claim_payload),
        "reveal": _sha256(case.reveal_payload),
        "kind": case.kind,
        "outcome": judgement.outcome,
        "reason": judgement.reason,
        "checks": [asdict(check) for check in judgement.checks],
        "verdict": judgement.verdict.to_json(),
        "original": judgement.original.to_json(),
        "controls": [{"sha256": digest, "verdict": item.to_json()} for digest, item in judgement.controls.items()],
        "priority": dict(judgement.priority),
    }
    subjects = [("suspect", case.suspect_digest), ("original", case.claim.model)]
    return canonical.encode(statements.statement(subjects, NAME, predicate))


def sign(
    case: Case, key: SecretKey, *, nonce: str, now: datetime, supplied_by: str = "", suspects: int = 1
) -> tuple[Judgement, bytes]:
    """Judge `case` and sign the outcome: the judgement and the envelope of its statement."""
    judgement = judge(case, nonce=nonce, now=now, supplied_by=supplied_by, suspects=suspects)
    return judgement, envelope.sign(payload_of(case, judgement, judge_key=key.public, nonce=nonce, now=now), key)


def read(signed: bytes, *, where: str = "verdict") -> tuple[envelope.Opened, dict[str, Any]]:
    """The opened envelope of a verdict, its signature verified under the key it names, and its predicate, not looked into."""
    opened = envelope.open_self_signed(signed, where=where)
    parsed = canonical.parse(opened.payload, where=where)
    with named(where):
        return opened, statements.predicate(parsed, NAME)


def recompute(signed: bytes, case: Case, *, where: str = "verdict") -> Judgement:
    """Judge `case` again at the time and with the nonce of a signed verdict, and compare every byte.

    Raises `AuthenticityError` when the signature does not hold or the recomputed statement differs.
    """
    opened, predicate = read(signed, where=where)
    try:
        with named(where):
            now, numbers = parse_time(predicate["judgedAt"]), Verdict.from_json(predicate["verdict"])
        nonce, supplied_by, suspects = predicate["nonce"], predicate["verdict"]["suppliedBy"], numbers.rule.suspects
        if not isinstance(nonce, str) or not isinstance(supplied_by, str):
            raise FormatError(f"{where}: the nonce or the supplier is not text")
    except (KeyError, TypeError, AttributeError) as problem:
        raise FormatError(f"{where}: field missing or malformed ({problem})") from problem
    judgement = judge(case, nonce=nonce, now=now, supplied_by=supplied_by, suspects=suspects)
    if payload_of(case, judgement, judge_key=opened.public, nonce=nonce, now=now) != opened.payload:
        raise AuthenticityError(
            f"{where}: these files do not give the signed verdict; recomputed: {judgement.outcome}, {judgement.reason}"
        )
    return judgement


def judge_of(signed: bytes) -> tuple[str, str]:
    """Key id of a verdict's signer, and when it was judged by the signer's own word. For verdicts that were recomputed."""
    opened, predicate = read(signed)
    return opened.keyid, str(predicate["judgedAt"])


def _sha256(payload: bytes) -> dict[str, str]:
    return {"sha256": hashlib.sha256(payload).hexdigest()}
