"""No option that names an output may destroy what the command reads, a key, a secret or the evidence in a signed folder."""

import os
from typing import get_args

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ticketguard.commands.common import FIRST_BYTES, STARTS, require_output
from ticketguard.errors import UsageError
from ticketguard.evidence import Decision, Rule, Verdict, decide
from ticketguard.report.csvfile import verdicts_csv
from ticketguard.report.html import verdict_page
from ticketguard.report.markdown import verdict_markdown

HALF = "suspects/half.safetensors"
REVEAL = ("reveal", "signed", "--suspect", HALF, "--nonce", "00" * 16, "--key", "owner.key", "--out")
VERIFY = ("verify", HALF, "--signed", "signed", "--html")
JUDGE = ("judge", "signed", "--reveal", "reveal.json", "--suspect", HALF, "--control", "suspects/nothing.safetensors",
         "--nonce", "00" * 16, "--key", "owner.key", "--out")  # fmt: skip
REPLAY = ("verify", "--transcript", "t.jsonl", "--decoy-images", "own", "--signed", "signed")
ATTACK = ("attack", "prune-random", "signed/model.safetensors", "--out")
UNLOCK = ("unlock", "signed/ticket.safetensors", "--key", "suspects/mask.safetensors", "--out")
TRAIN = ("train", "signed", "--data", "digits", "--epochs", "1", "--out")
TIMESTAMP = ("timestamp", "signed", "--request")
QUERIES = ("transcript", "queries", "signed", "--leaf", "0", "--out")
SUITE = ("suite", "signed", "--data", "digits", "--out")
LICENSE = ("license", "signed", "--licensee", "Ltd", "--key", "owner.key", "--out")
EXPORT = ("triggers", "export", "signed", "--out")
FILLED = "files are kept there that this command may not replace"
READ, KEPT = "this command reads that file", "exists and is not a file that this command makes"
CASES = [
    (REVEAL, "signed/secret.tgs", KEPT),
    (REVEAL, "signed/claim.dsse.json", KEPT),
    (REVEAL, "signed/licenses/0.dsse.json", KEPT),
    (REVEAL, "owner.pub", KEPT),
    (REVEAL, "owner.key", READ),
    (REVEAL, HALF, READ),
    (VERIFY, "signed/secret.tgs", KEPT),
    (VERIFY, "signed/../signed/registration.dsse.json", KEPT),
    (VERIFY, "folder/registration.dsse.json", KEPT),
    (VERIFY, "signed/claim.tsr", KEPT),
    (VERIFY, HALF, READ),
    ((*VERIFY[:-1], "--csv"), HALF, READ),
    ((*VERIFY[:-1], "--markdown"), "signed/secret.tgs", KEPT),
    (VERIFY, "hard", READ),
    (TIMESTAMP, "owner.key", KEPT),
    (JUDGE, HALF, READ),
    (JUDGE, "reveal.json", READ),
    (JUDGE, "suspects/nothing.safetensors", READ),
    (JUDGE, "owner.key", READ),
    (JUDGE, "signed/model.safetensors", KEPT),
    ((*JUDGE, "v.json", "--html"), "v.json", READ),
    ((*JUDGE[:-1], "--trigger-images", "own", "--out"), "own/0.png", READ),
    ((*REPLAY, "--html"), "own/0.png", READ),
    ((*JUDGE, "v.json", "--html"), HALF, READ),
    ((*JUDGE, "v.json", "--html"), "signed/claim.dsse.json", KEPT),
    (UNLOCK, "suspects/mask.safetensors", READ),
    (UNLOCK, "signed/secret.tgs", KEPT),
    (TRAIN, "signed/ticket.safetensors", KEPT),
    (TRAIN, "signed/secret.tgs", KEPT),
    (TRAIN, "other/model.safetensors", KEPT),
    (ATTACK, "signed/model.safetensors", READ),
    (ATTACK, "signed/ticket.safetensors", KEPT),
    (ATTACK, "signed/registration.dsse.json", KEPT),
    (ATTACK, "signed/secret.tgs", KEPT),
    (ATTACK, "owner.key", KEPT),
    (("lock", "locked/locked.safetensors", "--out"), "locked", READ),
    (EXPORT, "signed/trigger-images", FILLED),
    (EXPORT, "other/licenses", FILLED),
    (EXPORT, "other/licenses/deep/down", FILLED),
    (EXPORT, "other/trigger-images", FILLED),
    (LICENSE, "signed/licenses", FILLED),
    (LICENSE, "other/licenses", FILLED),
    (LICENSE, "other/secret.tgs", FILLED),
    (LICENSE, "signed", "signed/ticket.safetensors exists already"),
    (LICENSE, "folder", "folder/ticket.safetensors exists already"),
    (LICENSE, "other", "other/registration.dsse.json exists already"),
    (LICENSE, "vault", "vault/secret.tgs exists already"),
    (LICENSE, "copy", "copy/license.dsse.json exists already"),
    (QUERIES, "signed/trigger-images", FILLED),
    (QUERIES, "folder/licenses", FILLED),
    ((*QUERIES[:-1], "--decoy-images", "decoys", "--out"), "decoys/../decoys", FILLED),
    (SUITE, "signed/licenses", FILLED),
    (SUITE, "signed", "a signed folder: files are kept there"),
    (SUITE, "other", "a signed folder: files are kept there"),
    ((*VERIFY[:1], "model", *VERIFY[2:]), "model/model.safetensors", READ),
]


@pytest.mark.parametrize(("command", "out", "says"), CASES, ids=[f"{case[0][0]} over {case[1]}" for case in CASES])
def test_nothing_of_value_is_overwritten(command, out, says, tg, world, snapshot):
    (world / "reveal.json").write_text("{}")
    for name in ("vault/secret.tgs", "copy/license.dsse.json"):
        (world / name).parent.mkdir()
        (world / name).write_text("precious")
    (world / "folder").symlink_to(world / "signed", target_is_directory=True)
    os.link(world / HALF, world / "hard")
    (world / "signed" / "claim.tsr").write_bytes(b"a stamp")
    for name in ("signed/licenses/0.dsse.json", "other/registration.dsse.json", "other/model.safetensors"):
        (world / name).parent.mkdir(exist_ok=True)
        (world / name).write_text("{}")
    for name in ("signed/trigger-images", "decoys"):
        (world / name).mkdir()
    (world / "own").mkdir()
    (world / "own" / "0.png").write_bytes(b"a picture")
    for name in ("locked/locked.safetensors", "model/model.safetensors"):
        (world / name).parent.mkdir()
        (world / name).write_bytes((world / "signed/ticket.safetensors").read_bytes())
    before = snapshot(world)
    result = tg(*command, out)
    assert result.code == 2
    assert says in result.err
    assert "choose another --" in result.err
    assert result.err.count("\n") == 1
    assert result.out == ""
    assert snapshot(world) == before


# What somebody froze or was given, outside of a signed folder: none of it is what these options write.
EVIDENCE = {
    "reveal.dsse.json": b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[]}',
    "reveal.hpke": b"TGHPKE\0\1" + bytes(64),
    "transcript.json": b'{"format":1,"queries":[],"recordedBy":"A notary"}',
    "probe.jsonl": b'{"ticketguard":"probe"}\n{"label":1}\n',
    "registration.tsr": b"\x30\x82\x0f\x51\x30\x03\x02\x01\x00",
    "frozen.safetensors": None,
    "suspect.pt": b"PK\x03\x04" + bytes(64),
    "notes.md": b"# Notes of the case\n",
    "conclusion.md": b"# MATCH: what the court's expert found\n\nBy hand.\n",
    "answers.csv": b"index,label\n0,1\n",
    "table.csv": b"suspect,decision,reason,court\nx,MATCH,seen,Berlin\n",
    "terms.html": b'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>The service\'s terms</title>\n',
    "copy.html": b'<!DOCTYPE html>\n<html>\n<head>\n<meta name="generator" content="WordPress 6">\n',
    "short": b"x",
}
WRITERS = (
    VERIFY,
    (*VERIFY[:-1], "--markdown"),
    (*VERIFY[:-1], "--csv"),
    (*REPLAY, "--html"),
    ATTACK,
    (*JUDGE, "v.json", "--html"),
    UNLOCK,
    TRAIN,
    TIMESTAMP,
    ("convert", "paper.pth.tar", "--out"),
)


@pytest.mark.parametrize("command", WRITERS, ids=lambda command: f"{command[0]} {command[-1]}")
@pytest.mark.parametrize("name", EVIDENCE)
def test_evidence_is_not_overwritten(command, name, tg, world, snapshot):
    (world / name).write_bytes(EVIDENCE[name] or (world / HALF).read_bytes())
    before = snapshot(world)
    result = tg(*command, name)
    assert result.code == 2
    assert f"{name}: {KEPT}" in result.err
    assert "choose another --" in result.err
    assert (result.err.count("\n"), result.out) == (1, "")
    assert snapshot(world) == before


@pytest.mark.parametrize("command", [LICENSE, EXPORT, QUERIES, REVEAL], ids=lambda command: " ".join(command[:2]))
@pytest.mark.parametrize("out", ["no\0name", "loop", "loop/in"])
def test_impossible_outputs_give_one_line(command, out, tg, world, snapshot):
    (world / "loop").symlink_to("loop")
    before = snapshot(world)
    result = tg(*command, out)
    # A link is replaced by a file, never followed.
    made = command is REVEAL and out == "loop"
    assert result.code == (0 if made else 2), result.err
    assert result.err.count("\n") == (0 if made else 1)
    assert (snapshot(world) == before) is not made


def test_an_earlier_output_is_replaced(tg, world):
    (world / "signed" / "report.html").write_bytes(b"")  # as mktemp leaves it
    for _ in range(2):
        assert tg(*VERIFY, "signed/report.html").code == 0
        assert tg(*VERIFY[:-1], "--markdown", "report.md").code == 0
        assert tg("verify", HALF, "suspects/nothing.safetensors", "--signed", "signed", "--csv", "scan.csv").code == 0
        assert tg(*ATTACK, "attacked.safetensors").code == 0
        assert tg(*TIMESTAMP, "query.tsq").code == 0


@pytest.mark.parametrize("decision", get_args(Decision))
def test_every_report_begins_as_one(decision):
    """What the next run replaces is told by how it begins."""
    verdict = Verdict(**{**vars(decide([], Rule(tests=64))), "decision": decision})
    reports = {
        "--html": verdict_page(verdict, suspect="x"),
        "--markdown": verdict_markdown(verdict, suspect="x"),
        "--csv": verdicts_csv({"x": verdict}),
    }
    for option, text in reports.items():
        assert STARTS[option].match(text.encode()[:FIRST_BYTES])


def test_long_words_of_strangers_hide_no_report():
    verdict = Verdict(**{**vars(decide([], Rule(tests=64))), "reason": "\U000e0001" * 5000})
    text = verdict_markdown(verdict, suspect="\udcff" * 5000)
    assert STARTS["--markdown"].match(text.encode()[:FIRST_BYTES])


def test_a_private_key_is_no_query_of_a_time_stamp(tg, world):
    """In DER, an EC key is a sequence that starts with version 1, like the query."""
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    assert key.startswith(b"\x30\x77\x02\x01\x01")
    (world / "tsa.der").write_bytes(key)
    result = tg(*TIMESTAMP, "tsa.der")
    assert (result.code, (world / "tsa.der").read_bytes()) == (2, key)
    assert KEPT in result.err


def test_the_file_that_a_command_makes_may_be_there(world):
    model = world / "signed" / "model.safetensors"
    require_output(model, makes=model)
    with pytest.raises(UsageError, match="choose another --out"):
        require_output(model)
    (world / "model.safetensors").write_bytes(b"no signed folder")
    require_output(world / "model.safetensors")
    # Two options that name one new file: whatever is written first would be lost.
    with pytest.raises(UsageError, match="reads that file"):
        require_output(world / "new", inputs=(None, world / "signed" / ".." / "new"))
