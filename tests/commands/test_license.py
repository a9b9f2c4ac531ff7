"""`license`, `trace`, and unlocking what a licence locked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ticketguard.bundle import Bundle, write_registered
from ticketguard.claims import hpke, keys
from ticketguard.commands import run
from ticketguard.masks import keep_largest
from ticketguard.signing import sign
from ticketguard.tickets import Architecture, Ticket, read_ticket, write_ticket


@pytest.fixture
def signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TICKETGUARD_PASSPHRASE", "x")
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    dense = {"a.weight": generator.normal(size=(64, 48, 3, 3)).astype(np.float32)}
    mask = keep_largest({name: np.abs(w) for name, w in dense.items()}, 6000)
    ticket = Ticket(
        architecture=Architecture(),
        weights={n: np.where(mask[n], w, np.float32(0)) for n, w in dense.items()},
        mask=mask,
    )
    key = keys.SecretKey.from_seed(bytes(32))
    keys.save_secret(Path("owner.key"), key, "x")
    registered, embedded = sign(ticket, key, owner="Owner", rewind=dense)
    write_registered(Bundle(Path("signed")), registered, "x")
    write_ticket(Bundle(Path("signed")).ticket, embedded.ticket)
    return tmp_path


def issue(name: str, *more: str) -> int:
    return run(["license", "signed", "--licensee", name, "--key", "owner.key", "--out", name, "--bits", "128", *more])


def test_copies_are_traced(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert issue("alice") == 0
    assert issue("bob") == 0
    capsys.readouterr()
    assert run(["trace", "bob/ticket.safetensors", "--signed", "signed", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["licences"]
    assert [row["licensee"] for row in rows if row["named"]] == ["bob"]
    assert run(["trace", "signed/ticket.safetensors", "--signed", "signed"]) == 1
    text = capsys.readouterr().out
    assert "NOBODY NAMED" in text
    assert "could have made this copy" not in text
    assert run(["trace", "bob/ticket.safetensors", "--signed", "signed"]) == 0
    assert "could have made this copy" in capsys.readouterr().out


@pytest.mark.slow
def test_a_locked_copy_opens_only_for_its_licensee(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    licensee, other = keys.SecretKey.generate(), keys.SecretKey.generate()
    keys.save_secret(Path("me.key"), licensee, "x")
    keys.save_secret(Path("other.key"), other, "x")
    hpke.save_public(Path("me.enc.pub"), hpke.public_key(licensee))
    assert issue("carol", "--lock", "0.05", "--to", "me.enc.pub") == 0
    locked = ["unlock", "carol/ticket.safetensors", "--key", "carol/keymask.hpke", "--out", "open.safetensors"]
    capsys.readouterr()
    assert run(locked) == 2
    assert "encrypted to a licensee; give that licensee's secret key with --secret" in capsys.readouterr().err
    assert run([*locked, "--secret", "other.key"]) == 2
    assert not Path("open.safetensors").exists()
    assert run([*locked, "--secret", "me.key"]) == 0
    assert read_ticket(Path("open.safetensors")).mask.kept == 6000
    capsys.readouterr()
    assert run(["trace", "open.safetensors", "--signed", "signed"]) == 0
    assert "carol" in capsys.readouterr().out


@pytest.mark.slow
def test_two_copies_at_once_use_one_code_and_one_folder(
    signed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run that ends while the first one embeds."""
    from ticketguard.commands import license as module

    def meanwhile(*arguments: str) -> None:
        def make(*given: object, **named: object) -> object:
            monkeypatch.setattr(module, "make_copy", make_copy)
            assert issue(*arguments) == 0
            return make_copy(*given, **named)

        make_copy = module.make_copy
        monkeypatch.setattr(module, "make_copy", make)

    meanwhile("bob", "--bits", "64")
    assert issue("alice") == 2
    assert "earlier copies use another fingerprint code" in capsys.readouterr().err
    assert not list(Path("alice").iterdir())
    meanwhile("carol", "--bits", "64")
    assert issue("carol", "--bits", "64") == 2
    assert "carol/ticket.safetensors exists already" in capsys.readouterr().err
    assert len(list(Path("signed/licenses").iterdir())) == 2
    assert run(["trace", "carol/ticket.safetensors", "--signed", "signed"]) == 0
    assert "carol" in capsys.readouterr().out


def test_refusals(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert issue("alice") == 0
    for arguments in (
        ["bob", "--lock", "0.05"],
        ["bob", "--code", "tardos"],
        ["alice"],
        ["bob", "--bits", "100000"],
        ["bob", "--collusion", "2"],
    ):
        capsys.readouterr()
        assert issue(*arguments) == 2
        error = capsys.readouterr().err
        assert len(error.strip().splitlines()) == 1
        assert error.endswith("use the same for all: --code uniform --bits 128\n") == ("tardos" in arguments)
    assert len(list(Path("signed/licenses").iterdir())) == 1
    tampered = next(Path("signed/licenses").iterdir())
    tampered.write_bytes(tampered.read_bytes().replace(b"a", b"b", 1))
    assert run(["trace", "alice/ticket.safetensors", "--signed", "signed"]) == 2
