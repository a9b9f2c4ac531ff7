"""The capacity planner: how many pairs to draw so that signing moves a given share of the edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log, log1p, sqrt

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import CapacityError, UsageError
from ticketguard.evidence import Rule
from ticketguard.graph.cells import Layer
from ticketguard.signatures.edge import group_cells
from ticketguard.tails import log2_binomial_tail

DEFAULT_SPEND = 0.15
DEFAULT_LEAVES = 4
# Past six draws a cell, eleven of twelve new draws are dropped; past this many in all, evidence is plentiful and only
# verification would slow down.
DRAWS_PER_CELL = 6.0
DRAWS_IN_ALL = 1 << 18
# Shares of the edges after whose random pruning a plan states the evidence.
PRUNED = (0.0, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Draws per leaf for every layer, and what they are expected to give.

    `informative` is the expected number of informative pairs over all leaves, `moved` the expected share of edges that
    signing moves, `bits_after` the evidence expected after random pruning of that share of the edges, for the owner, who has
    all leaves, and `leaf_bits_after` that of one leaf, which is what a judge sees.
    """

    pairs: Mapping[str, int]
    informative: float
    moved: float
    bits_after: Mapping[float, float]
    leaf_bits_after: Mapping[float, float]


def plan(
    counts: Mapping[str, NDArray[np.int64]],
    layers: Mapping[str, Layer],
    *,
    leaves: int = DEFAULT_LEAVES,
    spend: float = DEFAULT_SPEND,
    needed_bits: float = Rule().bar_bits,
) -> Plan:
    """Draws per leaf and layer that move a share `spend` of the edges, from the cell counts (`graph.cells.cell_counts`) alone.

    About half of the informative pairs move. Raises `CapacityError` when even the best plan would give a judge, who sees one
    leaf, less than `needed_bits` on the untouched ticket.
    """
    if not 0 < spend <= 0.5:
        raise UsageError(f"the share of edges to spend must lie in (0, 0.5], found {spend}")
    if not 1 <= leaves <= 64:
        raise UsageError(f"a secret has 1 to 64 leaves, found {leaves}")
    # One layer's counts at a time: they may be made when they are asked for.
    found = {name: _summary(layer, counts[name]) for name, layer in layers.items()}
    pairs = {name: _draws(layer, found[name], leaves, spend) for name, layer in layers.items()}
    total = leaves * sum(pairs.values())
    if total > DRAWS_IN_ALL:
        pairs = {name: count * DRAWS_IN_ALL // total for name, count in pairs.items()}
    drawn = {name: leaves * _kept_pairs(layer, pairs[name], leaves) for name, layer in layers.items()}
    informative = sum(drawn[name] * found[name].informative for name in layers)
    both = sum(drawn[name] * found[name].both for name in layers)
    edges = sum(one.edges for one in found.values())
    if _weakest(informative / leaves) < needed_bits:
        enough = next((some for some in range(leaves - 1, 0, -1) if _weakest(informative / some) >= needed_bits), None)
        fewer = f"sign with {enough} {'leaf' if enough == 1 else 'leaves'}, " if enough else ""
        raise CapacityError(
            f"this ticket is too small to sign: its {edges} edges in {len(layers)} layers would carry about "
            f"{informative / leaves:.0f} bits in each of {leaves} leaves, and a judge, who sees one of them, needs "
            f"{needed_bits:.0f}; {fewer}spend more edges or keep more weights"
        )
    return Plan(
        pairs=pairs,
        informative=informative,
        moved=informative / 2 / edges,
        bits_after={share: _bits_after(informative, both, share) for share in PRUNED},
        leaf_bits_after={share: _bits_after(informative / leaves, both / leaves, share) for share in PRUNED},
    )


def _weakest(leaf: float) -> float:
    """What a leaf of `leaf` bits in the mean surely carries: three standard deviations less, each pair's being by chance."""
    return leaf - 3 * sqrt(leaf)


def _miss(cell: int) -> float:
    """Probability that a random pair of a cell shares no position with another random pair of it."""
    return (cell - 2) * (cell - 3) / (cell * (cell - 1))


def _kept_pairs(layer: Layer, draws: int, leaves: int) -> float:
    """Expected pairs of one leaf that are not dropped: the s-th draw in a cell survives with probability miss^s."""
    cells = group_cells(layer, 0, leaves + 1)
    if cells == 0 or layer.cell < 2 or draws == 0:
        return 0.0
    hit = 1 - _miss(layer.cell)
    if cells == 1:
        return (1 - _miss(layer.cell) ** draws) / hit
    return cells * -float(np.expm1(draws * log1p(-hit / cells))) / hit


def _draws(layer: Layer, found: _Summary, leaves: int, spend: float) -> int:
    """Draws per leaf that move a share `spend` of this layer's edges, at most `DRAWS_PER_CELL` a cell."""
    cells = group_cells(layer, 0, leaves + 1)
    if cells == 0 or found.informative == 0 or layer.cell < 2:
        return 0
    wanted = 2 * spend * float(found.edges) / (leaves * found.informative)
    ceiling = int(DRAWS_PER_CELL * cells)
    hit = 1 - _miss(layer.cell)
    share = wanted * hit / cells
    if cells == 1 or share >= 1:
        return ceiling
    return min(ceiling, ceil(log(1 - share) / log1p(-hit / cells)))


@dataclass(frozen=True, kw_only=True)
class _Summary:
    """What planning needs of a layer's counts: `edges`, and the probabilities that a random pair of a random full cell has
    exactly one kept position (`informative`), or `both`.
    """

    edges: int
    informative: float
    both: float


def _summary(layer: Layer, counts: NDArray[np.int64]) -> _Summary:
    full, m = counts[:, : layer.fan_in // layer.cell], layer.cell
    edges = int(counts.sum())
    if not full.size or m < 2:
        return _Summary(edges=edges, informative=0.0, both=0.0)
    # Sums of c, and of c squared without another array of that size.
    total, squares = int(full.sum()), int(np.einsum("ij,ij->", full, full))
    pairs = m * (m - 1)
    return _Summary(
        edges=edges,
        informative=2 * (m * total - squares) / full.size / pairs,
        both=(squares - total) / full.size / pairs,
    )


def _bits_after(informative: float, both: float, pruned: float) -> float:
    """Evidence expected once a random share `pruned` of the edges is gone: pairs that lost one of two edges are coin flips."""
    matching = informative * (1 - pruned)
    noise = both * 2 * pruned * (1 - pruned)
    return -log2_binomial_tail(int(matching + noise / 2), int(matching + noise))


__all__ = ["DEFAULT_LEAVES", "DEFAULT_SPEND", "Plan", "plan"]
