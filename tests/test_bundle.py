"""The signed folder: opened only when its files belong together, never overwritten."""

import re
import shutil
from pathlib import Path

import pytest

from ticketguard.bundle import Bundle, read_registration, write_registered
from ticketguard.claims import canonical, envelope, ownership, registration, statements, vault, withdrawal
from ticketguard.claims.keys import SecretKey
from ticketguard.commands import inspect
from ticketguard.errors import AuthenticityError, FormatError, StorageError, UsageError
from ticketguard.signing import register
from ticketguard.storage.tensors import TensorFile

FIXTURE = Path(__file__).parents[1] / "fixtures" / "bundle-v1"


@pytest.fixture
def bundle(tmp_path):
    shutil.copytree(FIXTURE, tmp_path / "signed")
    return Bundle(tmp_path / "signed")


@pytest.fixture
def quick(monkeypatch):
    """A key derivation without its cost, for files that are made here."""
    monkeypatch.setattr(vault, "KDFS", {"argon2id": (1, lambda passphrase, salt: (passphrase + salt + bytes(32))[:32])})


def test_opening_checks_secret_against_registration(bundle):
    opening = bundle.open("fixture")
    assert sorted(opening.leaves) == [0, 1, 2, 3]
    assert opening.registration == read_registration(bundle.registration)[0]


def test_secret_of_another_signing_is_refused(bundle, quick, tmp_path):
    other = register(bundle.read_ticket(), SecretKey.generate(), owner="Lab")
    write_registered(Bundle(tmp_path / "other"), other, "word")
    shutil.copy(tmp_path / "other" / "secret.tgs", bundle.secret)
    with pytest.raises(AuthenticityError, match="another registration"):
        bundle.open("word")


def test_written_registration_opens_again(bundle, quick, tmp_path):
    made = register(bundle.read_ticket(), SecretKey.generate(), owner="Lab")
    other = Bundle(tmp_path / "deep" / "folder")
    write_registered(other, made, "word")
    assert other.open("word").registration == made.registration
    assert other.secret.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("left", ["secret", "registration"])
def test_a_signature_is_never_overwritten(bundle, quick, left):
    made = register(bundle.read_ticket(), SecretKey.generate(), owner="Lab")
    for name in {"secret", "registration"} - {left}:
        getattr(bundle, name).unlink()
    before = getattr(bundle, left).read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        write_registered(bundle, made, "word")
    assert getattr(bundle, left).read_bytes() == before


def test_claim_needs_the_registrations_key_and_a_model(bundle):
    key = SecretKey.from_seed(bytes(32))
    with pytest.raises(AuthenticityError, match="not the key of"):
        bundle.write_claim(key)
    with pytest.raises(StorageError, match="no such file"):
        Bundle(bundle.folder / "none").write_claim(key)


def test_what_is_signed_and_malformed_is_named_by_its_file(bundle, quick, tmp_path):
    """The signature is good, so that only the parser can refuse it; anybody can sign anything."""
    key = SecretKey.generate()
    made = register(bundle.read_ticket(), key, owner="Lab")
    bundle = Bundle(tmp_path / "other")
    write_registered(bundle, made, "word")
    readers = {
        bundle.registration: lambda: read_registration(bundle.registration),
        bundle.claim: bundle.read_claim,
        bundle.withdrawal: lambda: bundle.require_standing(*bundle.read_registration()),
    }
    names = (withdrawal.NAME, ownership.NAME, registration.NAME)
    for (path, read), name in zip(reversed(readers.items()), names, strict=True):
        fields = {"publicKey": statements.encode_bytes(key.public.spki)}
        path.write_bytes(envelope.sign(canonical.encode(statements.statement([("x", "ab" * 32)], name, fields)), key))
        with pytest.raises(FormatError, match=re.escape(str(path))):
            read()
        with pytest.raises(FormatError, match=re.escape(str(path))):
            inspect._statement(path)


def test_reference_frame_is_the_released_tickets(bundle):
    registered, _ = bundle.read_registration()
    counts = bundle.reference(registered)
    assert {name: matrix.shape for name, matrix in counts.items()} == {
        "conv2.weight": (24, 16),
        "conv3.weight": (24, 24),
    }
    assert sum(int(matrix.sum()) for matrix in counts.values()) == bundle.read_ticket().mask.kept


def test_the_reference_reads_each_mask_once_and_no_weight(bundle, monkeypatch):
    registered, _ = bundle.read_registration()
    reads, read = [], TensorFile.__getitem__
    monkeypatch.setattr(TensorFile, "__getitem__", lambda file, name: reads.append(name) or read(file, name))
    bundle.reference(registered)
    assert reads == [f"{name}_mask" for name in registered.layers]
