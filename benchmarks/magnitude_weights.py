"""What a pair should weigh in the magnitude test: bits of one signed model after many attacks, for several weights.

    python benchmarks/magnitude_weights.py signed/ --data digits
    python benchmarks/magnitude_weights.py signed/ --data cifar10 --data-dir data --attacks rewire-cell@0.7 --threads 2

d is the equilibrated difference of magnitudes of a pair. Every weight gives a valid test; which one the verifier uses was
decided here, on models and attacks, never on a suspect.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ticketguard.attacks.registry import make
from ticketguard.bundle import Bundle
from ticketguard.data import load
from ticketguard.errors import TicketguardError
from ticketguard.signatures.board import Board
from ticketguard.signatures.carriers import all_carriers
from ticketguard.signatures.edge import Reading
from ticketguard.suite.bench import prepare
from ticketguard.suite.plan import Cell
from ticketguard.tails import log2_binomial_tail, log2_signed_sum_bound
from ticketguard.tickets import Weights
from ticketguard.verify.aligned import InPlace

Floats = NDArray[np.float64]

CANDIDATES: dict[str, Callable[[Floats], Floats]] = {
    "min(d,1)": lambda d: np.minimum(d, 1.0),
    "min(d,4)": lambda d: np.minimum(d, 4.0),
    "min(d,2)^2": lambda d: np.minimum(d, 2.0) ** 2,
    "min(d,3)^2": lambda d: np.minimum(d, 3.0) ** 2,
    "min(d,4)^2": lambda d: np.minimum(d, 4.0) ** 2,
    "min(d,3)^3": lambda d: np.minimum(d, 3.0) ** 3,
    "d > 2": lambda d: (d > 2.0).astype(np.float64),
}
ATTACKS = (
    "prune-magnitude@0.9 prune-random@0.7 add-on@0.1 quantize@4 fill@4 densify@0.1 densify@0.3 finetune@0.1 overwrite@0.15 "
    "rewire-cell@0.5 rewire-cell@0.7 rewire-cell@0.9 rewire-row@0.7 rewire-guided@0.5 rewire-guided@0.7 leaked-all@1 "
    "unrelated@1"
)


def reading(board: Board, weights: Weights) -> Reading:
    """All leaves pooled."""
    leaves = board.read({name: InPlace(np.asarray(array)) for name, array in weights.items()}).values()
    return Reading(
        **{name: np.concatenate([getattr(leaf, name) for leaf in leaves]) for name in Reading.__annotations__}
    )


def row(label: str, board: Board, weights: Weights) -> str:
    """One line of the table."""
    found = reading(board, weights)
    unequal = (found.sign != 0) & ~found.erased
    agrees = (found.sign > 0) == found.bits
    signs = np.where(agrees, 1, -1)[unequal]
    n, matches = found.support()
    cells = [-log2_signed_sum_bound(weigh(found.value[unequal]), signs) for weigh in CANDIDATES.values()]
    return (
        f"| {label} | " + " | ".join(f"{abs(bits):,.0f}" for bits in (-log2_binomial_tail(matches, n), *cells)) + " |"
    )


def main() -> None:
    """Attack, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("signed", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--attacks", nargs="*", default=ATTACKS.split())
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    bundle = Bundle(options.signed)
    data = load(options.data, options.data_dir)
    bench = prepare(bundle, os.environ["TICKETGUARD_PASSPHRASE"], data, threads=options.threads, device="cpu")
    board = Board(all_carriers(bench.opening))
    print("| after | support | " + " | ".join(CANDIDATES) + " |\n|" + " --- |" * (2 + len(CANDIDATES)))
    print(row("nothing", board, bench.model.weights), flush=True)
    for label in options.attacks:
        name, strength = label.rsplit("@", 1)
        cell = Cell(attack=name, strength=float(strength), seed=0, epochs=options.epochs, images=None)
        try:
            print(row(label, board, make(name, float(strength)).run(bench.victim(cell)).weights), flush=True)
        except TicketguardError as problem:
            print(f"| {label} | {problem} |")


if __name__ == "__main__":
    main()
