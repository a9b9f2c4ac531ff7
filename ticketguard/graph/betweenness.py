"""Edge betweenness centrality of a channel graph, exact and vectorized over sources (Brandes 2001, stage by stage).

The graph is acyclic and layered, so no queue is needed: distances and path counts of many sources at once flow forward
through the stages, dependencies flow back. Unweighted, both are matrix products, one per distinct distance in a stage;
weighted, they are reductions over the edges of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from ticketguard.errors import UsageError
from ticketguard.graph.channels import ChannelGraph, Floats, Indices

# Entries (float64) of the largest temporary; bounds memory, not the result.
BUDGET = 1 << 23


def edge_betweenness(
    graph: ChannelGraph,
    *,
    lengths: Floats | None = None,
    sample: int | None = None,
    generator: np.random.Generator | None = None,
    normalized: bool = False,
) -> Floats:
    """Betweenness of every edge, in edge order: the sum over ordered node pairs of the share of shortest paths through it.

    Without `lengths` every edge is one hop; else `lengths` holds one positive float64 per edge (for strong edges to be short,
    pass `1 / graph.weights`). `sample` uses that many sources drawn by `generator` and scales up: an unbiased estimate for
    graphs too large for all sources. `normalized` divides by n (n - 1). Agrees with networkx on `graph.to_networkx()` when no
    edges are parallel. Raises `UsageError` for lengths that are not positive or a sample that is out of range.
    """
    sources = np.arange(graph.nodes)
    if sample is not None:
        if generator is None or not 1 <= sample <= graph.nodes:
            raise UsageError(f"a source sample needs a generator and 1 to {graph.nodes} sources, found {sample}")
        sources = np.sort(generator.choice(graph.nodes, size=sample, replace=False))
    if lengths is not None and not (lengths.shape == graph.weights.shape and (lengths > 0).all()):
        raise UsageError("edge lengths: one positive number per edge is needed")
    total = np.zeros(graph.edges)
    steps = _steps(graph)
    widest = max([1, *(stage.size for stage in graph.stages)])
    if lengths is not None:
        widest = max([widest, *(len(block.tails) for block in graph.blocks)])
    for batch in _batches(graph, sources, max(1, BUDGET // widest)):
        flow = _Flow(graph, batch)
        if lengths is None:
            _hops_forward(flow, steps)
            _hops_backward(flow, steps, total)
        else:
            _lengths_forward(flow, steps, lengths)
            _lengths_backward(flow, steps, lengths, total)
    if not np.isfinite(total).all():
        raise UsageError("edge betweenness: more shortest paths than a double can count")
    if sample is not None:
        total *= graph.nodes / sample
    if normalized and graph.nodes > 1:
        total /= graph.nodes * (graph.nodes - 1)
    return total


def _batches(graph: ChannelGraph, sources: Indices, most: int) -> Iterator[Indices]:
    """Sources stage by stage, at most `most` at a time: a stage reaches only what lies behind it."""
    for stage in graph.stages:
        here = sources[(sources >= stage.start) & (sources < stage.start + stage.size)]
        for start in range(0, len(here), most):
            yield here[start : start + most]


class _Step:
    """One block as a 0/1 matrix (heads x tails) between the node ranges of its two stages, and its edges' numbers."""

    def __init__(self, graph: ChannelGraph, index: int) -> None:
        block = graph.blocks[index]
        tail, head = graph.stages[block.source], graph.stages[block.target]
        self.tails = tail.nodes
        self.heads = head.nodes
        self.edges = slice(int(graph.starts[index]), int(graph.starts[index + 1]))
        self.columns = block.tails - tail.start
        self.rows = block.heads - head.start
        # Identity edges and depthwise kernels need no matrix: each node has at most one edge on either side.
        self.paired = _distinct(self.columns) and _distinct(self.rows)
        self.matrix = np.zeros((0, 0) if self.paired else (head.size, tail.size))
        if not self.paired:
            np.add.at(self.matrix, (self.rows, self.columns), 1.0)

    def push(self, values: Floats) -> Floats:
        """Sums over incoming edges: tails x sources -> heads x sources."""
        if not self.paired:
            return np.asarray(self.matrix @ values)
        pushed = np.zeros((self.heads.stop - self.heads.start, values.shape[1]))
        pushed[self.rows] = values[self.columns]
        return pushed

    def pull(self, values: Floats) -> Floats:
        """Sums over outgoing edges: heads x sources -> tails x sources."""
        if not self.paired:
            return np.asarray(self.matrix.T @ values)
        pulled = np.zeros((self.tails.stop - self.tails.start, values.shape[1]))
        pulled[self.columns] = values[self.rows]
        return pulled

    def products(self, at_heads: Floats, at_tails: Floats) -> Floats:
        """For each edge the sum over sources of its head's value times its tail's."""
        if self.paired:
            return np.asarray(np.einsum("es,es->e", at_heads[self.rows], at_tails[self.columns]))
        return np.asarray((at_heads @ at_tails.T)[self.rows, self.columns])


def _distinct(indices: Indices) -> bool:
    return len(np.unique(indices)) == len(indices)


def _steps(graph: ChannelGraph) -> list[_Step]:
    return [_Step(graph, index) for index in range(len(graph.blocks))]


class _Flow:
    """Distances, shortest-path counts and dependencies: a row per node (from `offset` on), a column per source."""

    def __init__(self, graph: ChannelGraph, sources: Indices) -> None:
        start = next(stage.start for stage in reversed(graph.stages) if stage.start <= sources[0])
        shape = (graph.nodes - start, len(sources))
        self.offset = start
        self.distance = np.full(shape, np.inf)
        self.count = np.zeros(shape)
        self.dependency = np.zeros(shape)
        self.distance[sources - start, np.arange(len(sources))] = 0.0
        self.count[sources - start, np.arange(len(sources))] = 1.0

    def rows(self, nodes: slice) -> slice:
        """The rows of a range of nodes."""
        return slice(nodes.start - self.offset, nodes.stop - self.offset)

    def reachable(self, steps: list[_Step]) -> list[_Step]:
        """The steps behind the batch's stage."""
        return [step for step in steps if step.tails.start >= self.offset]


def _at(values: Floats, distances: Floats, distance: float) -> Floats:
    """`values` where `distances` equals `distance`, 0 elsewhere."""
    return np.asarray(values * (distances == distance))


def _finite(distances: Floats) -> list[float]:
    found: list[float] = np.unique(distances).tolist()
    return [distance for distance in found if distance != np.inf]


def _hops_forward(flow: _Flow, steps: list[_Step]) -> None:
    """Breadth-first search: at each stage the smallest distance that arrives wins, and its counts add up."""
    for heads, group in groupby(flow.reachable(steps), key=lambda step: (step.heads.start, step.heads.stop)):
        incoming = [(step, flow.rows(step.tails)) for step in group]
        to = flow.rows(slice(*heads))
        levels = {step: _finite(flow.distance[rows]) for step, rows in incoming}
        for level in sorted({level for found in levels.values() for level in found}):
            arriving = sum(
                step.push(_at(flow.count[rows], flow.distance[rows], level))
                for step, rows in incoming
                if level in levels[step]
            )
            first = (arriving > 0) & (flow.distance[to] == np.inf)
            np.copyto(flow.distance[to], level + 1, where=first)
            np.copyto(flow.count[to], arriving, where=first)


def _hops_backward(flow: _Flow, steps: list[_Step], total: Floats) -> None:
    """Dependencies, last stage first; adds each edge's share to `total`."""
    for step in sorted(flow.reachable(steps), key=lambda step: step.tails.start, reverse=True):
        tails, heads = flow.rows(step.tails), flow.rows(step.heads)
        near, far = flow.distance[tails], flow.distance[heads]
        share = _shares(flow, heads)
        for level in _finite(near):
            ahead = _at(share, far, level + 1)
            behind = _at(flow.count[tails], near, level)
            flow.dependency[tails] += behind * step.pull(ahead)
            total[step.edges] += step.products(ahead, behind)


def _shares(flow: _Flow, heads: slice) -> Floats:
    """(1 + dependency) / count of the head nodes, 0 where no path arrives."""
    count = flow.count[heads]
    return np.divide(1.0 + flow.dependency[heads], count, out=np.zeros_like(count), where=count > 0)


def _lengths_forward(flow: _Flow, steps: list[_Step], lengths: Floats) -> None:
    """Shortest distances over weighted edges, then the counts of the paths that attain them."""
    for heads, group in groupby(flow.reachable(steps), key=lambda step: (step.heads.start, step.heads.stop)):
        incoming = list(group)
        to = flow.rows(slice(*heads))
        arrivals = [flow.distance[flow.rows(step.tails)][step.columns] + lengths[step.edges, None] for step in incoming]
        for step, arrival in zip(incoming, arrivals, strict=True):
            _reduce(np.minimum, flow.distance[to], step.rows, arrival)
        for step, arrival in zip(incoming, arrivals, strict=True):
            tight = (arrival == flow.distance[to][step.rows]) & (arrival < np.inf)
            _reduce(np.add, flow.count[to], step.rows, flow.count[flow.rows(step.tails)][step.columns] * tight)


def _lengths_backward(flow: _Flow, steps: list[_Step], lengths: Floats, total: Floats) -> None:
    """Dependencies along weighted shortest paths, last stage first; adds each edge's share to `total`."""
    for step in sorted(flow.reachable(steps), key=lambda step: step.tails.start, reverse=True):
        tails, heads = flow.rows(step.tails), flow.rows(step.heads)
        # The same sum as in the forward pass, so equality is exact in floating point.
        arrival = flow.distance[tails][step.columns] + lengths[step.edges, None]
        tight = (arrival == flow.distance[heads][step.rows]) & (arrival < np.inf)
        passed = flow.count[tails][step.columns] * _shares(flow, heads)[step.rows] * tight
        _reduce(np.add, flow.dependency[tails], step.columns, passed)
        total[step.edges] += passed.sum(axis=1)


def _reduce(operation: np.ufunc, onto: Floats, groups: Indices, values: Floats) -> None:
    """onto[g] = operation over onto[g] and all `values` of group g, row-wise; a sorted reduction is faster than `ufunc.at`."""
    if not groups.size:
        return
    order = np.argsort(groups, kind="stable")
    if (np.diff(groups) < 0).any():
        values = values[order]
    ordered = groups[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    onto[ordered[starts]] = operation(onto[ordered[starts]], operation.reduceat(values, starts, axis=0))
