"""RFC 3161 time stamps: proof of a date from an authority that the reader pins, and a beacon nobody could foresee.

The beacon is the hash of the SignerInfo signature octets, not of the token file: those octets are the only part of a token that
its owner cannot vary. Needs the extra `timestamp` (rfc3161-client, asn1crypto), imported only when a token is read.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ticketguard.claims.reveal import format_time
from ticketguard.errors import AuthenticityError, FormatError, StorageError, UsageError
from ticketguard.storage.atomic import read_bytes

TOKEN_LIMIT = 1 << 18
SHA256_OID = "2.16.840.1.101.3.4.2.1"
QUERY_TYPE = "application/timestamp-query"
TIMEOUT_S = 30.0
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
# Digests by which a token may name its signer's certificate: SHA-1 is all that the form of RFC 2634 knows.
_NAMING_HASHES = ("sha1", "sha256", "sha384", "sha512")
# What a certificate that nobody checked can raise when it is looked into.
_UNREADABLE = (UnsupportedAlgorithm, x509.DuplicateExtension, ValueError)


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """A verified time stamp: `time` (UTC) by the authority's clock, its certificate's name, the 32-byte `beacon`."""

    time: datetime
    authority: str
    beacon: bytes

    def to_json(self) -> dict[str, str]:
        """Date and authority, for reports."""
        return {"time": format_time(self.time), "authority": self.authority}


def request(payload: bytes) -> bytes:
    """A DER time-stamp query for the SHA-256 of a signed payload, with a nonce, asking for the certificate."""
    client = _client()
    builder = client.TimestampRequestBuilder().data(payload).hash_algorithm(client.HashAlgorithm.SHA256)
    query: bytes = builder.nonce(nonce=True).cert_request(cert_request=True).build().as_bytes()
    return query


def obtain(payload: bytes, url: str) -> bytes:
    """Ask the authority at `url` (http or https) for a time stamp of `payload`; the DER response, not verified yet."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url[:80]!r} is not the http or https address of a time-stamp authority")
    try:
        query = urllib.request.Request(url, data=request(payload), headers={"Content-Type": QUERY_TYPE})  # noqa: S310
        with urllib.request.urlopen(query, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the scheme was checked
            token: bytes = answer.read(TOKEN_LIMIT + 1)
    except (OSError, http.client.HTTPException, ValueError) as problem:
        # URLError is an OSError; the others are answers that are not HTTP, and addresses that are none.
        raise StorageError(f"{url}: no answer from the time-stamp authority ({problem})") from problem
    return token


def verify(token: bytes, payload: bytes, roots: Sequence[x509.Certificate], *, where: str = "time stamp") -> Stamp:
    """Check a DER time-stamp response over `payload` against pinned root certificates.

    The imprint must be the payload's SHA-256, the chain must end at one of `roots` at the stamped time, and there must be
    exactly one signer. Raises `FormatError` for what is no response, `AuthenticityError` for one that does not hold.
    """
    client = _client()
    if not roots:
        raise UsageError("a time stamp is only worth something under a root that you trust: pin one")
    try:
        response = client.decode_timestamp_response(token)
        algorithm = response.tst_info.message_imprint.hash_algorithm.dotted_string
    except ValueError as problem:
        raise FormatError(f"{where}: not an RFC 3161 time-stamp response ({problem})") from problem
    if algorithm != SHA256_OID:
        raise AuthenticityError(f"{where}: the imprint is not SHA-256")
    verifier = client.VerifierBuilder(roots=list(roots)).build()
    try:
        verifier.verify(response, hashlib.sha256(payload).digest())
    except (client.VerificationError, *_UNREADABLE) as problem:
        raise AuthenticityError(f"{where}: does not verify ({problem})") from problem
    try:
        signature, certificate = _signer(response.time_stamp_token(), where)
        return Stamp(
            time=response.tst_info.gen_time.replace(tzinfo=UTC, microsecond=0),
            authority=certificate.subject.rfc4514_string(),
            beacon=hashlib.sha256(_canonical_signature(signature, certificate, where)).digest(),
        )
    except _UNREADABLE as problem:
        raise AuthenticityError(f"{where}: the signer's certificate or signature cannot be read") from problem


def load_roots(path: Path) -> list[x509.Certificate]:
    """Pinned root certificates from a PEM file."""
    try:
        return x509.load_pem_x509_certificates(read_bytes(path, limit=TOKEN_LIMIT))
    except ValueError as problem:
        raise FormatError(f"{path}: no PEM certificates") from problem


def read_stamp(path: Path, payload: bytes, roots: Sequence[x509.Certificate]) -> Stamp:
    """Read and verify a response file (.tsr)."""
    return verify(read_bytes(path, limit=TOKEN_LIMIT), payload, roots, where=str(path))


def _signer(token: bytes, where: str) -> tuple[bytes, x509.Certificate]:
    """Signature octets and certificate of the one signer of a CMS token that has been verified.

    Certificates in a token are not signed: anyone can add some. So the signer's is the only one that carries its serial number,
    which leaves whoever looks for it no choice, it names the issuer in the same bytes, and its hash is in what was signed
    (RFC 5816).
    """
    # The second teaches the first the attributes that name a certificate.
    from asn1crypto import cms, tsp  # noqa: F401

    signed = cms.ContentInfo.load(token, strict=True)["content"]
    if len(signed["signer_infos"]) != 1:
        raise AuthenticityError(f"{where}: {len(signed['signer_infos'])} signers, exactly one is expected")
    info = signed["signer_infos"][0]
    if info["sid"].name != "issuer_and_serial_number":
        raise AuthenticityError(f"{where}: the signer is not named by issuer and serial number")
    wanted = info["sid"].chosen
    found = [
        choice.chosen
        for choice in signed["certificates"]
        if choice.name == "certificate" and choice.chosen.serial_number == wanted["serial_number"].native
    ]
    if len(found) > 1:
        raise AuthenticityError(f"{where}: {len(found)} certificates carry the signer's serial number, one is expected")
    if not found or found[0].issuer.dump() != wanted["issuer"].dump():
        raise AuthenticityError(
            f"{where}: the signer's certificate is not in the token; ask the authority to include it"
        )
    der = found[0].dump()
    if not _names(info["signed_attrs"], der):
        raise AuthenticityError(f"{where}: the signature is not bound to the signer's certificate in the token")
    return info["signature"].native, x509.load_der_x509_certificate(der)


def _names(attributes: Any, certificate: bytes) -> bool:
    """Whether the signed attributes of a token name its signer's certificate by hash, in every form that they hold."""
    from asn1crypto import tsp

    said = []
    for attribute in attributes:
        if attribute["type"].native in ("signing_certificate", "signing_certificate_v2"):
            # The first of the certificates that a form names is the signer's.
            for value in (first for form in attribute["values"] for first in list(form["certs"])[:1]):
                earlier = isinstance(value, tsp.ESSCertID)
                algorithm = "sha1" if earlier else value["hash_algorithm"]["algorithm"].native
                known = algorithm in _NAMING_HASHES
                said.append(known and hashlib.new(algorithm, certificate).digest() == value["cert_hash"].native)
    return bool(said) and all(said)


def _canonical_signature(signature: bytes, certificate: x509.Certificate, where: str) -> bytes:
    """The octets; for ECDSA with the smaller of s and n - s, because anyone can swap the two in a valid token."""
    public = certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return signature
    if not isinstance(public.curve, _CURVES):
        raise AuthenticityError(
            f"{where}: the authority signs on the curve {public.curve.name}, which is not supported"
        )
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, min(s, public.curve.group_order - s))


def _client() -> Any:
    try:
        import asn1crypto  # noqa: F401 - missing together with the other, or not at all
        import rfc3161_client
    except ImportError as problem:
        raise UsageError("time stamps need the extra: pip install 'ticketguard[timestamp]'") from problem
    return rfc3161_client
