"""Successor keys and withdrawals: who may sign in place of a key, and who can end a registration."""

import json
from dataclasses import replace

import pytest

from ticketguard.bundle import Bundle
from ticketguard.claims import canonical, envelope, keys, ownership, registration, reveal, withdrawal
from ticketguard.claims.keys import SecretKey
from ticketguard.commands import run
from ticketguard.errors import AuthenticityError, FormatError
from ticketguard.signing import register
from ticketguard.storage.tensors import write_tensors
from ticketguard.tickets import write_ticket
from ticketguard.verify.dispute import settle
from ticketguard.verify.judge import digest_of, judge

pytestmark = pytest.mark.usefixtures("passphrase")
HEIR, STRANGER = SecretKey.from_seed(bytes([70]) * 32), SecretKey.from_seed(bytes([71]) * 32)


@pytest.fixture(scope="module")
def rotating(world):
    """An owner whose registration names the heir's key."""
    return world.make_party(60, world.random_model(60), triggers=False, successors=[HEIR.public.keyid])[0]


def inherited(party, world, suspect, key):
    """The party's case with claim and reveal signed by `key`."""
    claim, _ = ownership.make(
        party.registered.payload, owner=party.claim.owner, key=key, ticket=party.claim.ticket, model=party.claim.model
    )
    case = party.case(suspect)
    shown = replace(case.reveal, public_key=key.public)
    return replace(case, claim=claim, claim_payload=claim.payload(), reveal=shown, reveal_payload=shown.payload())


def test_a_successor_signs_claim_and_reveal(world, rotating):
    suspect = world.tensors_of(rotating.model)
    found = judge(inherited(rotating, world, suspect, HEIR), nonce=world.NONCE, now=world.NOW)
    assert found.outcome == "MATCH"
    assert f"its successor {HEIR.public.keyid[:16]}" in found.checks[0].detail
    shown, _ = reveal.make(
        rotating.opening, 1, HEIR, kind="weights", suspect=digest_of(suspect), nonce=world.NONCE, expires=world.LATER
    )
    assert shown.public_key == HEIR.public


def test_a_key_that_the_registration_does_not_name_signs_nothing(world, rotating, owner):
    suspect = world.tensors_of(rotating.model)
    with pytest.raises(AuthenticityError, match="another key"):
        judge(inherited(rotating, world, suspect, STRANGER), nonce=world.NONCE, now=world.NOW)
    own = world.tensors_of(owner.model)
    with pytest.raises(AuthenticityError, match="another key"):
        judge(inherited(owner, world, own, HEIR), nonce=world.NONCE, now=world.NOW)
    with pytest.raises(AuthenticityError, match="did not sign"):
        reveal.make(owner.opening, 1, HEIR, kind="weights", suspect="00" * 32, nonce=world.NONCE, expires=world.LATER)


def test_successors_are_part_of_every_stream(world):
    """Whoever wants to name another successor later has another registration, with other carriers."""
    base = world.random_model(61)
    fixed = {"owner": "O", "master": bytes(32), "nonce": bytes(32)}
    one, two = (register(base, world.key_of(61), successors=names, **fixed) for names in ((), (HEIR.public.keyid,)))
    assert one.registration.successors is None
    assert one.registration.root == two.registration.root
    assert one.payload != two.payload
    assert registration.parse(two.payload).signers == (world.key_of(61).public.keyid, HEIR.public.keyid)
    for bad in (["zz"], ["00" * 32] * 2, ["00" * 31], [f"{i:064x}" for i in range(17)]):
        with pytest.raises(FormatError):
            register(base, world.key_of(61), successors=bad, **fixed)


def test_one_party_under_two_keys_has_no_dispute_with_itself(world, rotating):
    suspect = world.tensors_of(rotating.model)
    found = settle(rotating.case(suspect), inherited(rotating, world, suspect, HEIR), nonce=world.NONCE, now=world.NOW)
    assert found.outcome == "UNDECIDED"


@pytest.mark.parametrize("name", ["own", "successor"])
def test_withdrawals_are_signed_by_who_may(world, rotating, name):
    key = rotating.key if name == "own" else HEIR
    registered, payload = rotating.registered.registration, rotating.registered.payload
    made, data = withdrawal.make(registered, payload, key, reason="  the key was\nstolen ")
    assert made.reason == "the key was stolen"
    assert withdrawal.parse(made.payload()) == made
    assert withdrawal.open_withdrawal(data, registered, payload, where="w") == made


def test_withdrawals_by_others_or_of_others_are_refused(world, rotating, owner):
    registered, payload = rotating.registered.registration, rotating.registered.payload
    made, data = withdrawal.make(registered, payload, HEIR, reason="stolen")
    with pytest.raises(AuthenticityError, match="its own key"):
        withdrawal.make(registered, payload, STRANGER, reason="mine now")
    forged = replace(made, public_key=STRANGER.public)
    with pytest.raises(AuthenticityError, match="cannot withdraw"):
        withdrawal.open_withdrawal(envelope.sign(forged.payload(), STRANGER), registered, payload, where="w")
    with pytest.raises(AuthenticityError, match="another registration"):
        withdrawal.open_withdrawal(data, owner.registered.registration, owner.registered.payload, where="w")
    for reason in ("", "x" * 600, "a\u0000b"):
        with pytest.raises(FormatError):
            withdrawal.make(registered, payload, HEIR, reason=reason)
    document = canonical.parse(made.payload())
    for change in ({"format": 2}, {"extra": 1}, {"reason": None}, {"publicKey": "AA=="}):
        changed = {**document, "predicate": {**document["predicate"], **change}}
        with pytest.raises(FormatError):
            withdrawal.parse(canonical.encode(changed))


@pytest.fixture
def place(tmp_path, rotating, world, monkeypatch):
    """The rotating owner's folders, the heir's key, a suspect, a reveal that the heir signed."""
    world.save_party(tmp_path, rotating)
    keys.save_secret(tmp_path / "heir.key", HEIR, "correct horse")
    keys.save_secret(tmp_path / "stranger.key", STRANGER, "correct horse")
    write_tensors(tmp_path / "suspect.safetensors", world.pruned(rotating.model, 0.2), {})
    monkeypatch.chdir(tmp_path)
    made = ("reveal", "signed", "--suspect", "suspect.safetensors", "--nonce", world.NONCE, "--key", "heir.key")
    assert run([*made, "--out", "reveal.json"]) == 0
    assert run(["claim", "signed", "--key", "heir.key"]) == 0
    (tmp_path / "public" / "claim.dsse.json").write_bytes((tmp_path / "signed" / "claim.dsse.json").read_bytes())
    return tmp_path


AUDIT = ("audit", "public", "--reveal", "reveal.json", "--suspect", "suspect.safetensors")


def line(capsys, *arguments):
    """The one line with which a command refuses."""
    capsys.readouterr()
    assert run(list(arguments)) == 2
    (only,) = capsys.readouterr().err.strip().splitlines()
    return only


def test_a_withdrawn_registration_is_refused_everywhere(place, world, capsys):
    assert run(list(AUDIT)) == 0
    assert "its own key" in line(capsys, "withdraw", "signed", "--key", "stranger.key", "--reason", "mine now")
    assert not Bundle(place / "signed").withdrawal.exists()
    capsys.readouterr()
    assert run(["withdraw", "signed", "--key", "heir.key", "--reason", "the first key was stolen", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reason"] == "the first key was stolen"
    # The public copy does not have it yet: whoever does hands it over.
    assert run(list(AUDIT)) == 0
    assert "withdrawn by key" in line(capsys, *AUDIT, "--withdrawal", "signed/withdrawal.dsse.json")
    assert "of type" in line(capsys, *AUDIT, "--withdrawal", "public/claim.dsse.json")
    assert "missing.json" in line(capsys, *AUDIT, "--withdrawal", "missing.json")
    reveals = ("--nonce", world.NONCE, "--reveal-a", "reveal.json", "--reveal-b", "reveal.json")
    for party in ("--withdrawal-a", "--withdrawal-b"):
        given = (*reveals, party, "signed/withdrawal.dsse.json")
        assert "withdrawn by key" in line(capsys, "dispute", "public", "public", "suspect.safetensors", *given)
    (place / "public" / "withdrawal.dsse.json").write_bytes((place / "signed" / "withdrawal.dsse.json").read_bytes())
    judge_ = ("judge", *AUDIT[1:], "--nonce", world.NONCE, "--key", "stranger.key", "--out", "v.json")
    dispute = ("dispute", "public", "public", "suspect.safetensors", "--nonce", world.NONCE)
    new = ("--suspect", "suspect.safetensors", "--nonce", world.NONCE, "--key", "heir.key", "--out", "r.json")
    for arguments in (
        AUDIT,
        judge_,
        (*dispute, "--reveal-a", "reveal.json", "--reveal-b", "reveal.json"),
        ("reveal", "signed", *new),
        ("claim", "signed", "--key", "heir.key"),
        ("verify", "suspect.safetensors", "--signed", "signed"),
    ):
        assert "the first key was stolen" in line(capsys, *arguments), arguments
    assert "withdrawn before" in line(capsys, "withdraw", "signed", "--key", "heir.key", "--reason", "again")
    (place / "public" / "withdrawal.dsse.json").write_bytes(b"{}")
    assert "withdrawal.dsse.json" in line(capsys, *AUDIT)


def test_a_successors_claim_gets_its_card_and_its_time_stamp_query(place, capsys):
    capsys.readouterr()
    assert run(["claim", "public", "--card", "--json"]) == 0
    assert "Owner 60" in capsys.readouterr().out
    pytest.importorskip("rfc3161_client")
    assert run(["timestamp", "public", "--claim", "--request", "claim.tsq"]) == 0
    assert (place / "claim.tsq").exists()


def test_a_lost_secret_is_said_to_be_lost(place, world, capsys):
    (place / "signed" / "secret.tgs").unlink()
    assert "a lost secret is lost" in line(capsys, "verify", "suspect.safetensors", "--signed", "signed")


def test_sign_names_successors_by_their_public_keys(tmp_path, world, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_ticket(tmp_path / "base.safetensors", world.random_model(62))
    for name in ("owner.key", "heir.key", "second.key"):
        assert run(["keygen", "--out", name]) == 0
    sign = ["sign", "base.safetensors", "--key", "owner.key", "--owner", "Lab", "--no-triggers"]
    assert run([*sign, "--out", "signed", "--successor", "heir.pub", "--successor", "second.pub"]) == 0
    registered, _ = Bundle(tmp_path / "signed").read_registration()
    named = [keys.load_public(tmp_path / name).keyid for name in ("owner.pub", "heir.pub", "second.pub")]
    assert registered.signers == tuple(named)
    assert "twice" in line(capsys, *sign, "--out", "x", "--successor", "heir.pub", "--successor", "heir.pub")
    assert "heir.key" in line(capsys, *sign, "--out", "x", "--successor", "heir.key")
    assert not (tmp_path / "x").exists()
