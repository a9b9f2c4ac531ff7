"""Naming licensees: single leaks and coalitions that compare their copies, and what nobody innocent reaches.

    python benchmarks/tracing.py --runs 200

A signed random ticket, 100 licences, a coalition drawn anew in every run. What a coalition makes of its copies: mix (each cell
from a member at random), majority (of each position; a tie by coin), minority (whatever fewer members have), union, remove
(everything that differs), revert (the owner's own edges where copies differ, as if they had the original). Pruned by 30 %
at random (magnitudes after a training that has nothing to do with the rewind weights) or by the rewind weights' own
magnitude, which takes the moved edges first.

A licensee is named from 20 bits on, net of the number of licences and of what `trace` charges a reading: a bound,
not a simulated threshold. The last lines compare the two.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ticketguard import signing
from ticketguard.claims.keys import SecretKey
from ticketguard.licensing import READING_BITS, readings_of
from ticketguard.masks import Mask, keep_largest
from ticketguard.signatures.fingerprint import ERROR_BITS, Code, Fingerprinter, fingerprinter
from ticketguard.tickets import Architecture, Ticket
from ticketguard.verify.aligned import InPlace

LICENSEES = 100
SMALL = {"a.weight": (64, 32, 3, 3), "b.weight": (64, 64, 3, 3)}
LARGE = {"a.weight": (128, 64, 3, 3), "b.weight": (128, 128, 3, 3)}
DENSITY = 0.26
PRUNED = 0.3
SIMULATED_ERROR = 0.01
STRANGERS = 100

Arrays = dict[str, np.ndarray]
Attack = Callable[[list[np.ndarray], np.ndarray, np.random.Generator], np.ndarray]


def mix(copies: list[np.ndarray], base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each cell from one member."""
    owner = rng.integers(len(copies), size=base.shape[:2])[..., None, None]
    return np.choose(np.broadcast_to(owner, base.shape), copies)


def majority(copies: list[np.ndarray], base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whatever more members have, position by position; a tie by coin."""
    votes = 2 * sum(copy.astype(int) for copy in copies) - len(copies)
    return np.where(votes == 0, rng.random(base.shape) < 0.5, votes > 0)


def minority(copies: list[np.ndarray], base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whatever fewer members have; where all agree there is no choice."""
    total = sum(copy.astype(int) for copy in copies)
    most = majority(copies, base, rng)
    return np.where((total == 0) | (total == len(copies)), most, ~most)


def revert(copies: list[np.ndarray], base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The owner's own ticket wherever two copies differ."""
    del rng
    total = sum(copy.astype(int) for copy in copies)
    return np.where((total == 0) | (total == len(copies)), copies[0], base)


ATTACKS: dict[str, Attack] = {
    "mix": mix,
    "majority": majority,
    "minority": minority,
    "union": lambda copies, _base, _rng: np.logical_or.reduce(copies),
    "remove": lambda copies, _base, _rng: np.logical_and.reduce(copies),
    "revert": revert,
}
PRUNINGS = ("none", "random", "magnitude")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: the setting, and the evidence found in each run."""

    words: str
    attack: str
    pruning: str
    guilty: list[float]
    innocent: list[float]

    def line(self) -> str:
        """The row as a line of a Markdown table."""
        bar = ERROR_BITS + READING_BITS
        caught, wrong = (sum(bits >= bar for bits in found) for found in (self.guilty, self.innocent))
        runs = len(self.guilty)
        return (
            f"| {self.words} | {self.attack} | {self.pruning} | {caught}/{runs} | {wrong} | "
            f"{np.median(self.guilty):.0f} | {max(self.innocent):.1f} |"
        )


@dataclass(frozen=True, kw_only=True)
class Owned:
    """The owner's side of a simulation: base ticket, dense rewind weights, fingerprinter."""

    base: Mask
    dense: Arrays
    printer: Fingerprinter


def owned(shapes: dict[str, tuple[int, ...]], code: Code) -> Owned:
    """A signed ticket of normal weights, the largest kept."""
    rng = np.random.default_rng(7)
    dense = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    total = sum(array.size for array in dense.values())
    mask = keep_largest({name: np.abs(w) for name, w in dense.items()}, round(DENSITY * total))
    weights = {name: np.where(mask[name], w, np.float32(0)) for name, w in dense.items()}
    ticket = Ticket(architecture=Architecture(), weights=weights, mask=mask)
    key = SecretKey.from_seed(bytes(range(32)))
    registered, embedded = signing.sign(ticket, key, owner="O", rewind=dense, master=bytes(range(32)), nonce=bytes(32))
    printer = fingerprinter(registered.opening, registered.secret.master, code)
    return Owned(base=embedded.ticket.mask, dense=dense, printer=printer)


def evidence(side: Owned, suspect: Mask) -> dict[int, float]:
    """Bits against each licensee, net of the number of licences."""
    weights = {name: InPlace(np.where(bits, side.dense[name], 0).astype(np.float32)) for name, bits in suspect.items()}
    word = side.printer.received(side.base, readings_of(side.printer, weights))
    found = side.printer.accuse(word, [f"{i:032x}" for i in range(LICENSEES)])
    return {int(serial, 16): bits for serial, bits in found.items()}


def prune(side: Owned, mask: Mask, how: str, rng: np.random.Generator) -> Mask:
    """The suspect after pruning."""
    if how == "none":
        return mask
    scores = {
        name: rng.random(bits.shape) if how == "random" else np.abs(side.dense[name]) for name, bits in mask.items()
    }
    return keep_largest(scores, round(mask.kept * (1 - PRUNED)), within=mask)


def row(side: Owned, size: int, attack: str, pruning: str, runs: int) -> Row:
    """A coalition of `size` in every run; the strongest guilty and the strongest innocent of each."""
    rng = np.random.default_rng([size, runs])
    guilty, innocent = [], []
    for _ in range(runs):
        members = rng.choice(LICENSEES, size=size, replace=False).tolist()
        copies = [side.printer.embed(side.base, f"{member:032x}")[0] for member in members]
        made = {
            name: ATTACKS[attack]([copy[name] for copy in copies], side.base[name], rng)
            if size > 1
            else copies[0][name]
            for name in side.base
        }
        found = evidence(side, prune(side, Mask(made), pruning, rng))
        guilty.append(max(found[member] for member in members))
        innocent.append(max(bits for number, bits in found.items() if number not in members))
    code = side.printer.code
    words = f"{code.kind} {code.bits}" + (f", c = {code.collusion}" if code.kind == "tardos" else "")
    return Row(
        words=words, attack=f"{size}: {attack}" if size > 1 else "1", pruning=pruning, guilty=guilty, innocent=innocent
    )


def settings() -> Iterator[tuple[dict[str, tuple[int, ...]], Code, int, list[str]]]:
    """Shapes, code, size of the coalition and its attacks."""
    uniform = Code(kind="uniform", bits=512)
    pairs = ["mix", "majority", "union", "remove", "revert"]
    yield SMALL, uniform, 1, ["mix"]
    yield SMALL, uniform, 2, pairs
    yield SMALL, Code(kind="tardos", bits=512, collusion=2), 2, pairs
    yield LARGE, Code(kind="tardos", bits=2000, collusion=3), 3, ["mix", "majority", "minority", "remove", "revert"]


def strangers(runs: int) -> None:
    """Nobody is named on the owner's own ticket and on unrelated ones."""
    side = owned(SMALL, Code(kind="uniform", bits=512))
    rng = np.random.default_rng(3)
    masks = [side.base]
    masks += [Mask({n: rng.random(b.shape) < 0.2 for n, b in side.base.items()}) for _ in range(runs - 1)]
    best = [max(evidence(side, mask).values()) for mask in masks]
    named = sum(bits >= ERROR_BITS + READING_BITS for bits in best)
    print(
        f"\nOriginal and unrelated tickets: {named} named in {runs * LICENSEES:,} tries; "
        f"the strongest reaches {max(best):.1f} bits."
    )


def main() -> None:
    """Print the table, then the simulated threshold beside the bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="runs of each row")
    runs = parser.parse_args().runs
    print(
        "| code | coalition | pruned 30 % | guilty named | innocents named | bits, guilty | bits, strongest innocent |"
    )
    print("|---|---|---|---:|---:|---:|---:|")
    strongest: list[float] = []
    for shapes, code, size, attacks in settings():
        side = owned(shapes, code)
        for attack in attacks:
            for pruning in PRUNINGS:
                done = row(side, size, attack, pruning, runs)
                strongest += done.innocent
                print(done.line(), flush=True)
    simulated = float(np.quantile(strongest, 1 - SIMULATED_ERROR))
    print(
        f"\nOne innocent in any of a hundred traces: from {simulated:.1f} bits on in {len(strongest):,} simulated runs, from "
        f"{-np.log2(SIMULATED_ERROR):.1f} bits on by the bound. Named is from {ERROR_BITS:.0f} bits on: once in a million."
    )
    strangers(STRANGERS)


if __name__ == "__main__":
    main()
