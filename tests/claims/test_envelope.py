import json

import pytest

from ticketguard.claims import canonical, envelope, statements
from ticketguard.claims.keys import SecretKey
from ticketguard.errors import AuthenticityError, FormatError, TicketguardError

KEY, OTHER = SecretKey.from_seed(bytes(32)), SecretKey.from_seed(b"\x01" * 32)


def payload(key=KEY):
    predicate = {"publicKey": statements.encode_bytes(key.public.spki)}
    return canonical.encode(statements.statement([("frame", "ab" * 32)], "example", predicate))


GOOD = envelope.sign(payload(), KEY)


def changed(**fields):
    return canonical.encode({**json.loads(GOOD), **fields})


def test_pae_is_the_vector_of_the_dsse_protocol():
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert envelope.pae(b"hello world", "http://example.com/HelloWorld") == expected


def test_opening_inverts_signing():
    for opened in (envelope.open(GOOD), envelope.open(GOOD, KEY.public), envelope.open_self_signed(GOOD)):
        assert (opened.payload, opened.keyid, opened.public) == (payload(), KEY.public.keyid, KEY.public)
    assert envelope.sign(payload(), KEY) == GOOD


def test_keys_that_do_not_belong_are_refused():
    with pytest.raises(AuthenticityError, match="signed by key"):
        envelope.open(GOOD, OTHER.public)
    with pytest.raises(AuthenticityError, match="signed by key"):
        envelope.open(envelope.sign(payload(), OTHER))
    signature = {**json.loads(GOOD)["signatures"][0], "keyid": OTHER.public.keyid}
    with pytest.raises(AuthenticityError):
        envelope.open(changed(signatures=[signature]), OTHER.public)
    with pytest.raises(AuthenticityError):
        envelope.open(changed(signatures=[signature]))


def test_payload_is_not_parsed_before_its_signature_held():
    """With a key given, bytes that are no JSON come back untouched: reading them is the caller's next step."""
    assert envelope.open(envelope.sign(b"{not json", KEY), KEY.public).payload == b"{not json"


@pytest.mark.parametrize(
    "inner", [b"{not json", b"[]", b"{}", b'{"predicate":{"publicKey":1}}', b'{"predicate":{"publicKey":"AAAA"}}']
)
def test_self_signed_payload_without_a_key_is_refused(inner):
    with pytest.raises(FormatError):
        envelope.open(envelope.sign(inner, KEY))


GOOD_SIGNATURE = json.loads(GOOD)["signatures"][0]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{}",
        b"[]",
        GOOD + b"\n",
        json.dumps(json.loads(GOOD)).encode(),
        GOOD[:-1],
        changed(payloadType="application/json"),
        changed(extra=1),
        changed(signatures=[]),
        changed(signatures=[GOOD_SIGNATURE] * 2),
        changed(signatures=GOOD_SIGNATURE),
        changed(signatures=["x"]),
        changed(signatures=[{**GOOD_SIGNATURE, "keyid": None}]),
        changed(signatures=[{**GOOD_SIGNATURE, "cert": ""}]),
        changed(signatures=[{"sig": GOOD_SIGNATURE["sig"]}]),
        changed(signatures=[{**GOOD_SIGNATURE, "sig": GOOD_SIGNATURE["sig"].rstrip("=")}]),
        changed(payload=1),
        changed(payload=json.loads(GOOD)["payload"] + "="),
    ],
)
def test_anything_but_a_canonical_envelope_is_refused(bad):
    with pytest.raises(FormatError) as caught:
        envelope.open(bad, KEY.public, where="claim.dsse.json")
    assert str(caught.value).startswith("claim.dsse.json: ")


def test_every_flipped_byte_is_refused():
    for position in range(len(GOOD)):
        for bit in (1, 0x20, 0x80):
            flipped = bytearray(GOOD)
            flipped[position] ^= bit
            for public in (None, KEY.public):
                with pytest.raises(TicketguardError):
                    envelope.open(bytes(flipped), public)
