import pytest

from ticketguard.claims.vault import HEADER_BYTES, MAGIC, seal, unseal
from ticketguard.errors import AuthenticityError, FormatError, UsageError


@pytest.mark.slow
@pytest.mark.parametrize("kdf", [None, "argon2id", "scrypt"])
def test_unseal_inverts_seal(kdf):
    assert unseal(seal(b"secret", "p\u00e4ss", kdf=kdf), "pa\u0308ss") == b"secret"


def test_no_two_files_share_salt_or_nonce():
    one, two = seal(b"x", "p"), seal(b"x", "p")
    assert one[len(MAGIC) + 1 : HEADER_BYTES] != two[len(MAGIC) + 1 : HEADER_BYTES]
    assert one[HEADER_BYTES:] != two[HEADER_BYTES:]


@pytest.mark.parametrize("position", [9, pytest.param(25, marks=pytest.mark.slow), HEADER_BYTES, -1])
def test_changed_bytes_are_refused(position):
    blob = bytearray(seal(b"secret", "p"))
    blob[position] ^= 1
    with pytest.raises(AuthenticityError, match=r"secret.tgs: wrong passphrase, or the file was changed"):
        unseal(bytes(blob), "p", where="secret.tgs")


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b[:40],
        lambda b: b"",
        lambda b: b"PK" + b[2:],
        lambda b: b[:7] + b"\x02" + b[8:],
        lambda b: b[:8] + b"\x09" + b[9:],
    ],
)
def test_other_kinds_and_versions_are_refused(change):
    with pytest.raises(FormatError):
        unseal(change(seal(b"secret", "p")), "p")


def test_empty_passphrase_and_unknown_kdf_are_refused():
    with pytest.raises(UsageError):
        seal(b"", "")
    with pytest.raises(UsageError):
        seal(b"", "p", kdf="md5")
