"""The protocol from the command line: every form works as documented, every bad input is one line and exit code 2."""

import hashlib
import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from ticketguard.bundle import read_registration
from ticketguard.claims import canonical, envelope, keys, reveal, statements
from ticketguard.claims.secret import read_secret, write_secret
from ticketguard.commands import cli, run
from ticketguard.probe.transcript import Log
from ticketguard.storage.documents import read_csv, write_csv
from ticketguard.storage.tensors import read_tensors, write_tensors
from ticketguard.triggers.plan import image_digest, plan_of
from ticketguard.triggers.render import render
from ticketguard.verify.judge import digest_of

pytestmark = pytest.mark.usefixtures("passphrase")


@pytest.fixture
def place(tmp_path, owner, world, monkeypatch):
    world.save_party(tmp_path, owner)
    write_tensors(tmp_path / "suspect.safetensors", world.pruned(owner.model, 0.3), {})
    write_tensors(tmp_path / "other.safetensors", dict(world.random_model(99).weights), {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def good(*arguments):
    result = CliRunner(catch_exceptions=False).invoke(cli, [str(item) for item in arguments], standalone_mode=False)
    return result.return_value, result.stdout


def refused(capsys, *arguments):
    assert run([str(item) for item in arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("ticketguard: ")
    return lines[0]


def make_reveal(place, world, *options):
    suspect = ("--suspect", place / "suspect.safetensors") if "--transcript" not in options else ()
    return good(
        "reveal", place / "signed", *suspect, "--nonce", world.NONCE, "--key", place / "owner.key",
        "--out", place / "reveal.json", *options,
    )  # fmt: skip


def judge_arguments(place, world, *options):
    return (
        "judge", place / "public", "--reveal", place / "reveal.json", "--suspect", place / "suspect.safetensors",
        "--nonce", world.NONCE, "--key", place / "judge.key", "--out", place / "verdict.json", *options,
    )  # fmt: skip


def test_reveal_judge_check_and_audit(place, world):
    good("keygen", "--out", place / "judge.key", "--encryption")
    _, text = make_reveal(place, world, "--to", place / "judge.enc.pub", "--json")
    assert json.loads(text)["leavesLeft"] == 3
    assert read_secret(place / "signed" / "secret.tgs", "correct horse").used.keys() == {0}
    page = ("--html", place / "page.html")
    code, text = good(*judge_arguments(place, world, "--control", place / "other.safetensors", *page))
    assert code == 0
    assert text.startswith("MATCH")
    written = (place / "page.html").read_text(encoding="utf-8")
    control = digest_of(read_tensors(place / "other.safetensors"))[:16]
    named = (f"control {place / 'other.safetensors'}", f"{place / 'other.safetensors'}, sha256 {control}: every test")
    assert all(words in written for words in ("own mark", *named, "suspect.safetensors", "judge&#39;s own word"))
    assert f"\n  ok    control: {named[1]}" in text
    # A paragraph each: what was checked, both numbers, every test, and what follows.
    assert [part.split()[0] for part in text.split("\n\n")] == ["MATCH:", "against", "test", "priority:"]
    assert "lawful or unwitting access is not excluded" in text
    for words in ("against chance", "against search", "the bar", "M = ", "support", "magnitude", "judged at 20"):
        assert words in text
    public, payload = read_registration(place / "public" / "registration.dsse.json")
    for words in (public.owner, public.public_key.keyid, hashlib.sha256(payload).hexdigest()):
        assert words in text
        assert words in written
    assert f"\n  suspect (SHA-256 of its manifest): {digest_of(read_tensors(place / 'suspect.safetensors'))}\n" in text
    assert "\n  made by: ticketguard" in text
    again = (
        "judge", place / "public", "--reveal", place / "reveal.json", "--suspect", place / "suspect.safetensors",
        "--control", place / "other.safetensors", "--key", place / "judge.key", "--check", place / "verdict.json", "--json",
    )  # fmt: skip
    code, text = good(*again)
    assert (code, json.loads(text)["outcome"]) == (0, "MATCH")
    lines = good(*again[:-1])[1].splitlines()
    assert lines[0] == f"CHECKED {place / 'verdict.json'}: recomputed from these files, every number as signed"
    assert lines[1].startswith("MATCH")
    assert lines[-1] == f"  checked {place / 'verdict.json'}"
    assert json.loads(text)["judge"] == keys.load_public(place / "judge.pub").keyid
    code, text = good(
        "audit", place / "public", "--reveal", place / "reveal.json", "--suspect", place / "suspect.safetensors",
        "--control", place / "other.safetensors", "--key", place / "judge.key", "--json",
    )  # fmt: skip
    document = json.loads(text)
    assert (code, document["sound"]) == (0, True)
    assert any("lawful" in ground for ground in document["grounds"])
    assert any("how many models did the claimant examine" in ground for ground in document["grounds"])


def test_a_control_says_what_was_not_read_of_it(place, world):
    good("keygen", "--out", place / "judge.key")
    weights = dict(world.random_model(99).weights)
    weights |= {f"ema.{name}": value for name, value in world.random_model(98).weights.items()}
    write_tensors(place / "two.safetensors", weights, {})
    make_reveal(place, world)
    code, text = good(*judge_arguments(place, world, "--control", "other.safetensors", "--control", "two.safetensors"))
    assert code == 0
    lines = text.splitlines()
    (noted,) = [number for number, line in enumerate(lines) if line.startswith("        not read: ")]
    assert digest_of(read_tensors(place / "two.safetensors"))[:16] in lines[noted - 1]


def test_a_judge_with_the_claimants_key_is_told(place, world, capsys):
    make_reveal(place, world)
    capsys.readouterr()
    arguments = [str(item) for item in judge_arguments(place, world, "--key", place / "owner.key")]
    assert run(arguments) == 0
    assert capsys.readouterr().err.count("the judge's key is the claimant's own") == 1
    good("keygen", "--out", place / "judge.key")
    assert run([*arguments[:-1], str(place / "judge.key"), "--out", str(place / "other.json")]) == 0
    assert "claimant's own" not in capsys.readouterr().err


def test_a_secret_in_the_folder_that_is_judged_is_told(place, world, capsys):
    good("keygen", "--out", place / "judge.key")
    make_reveal(place, world)
    capsys.readouterr()
    arguments = [str(item) for item in judge_arguments(place, world)]
    audit = ["audit", *arguments[1:6]]
    shutil.copy(place / "signed" / "secret.tgs", place / "public" / "secret.tgs")
    for command in (arguments, audit):
        assert run(command) == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert "public/secret.tgs: must not be here" in line
    (place / "public" / "secret.tgs").unlink()
    assert run(audit) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("owner.key", "not a reveal, but a secret under a passphrase"),
        ("suspect.safetensors", "not a reveal: "),
        ("judge.pub", "not a reveal: "),
        ("empty.json", "not a reveal: "),
        ("long.json", "not a reveal: larger than"),
    ],
)
def test_another_file_is_said_to_be_no_reveal(name, says, place, world, capsys):
    good("keygen", "--out", place / "judge.key")
    (place / "empty.json").write_text("{}")
    (place / "long.json").write_text("[" * (5 << 20))
    capsys.readouterr()
    for command in (judge_arguments(place, world, "--reveal", name), ("audit", "public", "--reveal", name)):
        assert f"{name}: {says}" in refused(capsys, *command)


def test_a_void_claim_counts_no_test(place, world, owner, capsys):
    good("keygen", "--out", place / "judge.key")
    make_reveal(place, world)
    write_tensors(place / "descendant.safetensors", world.pruned(owner.model, 0.1), {})
    code, text = good(*judge_arguments(place, world, "--control", "descendant.safetensors"))
    assert (code, text.split(":")[0]) == (1, "VOID")
    assert "the test below does not count: the claim is void" in text
    assert "lawful or unwitting access" not in text


CONTROLS = {
    "suspect": "the suspect itself",
    "public/model": "the claim's own model",
    "public/ticket": "the claim's own ticket",
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_of_the_case_itself_is_refused(place, world, capsys, name):
    """Its mark is where it belongs: a void claim would be the judge's mistake, not the claimant's."""
    good("keygen", "--out", place / "judge.key")
    make_reveal(place, world)
    shutil.copy(place / f"{name}.safetensors", place / "same.safetensors")
    before = snapshot(place)
    others = ("--control", "other.safetensors", "--control", "same.safetensors")
    audit = ("audit", "public", "--reveal", "reveal.json", "--suspect", "suspect.safetensors", *others)
    for command in (judge_arguments(place, world, *others), audit):
        capsys.readouterr()
        assert f"same.safetensors: this control is {CONTROLS[name]}" in refused(capsys, *command)
    assert snapshot(place) == before


def test_a_verdict_writes_over_no_file(place, world, capsys):
    good("keygen", "--out", place / "judge.key")
    make_reveal(place, world)
    good(*judge_arguments(place, world))
    (place / "metrics.jsonl").write_text("{}\n")
    capsys.readouterr()
    before = snapshot(place)
    for options in ((), ("--out", "metrics.jsonl")):
        said = refused(capsys, *judge_arguments(place, world, *options))
        assert "exists already: a signed verdict is never written over; choose another --out" in said
    assert snapshot(place) == before


@pytest.mark.parametrize("name", ["claim.dsse.json", "model.safetensors", "ticket.safetensors"])
def test_what_a_public_folder_lacks_is_asked_of_the_claimant(place, world, capsys, name):
    (place / "public" / name).unlink()
    said = refused(capsys, "audit", "public", "--suspect", "suspect.safetensors", "--reveal", "reveal.json")
    assert f"public/{name}: no such file: it belongs to a public folder, so ask the claimant for it" in said


def test_check_compares_what_the_reader_says(place, world, capsys):
    good("keygen", "--out", place / "judge.key")
    make_reveal(place, world)
    verdict = judge_arguments(
        place, world, "--control", "other.safetensors", "--supplied-by", "a notary", "--suspects", "1000"
    )
    code, text = good(*verdict)
    assert code == 0
    assert "M = 64 tests x 1,000 suspects" in " ".join(text.split())
    again = (
        "judge",
        "public",
        "--reveal",
        "reveal.json",
        "--suspect",
        "suspect.safetensors",
        "--check",
        "verdict.json",
    )
    controlled = (*again, "--control", "other.safetensors")
    assert good(*controlled, "--nonce", world.NONCE, "--supplied-by", "a notary", "--suspects", "1000")[0] == 0
    capsys.readouterr()
    assert "judged with another nonce" in refused(capsys, *controlled, "--nonce", "00" * 16)
    assert "names another supplier" in refused(capsys, *controlled, "--supplied-by", "the accuser")
    assert "names another supplier" in refused(capsys, *controlled, "--supplied-by", "")
    assert "another number of suspects than --suspects 1" in refused(capsys, *controlled, "--suspects", "1")
    other = digest_of(read_tensors(place / "other.safetensors"))
    assert f"other controls than these: as --control, give the models with sha256 {other[:16]}" in refused(
        capsys, *again
    )
    more = refused(capsys, *controlled, "--control", "public/ticket.safetensors")
    assert "leave out those with sha256 " in more
    assert other[:16] not in more


def test_reveals_at_the_same_time_take_different_leaves(place, world, monkeypatch):
    from ticketguard.commands import reveal as module

    def slow(*arguments):
        time.sleep(0.2)  # long enough for the other to read the secret, if nothing held it back
        write_secret(*arguments)

    def disclose(name):
        suspect = ("--suspect", f"{name}.safetensors", "--out", f"{name}.json")
        return run(["reveal", "signed", "--nonce", world.NONCE, "--key", "owner.key", *suspect])

    shutil.copy(place / "suspect.safetensors", place / "other.safetensors")
    monkeypatch.setattr(module, "write_secret", slow)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(disclose, ("suspect", "other"))) == [0, 0]
    assert read_secret(place / "signed" / "secret.tgs", "correct horse").used.keys() == {0, 1}


def test_a_leaf_that_does_not_find_the_mark_is_not_spent(place, world, capsys):
    before = snapshot(place)
    arguments = ("reveal", "signed", "--suspect", "other.safetensors", "--nonce", world.NONCE, "--key", "owner.key")
    words = refused(capsys, *arguments, "--out", "r.json")
    assert "leaf 0 does not find the mark in this suspect (NO MATCH: every test is at chance" in words
    assert "--override" in words
    assert snapshot(place) == before
    good(*arguments, "--out", "r.json", "--override")


def test_a_reveal_that_is_there_is_not_made_again(place, world, capsys):
    make_reveal(place, world)
    capsys.readouterr()
    before = snapshot(place)
    arguments = ("reveal", "signed", "--suspect", "other.safetensors", "--nonce", world.NONCE, "--key", "owner.key")
    assert "reveal.json exists already: revealing again would spend another leaf" in refused(
        capsys, *arguments, "--out", "reveal.json"
    )
    assert snapshot(place) == before


def test_a_withdrawn_registration_issues_and_traces_no_copies(place, capsys):
    good("withdraw", "signed", "--key", "owner.key", "--reason", "stolen")
    for words in (
        ("license", "signed", "--licensee", "Example Ltd", "--key", "owner.key", "--out", "copy"),
        ("trace", "suspect.safetensors", "--signed", "signed"),
    ):
        assert "withdrawn" in refused(capsys, *words)
    assert not (place / "copy").exists()


def test_unrelated_suspect_is_exit_code_1(place, world):
    good("keygen", "--out", place / "judge.key")
    shutil.copy(place / "other.safetensors", place / "suspect.safetensors")
    make_reveal(place, world, "--override")
    code, text = good(*judge_arguments(place, world))
    assert (code, text.split(":")[0]) == (1, "NO MATCH")
    code, text = good("audit", "public", "--reveal", "reveal.json", "--suspect", "suspect.safetensors")
    assert (code, "NO MATCH" in text) == (1, True)


def test_recorded_answers_end_to_end(place, world, owner):
    good("keygen", "--out", place / "judge.key")
    _, text = good("transcript", "queries", "signed", "--leaf", 0, "--decoys", 30, "--out", "queries", "--json")
    plan = plan_of(owner.registered.registration)
    assert json.loads(text)["queries"] == plan.per_leaf + 30
    triggers = render(owner.opening, plan)
    from ticketguard.triggers.plan import image_digest

    wanted = {
        image_digest(image): plan.classes[label] for image, label in zip(triggers.images, triggers.labels, strict=True)
    }
    rows = read_csv(place / "queries" / "index.csv")[1:]
    write_csv(place / "answers.csv", [["index", "label"], *([row[0], wanted.get(row[2], "a")] for row in rows)])
    record = (
        "transcript",
        "record",
        "queries",
        "answers.csv",
        "--service",
        "S",
        "--recorded-by",
        "R",
        "--out",
        "t.json",
    )
    good(*record)
    make_reveal(place, world, "--transcript", "t.json")
    judge = (
        "judge", "public", "--reveal", "reveal.json", "--transcript", "t.json", "--nonce", world.NONCE,
        "--key", "judge.key", "--out",
    )  # fmt: skip
    code, text = good(*judge, "v.json", "--json")
    assert (code, json.loads(text)["outcome"]) == (0, "MATCH")
    assert f"{plan.per_leaf} of {plan.per_leaf}" in json.loads(text)["reason"]
    _, text = good(*judge, "w.json", "--html", "page.html")
    assert f"\n\n- {plan.per_leaf + 30} queries recorded" in text
    assert "  service S, recorded by R\n" in text
    page = (place / "page.html").read_text(encoding="utf-8")
    assert "<dt>Service</dt><dd><bdi>S</bdi></dd>\n<dt>Answers recorded by</dt><dd><bdi>R</bdi></dd>" in page
    _, text = good(
        "audit", "public", "--reveal", "reveal.json", "--transcript", "t.json", "--answers", "t.json",
    )  # fmt: skip
    assert "  FAIL  control: t.json, sha256 " in text
    assert f"\n\n- {plan.per_leaf + 30} queries recorded" in text


def test_a_reveal_for_answers_takes_the_leaf_that_was_asked(place, world, owner, capsys):
    """Any other would be spent in vain; and what a reveal names is not recorded over."""
    _, text = good("transcript", "queries", "signed", "--leaf", 2, "--decoys", 3, "--out", "queries", "--json")
    plan = plan_of(owner.registered.registration)
    rows = read_csv(place / "queries" / "index.csv")[1:]
    write_csv(place / "answers.csv", [["index", "label"], *([row[0], plan.classes[0]] for row in rows)])
    record = ("transcript", "record", "queries", "answers.csv", "--service", "S", "--recorded-by")
    good(*record, "R", "--out", "t.json")
    reveal = ("reveal", "signed", "--transcript", "t.json", "--nonce", world.NONCE, "--key", "owner.key", "--out")
    capsys.readouterr()
    assert "no answer to a trigger of leaf 1, it asked those of leaf 2" in refused(
        capsys, *reveal, "r.json", "--leaf", 1
    )
    # Always the same answer: a judge would find nothing.
    assert "leaf 2 does not find the mark in this suspect (NO MATCH: " in refused(capsys, *reveal, "r.json")
    assert not read_secret(place / "signed" / "secret.tgs", "correct horse").used
    triggers = render(owner.registered.opening, plan)
    asked = dict(zip(map(image_digest, triggers.images), triggers.labels.tolist(), strict=True))
    write_csv(
        place / "answers.csv",
        [["index", "label"], *([row[0], plan.classes[asked.get(row[2], 0)]] for row in rows)],
    )
    (place / "t.json").unlink()
    good(*record, "R", "--out", "t.json")
    _, text = good(*reveal, "r.json", "--json")
    assert json.loads(text)["leaf"] == 2
    before = (place / "t.json").read_bytes()
    capsys.readouterr()
    assert "exists already" in refused(capsys, *record, "another", "--out", "t.json")
    good(*record, "R", "--out", "t.json")
    assert (place / "t.json").read_bytes() == before
    assert "unused: 0, 1, 3" in refused(capsys, "transcript", "queries", "signed", "--leaf", "2", "--out", "q")
    assert "files are in that folder" in refused(
        capsys, "transcript", "queries", "signed", "--leaf", "1", "--out", "queries"
    )
    assert "files are in that folder" in refused(capsys, "triggers", "export", "signed", "--out", "queries")


def test_dispute_from_files(place, world, owner):
    thief = world.make_party(7, owner.model)[0]
    (place / "b").mkdir()
    world.save_party(place / "b", thief)
    write_tensors(place / "suspect.safetensors", dict(thief.model.weights), {})
    good("keygen", "--out", place / "judge.key")
    make_reveal(place, world)
    good(
        "reveal", "b/signed", "--suspect", "suspect.safetensors", "--nonce", world.NONCE, "--key", "b/owner.key",
        "--out", "b.json",
    )  # fmt: skip
    options = ("suspect.safetensors", "--nonce", world.NONCE)
    code, text = good("dispute", "public", "b/public", *options, "--reveal-a", "reveal.json", "--reveal-b", "b.json")
    assert (code, text.split(":")[0]) == (0, "A PRIOR")
    # What speaks for a side is found or not; a check that fails is something else.
    told = [line.split(": ")[:2] for line in text.splitlines()[1:]]
    assert told == [
        ["  ok    A verifies", "MATCH"],
        ["  ok    B verifies", "MATCH"],
        ["  yes   A's mark in B's original", "MATCH"],
        ["  no    B's mark in A's original", "NO MATCH"],
    ]
    code, text = good(
        "dispute", "b/public", "public", *options, "--reveal-a", "b.json", "--reveal-b", "reveal.json", "--json"
    )
    assert (code, json.loads(text)["outcome"]) == (0, "B PRIOR")
    code, text = good("dispute", "public", "public", *options, "--reveal-a", "reveal.json", "--reveal-b", "reveal.json")
    assert code == 1
    assert "\n  FAIL  two claimants: " in text


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_bad_input_is_one_line_and_changes_nothing(place, world, capsys, owner):
    good("keygen", "--out", place / "judge.key", "--encryption")
    good("keygen", "--out", place / "second.key", "--encryption")
    make_reveal(place, world, "--to", place / "judge.enc.pub")
    _, plain = owner.reveal_for(digest_of(world.tensors_of(owner.model)))
    (place / "plain.json").write_bytes(plain)
    (place / "junk").write_bytes(b"junk")
    Log.begin(place / "probed.jsonl", {"service": "s"})
    wrong = canonical.parse(envelope.open((place / "plain.json").read_bytes()).payload)
    wrong["predicate"]["expires"] = "soon"
    (place / "soon.json").write_bytes(envelope.sign(canonical.encode(wrong), owner.key))
    verdict = {"publicKey": wrong["predicate"]["publicKey"], "judgedAt": "soon", "nonce": world.NONCE, "verdict": {}}
    stated = canonical.encode(statements.statement([("suspect", "00" * 32)], "verdict", verdict))
    (place / "v.json").write_bytes(envelope.sign(stated, owner.key))
    (place / "asked").mkdir()
    write_csv(place / "asked" / "index.csv", [["index", "file", "sha256"], ["0", "00000.png", "ab" * 32]])
    write_csv(place / "swapped.csv", [["label", "index"], ["a", "0"]])
    write_csv(place / "twice.csv", [["index", "label"], ["0", "a"], ["0", "b"]])
    record = ("transcript", "record", "asked"), ("--service", "s", "--recorded-by", "r", "--out", "x.json")
    capsys.readouterr()
    before = snapshot(place)
    owner_key, suspect = ("--key", "owner.key"), ("--suspect", "suspect.safetensors")
    nonce, out = ("--nonce", world.NONCE), ("--out", "x.json")
    judge = ("judge", "public", *suspect, *nonce, "--key", "judge.key", *out)
    for arguments, words in (
        (("reveal", "signed", *nonce, *owner_key, *out), "what the reveal is for"),
        (("reveal", "signed", *suspect, "--transcript", "junk", *nonce, *owner_key, *out), "give one of them"),
        (("reveal", "signed", *suspect, "--nonce", "00", *owner_key, *out), "nonce"),
        (
            ("judge", "public", *suspect, "--nonce", "zz", *out, "--reveal", "reveal.json"),
            "--nonce: not 16 to 64 bytes",
        ),
        (
            ("judge", "public", *suspect, "--nonce", "00", *out, "--reveal", "reveal.json"),
            "--nonce: not 16 to 64 bytes",
        ),
        (("reveal", "signed", *suspect, *nonce, "--key", "judge.key", *out), "did not sign the registration"),
        (
            ("reveal", "signed", *suspect, *nonce, *owner_key, "--leaf", "0", *out),
            "choose another leaf, or say --override",
        ),
        (("reveal", "signed", *suspect, *nonce, *owner_key, "--leaf", "9", *out), "no leaf 9"),
        (("reveal", "signed", *suspect, *nonce, *owner_key, "--to", "judge.pub", *out), "not an X25519"),
        (("reveal", "public", *suspect, *nonce, *owner_key, *out), "secret.tgs"),
        (("reveal", "signed", "--suspect", "junk", *nonce, *owner_key, *out), "junk"),
        (("reveal", "signed", "--transcript", "junk", *nonce, *owner_key, *out), "junk: transcript: not JSON"),
        (
            ("reveal", "signed", "--transcript", "probed.jsonl", *nonce, *owner_key, *out),
            "probed.jsonl: made by `ticketguard probe`: judge it with verify --transcript, or ask through `transcript queries`",
        ),
        ((*judge, "--reveal", "soon.json"), "soon.json: 'soon' is not a time"),
        ((*judge[:-2], "--reveal", "plain.json", "--check", "v.json"), "v.json: 'soon' is not a time"),
        ((*judge, "--reveal", "missing"), "missing"),
        ((*judge, "--reveal", "junk"), "junk"),
        ((*judge, "--reveal", "plain.json"), "reveal was made for"),
        ((*judge[:-4], "--key", "second.key", *out, "--reveal", "reveal.json"), "not encrypted to this key"),
        ((*judge[:4], *nonce, "--reveal", "reveal.json"), "encrypted to a judge"),
        ((*judge[:4], "--reveal", "plain.json"), "a new verdict needs"),
        ((*judge, "--reveal", "reveal.json", "--root", "junk"), "junk: no PEM certificates"),
        ((*judge, "--reveal", "reveal.json", "--root", "missing"), "missing"),
        ((*judge[:-2], "--reveal", "reveal.json", "--check", "junk"), "junk"),
        ((*judge, "--reveal", "reveal.json", "--check", "junk"), "give one of them"),
        (
            (*judge[:-2], "--reveal", "reveal.json", "--check", "public/claim.dsse.json"),
            "public/claim.dsse.json: statement: of type",
        ),
        ((*judge, "--reveal", "reveal.json", "--transcript", "junk"), "junk: transcript: not JSON"),
        (("judge", "nowhere", *judge[2:], "--reveal", "reveal.json"), "nowhere"),
        (
            ("audit", "public", *suspect, "--reveal", "public/claim.dsse.json"),
            "public/claim.dsse.json: statement: of type",
        ),
        (("timestamp", "signed"), "give --url or --response"),
        (("timestamp", "signed", "--response", "junk", "--root", "junk"), "PEM"),
        (
            ("transcript", "queries", "signed", "--leaf", "9", "--out", "q"),
            "--leaf 9: the registration has leaves 0 to 3",
        ),
        (("transcript", "queries", "signed", "--leaf", "-1", "--out", "q"), "--leaf -1: the registration has leaves"),
        (("transcript", "queries", "signed", "--leaf", "0", "--out", "q"), "unused: 1, 2, 3"),
        (("transcript", "record", "nowhere", "junk", "--service", "s", "--recorded-by", "r", *out), "nowhere"),
        ((*record[0], "asked/index.csv", *record[1]), "asked/index.csv: the first line must be index,label"),
        ((*record[0], "swapped.csv", *record[1]), "the first line must be index,label"),
        ((*record[0], "twice.csv", *record[1]), "a different index in each"),
        (("transcript", "record", "asked/..", "twice.csv", *record[1]), "index.csv"),
    ):
        assert words in refused(capsys, *arguments), arguments
        assert snapshot(place) == before, arguments


def test_wrong_passphrase_is_refused(place, world, capsys, monkeypatch):
    monkeypatch.setenv("TICKETGUARD_PASSPHRASE", "wrong")
    line = refused(
        capsys, "reveal", "signed", "--suspect", "suspect.safetensors", "--nonce", world.NONCE, "--key", "owner.key",
        "--out", "x",
    )  # fmt: skip
    assert "wrong passphrase" in line


def test_expired_reveal_is_refused(place, world, owner, capsys):
    good("keygen", "--out", place / "judge.key")
    from ticketguard.storage.tensors import read_tensors

    digest = digest_of(read_tensors(place / "suspect.safetensors"))
    past = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
    (place / "reveal.json").write_bytes(owner.reveal_for(digest, expires=past)[1])
    capsys.readouterr()
    assert "expired" in refused(capsys, *judge_arguments(place, world))


def test_reveal_for_another_judge_is_refused(place, world, owner, capsys):
    from ticketguard.claims import hpke
    from ticketguard.storage.tensors import read_tensors

    good("keygen", "--out", place / "judge.key", "--encryption")
    digest = digest_of(read_tensors(place / "suspect.safetensors"))
    _, shown = owner.reveal_for(digest, recipient="00" * 32)
    sealed = hpke.seal(shown, hpke.load_public(place / "judge.enc.pub"), purpose="reveal")
    (place / "reveal.json").write_bytes(sealed)
    capsys.readouterr()
    assert "another judge" in refused(capsys, *judge_arguments(place, world))


def test_card_points_to_the_claim(place, capsys):
    data = (place / "public" / "claim.dsse.json").read_bytes()
    _, text = good("claim", "public", "--card", "--location", "https://example.org/c.json", "--json")
    document = json.loads(text)
    component = document["bom"]["components"][0]
    reference = component["externalReferences"][0]
    assert (component["type"], document["bom"]["specVersion"]) == ("machine-learning-model", "1.6")
    assert reference["url"] == "https://example.org/c.json"
    assert reference["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}]
    assert component["supplier"] == {"name": "Owner 1"}
    assert "[ownership claim](https://example.org/c.json)" in document["modelCard"]
    _, text = good("claim", "public", "--card")
    assert "CycloneDX" in text
    assert "## Ownership" in text
    assert (place / "public" / "claim.dsse.json").read_bytes() == data
    capsys.readouterr()
    assert "--key is missing" in refused(capsys, "claim", "public")


def test_inspect_shows_a_reveal_without_its_secret_and_a_verdict_without_python(place, world):
    good("keygen", "--out", place / "judge.key")
    make_reveal(place, world)
    good(*judge_arguments(place, world, "--control", "other.safetensors"))
    secret = reveal.parse(envelope.open((place / "reveal.json").read_bytes()).payload).leaf.hex()
    for options in ((), ("--json",)):
        _, text = good("inspect", "reveal.json", *options)
        assert "32 bytes, not shown" in text
        assert secret not in text
    _, text = good("inspect", "verdict.json")
    assert not set("{}[]") & set(text)
    assert "    - detail: registration, claim and reveal verify under key " in text
    assert re.search(r"\n  controls\n    -\n      ", text)
    assert not re.search(r": *$", text, re.MULTILINE)


def test_reveal_file_is_a_statement_about_the_suspect(place, world):
    make_reveal(place, world, "--valid-days", 3)
    opened = envelope.open((place / "reveal.json").read_bytes())
    shown = reveal.parse(opened.payload)
    assert canonical.parse(opened.payload)["predicateType"] == "urn:ticketguard:reveal/v1"
    assert timedelta(days=2) < shown.expires - datetime.now(UTC) <= timedelta(days=3)
    assert (place / "reveal.json").stat().st_mode & 0o777 == 0o600
