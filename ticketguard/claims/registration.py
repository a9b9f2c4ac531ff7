"""The registration: the signed statement that fixes every parameter of a signature before any bit of it exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims import canonical, manifest, statements
from ticketguard.claims.keys import PublicKey
from ticketguard.errors import FormatError
from ticketguard.evidence import VIEWS, Rule
from ticketguard.graph.cells import Counts, Layer, cell_counts
from ticketguard.graph.groups import Symmetry
from ticketguard.masks import Mask

NAME = "registration"
FORMAT = 1
FRAME_DTYPE = "U16"
# Test plans of version 1: what registrations name now, and what they named before 2026-11-27 (docs/design.md).
STATISTICS = ("support", "squared-magnitude", "triggers")
EARLIER_STATISTICS = ("support", "magnitude", "triggers")
DEFAULT_TESTS = Rule.tests
GRINDING_BITS = {"none": Rule.grinding_bits, "rfc3161": 20.0}
THRESHOLD_BITS = Rule.threshold_bits
# Bounds on what a stranger's registration can make a verifier compute.
MOST_LEAVES = 64
MOST_PAIRS = 1 << 20
MOST_LAYERS = 4096
MOST_SUCCESSORS = 16
MOST_POSITIONS = 1 << 36
# Counts are committed as 16-bit numbers.
MOST_CELL = 65535


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """One layer of the table: its geometry and the number of pairs every leaf draws in it."""

    layer: Layer
    pairs: int


@dataclass(frozen=True, kw_only=True)
class Registration:
    """Everything that a verification depends on, apart from the secret and the suspect. Fields of v1 not in use are None.

    `owner`: free text; `public_key`: the owner's Ed25519 key; `leaves`: K; `root`: Merkle root over the leaf commitments (32
    bytes); `frame`: SHA-256 digest of the frame (hex); `table`: layers in order; `symmetry`: symmetry groups as plain JSON;
    `classes`: class names in order; `triggers`: trigger parameters and preprocessing; `carriers`: digests of the owner's own
    trigger images; `statistics`, `tests`: what the test plan holds, and its M; `beacon`: "none" or "rfc3161"; `qr`,
    `fingerprints`: the other signatures; `successors`: ids of keys that may sign in place of `public_key`; `nonce`: 32 bytes
    (hex). Law: `parse(r.payload()) == r`.
    """

    owner: str
    public_key: PublicKey
    leaves: int
    root: bytes
    frame: str
    table: tuple[TableEntry, ...]
    nonce: str
    symmetry: Mapping[str, Any] | None = None
    classes: tuple[str, ...] | None = None
    triggers: Mapping[str, Any] | None = None
    carriers: tuple[str, ...] | None = None
    statistics: tuple[str, ...] = STATISTICS
    tests: int = DEFAULT_TESTS
    beacon: str = "none"
    qr: Mapping[str, Any] | None = None
    fingerprints: Mapping[str, Any] | None = None
    successors: tuple[str, ...] | None = None
    layers: Mapping[str, Layer] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", {entry.layer.name: entry.layer for entry in self.table})

    @property
    def signers(self) -> tuple[str, ...]:
        """Ids of the keys that may sign claims, reveals and a withdrawal: the registration's own, then its successors."""
        return (self.public_key.keyid, *(self.successors or ()))

    @cached_property
    def channel_groups(self) -> Symmetry | None:
        """`symmetry` as a value. Raises `FormatError` when it is malformed."""
        return None if self.symmetry is None else Symmetry.from_json(self.symmetry)

    @property
    def magnitude_test(self) -> str:
        """The test of its plan that reads magnitudes: a key of `signatures.edge.PAIR_WEIGHTS`."""
        return self.statistics[1]

    @property
    def groups(self) -> int:
        """K' = K + 1: groups of cells, the last one for licensee fingerprints."""
        return self.leaves + 1

    @property
    def grinding_bits(self) -> float:
        """g: what a claimant could have gained by searching before registering."""
        return GRINDING_BITS[self.beacon]

    def payload(self) -> bytes:
        """The in-toto statement as RFC 8785 JSON: the bytes that are signed and that the binder hashes."""
        predicate = {
            "format": FORMAT,
            "owner": self.owner,
            "publicKey": statements.encode_bytes(self.public_key.spki),
            "leaves": self.leaves,
            "merkleRoot": self.root.hex(),
            "frame": {"sha256": self.frame},
            "layers": [
                {
                    "name": entry.layer.name,
                    "shape": list(entry.layer.shape),
                    "cell": entry.layer.cell,
                    "pairsPerLeaf": entry.pairs,
                }
                for entry in self.table
            ],
            "symmetry": self.symmetry,
            "classes": None if self.classes is None else list(self.classes),
            "triggers": self.triggers,
            "carriers": None if self.carriers is None else list(self.carriers),
            "testPlan": {
                "statistics": list(self.statistics),
                "scopes": ["pooled", "leaf"],
                "views": list(VIEWS),
                "tests": self.tests,
                "thresholdBits": THRESHOLD_BITS,
            },
            "beacon": {"policy": self.beacon, "grindingBits": self.grinding_bits},
            "qr": self.qr,
            "fingerprints": self.fingerprints,
            "successors": None if self.successors is None else list(self.successors),
            "nonce": self.nonce,
        }
        return canonical.encode(statements.statement([("frame", self.frame)], NAME, predicate))


def parse(payload: bytes) -> Registration:
    """Read a registration's payload (its signature already verified). Every field is required and checked.

    Raises `FormatError` naming the field. Unknown fields are refused: a verifier that ignores what it does not know would
    judge by other rules than the ones that were signed.
    """
    predicate = statements.predicate(canonical.parse(payload), NAME)
    try:
        registration = _from_predicate(predicate)
    except (KeyError, TypeError, ValueError, IndexError) as problem:
        raise FormatError(
            f"registration: field missing or malformed ({type(problem).__name__}: {problem})"
        ) from problem
    if registration.payload() != payload:
        raise FormatError("registration: fields beyond version 1, of another type, or not in canonical form")
    return registration


def _from_predicate(predicate: Mapping[str, Any]) -> Registration:
    if predicate["format"] != FORMAT:
        raise FormatError(f"registration: format {ascii(predicate['format'])[:40]} is not known to this version")
    table = tuple(_entry(row) for row in predicate["layers"])
    names = [entry.layer.name for entry in table]
    leaves, tests = predicate["leaves"], predicate["testPlan"]["tests"]
    if type(leaves) is not int or type(tests) is not int:
        raise FormatError("registration: numbers of leaves and tests are not integers")
    if len(set(names)) != len(names) or len(names) > MOST_LAYERS:
        raise FormatError("registration: layer names repeat, or there are too many")
    if not 1 <= leaves <= MOST_LEAVES or leaves * sum(entry.pairs for entry in table) > MOST_PAIRS:
        raise FormatError("registration: number of leaves or pairs out of range")
    statistics = tuple(predicate["testPlan"]["statistics"])
    if statistics not in (STATISTICS, EARLIER_STATISTICS):
        raise FormatError("registration: a plan of other tests than this version knows")
    if tests < len(statistics) * len(VIEWS) * (leaves + 1):
        raise FormatError(f"registration: a plan of {tests} tests is smaller than the tests it names")
    if predicate["beacon"]["policy"] not in GRINDING_BITS:
        raise FormatError(f"registration: beacon policy {ascii(predicate['beacon']['policy'])[:40]} is not known")
    return Registration(
        owner=_text(predicate["owner"], "owner"),
        public_key=PublicKey.from_spki(statements.decode_bytes(predicate["publicKey"])),
        leaves=leaves,
        root=bytes.fromhex(_digest(predicate["merkleRoot"])),
        frame=_digest(predicate["frame"]["sha256"]),
        table=table,
        nonce=_digest(predicate["nonce"]),
        symmetry=_object(predicate["symmetry"], "symmetry"),
        classes=None if predicate["classes"] is None else _classes(predicate["classes"]),
        triggers=_object(predicate["triggers"], "triggers"),
        carriers=None if predicate["carriers"] is None else tuple(_digest(item) for item in predicate["carriers"]),
        statistics=statistics,
        tests=tests,
        beacon=predicate["beacon"]["policy"],
        qr=_object(predicate["qr"], "qr"),
        fingerprints=_object(predicate["fingerprints"], "fingerprints"),
        successors=None if predicate["successors"] is None else _successors(predicate["successors"]),
    )


def _entry(row: Mapping[str, Any]) -> TableEntry:
    name = _text(row["name"], "layer name")
    shape, cell, pairs = tuple(row["shape"]), row["cell"], row["pairsPerLeaf"]
    integers = (*shape, cell, pairs)
    natural = all(type(value) is int and value >= 0 for value in integers)
    if not natural or not 2 <= len(shape) <= 8 or min(shape) < 1:
        raise FormatError(f"registration: layer {name!r} has a shape, cell or pair count that is no natural number")
    layer = Layer(name=name, shape=shape, cell=cell)
    kernel = layer.kernel
    if (
        layer.positions > MOST_POSITIONS
        or not 2 <= cell <= min(layer.fan_in, MOST_CELL)
        or (kernel >= 2 and cell != kernel)
    ):
        raise FormatError(f"registration: layer {layer.name!r} cannot have cells of {cell} positions")
    return TableEntry(layer=layer, pairs=pairs)


def _text(value: object, what: str) -> str:
    if not statements.is_text(value):
        raise FormatError(f"registration: {what} is not a printable text of 1 to 512 characters")
    return value


def _object(value: object, what: str) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise FormatError(f"registration: {what} is neither a JSON object nor null")
    return value


def _digest(value: object) -> str:
    if not statements.is_digest(value):
        raise FormatError("registration: a SHA-256 digest is not 64 lower-case hex digits")
    return value


def _classes(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 2 <= len(value) <= 1 << 16 or len(set(value)) != len(value):
        raise FormatError("registration: class names repeat or are fewer than two")
    return tuple(_text(name, "class name") for name in value)


def _successors(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_SUCCESSORS:
        raise FormatError(f"registration: 1 to {MOST_SUCCESSORS} successor keys can be named, or null")
    found = tuple(_digest(item) for item in value)
    if len(set(found)) != len(found):
        raise FormatError("registration: a successor key is named twice")
    return found


def frame_counts(mask: Mask, layers: Mapping[str, Layer]) -> dict[str, NDArray[np.int64]]:
    """The frame of a mask over the registered layers: kept counts per cell, int64 `rows` x `cells_per_row` each."""
    counts = {}
    for name, layer in layers.items():
        bits = mask.get(name)
        if bits is None or bits.shape != layer.shape:
            raise FormatError(f"the ticket has no mask of the registered shape for {name}")
        counts[name] = cell_counts(layer, bits)
    return counts


def frame_digest(counts: Counts) -> str:
    """Hex SHA-256 of the frame's manifest: one U16 tensor of counts per layer."""
    entries = []
    for name, matrix in counts.items():
        raw = np.ascontiguousarray(matrix, dtype="<u2")
        entries.append(manifest.entry(name, FRAME_DTYPE, matrix.shape, raw.tobytes()))
    return manifest.digest(entries)
