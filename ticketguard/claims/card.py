"""Pointers to a claim in other people's documents: a CycloneDX ML-BOM fragment and a Hugging Face model-card snippet."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from ticketguard.claims.ownership import OwnershipClaim
from ticketguard.storage.hostile import visible

BOM_FORMAT = "CycloneDX"
BOM_VERSION = "1.6"
NAMESPACE = "ticketguard"
# What Markdown reads as its own.
MARKUP = frozenset("\\`*_{}[]()#+-.!|<>~&")


def ml_bom(claim: OwnershipClaim, claim_envelope: bytes, *, location: str) -> dict[str, Any]:
    """A CycloneDX 1.6 document with one machine-learning-model component that points to the claim at `location`.

    `claim_envelope`: the exact bytes of the file, whose SHA-256 goes along. The digests of tensors are manifests, not file
    hashes, and so are properties.
    """
    reference = {
        "type": "attestation",
        "url": location,
        "comment": "Ownership claim: in-toto statement in a DSSE envelope (ticketguard)",
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(claim_envelope).hexdigest()}],
    }
    component = {
        "type": "machine-learning-model",
        "bom-ref": f"{NAMESPACE}:{claim.model}",
        "name": "signed sparse model",
        "supplier": {"name": claim.owner},
        "externalReferences": [reference],
        "properties": [{"name": f"{NAMESPACE}:{name}", "value": value} for name, value in _facts(claim).items()],
    }
    return {"bomFormat": BOM_FORMAT, "specVersion": BOM_VERSION, "version": 1, "components": [component]}


def model_card(claim: OwnershipClaim, *, location: str) -> str:
    """Markdown for a Hugging Face model card; `location` is where readers find the claim."""
    owner = "".join("\\" + letter if letter in MARKUP else letter for letter in visible(claim.owner))
    # A link ends at the first of these.
    place = "".join(
        quote(letter, errors="replace") if letter in " ()<>\\" or not letter.isprintable() else letter
        for letter in location
    )
    rows = "\n".join(f"| {name} | `{value}` |" for name, value in _facts(claim).items())
    return (
        "## Ownership\n\n"
        f"This model carries a registered signature of {owner} in its sparse topology. The [ownership claim]({place})\n"
        "is an in-toto statement in a DSSE envelope; anyone can check it with `ticketguard inspect`, and a judge can test\n"
        "a suspect model against it with `ticketguard judge`.\n\n"
        f"| what | SHA-256 |\n|---|---|\n{rows}\n"
    )


def _facts(claim: OwnershipClaim) -> dict[str, str]:
    return {
        "model-manifest": claim.model,
        "ticket-manifest": claim.ticket,
        "registration-payload": claim.registration,
        "owner-keyid": claim.public_key.keyid,
    }
