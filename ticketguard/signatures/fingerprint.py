"""Fingerprints: one codeword for each licensee, in the group of cells that no leaf of the secret uses (docs/protocol.md).

Positions are the same in every copy; what differs is the codeword. The codeword of a licensee who had no part in a suspect is
independent of it, so the number of its bits that a suspect shows is a sum of independent coins: the bound on naming an innocent
is exact for any suspect and any coalition, and no simulation sets a threshold.

Codes: "uniform" (fair bits; traces a single leak, and pairs who compare their copies and mix, vote or remove what differs) and
"tardos" (G. Tardos, STOC 2003, with the symmetric score of Skoric, Katzenbeisser and Celik, DCC 2008, for coalitions of up to
`collusion` members whatever they do where their copies differ; wants longer words).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import asin, log2, sqrt

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims import streams
from ticketguard.claims.opening import Opening
from ticketguard.claims.streams import Stream
from ticketguard.errors import CapacityError, UsageError
from ticketguard.masks import Mask
from ticketguard.signatures import edge
from ticketguard.signatures.board import Board
from ticketguard.signatures.carriers import LABEL
from ticketguard.tails import log2_binomial_tail, log2_two_point_bound

CODES = ("uniform", "tardos")
DEFAULT_BITS = 512
DEFAULT_COLLUSION = 3
# Fewer votes for each bit than this and the pruning of some edges would already cost bits.
VOTES_PER_BIT = 2
# The family-wise error: the probability that a trace names anybody who is innocent, over all licences.
ERROR_BITS = 20.0
BIAS_LABEL, CODE_LABEL = "fingerprint/bias", "fingerprint/code/"

Words = NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class Code:
    """How codewords are drawn: `kind` of `CODES`, `bits` a word, `collusion` members that a Tardos code withstands."""

    kind: str = "uniform"
    bits: int = DEFAULT_BITS
    collusion: int = DEFAULT_COLLUSION

    def __post_init__(self) -> None:
        if self.kind not in CODES:
            raise UsageError(f"unknown fingerprint code {self.kind!r}: choose one of {', '.join(CODES)}")
        if not 64 <= self.bits <= 1 << 16 or not 2 <= self.collusion <= 8:
            raise UsageError("fingerprints have 64 to 65,536 bits and withstand coalitions of 2 to 8")


@dataclass(frozen=True, kw_only=True)
class Fingerprinter:
    """The owner's side: draws positions and codewords. `carriers` are the fingerprint group's, by layer name."""

    code: Code
    carriers: Mapping[str, edge.Carriers]
    binder: bytes
    leaf: bytes
    group: int

    @cached_property
    def boards(self) -> dict[str, Board]:
        """The pairs of each layer laid out for reading: a trace reads a suspect in several ways."""
        return {name: Board({self.group: {name: drawn}}) for name, drawn in self.carriers.items()}

    def fresh_stream(self, label: str) -> Stream:
        """A stream under the fingerprint group's own key, for values that a copy needs besides its codeword."""
        return self._stream(label)

    def _stream(self, label: str) -> Stream:
        return Stream(label, self.binder, self.group, self.leaf)

    @cached_property
    def biases(self) -> NDArray[np.float64]:
        """Probability of a one at each bit, float64 (bits,): 1/2, or arcsine-distributed between cut-offs (Tardos)."""
        if self.code.kind == "uniform":
            return np.full(self.code.bits, 0.5)
        uniform = _unit(self._stream(BIAS_LABEL).words(self.code.bits))
        cut = asin(sqrt(1 / (300 * self.code.collusion)))
        return np.asarray(np.sin(cut + uniform * (np.pi / 2 - 2 * cut)) ** 2)

    def codeword(self, serial: str) -> NDArray[np.bool_]:
        """The word of the licence with this serial, boolean (bits,)."""
        return np.asarray(_unit(self._stream(CODE_LABEL + serial).words(self.code.bits)) < self.biases)

    def embed(self, base: Mask, serial: str) -> tuple[Mask, dict[str, list[edge.Moves]]]:
        """The mask of the licensee's copy, and the moves that make it. Raises `CapacityError` when `base` has no room."""
        informative, owner = _informative(self.carriers, base, self.code.bits)
        room = sum(int(chosen.sum()) for chosen in informative.values())
        if room < VOTES_PER_BIT * self.code.bits:
            raise CapacityError(
                f"this ticket has room for {room} fingerprint pairs, {self.code.bits} bits need "
                f"{VOTES_PER_BIT * self.code.bits}: use a shorter code"
            )
        word = self.codeword(serial)
        moved = {}
        for name, drawn in self.carriers.items():
            chosen = informative[name]
            target = edge.Carriers(
                layer=drawn.layer,
                leaf=drawn.leaf,
                first=drawn.first[chosen],
                second=drawn.second[chosen],
                bits=drawn.bits[chosen] ^ word[owner[name]],
            )
            moved[name] = [edge.moves(target, base[name])]
        return edge.embed(base, moved), moved

    def received(self, base: Mask, readings: Mapping[str, edge.Reading]) -> Words:
        """The word that a suspect shows, int8 (bits,): 1, 0, or -1 where it has no vote or a tie.

        `readings` are the suspect's, by layer, over `carriers`; `base` is the owner's own ticket, before any licence.
        """
        votes = np.zeros(self.code.bits, dtype=np.int64)
        informative, owner = _informative(self.carriers, base, self.code.bits)
        for name, reading in readings.items():
            # The larger magnitude votes, not the support alone: a suspect whose pruned positions were filled is read as well.
            chosen = informative[name]
            usable = (reading.sign != 0)[chosen] & ~reading.erased[chosen]
            ones = (reading.sign > 0)[chosen] ^ self.carriers[name].bits[chosen]
            np.add.at(votes, owner[name][usable], np.where(ones[usable], 1, -1))
        return np.where(votes == 0, -1, votes > 0).astype(np.int8)

    def accuse(self, received: Words, serials: list[str]) -> dict[str, float]:
        """Evidence in bits against each licence, after the correction for the number of licences; at least 0."""
        read = received >= 0
        ones, bias = received[read] == 1, self.biases[read]
        charge = log2(max(1, len(serials)))
        found = {}
        for serial in serials:
            word = self.codeword(serial)[read]
            if self.code.kind == "uniform":
                tail = log2_binomial_tail(int((word == ones).sum()), len(word))
            else:
                tail = _symmetric_score(word, ones, bias)
            found[serial] = float(max(0.0, -tail - charge))
        return found


def fingerprinter(opening: Opening, master: bytes, code: Code) -> Fingerprinter:
    """The owner's fingerprinter: group K of the cells, under a key of its own derived from the master secret."""
    registered = opening.registration
    group = registered.leaves
    leaf = streams.leaf(master, registered.public_key.spki, group)
    carriers = {
        entry.layer.name: edge.draw(
            entry.layer,
            entry.pairs,
            leaf=group,
            groups=registered.groups,
            stream=Stream(LABEL + entry.layer.name, opening.binder, group, leaf),
        )
        for entry in registered.table
    }
    return Fingerprinter(code=code, carriers=carriers, binder=opening.binder, leaf=leaf, group=group)


def _informative(
    carriers: Mapping[str, edge.Carriers], base: Mask, bits: int
) -> tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.int64]]]:
    """Pairs with one edge in `base`, by layer, and the bit that each of them votes on: dealt round over all layers."""
    informative, owner, dealt = {}, {}, 0
    for name, drawn in carriers.items():
        flat = base[name].ravel()
        chosen = flat[drawn.first] != flat[drawn.second]
        count = int(chosen.sum())
        informative[name], owner[name] = chosen, (dealt + np.arange(count, dtype=np.int64)) % bits
        dealt += count
    return informative, owner


def _symmetric_score(word: NDArray[np.bool_], ones: NDArray[np.bool_], bias: NDArray[np.float64]) -> float:
    """log2 of the bound on an innocent's symmetric Tardos score reaching the one of `word`."""
    agree_one, agree_zero = np.sqrt((1 - bias) / bias), np.sqrt(bias / (1 - bias))
    if_one = np.where(ones, agree_one, -agree_one)
    if_zero = np.where(ones, -agree_zero, agree_zero)
    observed = float(np.where(word, if_one, if_zero).sum())
    return log2_two_point_bound(if_one, if_zero, bias, observed)


def _unit(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) from the upper 53 bits of each word."""
    return np.asarray((words >> np.uint64(11)).astype(np.float64) / 2.0**53)
