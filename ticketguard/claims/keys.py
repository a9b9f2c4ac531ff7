"""Ed25519 keys (RFC 8032): the owner's, a judge's. Public keys travel as SubjectPublicKeyInfo (RFC 8410)."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from ticketguard.claims import vault
from ticketguard.errors import AuthenticityError, FormatError
from ticketguard.storage.atomic import read_bytes, write_bytes

SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
KEY_PURPOSE = b"ticketguard/v1/ed25519\0"
SEED_BYTES = 32
_PUBLIC_PEM = b"-----BEGIN PUBLIC KEY"
# Length of every file of `save_secret`: encryption adds a known number of bytes.
SECRET_FILE_BYTES = vault.HEADER_BYTES + len(KEY_PURPOSE) + SEED_BYTES + vault.TAG_BYTES
SECRET_MODE = 0o600
_FILE_LIMIT = 1 << 16
_PRIME = 2**255 - 19
# The y coordinates of the eight points whose order divides 8; under such a key one signature fits many messages.
_Y8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL_ORDER_Y = frozenset({0, 1, _PRIME - 1, _Y8, _PRIME - _Y8})


class PublicKey:
    """An Ed25519 public key that is not of small order, in canonical encoding."""

    def __init__(self, raw: bytes) -> None:
        """`raw`: the 32-byte point. Raises `FormatError` for a wrong length, a non-canonical or a small-order point."""
        if len(raw) != 32:
            raise FormatError(f"public key: {len(raw)} bytes, an Ed25519 point has 32")
        y = int.from_bytes(raw, "little") & (2**255 - 1)
        if y >= _PRIME or y in _SMALL_ORDER_Y:
            raise FormatError("public key: a point of small order or in non-canonical encoding; generate a new key")
        self._raw = bytes(raw)

    @classmethod
    def from_spki(cls, der: bytes) -> PublicKey:
        """Read SubjectPublicKeyInfo DER, the only one of its 44 bytes' encodings that RFC 8410 allows."""
        if not der.startswith(SPKI_PREFIX):
            raise FormatError("public key: not the SubjectPublicKeyInfo of an Ed25519 key (RFC 8410)")
        return cls(der[len(SPKI_PREFIX) :])

    @property
    def raw(self) -> bytes:
        """The 32-byte point."""
        return self._raw

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo DER, 44 bytes."""
        return SPKI_PREFIX + self._raw

    @property
    def keyid(self) -> str:
        """Hex SHA-256 of `spki`."""
        return hashlib.sha256(self.spki).hexdigest()

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise `AuthenticityError` unless `signature` is this key's over `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self._raw).verify(signature, message)
        except InvalidSignature as problem:
            raise AuthenticityError(f"signature does not verify under key {self.keyid[:16]}") from problem

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other._raw == self._raw

    def __hash__(self) -> int:
        return hash(self._raw)

    def __repr__(self) -> str:
        return f"PublicKey({self.keyid[:16]})"


class SecretKey:
    """An Ed25519 secret key. Its `repr` shows the public key only."""

    def __init__(self, seed: bytes) -> None:
        """`seed`: the 32 bytes of RFC 8032. Raises `FormatError` for another length."""
        if len(seed) != SEED_BYTES:
            raise FormatError(f"secret key: {len(seed)} bytes, an Ed25519 seed has 32")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @classmethod
    def generate(cls) -> SecretKey:
        """A new key from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_seed(cls, seed: bytes) -> SecretKey:
        """The key of a 32-byte seed: known answers and fixtures."""
        return cls(seed)

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes."""
        return self._key.private_bytes_raw()

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over `message`; deterministic."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"SecretKey(public={self.public!r})"


def save_secret(path: Path, key: SecretKey, passphrase: str) -> None:
    """Write `key` under `passphrase` to `path`, mode 0600."""
    write_bytes(path, vault.seal(KEY_PURPOSE + key.seed, passphrase), mode=SECRET_MODE)


def load_secret(path: Path, passphrase: str) -> SecretKey:
    """Read a key of `save_secret`. Raises `AuthenticityError` (wrong passphrase) or `FormatError` (another file)."""
    data = read_bytes(path, limit=_FILE_LIMIT)
    if data.startswith(_PUBLIC_PEM):
        raise FormatError(
            f"{path}: this is a public key, and the secret one is needed, which keygen wrote beside it (.key)"
        )
    plain = vault.unseal(data, passphrase, where=str(path))
    if not plain.startswith(KEY_PURPOSE):
        raise FormatError(f"{path}: holds a secret, but not an Ed25519 key; give the file that keygen wrote")
    return SecretKey(plain[len(KEY_PURPOSE) :])


def save_public(path: Path, key: PublicKey) -> None:
    """Write `key` as PEM, readable by the `openssl` command."""
    pem = Ed25519PublicKey.from_public_bytes(key.raw).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_bytes(path, pem)


def read_pem(path: Path) -> PublicKeyTypes:
    """The public key of a PEM file, of whatever kind. Raises `FormatError` when it holds none."""
    try:
        return load_pem_public_key(read_bytes(path, limit=_FILE_LIMIT))
    except ValueError as problem:
        raise FormatError(f"{path}: not a PEM public key") from problem
    except UnsupportedAlgorithm as problem:
        raise FormatError(f"{path}: a public key of a kind or on a curve that is not supported") from problem


def load_public(path: Path) -> PublicKey:
    """Read a PEM public key. Raises `FormatError` when it is no Ed25519 key or is refused by `PublicKey`."""
    loaded = read_pem(path)
    if not isinstance(loaded, Ed25519PublicKey):
        raise FormatError(f"{path}: not an Ed25519 public key")
    try:
        return PublicKey(loaded.public_bytes_raw())
    except FormatError as problem:
        raise FormatError(f"{path}: {problem}") from problem
