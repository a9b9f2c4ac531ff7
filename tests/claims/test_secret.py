"""The owner's secret file: comes back as it was, for the right passphrase and the right registration only."""

import stat

import pytest

from ticketguard.claims import canonical, vault
from ticketguard.claims.secret import Secret, read_secret, require_same_registration, write_secret
from ticketguard.errors import AuthenticityError, FormatError, StorageError

SECRET = Secret(master=bytes(range(32)), registration="ab" * 32, beacon=bytes([7]) * 32, used={2: "cd" * 32})
DOCUMENT = {
    "format": 1,
    "master": "00" * 32,
    "registration": "ab" * 32,
    "beacon": "00" * 32,
    "used": {},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A key derivation without its cost."""
    monkeypatch.setattr(vault, "KDFS", {"argon2id": (1, lambda passphrase, salt: (passphrase + salt + bytes(32))[:32])})


def test_written_secret_comes_back_for_its_owner_alone(tmp_path):
    path = tmp_path / "secret.tgs"
    write_secret(path, SECRET, "word")
    assert read_secret(path, "word") == SECRET
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SECRET.master not in path.read_bytes()
    assert SECRET.master.hex().encode() not in path.read_bytes()


def test_wrong_passphrase_names_the_file(tmp_path):
    write_secret(tmp_path / "secret.tgs", SECRET, "word")
    with pytest.raises(AuthenticityError, match=r"secret\.tgs: wrong passphrase"):
        read_secret(tmp_path / "secret.tgs", "Word")


@pytest.mark.parametrize("position", [0, 8, 9, 25, 40, -1])
def test_every_changed_byte_is_noticed(tmp_path, position):
    path = tmp_path / "secret.tgs"
    write_secret(path, SECRET, "word")
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises((AuthenticityError, FormatError)):
        read_secret(path, "word")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(StorageError, match="none"):
        read_secret(tmp_path / "none", "word")


MALFORMED = {
    "a list": [],
    "a later format": {**DOCUMENT, "format": 2},
    "no master": {key: value for key, value in DOCUMENT.items() if key != "master"},
    "master is no hexadecimal": {**DOCUMENT, "master": "zz"},
    "master is short": {**DOCUMENT, "master": "00"},
    "beacon is short": {**DOCUMENT, "beacon": "00"},
    "master is a number": {**DOCUMENT, "master": 5},
    "registration is a number": {**DOCUMENT, "registration": 5},
    "used is a list": {**DOCUMENT, "used": [1]},
    "used by name": {**DOCUMENT, "used": {"first": "ab" * 32}},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_secrets_are_refused(tmp_path, name):
    path = tmp_path / "secret.tgs"
    path.write_bytes(vault.seal(canonical.encode(MALFORMED[name]), "word"))
    with pytest.raises(FormatError, match=r"secret\.tgs"):
        read_secret(path, "word")


def test_using_a_leaf_is_recorded_and_leaves_the_old_value_alone():
    used = SECRET.with_used(0, "ef" * 32)
    assert used.used == {2: "cd" * 32, 0: "ef" * 32}
    assert SECRET.used == {2: "cd" * 32}


def test_secret_of_another_signing_is_refused():
    require_same_registration(SECRET, "ab" * 32)
    with pytest.raises(AuthenticityError, match="another registration"):
        require_same_registration(SECRET, "ac" * 32)
