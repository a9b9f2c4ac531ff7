"""The paper's commands: lock, unlock, verify-lock, convert, sign --code qr and read-qr."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ticketguard.masks import Mask
from ticketguard.models import build, fitted, prunable
from ticketguard.signatures.keymask import ticket_digest
from ticketguard.storage.tensors import read_tensors
from ticketguard.tickets import Model, Ticket, read_ticket, write_ticket
from ticketguard.training import weights_of


@pytest.fixture
def ticket(world):
    """A random ticket of the digits network, large enough for a QR code, as run/ticket.safetensors."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    architecture = fitted("convnet", shape=(1, 8, 8), classes=10)
    module = build(architecture)
    weights = weights_of(module)
    mask = Mask({name: rng.random(weights[name].shape) < 0.3 for name in prunable(module)})
    weights |= {name: np.where(bits, weights[name], 0).astype(np.float32) for name, bits in mask.items()}
    provenance = {
        "input": {"shape": [1, 8, 8], "mean": [0.5], "std": [0.5]},
        "classes": [str(digit) for digit in range(10)],
    }
    (world / "run").mkdir()
    made = Ticket(architecture=architecture, weights=weights, mask=mask, provenance=provenance)
    write_ticket(world / "run" / "ticket.safetensors", made)
    return made


@pytest.mark.parametrize("score", ["omp", "ewp", "betweenness", "random-paths", "synflow"])
def test_lock_and_unlock(tg, world, ticket, score):
    done = tg("lock", "run/ticket.safetensors", "--score", score, "--share", "0.05", "--out", "locked", "--json")
    assert done.code == 0
    assert done.json["keyEdges"] == round(0.05 * ticket.mask.kept)
    locked = read_ticket(world / "locked" / "locked.safetensors")
    assert locked.mask.kept == ticket.mask.kept - done.json["keyEdges"]
    again = ("unlock", "locked/locked.safetensors", "--key", "locked/key.safetensors", "--out", "again.safetensors")
    assert tg(*again).code == 0
    assert ticket_digest(read_ticket(world / "again.safetensors")) == ticket_digest(ticket)


def test_a_key_is_not_locked_over(tg, world, ticket, snapshot):
    assert tg("lock", "run/ticket.safetensors", "--out", "locked").code == 0
    before = snapshot(world)
    refused = tg("lock", "run/ticket.safetensors", "--score", "omp", "--out", "locked")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "key.safetensors exists already" in refused.err
    assert snapshot(world) == before


def test_the_wrong_key_is_refused_and_writes_nothing(tg, world, ticket):
    for seed in ("1", "2"):
        options = ("--score", "random", "--seed", seed, "--out", f"locked{seed}")
        assert tg("lock", "run/ticket.safetensors", *options).code == 0
    done = tg("unlock", "locked1/locked.safetensors", "--key", "locked2/key.safetensors", "--out", "x.safetensors")
    assert done.code == 2
    assert "not the one" in done.err
    assert done.err.count("\n") == 1
    assert not (world / "x.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--score", "guess"), "unknown score"),
        (("--score", "taylor"), "give --data"),
        (("--score", "omp", "--share", "0"), "'--share': 0.0 is not in the range"),
        (("--score", "omp", "--share", "1"), "'--share': 1.0 is not in the range"),
        (("--score", "omp", "--share", "nan"), "the share nan"),
    ],
)
def test_impossible_locks_are_refused(tg, ticket, options, said):
    done = tg("lock", "run/ticket.safetensors", "--out", "locked", *options)
    assert done.code == 2
    assert said in done.err


@pytest.mark.parametrize(
    ("described", "arguments", "said"),
    [
        (5, {}, "input is not a JSON object"),
        ({"shape": ["a", 8, 8], "mean": [0.5], "std": [0.5]}, {}, "no possible shape"),
        ({"shape": [10**9] * 3, "mean": [0.5], "std": [0.5]}, {}, "no possible shape"),
        ({"shape": [3, 8, 8], "mean": [0.5], "std": [0.5]}, {}, "does not take images of shape (3, 8, 8)"),
        (None, {"in_channels": -1}, "cannot be built with these arguments (RuntimeError"),
    ],
)
def test_a_ticket_that_lies_about_its_network_is_one_line(tg, world, ticket, described, arguments, said):
    architecture = replace(ticket.architecture, arguments={**ticket.architecture.arguments, **arguments})
    provenance = {**ticket.provenance, **({} if described is None else {"input": described})}
    write_ticket(world / "liar.safetensors", replace(ticket, architecture=architecture, provenance=provenance))
    for score in ("ewp", "synflow"):
        done = tg("lock", "liar.safetensors", "--score", score, "--out", "locked")
        assert done.code == 2
        assert said in done.err
        assert done.err.count("\n") == 1
    assert not (world / "locked").exists()


@pytest.mark.slow
def test_verify_lock_retrains_all_three(tg, ticket):
    assert tg("lock", "run/ticket.safetensors", "--score", "taylor", "--data", "digits", "--out", "locked").code == 0
    done = tg(
        "verify-lock", "locked/locked.safetensors", "--key", "locked/key.safetensors", "--data", "digits",
        "--limit", "256", "--epochs", "1", "--json",
    )  # fmt: skip
    assert done.code in (0, 1)
    assert done.code == (0 if done.json["holds"] else 1)
    worst = max(done.json["locked"], done.json["forged"])
    assert done.json["holds"] == (done.json["unlocked"] - worst > 1)


def test_sign_with_a_qr_code_reads_back_and_the_edge_code_still_matches(tg, world, ticket):
    signed = tg(
        "sign", "run/ticket.safetensors", "--key", "owner.key", "--owner", "Example Lab", "--out", "labelled",
        "--code", "qr", "--json",
    )  # fmt: skip
    assert signed.code == 0
    assert any("proves nothing" in note for note in signed.json["notes"])
    done = tg(
        "read-qr", "labelled/ticket.safetensors", "--signed", "labelled", "--text", signed.json["keyid"][:12], "--json"
    )
    assert done.code == 0
    assert done.json["text"] == signed.json["keyid"][:12]
    assert done.json["wrong"] == 0
    assert (done.json["least"], done.json["threshold"]) == (1, 0)
    own = ("--signed", "labelled", "--owner-model", "labelled/ticket.safetensors")
    defended = tg("read-qr", "labelled/ticket.safetensors", *own, "--least", "1")
    assert defended.code == 0
    assert "dark   kernels of 1 or more edges, magnitudes up to" in defended.out
    twice = tg("read-qr", "labelled/ticket.safetensors", *own, "--threshold", "0.1")
    assert twice.code == 2
    assert "two ways" in twice.err
    verdict = tg("verify", "labelled/ticket.safetensors", "--signed", "labelled", "--json")
    assert verdict.code == 0
    assert verdict.json["decision"] == "MATCH"
    made = read_ticket(world / "labelled" / "ticket.safetensors")
    assert {name: bits.sum() for name, bits in made.mask.items()} == {n: b.sum() for n, b in ticket.mask.items()}
    # The unsigned ticket has no code there.
    bare = tg("read-qr", "run/ticket.safetensors", "--signed", "labelled")
    assert bare.code == 1
    assert "cannot be decoded" in bare.out
    assert "proves nothing" in bare.out


def test_the_kind_of_code_can_be_chosen(tg, world, ticket):
    long = "a text of 40 bytes, too long for 3-H ...."
    common = ("sign", "run/ticket.safetensors", "--key", "owner.key", "--owner", "A", "--code", "qr", "--qr-text", long)
    assert tg(*common, "--qr-version", "4", "--qr-error", "M", "--out", "labelled").code == 0
    done = tg("read-qr", "labelled/ticket.safetensors", "--signed", "labelled", "--json")
    assert done.code == 0
    assert done.json["text"] == long
    assert (done.json["place"]["version"], done.json["place"]["error"]) == (4, "M")


def test_a_split_signing_makes_the_same_labelled_ticket(tg, world, ticket):
    common = ("--key", "owner.key", "--code", "qr", "--qr-text", "Example Lab", "--out", "split", "--json")
    assert tg("sign", "run/ticket.safetensors", "--owner", "Example Lab", "--register-only", *common).code == 0
    done = tg("sign", "run/ticket.safetensors", "--registration", "split/registration.dsse.json", *common)
    assert done.code == 0
    assert tg("read-qr", "split/ticket.safetensors", "--signed", "split", "--json").json["text"] == "Example Lab"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--code", "qr", "--qr-text", "x" * 40), "does not fit"),
        (("--qr-text", "hello"), "--code qr"),
        (("--qr-error", "L"), "--code qr"),
        (("--code", "qr", "--qr-version", "30"), "no convolution has 137 x 137"),
        (("--code", "qr", "--qr-text", "\udcff"), "not Unicode"),
        (("--data", "folder", "--data-dir", "pictures"), "the ticket names another task"),
    ],
)
def test_impossible_labels_are_refused(tg, world, ticket, options, said):
    for part, name in itertools.product(("train", "test"), ("cat", "dog")):
        (world / "pictures" / part / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(world / "pictures" / part / name / "1.png")
    done = tg("sign", "run/ticket.safetensors", "--key", "owner.key", "--owner", "A", "--out", "new", *options)
    assert done.code == 2
    assert said in done.err
    assert not (world / "new").exists()


def test_read_qr_without_a_code_is_a_usage_error(tg, ticket):
    done = tg("read-qr", "run/ticket.safetensors", "--signed", "signed")
    assert done.code == 2
    assert "no QR code" in done.err


def test_convert(tg, world, ticket):
    start = {name: torch.from_numpy(np.array(array)) for name, array in ticket.weights.items()}
    rng = np.random.default_rng(1)
    state = {"normalize.mean": torch.tensor([0.4]), "normalize.std": torch.tensor([0.3])}
    for name, value in start.items():
        if name in ticket.mask:
            state[name + "_orig"] = value + 0.1
            state[name + "_mask"] = torch.from_numpy(ticket.mask[name].astype(np.float32))
        else:
            state[name] = value
    dense = {
        name: value + torch.from_numpy(rng.normal(size=value.shape).astype(np.float32))
        if name in ticket.mask
        else value
        for name, value in start.items()
    }
    torch.save({"state_dict": state, "init_weight": dense, "epoch": 3, "best_sa": 91.0}, "authors.pth.tar")
    done = tg("convert", "authors.pth.tar", "--arch", "convnet", "--out", "converted.safetensors", "--json")
    assert done.code == 0, done.err
    assert done.json["edges"] == ticket.mask.kept
    converted = read_ticket(world / "converted.safetensors")
    assert not isinstance(converted, Model)
    assert converted.provenance["input"] == {"shape": [1, 8, 8], "mean": [0.4], "std": [0.3]}
    for name, bits in ticket.mask.items():
        assert np.array_equal(converted.mask[name], bits)
        assert np.allclose(converted.weights[name][bits], dense[name].numpy()[bits])
    assert tg("convert", "authors.pth.tar", "--trained", "--out", "model.safetensors").code == 0
    trained = read_ticket(world / "model.safetensors")
    assert isinstance(trained, Model)
    name = next(iter(ticket.mask))
    assert np.allclose(trained.weights[name], np.where(ticket.mask[name], start[name].numpy() + 0.1, 0))


def test_files_of_another_layout_are_not_converted(tg, world, ticket):
    torch.save({"state_dict": {"a.weight": torch.ones(2, 2)}}, "plain.pth")
    done = tg("convert", "plain.pth", "--out", "x.safetensors")
    assert done.code == 2
    assert "weight_mask" in done.err
    mask = {"a.weight_orig": torch.ones(2, 2), "a.weight_mask": torch.ones(2, 2)}
    torch.save({"state_dict": mask, "init_weight": {}}, "lacking.pth")
    assert tg("convert", "lacking.pth", "--out", "x.safetensors").code == 0
    torch.save({"state_dict": mask, "init_weight": {"b.weight": torch.ones(2, 2)}}, "other.pth")
    assert "lacks a.weight" in tg("convert", "other.pth", "--out", "y.safetensors").err
    assert "not a convnet" in tg("convert", "lacking.pth", "--arch", "convnet", "--out", "y.safetensors").err
    already = tg("convert", "run/ticket.safetensors", "--out", "y.safetensors").err
    assert "run/ticket.safetensors: already a ticket of ticketguard; nothing to convert" in already
    assert not (world / "y.safetensors").exists()
    assert "a.weight" in read_tensors(world / "x.safetensors")
