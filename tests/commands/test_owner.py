"""What an owner types: keygen, sign in one go and in two, claim, inspect, triggers export."""

import csv
import hashlib
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ticketguard.bundle import Bundle
from ticketguard.claims import envelope, hpke, keys, manifest, ownership, reveal, vault
from ticketguard.claims import license as licences
from ticketguard.commands import keygen, publish
from ticketguard.errors import StorageError
from ticketguard.masks import Mask
from ticketguard.signatures import capacity
from ticketguard.storage.atomic import exclusive
from ticketguard.storage.tensors import read_tensors, write_tensors
from ticketguard.tickets import read_ticket, write_ticket

SIGN = ("sign", "signed/ticket.safetensors", "--key", "owner.key", "--out", "new")


def test_keygen_makes_a_pair_that_belongs_together(tg, world):
    result = tg("keygen", "--out", "mine.key", "--json")
    assert result.code == 0
    secret = keys.load_secret(world / "mine.key", "fixture")
    assert keys.load_public(world / "mine.pub") == secret.public
    assert result.json == {"secret": "mine.key", "public": "mine.pub", "keyid": secret.public.keyid}
    assert stat.S_IMODE((world / "mine.key").stat().st_mode) == 0o600


def test_keygen_says_what_to_keep(tg):
    result = tg("keygen", "--out", "mine.key")
    assert "mine.key" in result.out
    assert "mine.pub" in result.out
    assert result.err == ""


@pytest.mark.parametrize("first", ["mine.key", "mine.pub"])
def test_keygen_that_comes_second_while_the_passphrase_is_typed_overwrites_nothing(tg, world, monkeypatch, first):
    def typed(*, confirm):
        (world / first).write_bytes(b"another key")
        return "fixture"

    monkeypatch.setattr(keygen, "passphrase", typed)
    result = tg("keygen", "--out", "mine.key")
    assert result.code == 2
    assert f"{first} exists already" in result.err
    assert (world / first).read_bytes() == b"another key"
    assert len([path for path in world.iterdir() if path.name.startswith("mine.")]) == 1


def test_keygen_waits_for_nobody_in_its_folder(tg, world):
    with exclusive(world):
        assert tg("keygen", "--out", "mine.key", "--encryption").code == 0
    assert stat.S_IMODE((world / "mine.key").stat().st_mode) == 0o600
    assert (
        stat.S_IMODE((world / "mine.pub").stat().st_mode)
        == stat.S_IMODE((world / "mine.enc.pub").stat().st_mode)
        != 0o600
    )


def test_keygen_that_fails_leaves_no_half_of_a_pair(tg, world, monkeypatch, snapshot):
    def full(path, public):
        raise StorageError(f"{path}: no space left on device")

    before = snapshot(world)
    monkeypatch.setattr(keys, "save_public", full)
    assert tg("keygen", "--out", "mine.key").code == 2
    assert snapshot(world) == before


def test_keygen_adds_the_encryption_key_to_a_key_that_is_there(tg, world):
    before = {name: (world / name).read_bytes() for name in ("owner.key", "owner.pub")}
    result = tg("keygen", "--out", "owner.key", "--encryption")
    assert result.code == 0, result.err
    assert "secret key  owner.key  (as it was)" in result.out
    secret = keys.load_secret(world / "owner.key", "fixture")
    added = hpke.load_public(world / "owner.enc.pub")
    assert hpke.recipient_id(added) == hpke.recipient_id(hpke.public_key(secret))
    assert {name: (world / name).read_bytes() for name in before} == before
    assert "owner.key exists already" in tg("keygen", "--out", "owner.key", "--encryption").err
    (world / "owner.enc.pub").unlink()
    document = tg("keygen", "--out", "owner.key", "--encryption", "--json").json
    assert (document["encryption"], document["keyid"]) == ("owner.enc.pub", secret.public.keyid)


def test_keygen_adds_no_encryption_key_to_what_it_cannot_open(tg, world, monkeypatch):
    assert "signed/secret.tgs" in tg("keygen", "--out", "signed/secret.tgs", "--encryption").err
    assert tg("keygen", "--out", "suspects/half.safetensors", "--encryption").code == 2
    monkeypatch.setenv("TICKETGUARD_PASSPHRASE", "wrong")
    assert "wrong passphrase" in tg("keygen", "--out", "owner.key", "--encryption").err
    assert not list(world.rglob("*.enc.pub"))


def test_sign_writes_a_folder_that_verifies(tg, world):
    result = tg(*SIGN, "--owner", "Lab", "--json")
    assert result.code == 0, result.err
    assert result.json["moved"] > 0
    assert stat.S_IMODE((world / "new" / "secret.tgs").stat().st_mode) == 0o600
    found = tg("verify", "new/ticket.safetensors", "--signed", "new", "--json")
    assert found.code == 0
    assert found.json["evidence"][0]["n"] == found.json["evidence"][0]["matches"] == result.json["bits"]
    # The first owner's signature is still there as well: signing over does not erase it.
    assert tg("verify", "new/ticket.safetensors", "--signed", "signed", "--json").json["evidence"][0]["bits"] > 66


def test_sign_tells_what_it_did_and_what_to_expect(tg):
    result = tg(*SIGN, "--owner", "Lab")
    assert result.code == 0
    for words in ("owner         Lab", "edges moved", "bits as signed", "expected", "keep the dense rewind weights"):
        assert words in result.out


def test_signing_over_a_mark_names_it(tg, world):
    digest = hashlib.sha256(Bundle(world / "signed").read_registration()[1]).hexdigest()[:16]
    (note,) = [note for note in tg(*SIGN, "--owner", "Lab", "--json").json["notes"] if digest in note]
    assert "signed already" in note
    shown = tg(*SIGN[:-1], "other", "--owner", "Lab").out
    assert f"note          {note}\n" in shown


def test_register_then_embed_is_signing(tg, world):
    first = tg(*SIGN, "--owner", "Lab", "--register-only", "--json")
    assert first.code == 0
    assert "moved" not in first.json
    assert not (world / "new" / "ticket.safetensors").exists()
    second = tg(*SIGN, "--registration", "new/registration.dsse.json", "--json")
    assert second.code == 0
    assert second.json["owner"] == "Lab"
    assert tg("verify", "new/ticket.safetensors", "--signed", "new").code == 0


def test_both_halves_of_signing_may_name_the_network(tg, world):
    network = ("--arch", "convnet")
    assert tg(*SIGN, *network, "--owner", "Lab", "--register-only").code == 0
    assert Bundle(world / "new").read_registration()[0].symmetry is not None
    done = tg(*SIGN, *network, "--registration", "new/registration.dsse.json")
    assert done.code == 0, done.err
    assert read_ticket(world / "new" / "ticket.safetensors").architecture.name == "convnet"


def test_new_edges_come_from_the_rewind_weights_that_are_given(tg, world):
    ticket = read_ticket(world / "signed" / "ticket.safetensors")
    dense = {name: np.full(bits.shape, 0.125, np.float32) for name, bits in ticket.mask.items()}
    write_tensors(world / "dense.safetensors", dense, {})
    assert tg(*SIGN, "--owner", "Lab", "--rewind", "dense.safetensors").code == 0
    signed = read_ticket(world / "new" / "ticket.safetensors")
    for name, bits in signed.mask.items():
        assert (signed.weights[name][bits & ~ticket.mask[name]] == 0.125).all()


def test_options_of_sign_reach_the_registration(tg, world):
    done = tg(*SIGN, "--owner", "Lab", "--leaves", "2", "--spend", "0.1", "--no-triggers", "--beacon", "rfc3161",
              "--without-stamp")  # fmt: skip
    assert done.code == 0
    registered, _ = Bundle(world / "new").read_registration()
    assert (registered.leaves, registered.triggers, registered.beacon) == (2, None, "rfc3161")


def test_the_bar_is_that_of_the_leaves(tg, world, monkeypatch):
    """More leaves are more tests, which the bar pays for."""
    monkeypatch.setattr(capacity, "_weakest", lambda leaf: leaf)  # the ticket is a small one for so many leaves
    many = ("--leaves", "10")
    done = tg(*SIGN, "--owner", "Lab", *many, "--no-triggers", "--beacon", "rfc3161", "--register-only")
    assert done.code == 0
    assert "without the stamp the bar is 126.044\n" in done.out
    assert "(the bar is 126.044 without a time stamp)\n              one leaf, as a judge sees it, 30%: " in done.out
    refused = tg(*SIGN, "--registration", "new/registration.dsse.json")
    assert refused.code == 2
    assert "the bar stays at 126.044 (--without-stamp" in refused.err
    assert f"{Bundle(world / 'new').open('fixture').rule().bar_bits:g}" == "126.044"


def test_claim_names_model_and_ticket(tg, world):
    (world / "signed" / "claim.dsse.json").unlink()
    result = tg("claim", "signed", "--key", "owner.key", "--json")
    assert result.code == 0
    registered, payload = Bundle(world / "signed").read_registration()
    opened = envelope.open((world / "signed" / "claim.dsse.json").read_bytes(), registered.public_key)
    claim = ownership.parse(opened.payload)
    ownership.require_registration(claim, payload, registered.public_key)
    assert (result.json["model"], result.json["ticket"]) == (claim.model, claim.ticket)


def test_claim_of_a_model_elsewhere(tg, world):
    (world / "signed" / "model.safetensors").rename(world / "elsewhere.safetensors")
    result = tg("claim", "signed", "--key", "owner.key", "--model", "elsewhere.safetensors")
    assert result.code == 0
    assert result.err == ""
    assert "Fixture Lab" in result.out


def test_a_claim_moved_away_makes_room_for_another(tg, world):
    signed = world / "signed"
    first = ownership.parse(envelope.open((signed / "claim.dsse.json").read_bytes()).payload)
    # Signed again it is the same claim, and its stamp stays good.
    (signed / "claim.tsr").write_bytes(b"head" + hashlib.sha256(first.payload()).digest() + b"tail")
    assert tg("claim", "signed", "--key", "owner.key", "--json").json["model"] == first.model
    for name in ("claim.dsse.json", "claim.tsr"):
        (signed / name).rename(world / name)
    other = tg("claim", "signed", "--key", "owner.key", "--model", "suspects/pruned.safetensors", "--json")
    assert other.code == 0, other.err
    assert other.json["model"] != first.model


@pytest.mark.parametrize("lost", [True, False])
def test_a_claim_without_an_open_secret_says_that_nothing_was_tested(tg, world, lost):
    """A successor may sign claims, and need not know the passphrase of the secret."""
    if lost:
        (world / "signed" / "secret.tgs").unlink()
    else:
        key = keys.load_secret(world / "owner.key", "fixture")
        (world / "signed" / "secret.tgs").write_bytes(vault.seal(b"{}", "another passphrase"))
        assert key.public.keyid in Bundle(world / "signed").read_registration()[0].signers
    result = tg("claim", "signed", "--key", "owner.key")
    assert result.code == 0
    assert result.err.count("\n") == 1
    assert "not tested whether signed/model.safetensors carries the mark" in result.err


def test_inspect_shows_every_file_of_a_folder_and_no_secret(tg):
    result = tg("inspect", "signed", "--json")
    assert result.code == 0
    assert set(result.json) == {
        f"signed/{name}"
        for name in ("registration.dsse.json", "ticket.safetensors", "model.safetensors", "claim.dsse.json")
    }
    assert result.json["signed/registration.dsse.json"]["owner"] == "Fixture Lab"
    assert result.json["signed/model.safetensors"]["edges"] == result.json["signed/ticket.safetensors"]["edges"]


def test_inspect_says_what_a_statement_is_about(tg):
    found = tg("inspect", "signed", "--json").json
    claim = found["signed/claim.dsse.json"]
    about = {name: found[f"signed/{name}.safetensors"]["sha256 of the manifest"] for name in ("ticket", "model")}
    assert claim["subjects"] == about
    assert claim["registration"]["sha256"] == found["signed/registration.dsse.json"]["sha256 of the payload"]
    text = tg("inspect", "signed/claim.dsse.json").out
    assert f"\n  subjects\n    model: {about['model']}\n    ticket: {about['ticket']}\n" in text
    assert f"\n  sha256 of the payload: {claim['sha256 of the payload']}\n" in text


def test_inspect_lists_time_stamps_and_licences_of_a_folder(tg, world):
    for name in ("registration.tsr", "claim.tsr"):
        (world / "signed" / name).write_bytes(b"0")
    (world / "signed" / "licenses").mkdir()
    registered = hashlib.sha256(Bundle(Path("signed")).read_registration()[1]).hexdigest()
    owner = keys.load_secret(world / "owner.key", "fixture")
    issued = licences.License(
        owner="Fixture Lab", public_key=owner.public, registration=registered, licensee="Example Ltd", serial="0" * 32,
        copy="ab" * 32, kind="tardos", bits=128, collusion=3,
    )  # fmt: skip
    (world / "signed" / "licenses" / "0.dsse.json").write_bytes(licences.sign(issued, owner))
    found = tg("inspect", "signed", "--json").json
    assert "not verified" in found["signed/registration.tsr"]["type"]
    assert "not verified" in found["signed/claim.tsr"]["type"]
    shown = found["signed/licenses/0.dsse.json"]
    assert (shown["licensee"], shown["subjects"]) == ("Example Ltd", {"copy": "ab" * 32})
    assert "\nsigned/licenses/0.dsse.json\n  type: urn:ticketguard:license/v1\n" in tg("inspect", "signed", "--all").out
    short = tg("inspect", "signed").out
    assert "time stamps: registration.tsr and claim.tsr, not verified" in short
    assert "licences: 1" in short
    (world / "signed" / "claim.tsr").unlink()
    assert "claim.tsr: cannot be read: no such file" in tg("inspect", "signed/claim.tsr").err


@pytest.mark.parametrize("path", ["signed", "signed/claim.dsse.json", "suspects/half.safetensors"])
def test_inspect_as_text(tg, path):
    result = tg("inspect", path, "--all")
    assert result.code == 0
    assert result.out.startswith(path.split("/")[0])
    assert "type: " in result.out


def test_inspect_sums_a_folder_up(tg, world):
    result = tg("inspect", "signed")
    found = tg("inspect", "signed", "--json").json
    assert 5 <= result.out.count("\n") <= 11
    for name, key in (
        ("registration.dsse.json", "payload"),
        ("claim.dsse.json", "payload"),
        ("model.safetensors", "manifest"),
    ):
        assert found[f"signed/{name}"][f"sha256 of the {key}"] in result.out
    for words in ("Fixture Lab", "about this registration", "as claimed", "time stamps: none", "leaves: 4"):
        assert words in result.out
    shutil.copy("suspects/half.safetensors", "signed/model.safetensors")
    assert "NOT THE CLAIMED ONE" in tg("inspect", "signed").out
    (world / "signed" / "claim.dsse.json").unlink()
    assert "claim: none" in tg("inspect", "signed").out
    assert tg("withdraw", "signed", "--key", "owner.key", "--reason", "a slip").code == 0
    assert "a slip" in next(line for line in tg("inspect", "signed").out.splitlines() if "WITHDRAWN" in line)


def test_a_public_key_in_place_of_the_secret_one_is_told(tg):
    said = tg("claim", "signed", "--key", "owner.pub").err
    assert "owner.pub: this is a public key, and the secret one is needed" in said


def test_a_claim_before_training_says_what_is_missing(tg, world, snapshot):
    for name in ("model.safetensors", "claim.dsse.json"):
        (world / "signed" / name).unlink()
    before = snapshot(world)
    result = tg("claim", "signed", "--key", "owner.key")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "signed/model.safetensors: no trained model yet: run `ticketguard train signed` first" in result.err
    assert snapshot(world) == before
    assert "no such file" in tg("claim", "signed", "--key", "owner.key", "--model", "no.safetensors").err


def test_inspect_counts_the_reveals_of_a_folder(tg, world):
    arguments = ("--suspect", "suspects/half.safetensors", "--nonce", "ab" * 16, "--key", "owner.key")
    for number in range(2):
        assert tg("reveal", "signed", *arguments, "--out", f"signed/{number}.json", "--leaf", number).code == 0
    assert "leaves: 4; 2 revealed by files of this folder" in tg("inspect", "signed").out
    shown = reveal.parse(envelope.open_self_signed((world / "signed" / "0.json").read_bytes()).payload)
    stranger, owner = keys.SecretKey.generate(), keys.load_secret(world / "owner.key", "fixture")
    # Of this registration, by the key that it names or not; and by the owner's own, but no leaf of it.
    for name, key, index in (("stranger", stranger, 2), ("odd", owner, 3), ("beyond", owner, 60000)):
        forged = replace(shown, public_key=key.public, index=index)
        (world / "signed" / f"{name}.json").write_bytes(envelope.sign(forged.payload(), key))
    assert "leaves: 4; 2 revealed by files of this folder" in tg("inspect", "signed").out


def test_a_secret_in_a_public_folder_is_told(tg, world):
    """One line for each, on standard error; the owner's own folder is told so."""
    shutil.copytree("signed", "public")
    shutil.copy("owner.key", "public/some name")
    (world / "public" / "tls.pem").write_text("-----BEGIN EC PRIVATE KEY-----\nx\n")
    shutil.copy("owner.pub", "public/owner.pub")
    result = tg("inspect", "public")
    said = result.err.splitlines()
    assert [line.split(": ")[1] for line in said] == ["public/secret.tgs", "public/some name", "public/tls.pem"]
    assert all("must not be here" in line for line in said)
    assert tg("inspect", "signed/claim.dsse.json").err == ""


def test_publish_copies_public_files_and_no_others(tg, world):
    for name in ("registration.tsr", "claim.tsr", "reveal.json", "notes.txt"):
        (world / "signed" / name).write_bytes(b"0")
    (world / "signed" / "trigger-images").mkdir()
    shutil.copy("owner.key", "signed/owner.key")
    assert tg("withdraw", "signed", "--key", "owner.key", "--reason", "a slip").code == 0
    result = tg("publish", "signed", "--out", "public", "--json")
    assert result.code == 0, result.err
    public = {
        "registration.dsse.json", "claim.dsse.json", "ticket.safetensors", "model.safetensors", "registration.tsr",
        "claim.tsr", "withdrawal.dsse.json",
    }  # fmt: skip
    assert {path.name for path in (world / "public").iterdir()} == public == set(result.json["published"])
    assert set(result.json["private"]) == {"secret.tgs", "owner.key", "reveal.json", "notes.txt", "trigger-images/"}
    for name in public:
        assert (world / "public" / name).read_bytes() == (world / "signed" / name).read_bytes()
    assert tg("publish", "signed", "--out", "public").err.count("files are in that folder already") == 1
    said = tg("publish", "signed", "--out", "other").out
    assert "copied   other/claim.dsse.json\n" in said
    assert "private  signed/secret.tgs\n" in said


def _claim(folder, *, owner="Fixture Lab", of=None, ticket=None):
    """A claim by the owner's key over the folder's files, as an edited one or one of another folder."""
    bundle = Bundle(folder)
    shown = bundle.read_claim()[0]
    key = keys.load_secret(Path("owner.key"), "fixture")
    payload = bundle.read_registration()[1] if of is None else of
    made = ownership.make(payload, owner=owner, key=key, ticket=ticket or shown.ticket, model=shown.model)[1]
    bundle.claim.write_bytes(made)


def _another_ticket(folder):
    """A ticket of other cells, and a claim that names it."""
    bundle = Bundle(folder)
    ticket = bundle.read_ticket()
    name = next(iter(ticket.mask))
    bits = ticket.mask[name].copy()
    bits[0] = False
    weights = {**ticket.weights, name: np.where(bits, ticket.weights[name], 0)}
    write_ticket(bundle.ticket, replace(ticket, mask=Mask({**ticket.mask, name: bits}), weights=weights))
    _claim(folder, ticket=manifest.digest(manifest.manifest(read_tensors(bundle.ticket))))


@pytest.mark.parametrize(
    "fails", [StorageError("no space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"]
)
@pytest.mark.parametrize("made", [False, True], ids=["new folder", "empty folder"])
def test_publish_that_fails_leaves_nothing_half_filled(tg, world, monkeypatch, snapshot, fails, made):
    copies = []

    def copy(source, target):
        if copies:
            raise fails
        copies.append(target)
        target.write_bytes(source.read_bytes())

    if made:
        (world / "public").mkdir()
    before = snapshot(world)
    with monkeypatch.context() as patched:
        patched.setattr(publish, "_copy", copy)
        assert tg("publish", "signed", "--out", "public").code in (2, 130)
    assert copies
    assert snapshot(world) == before
    assert tg("publish", "signed", "--out", "public").code == 0


@pytest.mark.parametrize("other", ["suspects/half.safetensors", "signed/secret.tgs"])
def test_publish_checks_what_it_copied(tg, world, monkeypatch, snapshot, other):
    """Somebody writes to the folder between the check and the copy."""
    monkeypatch.setattr(publish, "_copy", lambda source, target: shutil.copy(source, target) if "model" not in target.name
                        else shutil.copy(other, target))  # fmt: skip
    before = snapshot(world)
    result = tg("publish", "signed", "--out", "public")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "changed while it was copied" in result.err
    assert snapshot(world) == before


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: _claim(folder, of=b"another"), "claim.dsse.json: the claim names another registration"),
        (lambda folder: _claim(folder, owner="Thief"), "the claim names another owner"),
        (_another_ticket, "its frame is not the registered one"),
        (lambda folder: (folder / "claim.dsse.json").unlink(), "run `ticketguard claim` first"),
        (lambda folder: (folder / "model.safetensors").unlink(), "run `ticketguard train` first"),
        (lambda folder: shutil.copy("suspects/half.safetensors", folder / "model.safetensors"), "not the model that"),
        (lambda folder: shutil.copy(folder / "secret.tgs", folder / "claim.tsr"), "claim.tsr: the owner's secret"),
        (lambda folder: (folder / "registration.dsse.json").unlink(), "not a signed folder"),
    ],
)
def test_publish_refuses_what_no_judge_could_use_or_should_see(tg, world, snapshot, damage, says):
    damage(world / "signed")
    before = snapshot(world)
    result = tg("publish", "signed", "--out", "public")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert says in result.err
    assert snapshot(world) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("owner.key", "secret key of keygen"),
        ("owner.pub", "public key (Ed25519)"),
        ("signed/secret.tgs", "secret of a signed folder"),
        ("new.enc.pub", "public encryption key (X25519)"),
        ("sealed", "encrypted to a judge"),
    ],
)
def test_inspect_names_keys_and_secrets(tg, world, name, words):
    assert tg("keygen", "--out", "new.key", "--encryption").code == 0
    (world / "sealed").write_bytes(hpke.seal(b"x", hpke.load_public(world / "new.enc.pub"), purpose="reveal"))
    result = tg("inspect", name, "--json")
    assert result.code == 0, result.err
    assert words in result.json[name]["type"]
    if name == "owner.pub":
        assert result.json[name]["key id"] == keys.load_public(world / name).keyid


def test_inspect_calls_bare_weights_weights(tg, world):
    name = "suspects/half.safetensors"
    shown = tg("inspect", name, "--json").json[name]
    assert (shown["type"], shown["architecture"]) == ("weights", "unknown")
    document = {"label": "prune-random@0.5", "architecture": {"name": "convnet", "arguments": {}}}
    write_tensors(world / "attacked.safetensors", {"a.weight": np.ones((2, 3), np.float32)}, {"attack": document})
    shown = tg("inspect", "attacked.safetensors", "--json").json["attacked.safetensors"]
    assert (shown["type"], shown["architecture"], shown["attacked by"]) == ("weights", "convnet", "prune-random@0.5")
    assert shown["values"] == 6


def test_inspect_needs_no_passphrase(tg, monkeypatch):
    monkeypatch.delenv("TICKETGUARD_PASSPHRASE")
    assert tg("inspect", "signed").code == 0


def test_exported_triggers_are_pictures_without_answers(tg, world):
    result = tg("triggers", "export", "signed", "--out", "queries", "--json")
    assert result.code == 0
    assert result.json["images"] == 256
    with (world / "queries" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(256))
    assert set(rows[0]) == {"index", "file", "sha256"}
    with Image.open(world / "queries" / rows[3]["file"]) as picture:
        assert picture.size == (8, 8)


def test_exported_answers_verify(tg, world):
    assert tg("triggers", "export", "signed", "--out", "queries", "--with-labels").code == 0
    with (world / "queries" / "index.csv").open() as file:
        lines = ["index,label", *(f"{row['index']},{row['target']}" for row in csv.DictReader(file))]
    (world / "answers.csv").write_text("\n".join(lines))
    result = tg("verify", "--predictions", "answers.csv", "--signed", "signed", "--json")
    assert result.code == 0
    assert {row["scope"] for row in result.json["evidence"]} == {"pooled", *(f"leaf {leaf}" for leaf in range(4))}
    assert all(row["matches"] == row["n"] for row in result.json["evidence"])


def test_a_signed_tickets_metadata_names_its_registration(tg, world):
    assert tg(*SIGN, "--owner", "Lab").code == 0
    metadata = read_tensors(world / "new" / "ticket.safetensors").metadata["ticketguard"]
    assert len(metadata["provenance"]["signed"]["registration"]) == 64
