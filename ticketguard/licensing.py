"""Licensing: fingerprinted copies of a signed ticket for named licensees, and naming the ones a suspect came from."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log2
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from ticketguard.claims import hpke
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.license import License, sign
from ticketguard.claims.opening import Opening
from ticketguard.errors import UsageError
from ticketguard.graph.cells import Counts
from ticketguard.masks import Mask
from ticketguard.signatures.board import Weight
from ticketguard.signatures.edge import Reading
from ticketguard.signatures.fingerprint import ERROR_BITS, Code, Fingerprinter, fingerprinter
from ticketguard.signatures.keymask import KeyMask, key_bytes, key_of, ticket_digest
from ticketguard.signatures.turns import TURNS, turned
from ticketguard.signing import FRESH_LABEL, move_edges
from ticketguard.storage.tensors import parse_tensors
from ticketguard.tickets import Ticket, Weights
from ticketguard.verify.aligned import align_suspect
from ticketguard.verify.suspect import effective_weights, locate

# What the encryption of a key mask is bound to.
PURPOSE = "license"
# What tracing charges its nine readings: as stored and aligned have 15/32 of the error each, the seven turns 1/16 together.
READING_BITS = log2(32 / 15)
TURN_BITS = log2(16 * len(TURNS))


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A licensee's copy: its ticket, the licence's serial, and how many edges differ from the owner's own ticket."""

    ticket: Ticket
    serial: str
    moved: int


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What tracing found. `evidence` in bits by serial, net of the number of licences; `named`: those past the bar.

    `read` of `bits` could be read. The probability that anybody innocent is named is at most 2^-`bar_bits`, over all licences
    and all readings (as stored, aligned, with kernels turned).
    """

    evidence: dict[str, float]
    named: tuple[str, ...]
    read: int
    bits: int
    bar_bits: float
    notes: tuple[str, ...] = ()


def make_copy(
    ticket: Ticket,
    opening: Opening,
    master: bytes,
    code: Code,
    *,
    serial: str | None = None,
    rewind: Weights | None = None,
) -> Copy:
    """A copy of the owner's signed `ticket` with a fingerprint of its own. Raises `CapacityError` when there is no room."""
    serial = serial or secrets.token_hex(16)
    printer = fingerprinter(opening, master, code)
    _, moved = printer.embed(ticket.mask, serial)
    stream = printer.fresh_stream
    copy = move_edges(ticket, moved, fresh=lambda name: stream(f"{FRESH_LABEL}{serial}/{name}"), rewind=rewind)
    note = {**ticket.provenance, "license": serial}
    return Copy(
        ticket=replace(copy, provenance=note),
        serial=serial,
        moved=sum(len(move.source) for moves in moved.values() for move in moves),
    )


def issue(
    copy: Copy, opening: Opening, key: SecretKey, *, licensee: str, code: Code, key_mask: bytes | None = None
) -> tuple[License, bytes]:
    """The licence over a copy, and its signed envelope. `key_mask`: the encrypted key mask of a locked copy."""
    issued = License(
        owner=opening.registration.owner,
        public_key=opening.registration.public_key,
        registration=hashlib.sha256(opening.payload).hexdigest(),
        licensee=licensee,
        serial=copy.serial,
        copy=ticket_digest(copy.ticket),
        kind=code.kind,
        bits=code.bits,
        collusion=code.collusion,
        key_mask=None if key_mask is None else hashlib.sha256(key_mask).hexdigest(),
    )
    return issued, sign(issued, key)


def seal_key(key: KeyMask, public: X25519PublicKey) -> bytes:
    """The key mask of a locked copy, encrypted to its licensee."""
    return hpke.seal(key_bytes(key), public, purpose=PURPOSE)


def unseal_key(data: bytes, secret: SecretKey, *, where: Path) -> KeyMask:
    """What `seal_key` encrypted to the holder of `secret`. Raises as `hpke.unseal` and `read_key` do."""
    return key_of(parse_tensors(hpke.unseal(data, secret, purpose=PURPOSE, where=str(where)), path=where))


def trace(
    suspect: Weights, base: Mask, opening: Opening, master: bytes, licenses: Sequence[License], reference: Counts
) -> Trace:
    """Name the licensees that `suspect` came from. `base`: masks of the owner's own ticket, before any licence.

    The suspect is read as stored, and aligned as well where that moves channels; where neither names anybody, with its kernels
    turned too. Each reading pays for the others (`READING_BITS`, `TURN_BITS`). Raises `UsageError` without licences, or when
    they use different codes.
    """
    codes = {Code(kind=item.kind, bits=item.bits, collusion=item.collusion) for item in licenses}
    if len(codes) != 1:
        raise UsageError("tracing needs licences of one registration, at least one, all with the same fingerprint code")
    printer = fingerprinter(opening, master, codes.pop())
    layers = opening.registration.layers
    effective = effective_weights(suspect, layers)
    aligned = align_suspect(effective, opening.registration, reference)
    found: Mapping[str, Weight] = locate(effective, layers).weights
    serials = [item.serial for item in licenses]
    evidence, read = _accused(printer, base, found, serials, READING_BITS)
    notes = aligned.notes if aligned.moved else ()
    if aligned.moved:
        found = aligned.weights
        evidence, read = _stronger((evidence, read), _accused(printer, base, found, serials, READING_BITS))
    if max(evidence.values()) < ERROR_BITS:
        turns = {turn: _accused(printer, base, turned(found, layers, turn), serials, TURN_BITS) for turn in TURNS}
        best = max(turns, key=lambda turn: max(turns[turn][0].values()))
        if max(turns[best][0].values()) >= ERROR_BITS:
            notes = (*notes, f"kernels read {best}")
        evidence, read = _stronger((evidence, read), turns[best])
    return Trace(
        evidence=evidence,
        named=tuple(serial for serial in serials if evidence[serial] >= ERROR_BITS),
        read=read,
        bits=printer.code.bits,
        bar_bits=ERROR_BITS,
        notes=notes,
    )


Accused = tuple[dict[str, float], int]


def _accused(
    printer: Fingerprinter, base: Mask, weights: Mapping[str, Weight], serials: list[str], charge: float
) -> Accused:
    """Evidence by serial in one reading, less its charge, and how many bits could be read."""
    word = printer.received(base, readings_of(printer, weights))
    found = {serial: max(0.0, bits - charge) for serial, bits in printer.accuse(word, serials).items()}
    return found, int((word >= 0).sum())


def _stronger(one: Accused, other: Accused) -> Accused:
    return {serial: max(bits, other[0][serial]) for serial, bits in one[0].items()}, max(one[1], other[1])


def readings_of(printer: Fingerprinter, weights: Mapping[str, Weight]) -> dict[str, Reading]:
    """A suspect's readings at the fingerprint pairs, by layer."""
    return {name: board.read(weights)[printer.group] for name, board in printer.boards.items() if name in weights}
