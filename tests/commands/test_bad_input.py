"""Bad input of every kind: one clear line on standard error, exit code 2, and every file as it was."""

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import pytest

from tests.thinned import thinned
from ticketguard import commands
from ticketguard.bundle import Bundle
from ticketguard.claims import canonical, envelope, statements
from ticketguard.claims.keys import SecretKey, save_public, save_secret
from ticketguard.claims.statements import encode_bytes
from ticketguard.commands.common import FilePath
from ticketguard.storage.atomic import write_bytes
from ticketguard.storage.tensors import read_tensors, write_tensors
from ticketguard.verify.transcript import Transcript

HERE = Path(__file__).parent
SIGN = ("sign", "signed/ticket.safetensors", "--key", "owner.key", "--owner", "Lab", "--out", "new")
VERIFY = ("verify", "suspects/half.safetensors", "--signed", "signed")
ANSWERS = ("verify", "--signed", "signed", "--predictions")
FIND = ("find", "--data", "digits", "--out", "run")
SUITE = ("suite", "signed", "--data", "digits", "--out", "new")
TRAIN = ("train", "signed", "--data", "digits")
EMBED = ("--key", "owner.key", "--out", "signed", "--registration", "signed/registration.dsse.json")
READ_QR = ("read-qr", "suspects/half.safetensors", "--signed", "signed", "--threshold")


def _malformed():
    """The malformed files of the storage tests, which are not a package."""
    spec = importlib.util.spec_from_file_location("malformed", HERE.parent / "storage" / "malformed.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


malformed = _malformed()


def nothing(folder: Path) -> None:
    """The folder as it is."""


@dataclass(frozen=True)
class Case:
    """A command, what its message must say (a regular expression), and how the folder is spoilt before."""

    arguments: tuple[str, ...]
    says: str
    spoil: Callable[[Path], object] = nothing
    passphrase: str | None = "fixture"


def text(name: str, content: str | bytes) -> Callable[[Path], object]:
    """Write a file."""
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def gone(*names: str) -> Callable[[Path], object]:
    """Remove files."""
    return lambda folder: [(folder / name).unlink() for name in names]


def cut(name: str, size: int) -> Callable[[Path], object]:
    """Keep the first bytes of a file."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def both(*changes: Callable[[Path], object]) -> Callable[[Path], object]:
    """One change after the other."""
    return lambda folder: [change(folder) for change in changes]


def array(name: str, values: object) -> Callable[[Path], object]:
    """Write an .npy file, pickled objects if need be."""
    return lambda folder: np.save(folder / name, np.asarray(values), allow_pickle=True)


def rewrite(change: Callable[[dict], object], *, key: SecretKey | None = None) -> Callable[[Path], object]:
    """Change the registration's statement; sign it again when a key is given."""

    def spoil(folder: Path) -> None:
        path = folder / "signed" / "registration.dsse.json"
        document = canonical.parse(path.read_bytes())
        payload = Bundle(folder / "signed").read_registration()[1]
        statement = canonical.parse(payload)
        change(statement["predicate"])
        changed = canonical.encode(statement)
        if key is None:
            write_bytes(path, canonical.encode({**document, "payload": encode_bytes(changed)}))
        else:
            write_bytes(path, envelope.sign(changed, key))

    return spoil


def registration_by_another_key(folder: Path) -> None:
    """A registration that somebody else signed in the owner's name."""
    payload = Bundle(folder / "signed").read_registration()[1]
    write_bytes(folder / "signed" / "registration.dsse.json", envelope.sign(payload, SecretKey.from_seed(bytes(32))))


KEY = SecretKey.from_seed(bytes(32))
OTHER = {"publicKey": encode_bytes(KEY.public.spki)}


def signed_statement(name: str, predicate: dict, *, subjects: list) -> Callable[[Path], object]:
    """A statement that a stranger signed with a key of its own."""
    made = statements.statement(subjects, name, {**OTHER, **predicate})
    return lambda folder: write_bytes(folder / "verdict.json", envelope.sign(canonical.encode(made), KEY))


def other_key(folder: Path) -> None:
    """A good key that is not the owner's."""
    save_secret(folder / "other.key", KEY, "fixture")
    save_public(folder / "other.pub", KEY.public)


def unsigned(folder: Path) -> None:
    """A ticket in a run folder of its own."""
    (folder / "run").mkdir()
    (folder / "signed/ticket.safetensors").rename(folder / "run/ticket.safetensors")


def named(folder: Path) -> None:
    """A ticket that names its own network."""
    from ticketguard.tickets import Architecture, read_ticket, write_ticket

    ticket = read_ticket(folder / "signed/ticket.safetensors")
    write_ticket(folder / "named.safetensors", replace(ticket, architecture=Architecture(name="convnet")))


def tensors(name: str, change: Callable[[dict], object], *, of: str = "signed/ticket.safetensors"):
    """A tensor file changed and written again with its metadata."""

    def spoil(folder: Path) -> None:
        file = read_tensors(folder / of)
        content = {key: np.array(file[key]) for key in file}
        change(content)
        write_tensors(folder / name, content, file.metadata)

    return spoil


def tiny(content: dict) -> None:
    """A ticket with a handful of edges in one small layer."""
    content.clear()
    bits = np.arange(36).reshape(2, 2, 3, 3) % 3 == 0
    content.update({"a.weight": bits.astype(np.float32), "a.weight_mask": bits.astype(np.uint8)})


def foreign(change: Callable[[dict], object]) -> Callable[[Path], object]:
    """A state dict of somebody else's, without our metadata."""

    def spoil(folder: Path) -> None:
        content: dict = {}
        change(content)
        write_tensors(folder / "foreign.safetensors", content, {})

    return spoil


def no_triggers(folder: Path) -> None:
    """Sign again without triggers, and put that folder in place."""
    from ticketguard import api
    from ticketguard.tickets import read_ticket

    signed = api.sign(
        read_ticket(folder / "signed/ticket.safetensors"), SecretKey.generate(), owner="L", triggers=False
    )
    signed.write(folder / "plain", "fixture")


def read_only(name: str) -> Callable[[Path], object]:
    """A folder without write permission."""

    def spoil(folder: Path) -> None:
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(0o555)

    return spoil


def answers(content: str | bytes, says: str, name: str = "a.csv", *options: str) -> Case:
    """A predictions file of this content."""
    return Case((*ANSWERS, name, *options), says, text(name, content))


def mapped(label_map: object, says: str) -> Case:
    """Good answers with a bad label map."""
    return Case(
        (*ANSWERS, "suspects/answers.csv", "--label-map", "map.json"), says, text("map.json", json.dumps(label_map))
    )


SUSPECTS = {
    "suspect missing": Case(("verify", "none.safetensors", "--signed", "signed"), "none.safetensors.*no such file"),
    "suspect is a folder": Case(("verify", "suspects", "--signed", "signed"), "suspects: a folder without"),
    "suspect is text": Case(
        ("verify", "notes.txt", "--signed", "signed"), "neither a safetensors", text("notes.txt", "hello")
    ),
    "suspect truncated": Case(VERIFY, "complete|bytes of data", cut("suspects/half.safetensors", 3000)),
    "suspect empty": Case(VERIFY, "header length", cut("suspects/half.safetensors", 0)),
    "suspect with NaN for a name": Case(
        ("verify", "no\0name", "--signed", "signed"), "not a possible file name|no such file"
    ),
    "pattern without files": Case(("verify", "hub/*.safetensors", "--signed", "signed"), r"hub/\*.* no such file"),
    "no suspect": Case(("verify", "--signed", "signed"), "nothing to verify"),
    "two suspects with predictions": Case(
        (*VERIFY, "suspects/mask.safetensors", "--predictions", "suspects/answers.csv"), "one suspect"
    ),
    "unknown alignment": Case((*VERIFY, "--align", "perhaps"), "perhaps.*auto"),
    "unknown option": Case((*VERIFY, "--fast"), "--fast"),
    "unknown command": Case(("verfy", "x"), "verfy"),
    "signed option missing": Case(("verify", "suspects/half.safetensors"), "--signed"),
    "signed folder missing": Case(("verify", "suspects/half.safetensors", "--signed", "no"), "no/.*no such file"),
    "signed folder is its registration": Case(
        (*VERIFY[:-1], "signed/registration.dsse.json"), "registration.dsse.json: a file, .*: name the folder"
    ),
    "leaf for weights": Case((*VERIFY, "--leaf", "0"), "--leaf goes with --endpoint: here it has no effect"),
    "mapping for weights": Case((*VERIFY, "--mapping", "map.json"), "--mapping goes with --endpoint"),
    "token for weights": Case((*VERIFY, "--token-env", "TOKEN"), "--token-env goes with --endpoint"),
    "budget for weights": Case((*VERIFY, "--budget", "400"), "--budget goes with --endpoint"),
    "key for weights": Case((*VERIFY, "--key", "owner.key"), "--key goes with --endpoint"),
    "retries for predictions": Case((*ANSWERS, "suspects/answers.csv", "--retries", "3"), "--retries goes with"),
    "alignment for predictions": Case(
        (*ANSWERS, "suspects/answers.csv", "--align", "never"), "--align goes with weights"
    ),
    "label map for a scan": Case((*VERIFY, "suspects/mask.safetensors", "--label-map", "m"), "with --predictions"),
    "supplier of a scan": Case((*VERIFY, "suspects/mask.safetensors", "--supplied-by", "me"), "goes with one suspect"),
    "transcript for a judge": Case(
        ("verify", "--signed", "signed", "--transcript", "t.json"),
        "t.json: made by `ticketguard transcript record`: a judge reads it, with judge --transcript",
        lambda folder: write_bytes(
            folder / "t.json", Transcript(service="s", recorded_by="r", answers={"ab" * 32: "1"}).encode()
        ),
    ),
    "folder with two models": Case(
        ("verify", "signed", "--signed", "signed"),
        "not an index of shards",
        text("signed/model.safetensors.index.json", "{}"),
    ),
    "folder of suspects": Case(
        ("verify", "suspects", "--signed", "signed"),
        r"suspects: a folder without .*for every suspect in it 'suspects/\*\.safetensors'",
    ),
    "budget for a transcript": Case(
        ("verify", "--signed", "signed", "--transcript", "t.jsonl", "--budget", "9"), "--budget goes with --endpoint"
    ),
    "processes for a service": Case(
        ("verify", "--signed", "signed", "--endpoint", "http://127.0.0.1:9/", "--jobs", "2"), "--jobs goes with weights"
    ),
    "no processes": Case((*VERIFY, "--jobs", "0"), "--jobs.*1<=x"),
    "fewer than no processes": Case((*VERIFY, "--jobs", "-1"), "--jobs.*1<=x"),
    "html where no folder is": Case((*VERIFY, "--html", "no/report.html"), "cannot be written"),
}
FOLDERS = {
    "registration missing": Case(
        VERIFY, "signed: not a signed folder: it has no registration.dsse.json", gone("signed/registration.dsse.json")
    ),
    "registration truncated": Case(VERIFY, "registration", cut("signed/registration.dsse.json", 900)),
    "registration is the claim": Case(
        VERIFY,
        "registration",
        lambda folder: write_bytes(
            folder / "signed/registration.dsse.json", (folder / "signed/claim.dsse.json").read_bytes()
        ),
    ),
    "registration tampered": Case(VERIFY, "does not verify", rewrite(lambda fields: fields.update(owner="Thief"))),
    "registration by another key": Case(VERIFY, "signed by key", registration_by_another_key),
    "registration with duplicate keys": Case(
        VERIFY, "twice|duplicate", text("signed/registration.dsse.json", '{"payload":"","payload":""}')
    ),
    "registration over its limit": Case(VERIFY, "larger than", text("signed/registration.dsse.json", b" " * (5 << 20))),
    "registration that promises too much": Case(
        VERIFY,
        "out of range",
        rewrite(
            lambda fields: (
                fields["layers"][0].update(pairsPerLeaf=1 << 50),
                fields.update(publicKey=encode_bytes(SecretKey.from_seed(bytes(32)).public.spki)),
            ),
            key=SecretKey.from_seed(bytes(32)),
        ),
    ),
    "secret missing": Case(
        VERIFY,
        "signed: no secret.tgs. A public folder is judged with `ticketguard judge`, .*restore your backup",
        gone("signed/secret.tgs"),
    ),
    "secret truncated": Case(VERIFY, "secret", cut("signed/secret.tgs", 40)),
    "secret is a key": Case(
        VERIFY,
        "secret",
        lambda folder: write_bytes(folder / "signed/secret.tgs", (folder / "owner.key").read_bytes()),
    ),
    "passphrase wrong": Case(VERIFY, "secret.tgs: wrong passphrase", passphrase="wrong"),
    "passphrase missing without a terminal": Case(VERIFY, "TICKETGUARD_PASSPHRASE", passphrase=None),
    "passphrase empty": Case(VERIFY, "TICKETGUARD_PASSPHRASE is empty", passphrase=""),
    "ticket missing where it is needed": Case(
        ("verify", "suspects/permuted.safetensors", "--signed", "signed"),
        "ticket.safetensors.*no such file",
        gone("signed/ticket.safetensors"),
    ),
    "ticket of another signature": Case(
        ("verify", "suspects/permuted.safetensors", "--signed", "signed"),
        "frame is not the registered one",
        tensors(
            "signed/ticket.safetensors",
            lambda content: (
                content["conv2.weight_mask"].reshape(-1)[np.flatnonzero(content["conv2.weight"])[:1]].fill(0)
                or content["conv2.weight_mask"].reshape(-1).__setitem__(np.flatnonzero(content["conv2.weight"])[:1], 0)
            ),
        ),
    ),
    "ticket without the registered layer": Case(
        ("verify", "suspects/permuted.safetensors", "--signed", "signed"),
        "no mask of the registered shape",
        tensors("signed/ticket.safetensors", lambda content: content, of="suspects/half.safetensors"),
    ),
}
PREDICTIONS = {
    "predictions missing": Case((*ANSWERS, "no.csv"), "no.csv.*no such file"),
    "predictions empty": answers("", "a.csv: an empty table"),
    "predictions without rows": answers("index,label\n", "no predictions"),
    "predictions of an unknown kind": answers("1", "csv, .npy or .json", "a.txt"),
    "unknown class name": answers("index,label\n0,horse\n", "horse"),
    "label out of range": answers("index,label\n0,10\n", "10"),
    "negative label": answers("index,label\n0,-3\n", "-3"),
    "index out of range": answers("index,label\n256,1\n", "256.*0 to 255"),
    "index twice": answers("index,label\n1,1\n1,1\n", "not occur twice"),
    "index not a number": answers("index,label\n1e2,1\n", "index must be a number"),
    "row with three values": answers("index,label\n1,1,1\n", "line 2 has 3 fields"),
    "other columns": answers("id,answer\n1,1\n", "index,label"),
    "predictions not UTF-8": answers(b"index,label\n0,\xff\n", "UTF-8"),
    "predictions with an open quote": answers('index,label\n0,"1\n', "not a comma-separated table"),
    "npy with pickled objects": Case((*ANSWERS, "a.npy"), "not numbers", array("a.npy", [malformed.Ambush()])),
    "npy of another length": Case((*ANSWERS, "a.npy"), "255 predictions", array("a.npy", np.zeros(255, dtype=int))),
    "npy of fractions": Case((*ANSWERS, "a.npy"), "not float64", array("a.npy", np.zeros(256))),
    "npy of labels out of range": Case((*ANSWERS, "a.npy"), "12", array("a.npy", np.full(256, 12))),
    "npy with scores of other classes": Case((*ANSWERS, "a.npy"), "10", array("a.npy", np.zeros((256, 9)))),
    "npy truncated": answers(b"\x93NUMPY\x01\x00", "not an .npy file", "a.npy"),
    "json with duplicate keys": answers('{"a":1,"a":2}', "twice", "a.json"),
    "json object": answers('{"a":1}', "JSON list", "a.json"),
    "json list of another length": answers("[1,2]", "2 predictions", "a.json"),
    "json with NaN": answers("[NaN]", "NaN", "a.json"),
    "label map is a list": mapped(["1"], "JSON object"),
    "label map to an unknown class": mapped({"one": "eleven"}, "label map: .* exactly once"),
    "label map that maps two to one": mapped({"one": "1", "uno": "1"}, "label map: .* exactly once"),
    "label map without predictions": Case(
        (*VERIFY, "--label-map", "map.json"), "--predictions", text("map.json", '{"a":"1"}')
    ),
    "no triggers were registered": Case(
        ("verify", "--signed", "plain", "--predictions", "suspects/answers.csv"), "has no triggers", no_triggers
    ),
}
SIGNING = {
    "ticket missing": Case(("sign", "no.safetensors", *SIGN[2:]), "no.safetensors.*no such file"),
    "ticket without masks": Case(("sign", "suspects/half.safetensors", *SIGN[2:]), "no masks"),
    "ticket truncated": Case(SIGN, "complete|bytes of data", cut("signed/ticket.safetensors", 9000)),
    "ticket of a later format": Case(
        ("sign", "later.safetensors", *SIGN[2:]),
        "format 2 is not known",
        lambda folder: write_tensors(
            folder / "later.safetensors", {"a": np.zeros(2, np.float32)}, {"ticketguard": {"format": 2}}
        ),
    ),
    "ticket with hostile metadata": Case(
        ("sign", "hostile.safetensors", *SIGN[2:]),
        "hostile.safetensors",
        lambda folder: write_tensors(
            folder / "hostile.safetensors",
            {"a": np.zeros((2, 2), np.float32), "a_mask": np.zeros((2, 2), np.uint8)},
            {"ticketguard": {"format": 1, "architecture": [1], "masked": 3, "provenance": "x"}},
        ),
    ),
    "mask of another shape": Case(
        ("sign", "foreign.safetensors", *SIGN[2:]),
        "mask of a.weight has shape",
        foreign(
            lambda content: content.update(
                {"a.weight": np.zeros((2, 2), np.float32), "a.weight_mask": np.zeros(4, np.uint8)}
            )
        ),
    ),
    "ticket too small": Case(("sign", "foreign.safetensors", *SIGN[2:]), "too small", foreign(tiny)),
    "ticket with nothing to move": Case(
        ("sign", "foreign.safetensors", *SIGN[2:]),
        "nothing to sign",
        foreign(
            lambda content: content.update(
                {"a.weight": np.ones((9, 9), np.float32), "a.weight_mask": np.ones((9, 9), np.uint8)}
            )
        ),
    ),
    "owner missing": Case((*SIGN[:4], *SIGN[6:]), "--owner"),
    "owner unprintable": Case((*SIGN[:5], "A\u202eB", *SIGN[6:]), "owner is not a printable text"),
    "key missing": Case((*SIGN[:3], "no.key", *SIGN[4:]), "no.key.*no such file"),
    "key is public": Case((*SIGN[:3], "owner.pub", *SIGN[4:]), "owner.pub"),
    "key is a secret": Case((*SIGN[:3], "signed/secret.tgs", *SIGN[4:]), "not an Ed25519 key"),
    "key with a wrong passphrase": Case(SIGN, "owner.key: wrong passphrase", passphrase="wrong"),
    "key of a later version": Case(
        SIGN, "version", lambda folder: (folder / "owner.key").write_bytes(b"TGVAULT\x02" + bytes(99))
    ),
    "folder that is signed already": Case((*SIGN[:-1], "signed"), "exists already"),
    "folder that holds the ticket itself": Case(
        ("sign", "run/ticket.safetensors", *SIGN[2:-1], "run"), "run/ticket.safetensors exists already", unsigned
    ),
    "registering beside a ticket": Case(
        ("sign", "run/ticket.safetensors", *SIGN[2:-1], "run", "--register-only"),
        "run/ticket.safetensors exists already",
        unsigned,
    ),
    "no stamp without a registration": Case((*SIGN, "--without-stamp"), "--without-stamp goes with --registration"),
    "output is a file": Case((*SIGN[:-1], "owner.pub"), "owner.pub"),
    "output is read-only": Case((*SIGN[:-1], "locked"), "read-only", read_only("locked")),
    "spend nothing": Case((*SIGN, "--spend", "0"), "share of edges"),
    "spend NaN": Case((*SIGN, "--spend", "nan"), "share of edges"),
    "no leaves": Case((*SIGN, "--leaves", "0"), "1 to 64 leaves"),
    "leaves beyond count": Case((*SIGN, "--leaves", "65"), "1 to 64 leaves"),
    "block of nothing": Case((*SIGN, "--block", "1"), "block has 2 to 65535"),
    "time stamp in one step": Case((*SIGN, "--beacon", "rfc3161"), "comes before the edges move: sign --register-only"),
    "no stamp that nobody asked for": Case((*SIGN, "--without-stamp"), "--without-stamp goes with --registration"),
    "unknown beacon": Case((*SIGN, "--beacon", "moon"), "moon.*rfc3161"),
    "network of a ticket that names its own": Case(
        ("sign", "named.safetensors", *SIGN[2:], "--arch", "resnet20"), "names its own network, convnet", named
    ),
    "successor that is the key itself": Case(
        (*SIGN, "--successor", "owner.pub"), "owner.pub: this is the key that signs"
    ),
    "successor named twice": Case(
        (*SIGN, "--successor", "other.pub", "--successor", "other.pub"), "other.pub: this key is named twice", other_key
    ),
    "both halves of signing": Case(
        (*SIGN, "--register-only", "--registration", "signed/registration.dsse.json"), "give one of them"
    ),
    "registration outside the folder": Case(
        (*SIGN, "--registration", "signed/registration.dsse.json"), "inside the folder --out"
    ),
    "registration of another ticket": Case(
        ("sign", "other.safetensors", *EMBED),
        "frame of this ticket is not the registered one",
        both(
            tensors("other.safetensors", lambda content: content["conv2.weight_mask"].fill(0)),
            gone("signed/ticket.safetensors"),
        ),
    ),
    "registration that was embedded for already": Case(
        ("sign", "signed/ticket.safetensors", *EMBED),
        "signed/ticket.safetensors exists already",
    ),
    "option that the registration has settled": Case(
        ("sign", "signed/ticket.safetensors", *EMBED, "--successor", "other.pub"),
        "--successor is settled by the registration",
        other_key,
    ),
    "a folder instead of its ticket": Case(
        ("sign", "signed", *SIGN[2:]), "signed: a folder; name the ticket .*: signed/ticket.safetensors"
    ),
    "a trained model beside its ticket": Case(
        ("sign", "signed/model.safetensors", *SIGN[2:]), "a trained model with its ticket beside it; sign the ticket"
    ),
    "key that did not sign the registration": Case(
        ("sign", "signed/ticket.safetensors", "--key", "other.key", *EMBED[2:]),
        "this key did not sign the registration, so it cannot embed for it",
        other_key,
    ),
    "unknown network for a registration": Case(
        ("sign", "signed/ticket.safetensors", *EMBED, "--arch", "transformer"), "unknown architecture"
    ),
    "another network than the registration's": Case(
        ("sign", "signed/ticket.safetensors", *EMBED, "--arch", "convnet"),
        "--arch convnet: signed/registration.dsse.json has the channel groups of another network",
    ),
    "another owner than the registration's": Case(
        ("sign", "signed/ticket.safetensors", *EMBED, "--owner", "Somebody else"),
        "--owner: the registration names 'Fixture Lab'",
    ),
    "rewind weights missing": Case((*SIGN, "--rewind", "no.safetensors"), "no.safetensors.*no such file"),
    "unknown architecture": Case((*SIGN, "--arch", "transformer"), "unknown architecture"),
    "architecture that would run code": Case((*SIGN, "--arch", "os:system"), "not a torch.nn.Module"),
    "folder of no data": Case((*SIGN, "--data-dir", "signed"), "--data-dir goes with --data: here it has no effect"),
    "key exists": Case(("keygen", "--out", "owner.key"), "exists already"),
    "public key exists": Case(("keygen", "--out", "owner.secret"), "owner.pub exists already"),
    "key named as public": Case(("keygen", "--out", "new.pub"), "suffix"),
    "key into a missing folder": Case(("keygen", "--out", "no/new.key"), "cannot be written"),
    "key into a read-only folder": Case(("keygen", "--out", "locked/new.key"), "read-only", read_only("locked")),
    "key without a passphrase": Case(("keygen", "--out", "new.key"), "passphrase is needed", passphrase=None),
}
REST = {
    "claim with another key": Case(("claim", "signed", "--key", "other.key"), "not the key of", other_key),
    "claim without a model": Case(
        ("claim", "signed", "--key", "owner.key"),
        "model.safetensors.*no trained model yet",
        gone("signed/model.safetensors"),
    ),
    "claim over a broken model": Case(
        ("claim", "signed", "--key", "owner.key"), "complete|bytes of data", cut("signed/model.safetensors", 2000)
    ),
    "claim over a model without the mark": Case(
        ("claim", "signed", "--key", "owner.key", "--model", "suspects/unrelated.safetensors"),
        "unrelated.safetensors: the mark of signed/registration.dsse.json is not in it .*: a judge would call the claim void",
    ),
    "claim in place of another": Case(
        ("claim", "signed", "--key", "owner.key", "--model", "suspects/pruned.safetensors"),
        "claim.dsse.json is about another model, sha256 [0-9a-f]{16}: before you claim this one, move it away",
    ),
    "claim beside the stamp of another": Case(
        ("claim", "signed", "--key", "owner.key", "--model", "suspects/pruned.safetensors"),
        "claim.tsr dates another claim than this one",
        lambda folder: (
            (folder / "signed" / "claim.dsse.json").unlink(),
            (folder / "signed" / "claim.tsr").write_bytes(b"the stamp of the claim that was here"),
        ),
    ),
    "claim into a read-only folder": Case(("claim", "signed", "--key", "owner.key"), "read-only", read_only("signed")),
    "triggers of a signature without any": Case(
        ("triggers", "export", "plain", "--out", "queries"), "has no triggers", no_triggers
    ),
    "triggers into a file": Case(("triggers", "export", "signed", "--out", "owner.pub"), "owner.pub"),
    "triggers into a read-only folder": Case(
        ("triggers", "export", "signed", "--out", "locked"), "read-only", read_only("locked")
    ),
    "inspect nothing": Case(("inspect", "no.safetensors"), "no such file"),
    "inspect a folder of nothing": Case(("inspect", "."), "folder without"),
    "inspect what is nested without end": Case(
        ("inspect", "deep.safetensors"),
        "nested too deeply to be shown",
        lambda folder: write_tensors(
            folder / "deep.safetensors",
            {"a": np.ones((2, 2), np.float32)},
            {"ticketguard": {"format": 1, "provenance": {"deep": json.loads("[" * 700 + "]" * 700)}}},
        ),
    ),
    "inspect tampered": Case(
        ("inspect", "signed"), "does not verify", rewrite(lambda fields: fields.update(owner="Thief"))
    ),
    "inspect a JSON list": Case(("inspect", "a.json"), "DSSE", text("a.json", "[]")),
    "unknown data set": Case(("train", "signed", "--data", "nothing"), "nothing"),
    "data folder missing": Case(("train", "signed", "--data", "cifar10", "--data-dir", "no"), "no"),
    "data folder not given": Case(("train", "signed", "--data", "cifar10"), "--data-dir|folder|directory"),
    "data folder without data": Case(("train", "signed", "--data", "cifar10", "--data-dir", "suspects"), "suspects"),
    "unknown recipe": Case(("train", "signed", "--data", "digits", "--recipe", "cake"), "cake.*digits"),
    "no epochs": Case(("train", "signed", "--data", "digits", "--epochs", "0"), "epochs must be at least 1"),
    "architecture unknown": Case(
        ("train", "signed", "--data", "digits", "--epochs", "1", "--out", "x.safetensors"), "architecture"
    ),
    "train over a claimed model": Case(("train", "signed", "--data", "digits", "--epochs", "1"), "claim.dsse.json"),
    "train over a claimed model elsewhere": Case(
        ("train", "signed", "--data", "digits", "--epochs", "1", "--out", "mine.safetensors"),
        "mine.safetensors is the model that signed/claim.dsse.json is about",
        lambda folder: (folder / "signed" / "model.safetensors").rename(folder / "mine.safetensors"),
    ),
    "train over a model that is not claimed": Case(
        ("train", "signed", "--data", "digits", "--epochs", "1"),
        # The claim is no obstacle: the fixture names no network, so this is as far as it goes.
        "architecture",
        lambda folder: (folder / "suspects" / "half.safetensors").rename(folder / "signed" / "model.safetensors"),
    ),
    "train a folder that is not signed": Case(
        ("train", "suspects", "--data", "digits"), "suspects: not a signed folder: it has no registration.dsse.json"
    ),
    "train a file": Case(
        ("train", "signed/ticket.safetensors", "--data", "digits"), "ticket.safetensors: a file, .*: name the folder"
    ),
    "find keeps nothing": Case((*FIND, "--density", "0"), "--density"),
    "find keeps everything": Case((*FIND, "--density", "1.5"), "--density"),
    "find at a density without rounds": Case((*FIND, "--rounds", "0", "--density", "0.3"), "no round is there"),
    "QR code above a negative threshold": Case((*READ_QR, "-1"), "--threshold is a magnitude"),
    "QR code above no number": Case((*READ_QR, "nan"), "--threshold is a magnitude"),
    "QR code above everything": Case((*READ_QR, "inf"), "--threshold is a magnitude"),
    "find without rounds": Case((*FIND, "--rounds", "-1"), "rounds"),
    "find one seed twice": Case((*FIND, "--seed", "1", "--seed", "1"), "different seeds"),
    "find with no job": Case((*FIND, "--jobs", "0"), "--jobs"),
    "find one seed in several jobs": Case((*FIND, "--jobs", "3"), "--jobs goes with several --seed"),
    "find in a folder that is not read": Case((*FIND, "--data-dir", "suspects"), "--data-dir goes with .*with digits"),
    "attack at a strength that no part takes": Case(
        ("attack", "prune-magnitude@0.3", "signed/model.safetensors", "--strength", "0.4", "--out", "new"),
        "--strength goes with parts that name none of their own: with prune-magnitude@0.3 it has no effect",
    ),
    "attack at a strength that a lossless part does not take": Case(
        ("attack", "permute+prune-magnitude@0.3", "signed/model.safetensors", "--strength", "0.4", "--out", "new"),
        "--strength goes with parts",
    ),
    "attack for epochs without training": Case(
        ("attack", "prune-magnitude", "signed/model.safetensors", "--epochs", "5", "--out", "new"),
        "--epochs goes with attacks that train: with prune-magnitude it has no effect",
    ),
    "attack with images of no data set": Case(
        ("attack", "finetune", "signed/model.safetensors", "--limit", "5", "--out", "new"), "--limit goes with --data"
    ),
    "suite of several jobs in one process": Case(
        (*SUITE, "--jobs", "2"), "--jobs goes with --engine processes or ray: here it has no effect"
    ),
    "suite on GPUs without Ray": Case((*SUITE, "--gpus", "1"), "--gpus goes with --engine ray"),
    "suite on a cluster without Ray": Case(
        (*SUITE, "--engine", "processes", "--ray-address", "auto"), "--ray-address goes with --engine ray"
    ),
    "query for a time stamp from an authority": Case(
        ("timestamp", "signed", "--request", "query.tsq", "--url", "http://127.0.0.1:9"), "--url goes without --request"
    ),
    "find with an unknown network": Case((*FIND, "--arch", "brain"), "unknown architecture"),
    "find with a function": Case((*FIND, "--arch", "os:getcwd"), "not a torch.nn.Module"),
    "find with an unknown recipe": Case((*FIND, "--recipe", "cake"), "cake"),
    "find in an unknown data set": Case(("find", "--data", "nothing", "--out", "run"), "nothing"),
    "find with too little data": Case((*FIND, "--limit", "0"), "limit|images"),
    "find into a file": Case((*FIND[:-1], "owner.pub", "--epochs", "1", "--limit", "32"), "owner.pub"),
    "demo in a folder that is not empty": Case(("demo", "--out", "signed"), "not empty"),
    "demo with a seed below zero": Case(("demo", "--seed", "-1", "--out", "new"), "seed must be between"),
    "demo with a seed that its control cannot have": Case(
        ("demo", "--seed", str((1 << 53) - 1), "--out", "new"), "seed must be between"
    ),
    "demo in a file": Case(("demo", "--out", "owner.pub"), "owner.pub"),
}
REVEAL = (
    "reveal",
    "signed",
    "--suspect",
    "suspects/half.safetensors",
    "--nonce",
    "00" * 16,
    "--key",
    "owner.key",
    "--out",
)
LICENSE = ("license", "signed", "--key", "owner.key", "--bits", "64", "--licensee")
PROTOCOL = {
    "reveal into a missing folder": Case((*REVEAL, "no/reveal.json"), "is the folder no there"),
    "reveal over a folder": Case((*REVEAL, "suspects"), "not a regular file"),
    "reveal under a name too long": Case((*REVEAL, "n" * 300), "name too long"),
    "reveal into a read-only folder": Case((*REVEAL, "locked/reveal.json"), "read-only", read_only("locked")),
    "licence into a read-only folder": Case((*LICENSE, "Ltd", "--out", "locked"), "read-only", read_only("locked")),
    "licence over a folder": Case(
        (*LICENSE, "Ltd", "--out", "copy"),
        "copy/license.dsse.json exists already: choose another --out",
        lambda folder: (folder / "copy" / "license.dsse.json").mkdir(parents=True),
    ),
    "licence where licences cannot be kept": Case(
        (*LICENSE, "Ltd", "--out", "copy"), "licenses: cannot be read: not a directory", text("signed/licenses", "")
    ),
    "licence with more than a whole key": Case(
        (*LICENSE, "Ltd", "--lock", "5", "--to", "owner.pub", "--out", "copy"),
        "'--lock': 5.0 is not in the range 0<x<1",
    ),
    "licence to nobody": Case((*LICENSE, "", "--out", "copy"), "the licensee is not a printable text"),
    "withdrawal for no reason": Case(
        ("withdraw", "signed", "--key", "owner.key", "--reason", " "), "the reason is not a printable text"
    ),
    "decoys without end": Case(
        ("transcript", "queries", "signed", "--leaf", "0", "--decoys", "9" * 20, "--out", "new"), "not in the range"
    ),
    "inspect a verdict over nonsense": Case(
        ("inspect", "verdict.json"), "statement", signed_statement("verdict", {"layers": [1]}, subjects=[])
    ),
    "inspect a registration with nonsense for symmetry": Case(
        ("inspect", "signed"),
        "symmetry",
        rewrite(lambda fields: fields.update(OTHER | {"symmetry": {"groups": 5}}), key=KEY),
    ),
    "key named by this folder": Case(("keygen", "--out", "."), "is a folder"),
    "key named by nothing": Case(("keygen", "--out", ""), "empty: name a path"),
    "key under a name too long": Case(("keygen", "--out", "n" * 300), "name too long"),
    "find into a signed folder": Case((*FIND[:-1], "signed"), "holds ticket.safetensors, and no search began here"),
    "more epochs than anybody trains": Case((*TRAIN, "--epochs", "9" * 20), "at most 100,000"),
    "train into a missing folder": Case((*TRAIN, "--out", "no/model.safetensors"), "is the folder no there"),
    "attack into a missing folder": Case(
        ("attack", "prune-random", "signed/model.safetensors", "--out", "no/model.safetensors"),
        "is the folder no there",
    ),
    "lock with a seed below zero": Case(
        ("lock", "signed/ticket.safetensors", "--score", "random", "--seed", "-1", "--out", "new"), "seed must be"
    ),
    "lock with the folder of no data": Case(
        ("lock", "signed/ticket.safetensors", "--data-dir", "signed", "--out", "new"), "--data-dir goes with --data"
    ),
    "lock with a folder for bundled data": Case(
        ("lock", "signed/ticket.safetensors", "--data", "digits", "--data-dir", "signed", "--out", "new"),
        "with digits it has no effect",
    ),
    "file that cannot be read to its start": Case(("verify", "/proc/self/mem", "--signed", "signed"), "cannot be read"),
}
CASES = PROTOCOL | SUSPECTS | FOLDERS | PREDICTIONS | SIGNING | REST


def assert_refused(result, says, before, after):
    """One line on standard error that says it, exit code 2, nothing written."""
    import re

    assert result.code == 2, result.err
    assert result.err.endswith("\n")
    assert result.err.count("\n") == 1, result.err
    assert re.search(says, result.err), result.err
    assert len(result.err) < 600
    assert result.out == ""
    assert after == before


@pytest.mark.parametrize("name", thinned(CASES, fast=list(CASES)[::2]))
def test_bad_input_gives_one_line_and_changes_nothing(name, world, tg, monkeypatch, snapshot):
    case = CASES[name]
    case.spoil(world)
    if case.passphrase is None:
        monkeypatch.delenv("TICKETGUARD_PASSPHRASE")
    else:
        monkeypatch.setenv("TICKETGUARD_PASSPHRASE", case.passphrase)
    before = snapshot(world)
    assert_refused(tg(*case.arguments), case.says, before, snapshot(world))


@pytest.mark.parametrize(
    "name",
    thinned(malformed.WEIGHTS, slow={*malformed.TORCH, "65,537 tensors"}),
)
def test_malformed_suspects_give_one_line(name, world, tg, snapshot):
    hostile = world / "hostile"
    hostile.mkdir()
    path = malformed.WEIGHTS[name].write(hostile)
    before = snapshot(world)
    assert_refused(tg("verify", path, "--signed", "signed"), malformed.WEIGHTS[name].says, before, snapshot(world))


def test_a_pickle_that_would_run_code_does_not_run_it(world, tg, snapshot):
    path = malformed.TORCH["bare pickle with code"].write(world)
    before = snapshot(world)
    result = tg("verify", path, "--signed", "signed")
    assert_refused(result, "PyTorch weights", before, snapshot(world))
    assert "ran code" not in result.out + result.err


def test_a_scan_names_every_suspect_that_it_could_not_read(tg):
    result = tg("verify", "a.pt", "b.pt", "--signed", "signed")
    assert result.code == 2
    assert [line.split(":")[0] for line in result.err.splitlines()] == ["a.pt", "b.pt"]


def test_inspect_shows_no_control_characters_of_a_stranger(world, tg):
    predicate = {"layers": [1], "symmetry": {"groups": 5}, "reason": "\x1b[2J\u202e", "\x1b[31m": {"a": ["\x07"]}}
    predicate["signature"] = "forged"
    signed_statement("verdict", predicate, subjects=[("suspect", "0" * 64)])(world)
    result = tg("inspect", "verdict.json")
    assert result.code == 0
    assert "reason: \\x1b[2J\\u202e" in result.out
    # What was computed here stands, whatever the statement has under the same name.
    assert "  signature: good, key id " in result.out
    assert "forged" not in result.out
    assert all(letter.isprintable() for letter in result.out.replace("\n", ""))


def test_there_are_enough_cases():
    assert len(CASES) >= 100


def test_a_public_key_does_not_open_anything(world, tg):
    save_public(world / "key.pub", SecretKey.from_seed(bytes(32)).public)
    assert tg("claim", "signed", "--key", "key.pub").code == 2


def with_nothing_there(name_of_nothing):
    """Every command with its required arguments, all files missing: whatever is new is tried too."""
    for name in commands.COMMANDS:
        command = commands.cli.get_command(click.Context(commands.cli), name)
        inner = command.commands if isinstance(command, click.Group) else {}
        for path, each in (
            {(name, key): value for key, value in inner.items()}.items() if inner else [((name,), command)]
        ):
            words = []
            for parameter in each.params:
                if parameter.required:
                    value = name_of_nothing if isinstance(parameter.type, FilePath) else "1"
                    words += [value] if isinstance(parameter, click.Argument) else [parameter.opts[0], value]
            if words:
                yield (*path, *words)


@pytest.mark.parametrize(
    "arguments",
    [arguments for name in ("no/such", "n" * 300, "no\0name", "") for arguments in with_nothing_there(name)],
    ids=lambda arguments: " ".join(arguments)[:80].replace("\0", " "),
)
def test_every_command_refuses_files_that_are_not_there(arguments, world, tg, snapshot):
    before = snapshot(world)
    assert_refused(tg(*arguments), ".", before, snapshot(world))
