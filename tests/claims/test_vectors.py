"""The primitives against their committed known answers, and against a second implementation from the standard library."""

import hashlib
import hmac
import importlib.util
import json
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def known():
    return json.loads((FIXTURES / "vectors" / "claims.json").read_text())


def test_package_reproduces_every_known_answer(known):
    spec = importlib.util.spec_from_file_location("vectors_claims", FIXTURES / "vectors_claims.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.vectors() == known


def test_leaves_follow_rfc_5869_with_the_key_as_salt(known):
    salt = hashlib.sha256(bytes.fromhex(known["key"]["spki"])).digest()
    extracted = hmac.new(salt, bytes.fromhex(known["leaves"]["master"]), hashlib.sha256).digest()
    for j, leaf in enumerate(known["leaves"]["leaves"]):
        info = b"ticketguard/v1/leaf" + j.to_bytes(4, "big")
        assert hmac.new(extracted, info + b"\x01", hashlib.sha256).hexdigest() == leaf


def test_streams_are_shake256_of_the_written_prefix(known):
    payload = known["binder"]["payload"].encode()
    binder = hashlib.sha256(b"ticketguard/v1/binder" + hashlib.sha256(payload).digest() + bytes(32)).digest()
    assert binder.hex() == known["binder"]["without_beacon"]
    for row in known["streams"]:
        label = b"ticketguard/v1/" + row["label"].encode()
        leaf = bytes.fromhex(known["leaves"]["leaves"][row["leaf"]])
        prefix = len(label).to_bytes(8, "big") + label + binder + row["leaf"].to_bytes(4, "big") + leaf
        digest = hashlib.shake_256(prefix).digest(64)
        assert digest[:32].hex() == row["bytes"]
        assert [str(int.from_bytes(digest[8 * i : 8 * i + 8], "big")) for i in range(3)] == row["words"]
