"""`ticketguard attack` and `ticketguard suite`."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ticketguard.attacks.registry import ATTACKS
from ticketguard.commands import run
from ticketguard.commands.common import PASSPHRASE_VARIABLE
from ticketguard.errors import UsageError
from ticketguard.storage.tensors import read_tensors
from ticketguard.tickets import write_ticket
from ticketguard.verify.judge import digest_of

PLAN = (
    'epochs = 1\nimages = 64\nattacks = ["rename", "unsigned", {name = "prune-magnitude", strengths = [0.3, 0.97]}]\n'
)


def test_attack(tiny_signed, tmp_path: Path, capsys) -> None:
    out = tmp_path / "attacked.safetensors"
    model = str(tiny_signed.bundle.model)
    assert run(["attack", "prune-magnitude", model, "--strength", "0.5", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"prune-magnitude@0.5: wrote {out}\n"
    attacked = read_tensors(out)
    kept = sum(int((attacked[name] != 0).sum()) for name in tiny_signed.model.mask)
    assert kept == round(0.5 * tiny_signed.model.mask.kept)
    assert attacked.metadata["attack"]["label"] == "prune-magnitude@0.5"
    assert run(["attack", "permute", model, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["attack"] == "permute@1"


def test_an_attacked_model_is_not_attacked_again(tiny_signed, tmp_path: Path, capsys) -> None:
    """The record of its network and masks is gone; a stack attacks twice."""
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert run(["attack", "prune-magnitude", str(tiny_signed.bundle.model), "--out", str(first)]) == 0
    capsys.readouterr()
    assert run(["attack", "permute", str(first), "--out", str(second)]) == 2
    error = capsys.readouterr().err
    assert "attacked already" in error
    assert "a+b" in error
    assert not second.exists()
    assert run(["inspect", str(first), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)[str(first)]
    assert (shown["type"], shown["architecture"]) == ("weights", "convnet")


def test_list(capsys) -> None:
    assert run(["attack", "--list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["attacks"]] == list(ATTACKS)
    assert run(["attack", "--list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ATTACKS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing", "MODEL", "--out", "OUT"], "unknown attack 'nothing': ticketguard attack --list shows all"),
        (["prune-magnitud", "MODEL", "--out", "OUT"], "did you mean prune-magnitude"),
        (["permute+finetun", "MODEL", "--out", "OUT"], "unknown attack 'finetun': did you mean finetune"),
        (["prune-magnitude", "MODEL"], "--out"),
        (["prune-magnitude", "MODEL", "--strength", "2", "--out", "OUT"], "strength 2"),
        (["finetune", "MODEL", "--out", "OUT"], "--data"),
        (["input-flip", "MODEL", "--out", "OUT"], "service"),
        (["prune-magnitude", "TICKET", "--out", "OUT"], "not a trained model"),
        (["prune-magnitude", "missing.safetensors", "--out", "OUT"], "missing.safetensors"),
    ],
)
def test_bad_attacks(arguments, words, tiny_signed, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out.safetensors"
    paths = {"MODEL": tiny_signed.bundle.model, "TICKET": tiny_signed.bundle.ticket, "OUT": out}
    assert run(["attack", *(str(paths.get(item, item)) for item in arguments)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert len(error) < 300
    assert not out.exists()


@pytest.mark.parametrize("other", ["a copy of the model", "text"])
def test_an_attack_writes_over_no_file_but_its_own(other, tiny_signed, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out.safetensors"
    model = str(tiny_signed.bundle.model)
    held = {"a copy of the model": tiny_signed.bundle.model.read_bytes(), "text": b"notes"}[other]
    out.write_bytes(held)
    assert run(["attack", "permute", model, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "out.safetensors: exists and is not a file that this command makes" in error
    assert error.count("\n") == 1
    assert out.read_bytes() == held


@pytest.fixture
def as_digits(tiny_signed, monkeypatch):
    """The tiny data set under the name `digits`, which the command line can load."""
    monkeypatch.setattr("ticketguard.data.load", lambda name, directory, limit: tiny_signed.data)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, tiny_signed.passphrase)
    monkeypatch.setenv("COLUMNS", "100")


def test_suite(tiny_signed, as_digits, tmp_path: Path, capsys) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    out = tmp_path / "suite"
    arguments = ["suite", str(tiny_signed.bundle.folder), "--data", "digits", "--plan", str(tmp_path / "plan.toml")]
    arguments += ["--out", str(out)]
    assert run(arguments) == 0
    text = capsys.readouterr().out
    assert "prune-magnitude@0.97" in text
    assert "not removed" in text
    assert "not run: unsigned@1" in text
    assert "<title>" in (out / "report.html").read_text()
    assert "prune-magnitude" in (out / "report.md").read_text()
    model = digest_of(read_tensors(tiny_signed.bundle.model))
    assert all(model in (out / name).read_text() for name in ("report.html", "report.md"))
    assert len((out / "results.csv").read_text().splitlines()) >= 5
    control = ["--unsigned", str(tiny_signed.unsigned), "--test-images", "40", "--out", str(tmp_path / "other")]
    assert run([*arguments, "--json", "--seed", "0", *control]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["decision"] for row in document["results"]][1] in ("NO MATCH", "INCONCLUSIVE")
    assert document["results"][0]["decision"] == "MATCH"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--plan", "second.toml"], "plan: first there, second here"),
        (["--plan", "first.toml", "--limit", "8"], "data: sha256 [0-9a-f]{16} there, sha256 [0-9a-f]{16} here"),
        (["--plan", "first.toml", "--threads", "2"], "threads and device: 1, cpu.* there, 2, cpu.* here"),
        (
            ["--plan", "first.toml", "--seed", "1"],
            "1 of its results are not in this plan: seed 0 there, 1 here",
        ),
        (
            ["--plan", "first.toml", "--images", "5"],
            "1 of its results are not in this plan: images all there, 5 here",
        ),
    ],
)
def test_a_folder_keeps_the_suite_that_it_holds(
    options, says, tiny_signed, as_digits, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "ticketguard.data.load", lambda name, directory, limit: tiny_signed.data.subset(limit or 9, seed=0)
    )
    for name in ("first", "second"):
        Path(f"{name}.toml").write_text('attacks = ["rename"]')
    start = ["suite", str(tiny_signed.bundle.folder), "--data", "digits", "--out", "suite"]
    for _ in range(2):
        assert run([*start, "--plan", "first.toml"]) == 0
    before = {path: path.read_bytes() for path in Path("suite").iterdir()}
    capsys.readouterr()
    assert run([*start, *options]) == 2
    error = capsys.readouterr().err
    assert re.search(rf"suite: holds another suite \({says}\): use another directory", error), error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in Path("suite").iterdir()} == before


@pytest.mark.parametrize(
    ("options", "jobs"),
    [
        (["--engine", "processes"], 6),
        (["--engine", "processes", "--threads", "4"], 1),
        (["--engine", "processes", "--jobs", "2"], 2),
        ([], 1),
    ],
)
def test_processes_take_the_cores(options, jobs, tiny_signed, as_digits, tmp_path: Path, monkeypatch) -> None:
    from ticketguard.commands import suite as module

    told: list[int] = []

    def noted(engine: str, jobs: int) -> object:
        told.append(jobs)
        raise UsageError("enough")

    monkeypatch.setattr(module, "cores", lambda: 6)
    monkeypatch.setattr(module, "_staff", noted)
    arguments = ["suite", str(tiny_signed.bundle.folder), "--data", "digits", "--out", str(tmp_path / "suite")]
    assert run([*arguments, *options]) == 2
    assert told == [jobs]


@pytest.mark.slow
def test_a_control_that_matches_is_an_alarm(tiny_signed, as_digits, tmp_path: Path, capsys) -> None:
    (tmp_path / "plan.toml").write_text('epochs = 12\nattacks = ["unsigned"]')
    start = ["suite", str(tiny_signed.bundle.folder), "--data", "digits", "--plan", str(tmp_path / "plan.toml")]
    start += ["--out", str(tmp_path / "suite"), "--unsigned"]
    assert run([*start, str(tiny_signed.bundle.ticket)]) == 2
    assert "ticket.safetensors: signed by this registration" in capsys.readouterr().err
    assert not (tmp_path / "suite").exists()
    # Without its record, a signed ticket is told by what it trains to.
    disguised = tmp_path / "disguised.safetensors"
    write_ticket(disguised, replace(tiny_signed.signed.ticket, provenance={}))
    assert run([*start, str(disguised)]) == 1
    text = capsys.readouterr().out
    assert "controls: 1 of 1 match" in text
    assert "WARNING: a control made without the secret matched, which must never happen: unsigned@1" in text
    assert run([*start, str(disguised), "--json"]) == 1


def test_bad_suites(tiny_signed, as_digits, tmp_path: Path, capsys) -> None:
    start = ["suite", str(tiny_signed.bundle.folder), "--data", "digits", "--out", str(tmp_path / "suite")]
    for extra, words in (
        (["--preset", "slow"], "unknown preset"),
        (["--engine", "abacus"], "unknown engine"),
        (["--seed", "-1"], "seeds count"),
        (["--test-images", "0"], "--test-images"),
        (["--engine", "processes", "--jobs", "0"], "at least one job"),
        (["--engine", "processes", "--jobs", "9" * 20], "at most 256"),
        (["--threads", "0"], "threads must be at least 1"),
        (["--threads", "9" * 20], "at most 4096"),
        (["--device", "abacus"], "unknown device"),
        (["--unsigned", str(tiny_signed.bundle.registration)], "not a safetensors file"),
        (["--plan", str(tmp_path / "none.toml")], "none.toml"),
        (["--plan", "mine.toml", "--preset", "quick"], "--preset and --plan name a grid each: give one of them"),
    ):
        assert run([*start, *extra]) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "suite").exists()


def test_a_suite_that_cannot_start_leaves_no_folder(
    tiny_signed, as_digits, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    out = tmp_path / "suite"
    start = ["--data", "digits", "--out", str(out)]
    assert run(["suite", str(tiny_signed.bundle.folder), *start, "--engine", "ray"]) == 2
    assert "needs Ray" in capsys.readouterr().err
    assert not out.exists()
    shutil.copytree(tiny_signed.bundle.folder, tmp_path / "signed")
    (tmp_path / "signed" / "model.safetensors").unlink()
    assert run(["suite", str(tmp_path / "signed"), *start]) == 2
    assert "model.safetensors" in capsys.readouterr().err
    assert not out.exists()
