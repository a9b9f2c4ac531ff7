"""The ownership claim: names one model, one ticket and one registration, and nothing else is read from it."""

import copy
import json
from dataclasses import replace

import pytest

from ticketguard.claims import canonical, card, envelope, ownership
from ticketguard.claims.keys import SecretKey
from ticketguard.errors import AuthenticityError, FormatError

KEY, OTHER = SecretKey.from_seed(bytes(32)), SecretKey.from_seed(bytes([1]) * 32)
REGISTRATION = b"the payload of a registration"
CLAIM, SIGNED = ownership.make(REGISTRATION, owner="Lab", key=KEY, ticket="ab" * 32, model="cd" * 32)
DOCUMENT = json.loads(CLAIM.payload())


def test_claim_reads_back_from_its_envelope():
    opened = envelope.open(SIGNED, KEY.public)
    assert ownership.parse(opened.payload) == CLAIM
    assert {row["name"]: row["digest"]["sha256"] for row in DOCUMENT["subject"]} == {
        "model": "cd" * 32,
        "ticket": "ab" * 32,
    }


def test_claim_belongs_to_one_registration_and_one_key():
    ownership.require_registration(CLAIM, REGISTRATION, KEY.public)
    with pytest.raises(AuthenticityError, match="another registration"):
        ownership.require_registration(CLAIM, REGISTRATION + b" ", KEY.public)
    with pytest.raises(AuthenticityError, match="another key"):
        ownership.require_registration(CLAIM, REGISTRATION, OTHER.public)
    with pytest.raises(AuthenticityError, match="another key"):
        ownership.require_registration(replace(CLAIM, public_key=OTHER.public), REGISTRATION, KEY.public)


def test_envelope_of_a_claim_in_the_owners_name_is_refused():
    forged = envelope.sign(CLAIM.payload(), OTHER)
    with pytest.raises(AuthenticityError):
        envelope.open(forged, KEY.public)
    with pytest.raises(AuthenticityError):
        envelope.open_self_signed(forged)


CHANGES = {
    "no owner": lambda d: d["predicate"].pop("owner"),
    "owner is a number": lambda d: d["predicate"].update(owner=3),
    "owner is empty": lambda d: d["predicate"].update(owner=""),
    "owner is long": lambda d: d["predicate"].update(owner="L" * 513),
    "owner turns the line": lambda d: d["predicate"].update(owner="Lab \u202e"),
    "owner has lines": lambda d: d["predicate"].update(owner="Lab\n# Heading"),
    "no key": lambda d: d["predicate"].pop("publicKey"),
    "key is a number": lambda d: d["predicate"].update(publicKey=3),
    "no registration": lambda d: d["predicate"].pop("registration"),
    "registration is text": lambda d: d["predicate"].update(registration="ab" * 32),
    "registration is short": lambda d: d["predicate"]["registration"].update(sha256="ab"),
    "later format": lambda d: d["predicate"].update(format=2),
    "extra field": lambda d: d["predicate"].update(date="2020-01-01"),
    "extra field outside": lambda d: d.update(extra=1),
    "no subjects": lambda d: d.update(subject=[]),
    "one subject": lambda d: d["subject"].pop(),
    "three subjects": lambda d: d["subject"].append({"name": "other", "digest": {"sha256": "ab" * 32}}),
    "subject of another name": lambda d: d["subject"][0].update(name="suspect"),
    "subject twice": lambda d: d["subject"].append(d["subject"][0]),
    "subject without digest": lambda d: d["subject"][0].pop("digest"),
    "another predicate": lambda d: d.update(predicateType="urn:ticketguard:registration/v1"),
    "another statement": lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_other_form_is_refused(name):
    document = copy.deepcopy(DOCUMENT)
    CHANGES[name](document)
    with pytest.raises(FormatError):
        ownership.parse(canonical.encode(document))


def test_a_claim_that_nobody_could_read_is_not_signed():
    with pytest.raises(FormatError, match="owner"):
        ownership.make(REGISTRATION, owner="", key=KEY, ticket="ab" * 32, model="cd" * 32)


def test_a_card_holds_no_markup_of_the_owners():
    plain = card.model_card(CLAIM, location="claim.json")
    odd = card.model_card(replace(CLAIM, owner="A & *B*\n# C"), location="my (claim)\n.json")
    assert odd.count("\n") == plain.count("\n")
    assert r"A \& \*B\*" in odd
    assert "(my%20%28claim%29%0A.json)" in odd
