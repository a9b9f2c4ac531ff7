"""Encryption to a judge or a licensee: HPKE (RFC 9180), base mode, DHKEM(X25519), HKDF-SHA256, ChaCha20-Poly1305.

Nobody has to keep a second secret: the X25519 key comes from the Ed25519 seed, through HKDF under its own label.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ticketguard.claims.keys import SecretKey, read_pem
from ticketguard.claims.streams import LABEL
from ticketguard.errors import AuthenticityError, FormatError
from ticketguard.storage.atomic import write_bytes

MAGIC = b"TGHPKE\0\x01"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def private_key(key: SecretKey) -> X25519PrivateKey:
    """The X25519 key that belongs to an Ed25519 key: HKDF-SHA256(seed, salt = SHA256(SPKI), info = label "x25519")."""
    salt = hashlib.sha256(key.public.spki).digest()
    seed = HKDF(hashes.SHA256(), 32, salt=salt, info=LABEL + b"x25519").derive(key.seed)
    return X25519PrivateKey.from_private_bytes(seed)


def public_key(key: SecretKey) -> X25519PublicKey:
    """The public half of `private_key`."""
    return private_key(key).public_key()


def recipient_id(public: X25519PublicKey) -> str:
    """Hex SHA-256 of the 32-byte public key: names a recipient inside what is encrypted to it."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()


def seal(plaintext: bytes, public: X25519PublicKey, *, purpose: str) -> bytes:
    """Encrypt to `public`; `purpose` ("reveal", "license") is bound to the ciphertext as HPKE's info."""
    try:
        return MAGIC + _SUITE.encrypt(plaintext, public, info=LABEL + purpose.encode())
    except ValueError as problem:
        raise FormatError("the recipient's X25519 key is not usable (a point of small order)") from problem


def is_sealed(data: bytes) -> bool:
    """Whether `data` starts like the output of `seal`."""
    return data.startswith(MAGIC[:-1])


def unseal(data: bytes, key: SecretKey, *, purpose: str, where: str = "sealed file") -> bytes:
    """Decrypt what was sealed to `key`. Raises `FormatError` for another format, `AuthenticityError` for another key."""
    if not data.startswith(MAGIC):
        raise FormatError(f"{where}: not encrypted in a way that this version knows")
    try:
        return _SUITE.decrypt(data[len(MAGIC) :], private_key(key), info=LABEL + purpose.encode())
    except (InvalidTag, ValueError) as problem:
        raise AuthenticityError(f"{where}: not encrypted to this key for a {purpose}, or changed since") from problem


def save_public(path: Path, public: X25519PublicKey) -> None:
    """Write a public encryption key as PEM."""
    write_bytes(path, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def load_public(path: Path) -> X25519PublicKey:
    """Read a PEM X25519 public key."""
    loaded = read_pem(path)
    if not isinstance(loaded, X25519PublicKey):
        raise FormatError(f"{path}: not an X25519 public key; give the .enc.pub file that keygen --encryption wrote")
    return loaded
