"""Secrets at rest: a passphrase, a memory-hard key derivation, ChaCha20-Poly1305.

File: 8 bytes magic and version, 1 byte key derivation, 16 bytes salt, 12 bytes nonce, ciphertext with its 16-byte tag.
The header is authenticated. Costs belong to the key derivation's number, so a hostile file cannot ask for more memory.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ticketguard.errors import AuthenticityError, FormatError, UsageError

MAGIC = b"TGVAULT\x01"
SALT_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
HEADER_BYTES = len(MAGIC) + 1 + SALT_BYTES + NONCE_BYTES


def _argon2id(passphrase: bytes, salt: bytes) -> bytes:
    return Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=64 * 1024).derive(passphrase)


def _scrypt(passphrase: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << 16, r=8, p=1).derive(passphrase)


KDFS: dict[str, tuple[int, Callable[[bytes, bytes], bytes]]] = {"argon2id": (1, _argon2id), "scrypt": (2, _scrypt)}


def seal(plaintext: bytes, passphrase: str, *, kdf: str | None = None) -> bytes:
    """Encrypt `plaintext` under `passphrase` with a fresh salt and nonce.

    `kdf` is "argon2id" (64 MiB, t = 3, p = 4) or "scrypt" (2^16, 8, 1); by default Argon2id, or scrypt where the OpenSSL
    that `cryptography` was built with lacks it. Raises `UsageError` for an empty passphrase or an unknown `kdf`.
    """
    if kdf is None:
        try:
            return seal(plaintext, passphrase, kdf="argon2id")
        except UnsupportedAlgorithm:
            return seal(plaintext, passphrase, kdf="scrypt")
    if kdf not in KDFS:
        raise UsageError(f"key derivation {kdf!r} is not known; choose one of {', '.join(KDFS)}")
    number, derive = KDFS[kdf]
    header = MAGIC + bytes([number]) + os.urandom(SALT_BYTES + NONCE_BYTES)
    return header + _cipher(header, passphrase, derive).encrypt(header[-NONCE_BYTES:], plaintext, header)


def is_sealed(data: bytes) -> bool:
    """Whether bytes, or the first of them, are what `seal` wrote, in any version."""
    return data.startswith(MAGIC[:-1])


def unseal(blob: bytes, passphrase: str, *, where: str = "secret") -> bytes:
    """Decrypt what `seal` wrote; `where` opens the error message.

    Raises `FormatError` for a file of another kind or version, `AuthenticityError` for a wrong passphrase or a changed
    file (the two cannot be told apart). Law: `unseal(seal(x, p), p) == x`.
    """
    if len(blob) < HEADER_BYTES + TAG_BYTES or not is_sealed(blob):
        raise FormatError(f"{where}: not a ticketguard secret file, or truncated")
    derive = dict(KDFS.values()).get(blob[len(MAGIC)])
    if not blob.startswith(MAGIC) or derive is None:
        raise FormatError(f"{where}: a secret file of a version that this program does not know")
    header = blob[:HEADER_BYTES]
    try:
        return _cipher(header, passphrase, derive).decrypt(header[-NONCE_BYTES:], blob[HEADER_BYTES:], header)
    except InvalidTag as problem:
        raise AuthenticityError(f"{where}: wrong passphrase, or the file was changed") from problem
    except UnsupportedAlgorithm as problem:
        raise UsageError(
            f"{where}: needs Argon2id, which the installed OpenSSL lacks; install a wheel of cryptography"
        ) from problem


def _cipher(header: bytes, passphrase: str, derive: Callable[[bytes, bytes], bytes]) -> ChaCha20Poly1305:
    if not passphrase:
        raise UsageError("the passphrase is empty; set TICKETGUARD_PASSPHRASE or type one at the prompt")
    # Composed form: the same passphrase typed on two systems gives the same bytes.
    secret = unicodedata.normalize("NFC", passphrase).encode("utf-8", errors="surrogatepass")
    return ChaCha20Poly1305(derive(secret, header[len(MAGIC) + 1 : -NONCE_BYTES]))
