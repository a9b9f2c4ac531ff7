"""The committed fixtures: the bundle of format version 1 keeps its verdicts, known answers hold, all can be made again."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ticketguard.api import examiner_of
from ticketguard.bundle import Bundle, read_registration
from ticketguard.claims import canonical, envelope, keys, manifest, ownership
from ticketguard.claims.secret import read_secret
from ticketguard.errors import TicketguardError
from ticketguard.signatures.carriers import carriers_of
from ticketguard.storage.documents import read_json
from ticketguard.storage.suspects import read_any
from ticketguard.storage.tensors import read_tensors
from ticketguard.tails import log2_binomial_tail, log2_signed_sum_bound
from ticketguard.triggers.plan import plan_of
from ticketguard.triggers.predictions import read_predictions

FIXTURES = Path(__file__).parents[1] / "fixtures"
BUNDLE = Bundle(FIXTURES / "bundle-v1")
SUSPECTS = BUNDLE.folder / "suspects"
VERDICTS = json.loads((BUNDLE.folder / "verdicts.json").read_text())
ENCRYPTED = ("secret.tgs", "owner.key")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_fixtures", FIXTURES / "make_fixtures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def examiner(maker):
    return examiner_of(BUNDLE, maker.PASSPHRASE)


def vectors(name):
    return json.loads((FIXTURES / "vectors" / f"{name}.json").read_text())


def test_every_suspect_has_a_recorded_verdict_and_every_kind_occurs():
    files = {path.name for path in SUSPECTS.iterdir()} | {BUNDLE.ticket.name, BUNDLE.model.name}
    assert files == set(VERDICTS)
    assert {row["decision"] for row in VERDICTS.values()} == {"MATCH", "NO MATCH", "INCONCLUSIVE"}


@pytest.mark.parametrize("name", VERDICTS)
def test_bundle_of_version_1_keeps_its_verdicts(maker, examiner, name):
    if name.endswith(".csv"):
        plan = plan_of(examiner.opening.registration)
        found = examiner.verify(predictions=read_predictions(SUSPECTS / name, plan).labels)
    elif (SUSPECTS / name).exists():
        found = examiner.verify(read_any(SUSPECTS / name), align="always")
    else:
        found = examiner.verify(read_any(BUNDLE.folder / name))
    assert_same_numbers(maker.numbers(found), VERDICTS[name])


def assert_same_numbers(found, recorded):
    assert found["decision"] == recorded["decision"]
    assert found["barBits"] == recorded["barBits"]
    assert found["tests"].keys() == recorded["tests"].keys()
    for test, (*counts, log2_p) in found["tests"].items():
        assert counts == recorded["tests"][test][:3], test
        # Two steps of the signed-sum bound's grid: libraries round logarithms differently.
        assert log2_p == pytest.approx(recorded["tests"][test][3], abs=2e-6), test


def test_claim_of_version_1_names_the_committed_files(examiner):
    registered = examiner.opening.registration
    opened = envelope.open(BUNDLE.claim.read_bytes(), registered.public_key)
    claim = ownership.parse(opened.payload)
    ownership.require_registration(claim, examiner.opening.payload, registered.public_key)
    assert claim.model == manifest.digest(manifest.manifest(read_tensors(BUNDLE.model)))
    assert claim.ticket == manifest.digest(manifest.manifest(read_tensors(BUNDLE.ticket)))


def test_encrypted_files_of_version_1_open(maker):
    assert read_secret(BUNDLE.secret, maker.PASSPHRASE).master == maker.MASTER
    assert keys.load_secret(BUNDLE.folder / "owner.key", maker.PASSPHRASE).seed == maker.KEY_SEED


def test_carriers_are_the_known_ones(examiner):
    opening, rows = examiner.opening, vectors("edge")
    entries = {entry.layer.name: entry for entry in opening.registration.table}
    assert {(row["layer"], row["leaf"]) for row in rows} == {(name, leaf) for name in entries for leaf in range(4)}
    for row in rows:
        carriers = carriers_of(opening, entries[row["layer"]], row["leaf"])
        assert carriers.first[:6].tolist() == row["first"]
        assert carriers.second[:6].tolist() == row["second"]
        assert carriers.bits[:6].tolist() == row["bits"]


def test_positions_and_bits_follow_the_words_of_the_stream(examiner):
    """The drawing of docs/protocol.md, Carriers, once more, pair by pair in plain integers."""
    opening = examiner.opening
    entry = opening.registration.table[0]
    cells = [cell for cell in range(entry.layer.full_cells) if cell % opening.registration.groups == 2]
    content = opening.stream("edge/conv2.weight", 2).bytes(32 * entry.pairs)
    stream = [int.from_bytes(content[start : start + 8], "big") for start in range(0, len(content), 8)]
    touched, pairs = set(), []
    for c, a, b, bit in zip(*[iter(stream)] * 4, strict=True):
        first = a % 9
        second = (first + 1 + b % 8) % 9
        pair = (cells[c % len(cells)] * 9 + first, cells[c % len(cells)] * 9 + second)
        if not touched & set(pair):
            pairs.append((*pair, bool(bit % 2)))
        touched |= set(pair)
    carriers = carriers_of(opening, entry, 2)
    assert pairs == list(zip(carriers.first.tolist(), carriers.second.tolist(), carriers.bits.tolist(), strict=True))


def test_evidence_values_are_the_known_ones(maker):
    known = vectors("evidence")
    for row in known["binomial"]:
        found = log2_binomial_tail(row["matches"], row["n"], chances=row["chances"])
        assert found == pytest.approx(row["log2p"], rel=1e-9, abs=1e-12)
    for row in known["signedSum"]:
        assert log2_signed_sum_bound(*maker.signed_sum(row["count"], row["wrong"])) == pytest.approx(
            row["log2p"], abs=2e-6
        )


@pytest.mark.parametrize("path", sorted((FIXTURES / "malformed").iterdir()), ids=lambda path: path.name)
def test_malformed_files_are_refused(path):
    read = read_registration if path.name.endswith(".dsse.json") else read_json if path.suffix == ".json" else read_any
    with pytest.raises(TicketguardError):
        read(path)


def test_tampered_registration_still_parses_as_json():
    """It is refused for its signature or its statement, not for being noise."""
    assert isinstance(canonical.parse((FIXTURES / "malformed" / "tampered.dsse.json").read_bytes()), dict)


def test_making_the_fixtures_again_gives_the_same_bytes(maker, tmp_path):
    for name in ENCRYPTED:
        (tmp_path / "bundle-v1").mkdir(exist_ok=True)
        (tmp_path / "bundle-v1" / name).write_bytes((BUNDLE.folder / name).read_bytes())
    maker.build(tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(made) >= 20
    for path in made:
        if path.name == "verdicts.json":
            again = json.loads((tmp_path / path).read_text())
            for name, row in VERDICTS.items():
                assert_same_numbers(again[name], row)
        elif path.name != "evidence.json":  # compared by value above
            assert (tmp_path / path).read_bytes() == (FIXTURES / path).read_bytes(), path


def test_bundle_stays_small():
    assert sum(path.stat().st_size for path in BUNDLE.folder.rglob("*") if path.is_file()) < 300_000


def test_model_keeps_the_masks_of_its_ticket():
    ticket, model = read_tensors(BUNDLE.ticket), read_tensors(BUNDLE.model)
    for name in ("conv2.weight", "conv3.weight"):
        assert np.array_equal(np.asarray(model[name]) != 0, np.asarray(ticket[name + "_mask"]) != 0)
