"""`verify`: exit codes, both numbers, every form of output, scans."""

import csv
import hashlib
import json
import re
import shutil
from datetime import UTC, datetime
from importlib import import_module

import numpy as np
import pytest

from ticketguard.bundle import read_registration
from ticketguard.evidence import Verdict
from ticketguard.storage.tensors import read_tensors
from ticketguard.verify.judge import digest_of

MATCHES = ["half", "pruned", "filled", "mask", "permuted"]


@pytest.mark.parametrize("name", MATCHES)
def test_match_is_exit_code_0(tg, name):
    result = tg("verify", f"suspects/{name}.safetensors", "--signed", "signed")
    assert result.code == 0, result.err
    assert result.out.startswith("MATCH")
    assert result.err == ""


@pytest.mark.parametrize(("name", "decision"), [("unrelated", "NO MATCH"), ("nothing", "INCONCLUSIVE")])
def test_no_match_and_inconclusive_are_exit_code_1(tg, name, decision):
    result = tg("verify", f"suspects/{name}.safetensors", "--signed", "signed")
    assert result.code == 1
    assert result.out.startswith(decision)


def test_text_shows_both_numbers_the_bar_every_test_and_the_caveat(tg):
    out = " ".join(
        tg("verify", "suspects/pruned.safetensors", "--signed", "signed", "--supplied-by", "the accuser").out.split()
    )
    for words in (
        "against chance",
        "against a claimant who searched",
        "126.0 bits 40 + 80 for a search (g) + 6.0 for M = 64 tests",
        "supplied by the accuser",
        "support pooled stored",
        "magnitude leaf 3 stored",
        "not independent of the registered secret",
        "lawful or unwitting access is not excluded",
    ):
        assert words in out
    assert "stolen" not in out


def test_json_can_be_recomputed(tg):
    result = tg("verify", "suspects/pruned.safetensors", "--signed", "signed", "--json")
    document = dict(result.json)
    assert document.pop("suspect") == "suspects/pruned.safetensors"
    verdict = Verdict.from_json(document)
    assert verdict.decision == document["decision"] == "MATCH"
    assert verdict.best.bits == max(row["bits"] for row in document["evidence"])


def test_alignment_can_be_forbidden_and_forced(tg):
    permuted = ("verify", "suspects/permuted.safetensors", "--signed", "signed")
    assert tg(*permuted, "--align", "never").code == 1
    forced = tg("verify", "suspects/half.safetensors", "--signed", "signed", "--align", "always", "--json")
    assert any(note.startswith("alignment") for note in forced.json["notes"])


def test_predictions_of_every_kind(tg, world):
    rows = (world / "suspects" / "answers.csv").read_text().split()[1:]
    labels = [int(row.split(",")[1]) for row in rows]
    np.save(world / "a.npy", np.array(labels))
    np.save(world / "b.npy", np.eye(10)[labels])
    (world / "c.json").write_text(json.dumps([str(label) for label in labels]))
    (world / "d.json").write_text(json.dumps([None, *labels[1:]]))
    bits = [
        tg("verify", "--predictions", name, "--signed", "signed", "--json").json["evidence"][0]["bits"]
        for name in ("suspects/answers.csv", "a.npy", "b.npy", "c.json", "d.json")
    ]
    assert bits[0] == bits[1] == bits[2] == bits[3]
    assert bits[4] != bits[0]


def test_guesses_are_no_match(tg):
    assert tg("verify", "--predictions", "suspects/guesses.csv", "--signed", "signed").code == 1


def test_a_label_map_translates_and_costs(tg, world):
    text = (world / "suspects" / "answers.csv").read_text()
    header, *rows = text.split()
    (world / "named.csv").write_text("\n".join([header, *(row.replace(",", ",class ") for row in rows)]))
    (world / "map.json").write_text(json.dumps({f"class {digit}": str(digit) for digit in range(10)}))
    plain = tg("verify", "--predictions", "suspects/answers.csv", "--signed", "signed", "--json").json
    mapped = tg("verify", "--predictions", "named.csv", "--label-map", "map.json", "--signed", "signed", "--json").json
    # log2 of 10! for a map chosen afterwards.
    assert plain["evidence"][0]["bits"] - mapped["evidence"][0]["bits"] == pytest.approx(21.79, abs=0.01)


def test_weights_and_predictions_together(tg):
    result = tg(
        "verify",
        "suspects/unrelated.safetensors",
        "--predictions",
        "suspects/answers.csv",
        "--signed",
        "signed",
        "--json",
    )
    assert result.code == 0
    assert {row["test"] for row in result.json["evidence"]} == {"support", "magnitude", "triggers"}


def test_a_scan_finds_the_one_and_pays_for_all(tg, world):
    (world / "suspects" / "broken.safetensors").write_bytes(b"nothing")
    result = tg("verify", "suspects/*.safetensors", "--signed", "signed", "--json")
    assert result.code == 0
    rows = {row["suspect"].split("/")[-1]: row for row in result.json["suspects"]}
    assert rows["half.safetensors"]["decision"] == "MATCH"
    assert rows["unrelated.safetensors"]["decision"] == "NO MATCH"
    assert "error" in rows["broken.safetensors"]
    assert rows["half.safetensors"]["rule"]["suspects"] == len(rows) == 8


def test_an_unreadable_suspect_of_a_scan_is_named_once(tg, world):
    (world / "broken.txt").write_bytes(b"nothing")
    result = tg("verify", "broken.txt", "suspects/half.safetensors", "--signed", "signed")
    assert result.code == 0
    assert result.err.startswith("broken.txt: neither a safetensors file")
    assert result.err.count("broken.txt") == 1
    neither = tg("verify", "broken.txt", "owner.key", "--signed", "signed")
    # No table of nothing.
    assert (neither.code, neither.out) == (2, "")
    assert neither.err.count("\n") == 2


def test_a_scan_as_text_lists_the_strongest_first(tg):
    result = tg("verify", "suspects/unrelated.safetensors", "suspects/half.safetensors", "--signed", "signed")
    assert result.code == 0
    assert result.out.index("half") < result.out.index("unrelated")


def test_a_scan_that_goes_to_a_file_has_a_line_a_suspect(tg, world):
    names = ["\u6a21\u578b" * 20, "long-" * 20, "\x1b[1m" * 5]
    for name in names:
        shutil.copy(world / "suspects" / "half.safetensors", world / f"{name}.safetensors")
    result = tg("verify", *(f"{name}.safetensors" for name in names), "--signed", "signed")
    assert len(result.out.splitlines()) == 4
    assert sum(line.split()[1:2] == ["MATCH"] for line in result.out.splitlines()) == 3


def test_a_scan_on_a_terminal_takes_what_all_share_out_of_the_table(tg, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    result = tg("verify", "suspects/unrelated.safetensors", "suspects/half.safetensors", "--signed", "signed")
    assert result.code == 0
    assert "suspects in suspects/" in result.out
    assert "the bar: 127.0 bits" in result.out
    assert result.out.count("127.0") == 1


def test_a_scan_without_a_match_is_exit_code_1(tg):
    names = ("suspects/unrelated.safetensors", "suspects/nothing.safetensors")
    result = tg("verify", *names, "--signed", "signed")
    assert result.code == 1
    assert result.out.splitlines()[-1].startswith("suspects/nothing.safetensors: nothing comparable: ")


@pytest.mark.slow
def test_a_scan_by_two_processes_prints_the_same(tg, monkeypatch):
    scan = ("verify", "suspects/*.safetensors", "--signed", "signed", "--json")
    # With two cores or more a scan takes two by itself when every suspect is worth one.
    monkeypatch.setattr(import_module("ticketguard.verify.scan"), "WORTH_A_PROCESS", 1)
    assert tg(*scan).json == tg(*scan, "--jobs", "2").json == tg(*scan, "--jobs", "1").json


def test_a_file_named_twice_is_one_suspect(tg):
    name = "suspects/half.safetensors"
    assert tg("verify", name, name, "--signed", "signed", "--json").json["rule"]["suspects"] == 1


def test_a_folder_with_a_model_is_a_suspect(tg, world):
    (world / "copy").mkdir()
    shutil.copy(world / "signed" / "model.safetensors", world / "copy")
    result = tg("verify", "copy", "--signed", "signed", "--json")
    assert (result.code, result.json["suspect"]) == (0, "copy/model.safetensors")
    # Named as a folder and as its file, it is one suspect.
    both = tg("verify", "copy", "copy/model.safetensors", "--signed", "signed", "--json")
    assert both.json["rule"]["suspects"] == 1


@pytest.mark.parametrize("other", ["stolen.safetensors", "pytorch_model.bin", "weights.pt"])
def test_a_folder_with_other_weights_too_is_not_cleared_by_one_of_them(tg, world, other):
    (world / "hub").mkdir()
    shutil.copy(world / "suspects" / "unrelated.safetensors", world / "hub" / "model.safetensors")
    shutil.copy(world / "signed" / "model.safetensors", world / "hub" / other)
    result = tg("verify", "hub", "--signed", "signed")
    assert (result.code, result.out) == (2, "")
    assert (
        f"other weights ('{other}'): name the file to read, or for every suspect in it 'hub/*.safetensors'"
        in result.err
    )


def test_html_report_is_written_and_self_contained(tg, world):
    name = "suspects/half.safetensors"
    assert tg("verify", name, "--signed", "signed", "--html", "report.html").code == 0
    page = (world / "report.html").read_text()
    assert "MATCH" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_reports_say_what_the_terminal_says(tg, world):
    name = "suspects/half.safetensors"
    result = tg("verify", name, "--signed", "signed", "--markdown", "report.md", "--csv", "report.csv", "--json")
    assert (world / "report.md").read_text().startswith("# MATCH: suspects/half.safetensors\n")
    with (world / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["bits"]) for row in rows] == [item["bits"] for item in result.json["evidence"]]


def test_reports_name_the_case(tg, world):
    name = "suspects/half.safetensors"
    assert tg("verify", name, "--signed", "signed", "--markdown", "report.md", "--html", "report.html").code == 0
    registered, payload = read_registration(world / "signed" / "registration.dsse.json")
    named = (
        registered.owner,
        registered.public_key.keyid,
        hashlib.sha256(payload).hexdigest(),
        digest_of(read_tensors(world / name)),
        f"{datetime.now(UTC):%Y-%m-}",
    )
    for report in ("report.md", "report.html"):
        assert all(words in (world / report).read_text() for words in named), report
    answers = "suspects/answers.csv"
    tg("verify", "--predictions", answers, "--signed", "signed", "--markdown", "report.md")
    assert hashlib.sha256((world / answers).read_bytes()).hexdigest() in (world / "report.md").read_text()


def test_only_a_report_reads_the_whole_suspect(tg, monkeypatch):
    whole = []
    monkeypatch.setattr(
        import_module("ticketguard.verify.judge"), "digest_of", lambda file: whole.append(file) or "0" * 64
    )
    name = "suspects/half.safetensors"
    assert tg("verify", name, "--signed", "signed", "--csv", "report.csv").code == 0
    assert not whole
    assert tg("verify", name, "--signed", "signed", "--markdown", "report.md", "--html", "report.html").code == 0
    assert len(whole) == 2  # before it is read, and after


def test_a_scan_is_written_as_csv_with_what_could_not_be_read(tg, world):
    (world / "broken.safetensors").write_bytes(b"no model")
    names = ("suspects/half.safetensors", "broken.safetensors")
    assert tg("verify", *names, "--signed", "signed", "--csv", "scan.csv").code == 0
    with (world / "scan.csv").open(newline="") as file:
        decisions = {row["suspect"]: row["decision"] for row in csv.DictReader(file)}
    assert decisions == {"suspects/half.safetensors": "MATCH", "broken.safetensors": "ERROR"}
    for option in ("--html", "--markdown"):
        refused = tg("verify", *names, "--signed", "signed", option, "scan.html")
        assert (refused.code, refused.err) == (2, f"ticketguard: {option} goes with one suspect\n")
    assert not (world / "scan.html").exists()


def test_two_reports_are_two_files(tg, world):
    refused = tg("verify", "suspects/half.safetensors", "--signed", "signed", "--html", "a", "--csv", "a")
    assert refused.code == 2
    assert "a: two reports need two files: choose another --" in refused.err
    assert not (world / "a").exists()


def test_lineage_scores_of_controls_stand_beside_the_suspects(tg):
    suspect = ("verify", "suspects/permuted.safetensors", "--signed", "signed", "--align", "always")
    result = tg(
        *suspect, "--control", "suspects/pruned.safetensors", "--control", "suspects/unrelated.safetensors", "--json"
    )
    scores = [float(note.split()[-1]) for note in result.json["notes"] if " has " in note]
    assert len(scores) == 2
    assert scores[0] > scores[1] + 0.1
    # Unkeyed and without a p-value: the tests are the same with and without controls.
    assert result.json["evidence"] == tg(*suspect, "--json").json["evidence"]
    scan = ("verify", "suspects/pruned.safetensors", "suspects/half.safetensors", "--signed", "signed")
    assert tg(*scan, "--control", "suspects/unrelated.safetensors").code == 2


def test_what_goes_to_a_pipe_is_one_line_a_row(tg):
    """Broken at a width that nobody has, no search finds it; and no line ends in blanks."""
    out = tg("verify", "suspects/permuted.safetensors", "--signed", "signed").out
    assert re.search(r"bits, the bar is 126\.0$", out, re.MULTILINE)
    assert "registered secret; lawful or unwitting access is not excluded.\n" in out
    assert not re.search(r" $", out, re.MULTILINE)
