import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ticketguard.claims import hpke
from ticketguard.claims.keys import PublicKey, SecretKey, load_public, load_secret, save_public, save_secret
from ticketguard.claims.vault import seal
from ticketguard.errors import AuthenticityError, FormatError, UsageError

PRIME = 2**255 - 19
ORDER_8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022


def test_rfc_8032_vector():
    key = SecretKey.from_seed(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public.raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


def test_keys_survive_their_files(tmp_path):
    key = SecretKey.generate()
    save_secret(tmp_path / "owner.key", key, "correct horse")
    save_public(tmp_path / "owner.pub", key.public)
    assert stat.S_IMODE((tmp_path / "owner.key").stat().st_mode) == 0o600
    assert (
        load_secret(tmp_path / "owner.key", "correct horse").public == load_public(tmp_path / "owner.pub") == key.public
    )
    assert PublicKey.from_spki(key.public.spki) == key.public
    assert key.seed.hex() not in repr(key)


def test_wrong_passphrase_and_wrong_files_are_refused(tmp_path):
    path = tmp_path / "owner.key"
    save_secret(path, SecretKey.generate(), "right")
    before = path.read_bytes()
    with pytest.raises(AuthenticityError, match=r"owner\.key: wrong passphrase"):
        load_secret(path, "wrong")
    with pytest.raises(UsageError, match="empty"):
        load_secret(path, "")
    assert path.read_bytes() == before
    path.write_bytes(seal(b"something else", "right"))
    with pytest.raises(FormatError, match="not an Ed25519 key"):
        load_secret(path, "right")
    path.write_bytes(before[:20])
    with pytest.raises(FormatError, match="truncated"):
        load_secret(path, "right")


@pytest.mark.parametrize("y", [0, 1, PRIME - 1, ORDER_8, PRIME - ORDER_8, PRIME, PRIME + 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_small_order_and_non_canonical_points_are_refused(y, sign):
    with pytest.raises(FormatError, match="small order"):
        PublicKey((y | sign << 255).to_bytes(32, "little"))


def test_small_order_key_would_accept_two_messages():
    """Why they are refused: the identity as key makes (identity, 0) a signature over anything."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    identity = (1).to_bytes(32, "little")
    key = Ed25519PublicKey.from_public_bytes(identity)
    key.verify(identity + bytes(32), b"one")
    key.verify(identity + bytes(32), b"two")


@pytest.mark.parametrize("change", [b"", b"\x00", None])
def test_other_encodings_of_a_key_are_refused(change):
    spki = SecretKey.from_seed(bytes(32)).public.spki
    other = spki[:-1] if change == b"" else spki + change if change else b"\x30\x81" + spki[1:]
    with pytest.raises(FormatError):
        PublicKey.from_spki(other)


def test_public_key_files_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "other.pub"
    ec = generate_private_key(SECP256R1()).public_key()
    for content in (b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"other\.pub"):
            load_public(path)
    path.write_bytes(ec.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(FormatError, match="Ed25519"):
        load_public(path)


@pytest.mark.parametrize(
    "text",
    [
        "MCowBQYDK2VjAyEA7eazfQVf+NxOSxkcFxcjM9r5ZUgdNTFeTLaI6LEBLqg=",
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAXcDQgAEDEziSYTiG4T/henQZ4yLq0RfFmSyb07IqVtLT6PlNHtX9V7dHzOfEUqEh+/4P8x6cHnMHkaBxzy03K1l"
        "Kc0zuA==",
    ],
    ids=["kind", "curve"],
)
def test_keys_that_the_library_does_not_know_are_refused(tmp_path, text):
    (tmp_path / "odd.pub").write_text(f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    for load in (load_public, hpke.load_public):
        with pytest.raises(FormatError, match=r"odd\.pub: a public key of a kind or on a curve"):
            load(tmp_path / "odd.pub")


def test_signature_of_another_message_or_length_is_refused():
    key = SecretKey.from_seed(bytes(32))
    signature = key.sign(b"a")
    key.public.verify(signature, b"a")
    for bad, message in ((signature, b"b"), (signature[:-1], b"a"), (b"", b"a"), (signature + b"\0", b"a")):
        with pytest.raises(AuthenticityError):
            key.public.verify(bad, message)
