"""Reveals: one leaf, one suspect, one nonce, once; and encryption to a judge."""

import copy
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ticketguard.claims import canonical, envelope, hpke, reveal
from ticketguard.claims.keys import SecretKey
from ticketguard.errors import AuthenticityError, FormatError, UsageError

SUSPECT = "cd" * 32


def test_parse_inverts_payload(owner):
    for recipient in (None, "ef" * 32):
        shown, signed = owner.reveal_for(SUSPECT, leaf=2, recipient=recipient)
        opened = envelope.open(signed, owner.key.public)
        assert reveal.parse(opened.payload) == shown


def test_reveal_shows_one_leaf_and_not_the_others(owner):
    _, signed = owner.reveal_for(SUSPECT, leaf=2)
    text = envelope.open(signed).payload.decode()
    assert owner.opening.leaves[2].hex() in text
    assert not any(owner.opening.leaves[j].hex() in text for j in (0, 1, 3))
    assert owner.registered.secret.master.hex() not in text


def test_a_leaf_is_spent_once(owner):
    secret = owner.registered.secret
    for expected in range(4):
        index, secret = reveal.spend_leaf(secret, 4, SUSPECT)
        assert (index, secret.used[index]) == (expected, SUSPECT)
    with pytest.raises(UsageError, match="all 4 leaves"):
        reveal.spend_leaf(secret, 4, SUSPECT)
    assert reveal.spend_leaf(secret, 4, SUSPECT, override=True)[0] == 0


def test_a_used_or_missing_leaf_is_refused_without_override(owner):
    _, secret = reveal.spend_leaf(owner.registered.secret, 4, SUSPECT, wanted=1)
    with pytest.raises(UsageError, match="leaf 1 was revealed already"):
        reveal.spend_leaf(secret, 4, SUSPECT, wanted=1)
    assert reveal.spend_leaf(secret, 4, "00" * 32, wanted=1, override=True)[1].used == {1: "00" * 32}
    assert reveal.spend_leaf(secret, 4, SUSPECT)[0] == 0
    for wanted in (-1, 4):
        with pytest.raises(UsageError, match="there is no leaf"):
            reveal.spend_leaf(secret, 4, SUSPECT, wanted=wanted)


def test_only_the_registered_key_reveals(owner, world):
    with pytest.raises(AuthenticityError, match="did not sign the registration"):
        reveal.make(
            owner.opening, 0, world.key_of(9), kind="weights", suspect=SUSPECT, nonce=world.NONCE, expires=world.LATER
        )


def test_judge_opening_is_the_owners_leaf(owner):
    shown, _ = owner.reveal_for(SUSPECT, leaf=3)
    opening = reveal.open_reveal(shown, owner.registered.registration, owner.registered.payload)
    assert dict(opening.leaves) == {3: owner.opening.leaves[3]}
    assert opening.binder == owner.opening.binder


FIELDS = [
    ("format", 2),
    ("publicKey", "AAAA"),
    ("registration", {"sha256": "00"}),
    ("registration", "00" * 32),
    ("beacon", "00"),
    ("beacon", None),
    ("leaf", None),
    ("leaf", {"index": True, "secret": "00" * 32, "proof": []}),
    ("leaf", {"index": 0, "secret": "00" * 31, "proof": []}),
    ("leaf", {"index": 0, "secret": "AB" * 32, "proof": []}),
    ("leaf", {"index": 0, "secret": "00" * 32, "proof": ["00"]}),
    ("leaf", {"index": 0, "secret": "00" * 32, "proof": ["00" * 32] * 65}),
    ("kind", "rumour"),
    ("kind", ["weights"]),
    ("judge", {"nonce": "00", "recipient": None}),
    ("judge", {"nonce": "00" * 65, "recipient": None}),
    ("judge", {"nonce": "zz" * 16, "recipient": None}),
    ("judge", {"nonce": "00" * 16, "recipient": "me"}),
    ("judge", {"nonce": "00" * 16}),
    ("expires", "tomorrow"),
    ("expires", "2026-06-01T00:00:00+00:00"),
    ("expires", 7),
    ("extra", 1),
]


@pytest.mark.parametrize(("field", "value"), FIELDS)
def test_malformed_fields_are_refused(owner, field, value):
    shown, _ = owner.reveal_for(SUSPECT)
    statement = copy.deepcopy(canonical.parse(shown.payload()))
    statement["predicate"][field] = value
    with pytest.raises(FormatError):
        reveal.parse(canonical.encode(statement))


def test_times_survive_their_text():
    moment = datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC)
    assert reveal.parse_time(reveal.format_time(moment)) == moment
    assert reveal.format_time(moment) == "2026-01-31T12:00:01Z"


# Encryption to a judge


def test_sealing_inverts_for_the_recipient_only(tmp_path, owner):
    judge, other = SecretKey.from_seed(b"\x07" * 32), SecretKey.from_seed(b"\x08" * 32)
    hpke.save_public(tmp_path / "judge.enc.pub", hpke.public_key(judge))
    public = hpke.load_public(tmp_path / "judge.enc.pub")
    _, signed = owner.reveal_for(SUSPECT, recipient=hpke.recipient_id(public))
    sealed = hpke.seal(signed, public, purpose="reveal")
    assert hpke.is_sealed(sealed)
    assert not hpke.is_sealed(signed)
    assert owner.opening.leaves[0].hex().encode() not in sealed
    assert hpke.unseal(sealed, judge, purpose="reveal") == signed
    assert hpke.seal(signed, public, purpose="reveal") != sealed
    for data, key, purpose in (
        (sealed, other, "reveal"),
        (sealed, judge, "license"),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), judge, "reveal"),
        (sealed[:30], judge, "reveal"),
        (sealed[:8], judge, "reveal"),
    ):
        with pytest.raises(AuthenticityError, match="not encrypted to this key"):
            hpke.unseal(data, key, purpose=purpose)
    with pytest.raises(FormatError):
        hpke.unseal(signed, judge, purpose="reveal")
    with pytest.raises(FormatError):
        hpke.unseal(sealed[:7] + b"\x02" + sealed[8:], judge, purpose="reveal")


def test_hpke_agrees_with_rfc_9180_built_from_its_parts():
    """An independent receiver: DHKEM, key schedule and AEAD from HMAC, X25519 and ChaCha20-Poly1305 alone."""
    import hashlib
    import hmac

    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    def extract(salt, suite, label, key):
        return hmac.new(salt or bytes(32), b"HPKE-v1" + suite + label + key, hashlib.sha256).digest()

    def expand(key, suite, label, info, length):
        info = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
        return hmac.new(key, info + b"\x01", hashlib.sha256).digest()[:length]

    key = SecretKey.from_seed(b"\x07" * 32)
    sealed = hpke.seal(b"the leaf", hpke.public_key(key), purpose="reveal")[len(hpke.MAGIC) :]
    enc, ciphertext = sealed[:32], sealed[32:]
    secret = hpke.private_key(key)
    dh = secret.exchange(X25519PublicKey.from_public_bytes(enc))
    kem = b"KEM\x00\x20"
    context = enc + secret.public_key().public_bytes_raw()
    shared = expand(extract(b"", kem, b"eae_prk", dh), kem, b"shared_secret", context, 32)
    suite = b"HPKE\x00\x20\x00\x01\x00\x03"
    info = b"ticketguard/v1/reveal"
    schedule = b"\x00" + extract(b"", suite, b"psk_id_hash", b"") + extract(b"", suite, b"info_hash", info)
    base = extract(shared, suite, b"secret", b"")
    aead = ChaCha20Poly1305(expand(base, suite, b"key", schedule, 32))
    assert aead.decrypt(expand(base, suite, b"base_nonce", schedule, 12), ciphertext, b"") == b"the leaf"


def test_wrong_key_files_are_refused(tmp_path, owner):
    from ticketguard.claims.keys import save_public

    save_public(tmp_path / "a.pub", owner.key.public)
    (tmp_path / "b.pub").write_bytes(b"junk")
    for name, words in (("a.pub", "not an X25519"), ("b.pub", "not a PEM")):
        with pytest.raises(FormatError, match=words):
            hpke.load_public(tmp_path / name)


def test_reveal_that_expired_before_it_was_made_is_still_only_expired(owner, world):
    shown, _ = owner.reveal_for(SUSPECT)
    with pytest.raises(AuthenticityError, match="expired"):
        reveal.require_valid(
            replace(shown, expires=world.NOW), kind="weights", suspect=SUSPECT, nonce=world.NONCE, now=world.NOW
        )
