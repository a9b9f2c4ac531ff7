"""Scores of edges from weights and the channel graph alone: magnitude, edge-weight product, sampled paths, random.

The higher the score, the earlier the key mask takes the edge (paper, V1). Every score is a mapping from parameter name to a
float64 array of the parameter's shape; pruned weights score -inf.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.channels import ChannelGraph, Floats, Indices
from ticketguard.masks import Mask

Scores = dict[str, Floats]
Weights = Mapping[str, NDArray[np.floating]]

# Up to these, products of a weight and a scaled potential stay far from the ends of float64, and so do their sums.
SPREAD = 200.0  # natural log of what two scales in one stage may lie apart
SMALLEST = 1e-87  # potential within a stage, the largest being 1
LARGEST = 1e130  # of a weight and of its reciprocal


@dataclass(frozen=True, kw_only=True)
class Potentials:
    """Log of the summed weight products over all paths from the inputs to each node, and from each node to the outputs.

    Float64 per node, -inf where there is no path.
    """

    into: Floats
    out_of: Floats


def potentials(graph: ChannelGraph) -> Potentials:
    """One forward and one backward pass over the stages, scaled so that no product over- or underflows."""
    # Blocks are stored in order of their target stage, so one sweep sees every tail before its heads, and conversely.
    forward = [
        Step(block.source, block.target, graph.tails[first:end], graph.heads[first:end], graph.weights[first:end])
        for block, (first, end) in zip(graph.blocks, pairwise(graph.starts.tolist()), strict=True)
    ]
    back = sorted(forward, key=lambda step: step.here, reverse=True)
    backward = [Step(step.there, step.here, step.heads, step.tails, step.weights) for step in back]
    return Potentials(into=_swept(graph, forward, graph.inputs), out_of=_swept(graph, backward, graph.outputs))


class Step(NamedTuple):
    """The edges of a block in the direction of a sweep: numbers of both stages, and each edge's ends and weight."""

    here: int
    there: int
    tails: Indices
    heads: Indices
    weights: Floats


def _swept(graph: ChannelGraph, steps: Sequence[Step], ends: Indices) -> Floats:
    """Log of the summed weight products from `ends` to each node."""
    mild = graph.weights.min(initial=1.0) > 1 / LARGEST and graph.weights.max(initial=1.0) < LARGEST
    found = _by_stage(graph, steps, ends) if mild else None
    return _by_edge(graph, steps, ends) if found is None else found


def _by_stage(graph: ChannelGraph, steps: Sequence[Step], ends: Indices) -> Floats | None:
    """As `_swept`, each stage scaled as a whole by its largest potential; None where one scale cannot hold a stage.

    Two logarithms a node in place of two an edge. Weights must lie within `LARGEST`.
    """
    values = np.zeros(graph.nodes)
    values[ends] = 1.0
    nodes = [stage.nodes for stage in graph.stages]
    # Natural log of what the potentials of a stage are to be multiplied with; None for one that was not reached.
    scales: list[float | None] = [None] * len(nodes)
    for number in np.unique(np.searchsorted([part.stop for part in nodes], ends, side="right")).tolist():
        scales[number] = 0.0
    settled: set[int] = set()
    work = np.empty(max((len(step.tails) for step in steps), default=0))
    for here, there, tails, heads, weights in steps:
        scale = scales[here]
        if scale is None:
            continue
        if here not in settled:
            stage = values[nodes[here]]
            # Not `stage.max()`: on a few hundred values its wrapper costs as much again, twice a stage and sweep.
            largest = float(np.maximum.reduce(stage))
            if not largest:
                continue
            if (np.minimum.reduce(stage) or stage[stage > 0].min()) < SMALLEST * largest:
                return None
            stage /= largest
            scale = scales[here] = scale + math.log(largest)
            settled.add(here)
        # Indices are in range by construction: "clip" only spares their check.
        terms = values.take(tails, out=work[: len(tails)], mode="clip")
        terms *= weights
        sums = np.bincount(heads, weights=terms, minlength=nodes[there].stop)[nodes[there]]
        other = scales[there]
        if other is None:
            values[nodes[there]], scales[there] = sums, scale
            continue
        if abs(scale - other) > SPREAD:
            return None
        values[nodes[there]] += sums * math.exp(scale - other)
    with np.errstate(divide="ignore"):
        totals = np.log(values)
    totals += np.repeat([scale or 0.0 for scale in scales], [stage.size for stage in graph.stages])
    return totals


def _by_edge(graph: ChannelGraph, steps: Sequence[Step], ends: Indices) -> Floats:
    """As `_swept`, in log space throughout: for any positive weights, at several times the cost."""
    totals = np.full(graph.nodes, -np.inf)
    totals[ends] = 0.0
    for step in steps:
        _accumulate(totals, step.heads, totals[step.tails] + np.log(step.weights))
    return totals


def _accumulate(totals: Floats, where: Indices, terms: Floats) -> None:
    """totals[where] = log(exp(totals[where]) + sum of exp(terms)), duplicates in `where` summed, each scaled by itself."""
    if not where.size:
        return
    low, high = int(where.min()), int(where.max()) + 1
    largest = totals[low:high].copy()
    np.maximum.at(largest, where - low, terms)
    shift = np.where(np.isfinite(largest), largest, 0.0)
    sums = np.bincount(where - low, weights=np.exp(terms - shift[where - low]), minlength=high - low)
    with np.errstate(divide="ignore"):
        totals[low:high] = np.log(sums + np.exp(totals[low:high] - shift)) + shift


def edge_products(graph: ChannelGraph) -> Floats:
    """Log of the total weight product over all input-output paths through each edge, in edge order (float64).

    -inf for an edge on no such path. For a bias-free network of positive weights this is the log of w times the gradient of
    the summed outputs, which is SynFlow's score.
    """
    found = potentials(graph)
    products = np.log(graph.weights)
    part = found.into.take(graph.tails, mode="clip")
    products += part
    products += found.out_of.take(graph.heads, out=part, mode="clip")
    return products


def edge_weight_product(graph: ChannelGraph, weights: Weights, mask: Mask) -> Scores:
    """EWP of every kept weight: log of the total product over all paths through that weight.

    A kernel's weights are parallel edges between two channels, so each gets its own share of the kernel's total. Raises
    `KeyError` when `graph` was traced from a network without one of the mask's parameters.
    """
    products = edge_products(graph) - np.log(graph.weights)
    spread = graph.to_weights(products, combine=np.logaddexp, empty=-np.inf)
    scores = {}
    with np.errstate(divide="ignore"):
        for name, bits in mask.items():
            scores[name] = spread[name] + np.log(np.abs(np.asarray(weights[name], dtype=np.float64)))
            scores[name][~bits] = -np.inf
    return scores


def magnitude(weights: Weights, mask: Mask) -> Scores:
    """OMP: the absolute weight."""
    return {name: np.where(bits, np.abs(weights[name]).astype(np.float64), -np.inf) for name, bits in mask.items()}


def uniform(mask: Mask, generator: np.random.Generator) -> Scores:
    """Independent uniform scores: a random choice of edges."""
    return {name: np.where(bits, generator.random(bits.shape), -np.inf) for name, bits in mask.items()}


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Sampled input-output paths: `edges` int64 (paths x longest), -1 behind the end; `log_products` float64 per path."""

    edges: Indices
    log_products: Floats


def sample_paths(graph: ChannelGraph, count: int, generator: np.random.Generator) -> Paths:
    """`count` random walks from a random input to an output, each step uniform over the edges that still reach an output.

    This is the sampling of the paper's EWP (section 4, V1), which keeps the paths of the largest product. Without any
    input-output path the result has no rows.
    """
    found = potentials(graph)
    alive = np.flatnonzero(np.isfinite(found.out_of[graph.heads]))
    order = alive[np.argsort(graph.tails[alive], kind="stable")]
    first = np.searchsorted(graph.tails[order], np.arange(graph.nodes))
    degree = np.searchsorted(graph.tails[order], np.arange(graph.nodes), side="right") - first
    starts = graph.inputs[degree[graph.inputs] > 0]
    if not starts.size or count == 0:
        return Paths(edges=np.empty((0, 0), dtype=np.int64), log_products=np.empty(0))
    at = generator.choice(starts, size=count)
    logs = np.zeros(count)
    steps = []
    while True:
        moving = degree[at] > 0
        if not moving.any():
            break
        choice = (generator.random(count) * degree[at]).astype(np.int64)
        taken = np.where(moving, order[np.where(moving, first[at] + choice, 0)], -1)
        logs[moving] += np.log(graph.weights[taken[moving]])
        at = np.where(moving, graph.heads[taken], at)
        steps.append(taken)
    return Paths(edges=np.stack(steps, axis=1), log_products=logs)


def sampled_products(graph: ChannelGraph, mask: Mask, count: int, generator: np.random.Generator) -> Scores:
    """The paper's EWP: the largest log product among `count` sampled paths through each edge; others rank below, randomly."""
    paths = sample_paths(graph, count, generator)
    best = np.full(graph.edges, -np.inf)
    for column in paths.edges.T:
        on = column >= 0
        np.maximum.at(best, column[on], paths.log_products[on])
    lowest = float(best[np.isfinite(best)].min(initial=0.0))
    best = np.where(np.isfinite(best), best, lowest - 1.0 - generator.random(graph.edges))
    return on_weights(graph, best, mask)


def random_paths(graph: ChannelGraph, mask: Mask, count: int, generator: np.random.Generator) -> Scores:
    """How many of `count` sampled paths use each edge; equal counts are ranked randomly."""
    paths = sample_paths(graph, count, generator)
    used = paths.edges[paths.edges >= 0]
    visits = np.bincount(used, minlength=graph.edges) + generator.random(graph.edges)
    return on_weights(graph, visits, mask)


def on_weights(graph: ChannelGraph, values: Floats, mask: Mask) -> Scores:
    """Edge values as scores of kept weights: all weights of a kernel share its value, pruned ones get -inf."""
    spread = graph.to_weights(values, combine=np.maximum, empty=-np.inf)
    return {name: np.where(bits, spread[name], -np.inf) for name, bits in mask.items()}
