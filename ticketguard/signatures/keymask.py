"""V1, key masks: a ticket split into a locked ticket anyone may hold and a small key that its owner keeps (paper, section 4).

Each half names the other and the whole by digest, over tensors only, so either is refused with the wrong partner or after
damage. A locked ticket is an ordinary ticket file; without the key it trains to less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims import manifest
from ticketguard.errors import AuthenticityError, FormatError, UsageError
from ticketguard.masks import Mask, keep_largest, spread
from ticketguard.storage.tensors import TensorFile, in_memory, read_tensors, tensor_bytes, write_tensors
from ticketguard.tickets import MASK_SUFFIX, Ticket

FORMAT = 1
METADATA = "ticketguard_key"
NOTE = "locked"
POSITIONS, VALUES = "_positions", "_values"


@dataclass(frozen=True, kw_only=True)
class KeyMask:
    """The key edges of a ticket: flat positions (int64, ascending) and rewind weights per parameter.

    `locked` and `merged` are the digests of the locked ticket it opens and of the ticket that results; `score` names how the
    edges were chosen, for the record.
    """

    positions: Mapping[str, NDArray[np.int64]]
    values: Mapping[str, NDArray[Any]]
    locked: str
    merged: str
    score: str = "unknown"

    @property
    def edges(self) -> int:
        """Number of key edges."""
        return sum(len(positions) for positions in self.positions.values())

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The key as named tensors, which are what its digest covers."""
        named: dict[str, NDArray[Any]] = {}
        for name, positions in self.positions.items():
            named[name + POSITIONS], named[name + VALUES] = positions, self.values[name]
        return named


def key_digest(key: KeyMask) -> str:
    """Hex SHA-256 of the key's tensors."""
    return manifest.digest(manifest.manifest(in_memory(key.tensors())))


def ticket_digest(ticket: Ticket) -> str:
    """Hex SHA-256 of a ticket's weights, buffers and masks."""
    tensors = {name: np.asarray(array) for name, array in ticket.weights.items()}
    tensors |= {name + MASK_SUFFIX: bits.astype(np.uint8) for name, bits in ticket.mask.items()}
    return manifest.digest(manifest.manifest(in_memory(tensors)))


def lock(
    ticket: Ticket, scores: Mapping[str, NDArray[np.floating[Any]]], share: float, *, score: str = "unknown"
) -> tuple[KeyMask, Ticket]:
    """Split off the `share` of edges with the highest `scores` (one finite or -inf number per weight) as the key.

    Exactly round(share * edges) edges, over all layers together. Law: `unlock(*lock(ticket, ...))` equals `ticket`. Raises
    `UsageError` when the share leaves no edge on either side or scores are missing.
    """
    missing = [name for name, bits in ticket.mask.items() if name not in scores or np.shape(scores[name]) != bits.shape]
    if missing:
        raise UsageError(f"scores of {missing[0]} are missing or have another shape than its mask")
    total = ticket.mask.kept
    count = round(share * total) if 0 < share < 1 else 0
    if not 0 < count < total:
        raise UsageError(
            f"a key with the share {share:g} of {total:,} edges: choose one that leaves edges on both sides"
        )
    chosen = keep_largest({name: scores[name] for name in ticket.mask}, count, within=ticket.mask)
    positions = {name: np.flatnonzero(bits).astype(np.int64) for name, bits in chosen.items()}
    values = {name: np.asarray(ticket.weights[name]).reshape(-1)[where] for name, where in positions.items()}
    rest = {name: bits & ~chosen[name] for name, bits in ticket.mask.items()}
    weights = dict(ticket.weights)
    for name, bits in chosen.items():
        array = np.asarray(weights[name])
        weights[name] = np.where(bits, np.zeros((), dtype=array.dtype), array)
    bare = replace(ticket, weights=weights, mask=Mask(rest))
    key = KeyMask(
        positions=positions, values=values, locked=ticket_digest(bare), merged=ticket_digest(ticket), score=score
    )
    note = {"key": key_digest(key), "merged": key.merged, "edges": key.edges, "score": score}
    return key, replace(bare, provenance={**ticket.provenance, NOTE: note})


def unlock(key: KeyMask, locked: Ticket) -> Ticket:
    """The whole ticket again. Raises `AuthenticityError` unless key and ticket are the two undamaged halves of one lock."""
    note = locked.provenance.get(NOTE)
    if not isinstance(note, Mapping):
        raise AuthenticityError("this ticket is not locked: it names no key")
    if key_digest(key) != note.get("key"):
        raise AuthenticityError("this key is not the one the locked ticket names, or it is damaged")
    if ticket_digest(locked) != key.locked:
        raise AuthenticityError("this is not the ticket the key was cut from, or it is damaged")
    whole = merge(key, locked)
    if not key.merged == note.get("merged") == ticket_digest(whole):
        raise AuthenticityError("key and locked ticket do not give the ticket that was locked")
    return whole


def merge(key: KeyMask, locked: Ticket) -> Ticket:
    """Put the key's edges into a ticket without asking whether they belong to it (forged keys are merged this way too)."""
    weights, masks = dict(locked.weights), dict(locked.mask)
    for name, positions in key.positions.items():
        if name not in masks or (len(positions) and not 0 <= positions.min() <= positions.max() < masks[name].size):
            raise FormatError(f"key mask: {name}: no such weights in the locked ticket")
        bits, values = masks[name].reshape(-1).copy(), np.array(weights[name]).reshape(-1)
        bits[positions], values[positions] = True, key.values[name].astype(values.dtype)
        masks[name], weights[name] = bits.reshape(masks[name].shape), values.reshape(masks[name].shape)
    provenance = {name: value for name, value in locked.provenance.items() if name != NOTE}
    return replace(locked, weights=weights, mask=Mask(masks), provenance=provenance)


def forge(locked: Ticket, edges: int, generator: np.random.Generator) -> KeyMask:
    """fake1: a random key of `edges` pruned positions, with values of each layer's own spread. It verifies with nothing."""
    free = Mask({name: ~bits for name, bits in locked.mask.items()})
    chosen = keep_largest({name: generator.random(bits.shape) for name, bits in free.items()}, edges, within=free)
    positions = {name: np.flatnonzero(bits).astype(np.int64) for name, bits in chosen.items()}
    values = {}
    for name, where in positions.items():
        array = np.asarray(locked.weights[name])
        # An exact zero would be no edge.
        values[name] = generator.normal(0.0, spread(array, locked.mask[name]) or 1e-2, len(where)).astype(array.dtype)
    return KeyMask(positions=positions, values=values, locked="", merged="", score="forged")


def write_key(path: Path, key: KeyMask) -> None:
    """Write a key as safetensors. It is not encrypted: whoever has the file has the key."""
    write_tensors(path, key.tensors(), _metadata(key))


def key_bytes(key: KeyMask) -> bytes:
    """The bytes of the file that `write_key` would write, to be encrypted."""
    return tensor_bytes(key.tensors(), _metadata(key))


def _metadata(key: KeyMask) -> dict[str, Any]:
    return {METADATA: {"format": FORMAT, "locked": key.locked, "merged": key.merged, "score": key.score}}


def read_key(path: Path) -> KeyMask:
    """Read a file of `write_key`. Raises `FormatError` for anything else; damage shows in `unlock`."""
    return key_of(read_tensors(path))


def key_of(file: TensorFile) -> KeyMask:
    """As `read_key`, from tensors that were read already."""
    path = file.path
    meta = file.metadata.get(METADATA)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise FormatError(f"{path}: not a key mask of a known version; lock writes one")
    names = [name.removesuffix(POSITIONS) for name in file if name.endswith(POSITIONS)]
    if sorted([*(name + POSITIONS for name in names), *(name + VALUES for name in names)]) != sorted(file):
        raise FormatError(f"{path}: a key mask holds positions and values per parameter, and nothing else")
    positions = {name: np.asarray(file[name + POSITIONS]) for name in names}
    values = {name: np.asarray(file[name + VALUES]) for name in names}
    for name, where in positions.items():
        if where.dtype != np.int64 or where.ndim != 1 or values[name].shape != where.shape:
            raise FormatError(f"{path}: {name}: positions must be int64 and as many as values")
    texts = {name: str(meta[name]) for name in ("locked", "merged", "score") if isinstance(meta.get(name), str)}
    if len(texts) != 3:
        raise FormatError(f"{path}: the key mask's metadata is malformed")
    return KeyMask(positions=positions, values=values, **texts)
