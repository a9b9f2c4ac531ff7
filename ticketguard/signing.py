"""Signing: a ticket becomes a registration and a signed ticket, in that order (docs/protocol.md, registration/v1).

The registration commits to every parameter and to the frame before a single target bit exists; embedding then moves edges
inside cells, which leaves the frame as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims import envelope, registration, streams
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.opening import Opening, derive_leaves, open_all, root_of
from ticketguard.claims.registration import Registration, TableEntry
from ticketguard.claims.secret import Secret
from ticketguard.errors import AuthenticityError, CapacityError, UsageError
from ticketguard.evidence import VIEWS, Rule
from ticketguard.graph.cells import DEFAULT_BLOCK, Layer, layer_of
from ticketguard.masks import Mask, StoredMask, spread
from ticketguard.signatures import capacity, edge
from ticketguard.signatures.carriers import carriers_of
from ticketguard.storage.tensors import Computed, TensorInfo
from ticketguard.tickets import Model, Ticket, Weights

FRESH_LABEL = "fresh/"


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A registration that is signed but not embedded yet. `envelope` is the DSSE file; `secret` stays with the owner."""

    registration: Registration
    payload: bytes
    envelope: bytes
    secret: Secret
    plan: capacity.Plan

    @property
    def opening(self) -> Opening:
        """The owner's opening, every leaf checked against the root."""
        return open_all(self.registration, self.payload, self.secret.master, self.secret.beacon)


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A signed ticket. `moved` edges of `edges` changed place; `per_leaf` informative pairs now all show their target bit."""

    ticket: Ticket
    moved: int
    edges: int
    per_leaf: tuple[int, ...]

    @property
    def informative(self) -> int:
        """Informative pairs of all leaves."""
        return sum(self.per_leaf)


def carrier_layers(mask: Mask, *, block: int = DEFAULT_BLOCK) -> dict[str, Layer]:
    """The layers of a mask that can carry pairs: at least two positions in a cell, and not fully dense."""
    found = {}
    for name, bits in mask.items():
        layer = layer_of(name, bits.shape, block=block) if bits.ndim >= 2 else None
        if layer is not None and layer.cell >= 2 and not bits.all():
            found[name] = layer
    return found


def register(
    ticket: Ticket,
    key: SecretKey,
    *,
    owner: str,
    leaves: int = capacity.DEFAULT_LEAVES,
    spend: float = capacity.DEFAULT_SPEND,
    block: int = DEFAULT_BLOCK,
    beacon: str = "none",
    symmetry: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    triggers: Mapping[str, Any] | None = None,
    carriers: Sequence[str] | None = None,
    qr: Mapping[str, Any] | None = None,
    successors: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    statistics: tuple[str, ...] = registration.STATISTICS,
    master: bytes | None = None,
    nonce: bytes | None = None,
) -> Registered:
    """Plan, commit and sign a registration for `ticket`.

    `successors`: ids of keys that may later sign claims, reveals and a withdrawal in place of `key`.
    `spend` is the share of edges that embedding may move; `leave_out` names layers that must carry nothing (linear maps
    without a nonlinearity between them); `statistics`: the test plan, one that `claims.registration` names. `master` and
    `nonce` (32 bytes each) are for reproducible tests; by default they come from the operating system. Raises
    `CapacityError` when the ticket is too small.
    """
    if not 2 <= block <= registration.MOST_CELL:
        raise UsageError(f"a block has 2 to {registration.MOST_CELL} inputs, found {block}")
    layers = {name: layer for name, layer in carrier_layers(ticket.mask, block=block).items() if name not in leave_out}
    if not layers:
        raise CapacityError(
            "this ticket has no masked layer with two weights in a cell: there is nothing to sign in its topology"
        )
    counts = _Frame(ticket.mask, layers)
    rule = rule_of(leaves, beacon)
    planned = capacity.plan(counts, layers, leaves=leaves, spend=spend, needed_bits=rule.bar_bits)
    master = master or streams.master_secret()
    draft = Registration(
        owner=owner,
        public_key=key.public,
        leaves=leaves,
        root=bytes(32),
        frame=registration.frame_digest(counts),
        table=tuple(TableEntry(layer=layer, pairs=planned.pairs[name]) for name, layer in layers.items()),
        nonce=(nonce or streams.master_secret()).hex(),
        symmetry=symmetry,
        classes=None if classes is None else tuple(classes),
        triggers=triggers,
        carriers=None if carriers is None else tuple(carriers),
        statistics=statistics,
        tests=rule.tests,
        beacon=beacon,
        qr=qr,
        successors=tuple(successors) or None,
    )
    final = replace(draft, root=root_of(derive_leaves(draft, master)))
    payload = final.payload()
    # Reading back what is about to be signed turns every bad field (an unprintable owner, say) into an error now.
    registration.parse(payload)
    return Registered(
        registration=final,
        payload=payload,
        envelope=envelope.sign(payload, key),
        secret=Secret(master=master, registration=hashlib.sha256(payload).hexdigest()),
        plan=planned,
    )


def rule_of(leaves: int, beacon: str = "none") -> Rule:
    """The rule by which a registration of so many leaves will be judged. Raises `UsageError` for an unknown policy."""
    grinding = registration.GRINDING_BITS.get(beacon)
    if grinding is None:
        raise UsageError(f"unknown beacon policy {beacon!r}: choose one of {', '.join(registration.GRINDING_BITS)}")
    tests = max(registration.DEFAULT_TESTS, len(registration.STATISTICS) * len(VIEWS) * (leaves + 1))
    return Rule(tests=tests, grinding_bits=grinding)


def embed(ticket: Ticket, opening: Opening, *, rewind: Weights | None = None) -> Embedded:
    """Move the edges of `ticket` so that every informative pair shows its bit, and return the signed ticket.

    In a `Ticket` the new edge starts from its own rewind value, taken from `rewind` (dense rewind weights by name), or drawn
    with the layer's own spread when that is not given; moved values would leave duplicates that give the moves away. In a
    `Model`, which is not retrained, the value itself moves. Raises `AuthenticityError` when the ticket's frame is not the
    registered one, and `CapacityError` when a leaf carries less than the bar that a judge sets.
    """
    layers = opening.registration.layers
    if registration.frame_digest(_Frame(ticket.mask, layers)) != opening.registration.frame:
        raise AuthenticityError(
            "the frame of this ticket is not the registered one: it was registered for another ticket"
        )
    moved: dict[str, list[edge.Moves]] = {}
    per_leaf = np.zeros(len(opening.leaves), dtype=np.int64)
    for entry in opening.registration.table:
        name = entry.layer.name
        kept = ticket.mask[name]
        drawn = [carriers_of(opening, entry, leaf) for leaf in opening.leaves]
        moved[name] = [edge.moves(carriers, kept) for carriers in drawn]
        per_leaf += [int((kept.ravel()[c.first] != kept.ravel()[c.second]).sum()) for c in drawn]
    needed = opening.rule().bar_bits
    if per_leaf.min() < needed:
        raise CapacityError(
            f"this ticket is too small for these leaves: the weakest of {len(per_leaf)} carries {per_leaf.min()} bits, and a "
            f"judge, who sees one of them, needs {needed:.0f}; register it with fewer leaves"
        )
    signed = move_edges(ticket, moved, fresh=lambda name: opening.stream(FRESH_LABEL + name, 0), rewind=rewind)
    return Embedded(
        ticket=replace(signed, provenance={**ticket.provenance, "signed": _note(opening)}),
        moved=sum(len(move.source) for per_layer in moved.values() for move in per_layer),
        edges=ticket.mask.kept,
        per_leaf=tuple(per_leaf.tolist()),
    )


def move_edges(
    ticket: Ticket,
    moved: Mapping[str, list[edge.Moves]],
    *,
    fresh: Callable[[str], edge.Words],
    rewind: Weights | None = None,
) -> Ticket:
    """The ticket after `moved`, by layer: masks and weights. `fresh`: the stream for values that no rewind weight gives."""
    if isinstance(ticket.weights, Computed):
        return _move_stored(ticket, ticket.weights, moved, fresh=fresh, rewind=rewind)
    weights = dict(ticket.weights)
    for name, moves in moved.items():
        weights[name] = _moved_weights(np.asarray(weights[name]), moves, ticket, name, rewind, fresh)
    return replace(ticket, weights=weights, mask=edge.embed(ticket.mask, moved))


def _move_stored(
    ticket: Ticket,
    stored: Computed,
    moved: Mapping[str, list[edge.Moves]],
    *,
    fresh: Callable[[str], edge.Words],
    rewind: Weights | None,
) -> Ticket:
    """As `move_edges`, each layer when it is asked for: a large ticket is never in memory as a whole."""

    def values(name: str) -> NDArray[Any]:
        array = stored[name]
        return _moved_weights(array, moved[name], ticket, name, rewind, fresh) if name in moved else array

    def bits(name: str) -> NDArray[np.bool_]:
        return edge.moved_bits(ticket.mask[name], moved.get(name, []))

    infos = {name: stored.info(name) for name in stored}
    masks = {name: TensorInfo(dtype="BOOL", shape=infos[name].shape) for name in ticket.mask}
    return replace(ticket, weights=Computed(infos, values), mask=StoredMask(Computed(masks, bits)))


@dataclass(frozen=True)
class _Frame(Mapping[str, NDArray[np.int64]]):
    """`registration.frame_counts`, one layer at a time."""

    mask: Mask
    layers: Mapping[str, Layer]

    def __getitem__(self, name: str) -> NDArray[np.int64]:
        return registration.frame_counts(self.mask, {name: self.layers[name]})[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)


def _moved_weights(
    values: NDArray[Any],
    moves: list[edge.Moves],
    ticket: Ticket,
    name: str,
    rewind: Weights | None,
    fresh: Callable[[str], edge.Words],
) -> NDArray[Any]:
    # A layer that was made for this call is changed in place: it may be half of what memory holds.
    flat = values.reshape(-1) if isinstance(ticket.weights, Computed) else values.ravel().copy()
    source = np.concatenate([move.source for move in moves])
    target = np.concatenate([move.target for move in moves])
    if isinstance(ticket, Model):
        started = flat[source]
    elif rewind is not None and name in rewind and np.shape(rewind[name]) == values.shape:
        started = np.asarray(rewind[name]).ravel()[target].astype(flat.dtype)
    else:
        started = np.zeros(len(target), dtype=flat.dtype)
    # A position without a rewind value of its own (or an exact zero) gets one of the layer's spread: an edge is never zero.
    empty = started == 0
    if empty.any():
        own = spread(flat, ticket.mask[name])
        started[empty] = _gaussian(fresh(name), int(empty.sum()), own).astype(flat.dtype)
    flat[source] = 0
    flat[target] = started
    return flat.reshape(values.shape)


def _gaussian(stream: edge.Words, count: int, deviation: float) -> NDArray[np.float64]:
    """Normal values of this standard deviation, by Box and Muller's transform."""
    words = stream.words(2 * count).reshape(count, 2)
    uniform = (words.astype(np.float64) + 1.0) / 2.0**64
    return np.asarray(max(deviation, 1e-6) * np.sqrt(-2 * np.log(uniform[:, 0])) * np.cos(2 * np.pi * uniform[:, 1]))


def _note(opening: Opening) -> dict[str, str]:
    return {"registration": hashlib.sha256(opening.payload).hexdigest()}


def sign(
    ticket: Ticket, key: SecretKey, *, owner: str, rewind: Weights | None = None, **options: Any
) -> tuple[Registered, Embedded]:
    """Register and embed in one go: `register(ticket, key, owner=owner, **options)`, then `embed`."""
    registered = register(ticket, key, owner=owner, **options)
    return registered, embed(ticket, registered.opening, rewind=rewind)
