"""The registration: reads back as it was written, and refuses every field that is missing, changed in type or new."""

import copy
import json

import numpy as np
import pytest

from ticketguard.claims import canonical, registration
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.registration import Registration, TableEntry, frame_counts, frame_digest, parse
from ticketguard.errors import FormatError
from ticketguard.graph.cells import layer_of
from ticketguard.masks import Mask

FULL = Registration(
    owner="Example Lab, Köln",
    public_key=SecretKey.from_seed(bytes(32)).public,
    leaves=4,
    root=bytes(range(32)),
    frame="ab" * 32,
    table=(
        TableEntry(layer=layer_of("conv.weight", (8, 4, 3, 3)), pairs=20),
        TableEntry(layer=layer_of("fc.weight", (10, 21)), pairs=0),
    ),
    nonce="00" * 32,
    symmetry={"groups": []},
    classes=("cat", "dog"),
    triggers={"source": "rendered"},
    carriers=("cd" * 32,),
    tests=70,
    beacon="rfc3161",
    qr={"layer": "conv.weight"},
    fingerprints={"a": 1},
    successors=("ef" * 32,),
)
BARE = Registration(
    owner="x",
    public_key=FULL.public_key,
    leaves=1,
    root=bytes(32),
    frame="00" * 32,
    table=(FULL.table[0],),
    nonce="00" * 32,
)


def leaves_of(value, path=()):
    """Paths to every value inside a JSON document, objects and lists included."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves_of(item, (*path, key))


DOCUMENT = json.loads(FULL.payload())
PREDICATE_PATHS = [path for path in leaves_of(DOCUMENT) if path]
# What is free text or somebody else's JSON stays a good registration when it changes, with another digest.
FREE = ("owner", "symmetry", "triggers", "qr", "fingerprints")


def changed(path, change):
    document = copy.deepcopy(DOCUMENT)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return canonical.encode(document)


@pytest.mark.parametrize("given", [FULL, BARE], ids=["full", "bare"])
def test_reading_what_was_written_gives_the_same_value(given):
    assert parse(given.payload()) == given


def test_every_field_of_version_1_is_written_even_when_it_is_not_used():
    predicate = json.loads(BARE.payload())["predicate"]
    assert set(predicate) == set(DOCUMENT["predicate"])
    unused = {"symmetry", "classes", "triggers", "carriers", "qr", "fingerprints", "successors"}
    assert {name for name, value in predicate.items() if value is None} == unused


def test_payload_names_the_frame_as_its_subject():
    assert DOCUMENT["subject"] == [{"name": "frame", "digest": {"sha256": FULL.frame}}]


FIXED = [path for path in PREDICATE_PATHS if len(path) < 3 or path[1] not in FREE]


def dotted(path):
    return ".".join(map(str, path))


def at(document, path):
    for key in path:
        document = document[key]
    return document


@pytest.mark.parametrize("path", [path for path in FIXED if isinstance(path[-1], str)], ids=dotted)
def test_every_field_is_required(path):
    with pytest.raises(FormatError):
        parse(changed(path, lambda inner, key: inner.pop(key)))


@pytest.mark.parametrize("path", PREDICATE_PATHS, ids=dotted)
@pytest.mark.parametrize("value", [{"x": 1}, [[]], True, -1, 0.5, ""], ids=repr)
def test_every_field_of_another_type_is_refused_or_kept_as_it_stands(path, value):
    payload = changed(path, lambda inner, key: inner.__setitem__(key, value))
    try:
        found = parse(payload)
    except FormatError:
        return
    # Only JSON of other parts is accepted without a look, and then no byte of it is ignored.
    assert path[1] in (*FREE, "classes", "successors", "carriers")
    assert found.payload() == payload


@pytest.mark.parametrize(
    "path", [path for path in FIXED if isinstance(at(DOCUMENT, path), dict) and path[-1] not in FREE], ids=dotted
)
def test_unknown_fields_are_refused_everywhere(path):
    with pytest.raises(FormatError):
        parse(changed((*path, "extra"), lambda inner, key: inner.__setitem__(key, None)))


REFUSED = {
    "no leaves": (("predicate", "leaves"), 0),
    "leaves and a half": (("predicate", "leaves"), 4.5),
    "tests and a half": (("predicate", "testPlan", "tests"), 100.5),
    "65 leaves": (("predicate", "leaves"), 65),
    "too many pairs": (("predicate", "layers", 0, "pairsPerLeaf"), 1 << 40),
    "negative pairs": (("predicate", "layers", 0, "pairsPerLeaf"), -1),
    "cell that is not the kernel": (("predicate", "layers", 0, "cell"), 4),
    "cell of one": (("predicate", "layers", 1, "cell"), 1),
    "cell beyond the row": (("predicate", "layers", 1, "cell"), 22),
    "layer of one dimension": (("predicate", "layers", 1, "shape"), [10]),
    "layer of nine dimensions": (("predicate", "layers", 1, "shape"), [2] * 9),
    "layer that is too large": (("predicate", "layers", 1, "shape"), [1 << 30, 1 << 30]),
    "layer without rows": (("predicate", "layers", 1, "shape"), [0, 21]),
    "layer twice": (("predicate", "layers", 1, "name"), "conv.weight"),
    "layer with a line end": (("predicate", "layers", 1, "name"), "a\nb"),
    "plan smaller than its tests": (("predicate", "testPlan", "tests"), 29),
    "plan of other statistics": (("predicate", "testPlan", "statistics"), ["support"]),
    "lower threshold": (("predicate", "testPlan", "thresholdBits"), 10),
    "less grinding than the policy's": (("predicate", "beacon", "grindingBits"), 0),
    "unknown policy": (("predicate", "beacon", "policy"), "moon"),
    "owner that reverses text": (("predicate", "owner"), "a\u202eb"),
    "owner too long": (("predicate", "owner"), "x" * 513),
    "one class": (("predicate", "classes"), ["cat"]),
    "class twice": (("predicate", "classes"), ["cat", "cat"]),
    "upper-case digest": (("predicate", "frame", "sha256"), "AB" * 32),
    "short digest": (("predicate", "nonce"), "00"),
    "symmetry is a list": (("predicate", "symmetry"), []),
    "triggers are a number": (("predicate", "triggers"), 5),
    "code is text": (("predicate", "qr"), "x"),
    "fingerprints are true": (("predicate", "fingerprints"), True),
    "short root": (("predicate", "merkleRoot"), "00" * 31),
    "later format": (("predicate", "format"), 2),
    "subject of another frame": (("subject", 0, "digest", "sha256"), "00" * 32),
    "another predicate": (("predicateType",), "urn:ticketguard:reveal/v1"),
    "small-order key": (("predicate", "publicKey"), "MCowBQYDK2VwAyEA" + "A" * 43 + "="),
}


@pytest.mark.parametrize("name", REFUSED)
def test_impossible_values_are_refused(name):
    path, value = REFUSED[name]
    with pytest.raises(FormatError):
        parse(changed(path, lambda inner, key: inner.__setitem__(key, value)))


def test_a_hostile_name_is_not_quoted_at_length():
    document = json.loads(FULL.payload())
    document["predicate"]["layers"][0].update(name="x" * 100_000, cell=-1)
    with pytest.raises(FormatError, match="512 characters"):
        parse(canonical.encode(document))


def test_bytes_that_are_not_canonical_are_refused():
    with pytest.raises(FormatError):
        parse(FULL.payload().replace(b'{"_type"', b'{ "_type"'))


def test_grinding_allowance_belongs_to_the_policy():
    assert (FULL.grinding_bits, BARE.grinding_bits) == (20.0, 80.0)
    assert FULL.groups == 5


def test_frame_counts_and_digest_depend_on_every_cell():
    layers = {"w": layer_of("w", (3, 2, 3, 3))}
    bits = np.zeros((3, 2, 3, 3), np.bool_)
    bits[1, 1, 0] = True
    counts = frame_counts(Mask({"w": bits}), layers)
    assert counts["w"].tolist() == [[0, 0], [0, 3], [0, 0]]
    moved = {"w": counts["w"][::-1]}
    assert frame_digest(counts) == frame_digest({"w": counts["w"].astype(np.int16)})
    assert frame_digest(counts) != frame_digest({"w": counts["w"] + 1})
    assert frame_digest(moved) == frame_digest(counts)
    assert frame_digest({"v": counts["w"]}) != frame_digest(counts)


def test_frame_of_a_ticket_without_the_layer_is_refused():
    layers = {"w": layer_of("w", (3, 2, 3, 3))}
    with pytest.raises(FormatError, match="no mask of the registered shape for w"):
        frame_counts(Mask({"w": np.zeros((3, 2), np.bool_)}), layers)


def test_limits_are_what_the_docstrings_promise():
    assert registration.MOST_LEAVES == 64
