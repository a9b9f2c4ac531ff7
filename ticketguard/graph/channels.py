"""The channel graph: channels as nodes, non-empty kernels as weighted edges, sums and concatenations as what they are.

A plain value without torch: `ticketguard.tracing.channels` makes it from a module. Nodes are numbered stage by stage in
topological order, so every edge goes from a lower to a higher number and the graph is acyclic by construction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import UsageError

if TYPE_CHECKING:
    import networkx

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The channels of one activation: nodes `start` to `start + size - 1`. `name` is the activation's name in the trace."""

    name: str
    start: int
    size: int

    @property
    def nodes(self) -> slice:
        """The stage's part of an array over all nodes."""
        return slice(self.start, self.start + self.size)


@dataclass(frozen=True, kw_only=True)
class Block:
    """The edges from one stage to a later one, made by one parameter (or by none: a sum's identity edges).

    `tails` and `heads` are node numbers (int64), `weights` positive float64: the sum of the absolute kept weights of the
    kernel, 1 for identity edges. `kernels` are the flat indices of the kernels in the parameter's (output, input) matrix,
    -1 for identity edges. `span` is the number of consecutive weights of one kernel.
    """

    source: int
    target: int
    parameter: str | None
    tails: Indices
    heads: Indices
    weights: Floats
    kernels: Indices
    span: int = 1


@dataclass(frozen=True, kw_only=True)
class ChannelGraph:
    """Stages in topological order, edge blocks, and the nodes that hold the network's inputs and outputs.

    Blocks are ordered by target stage; `shapes` maps each parameter to its shape. Raises `UsageError` when an edge does not go
    forward or a weight is not positive.
    """

    stages: tuple[Stage, ...]
    blocks: tuple[Block, ...]
    inputs: Indices
    outputs: Indices
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(before.target > after.target for before, after in pairwise(self.blocks)):
            raise UsageError("channel graph: blocks are not in the order of their target stages")
        for block in self.blocks:
            if not 0 <= block.source < block.target < len(self.stages):
                raise UsageError(f"channel graph: edges of {block.parameter or 'a sum'} do not go forward")
            if block.weights.size and not (np.isfinite(block.weights).all() and block.weights.min() > 0):
                raise UsageError(
                    f"channel graph: edges of {block.parameter or 'a sum'} have weights that are not positive"
                )

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return sum(stage.size for stage in self.stages)

    @property
    def edges(self) -> int:
        """Number of edges, identity edges of sums included."""
        return sum(len(block.tails) for block in self.blocks)

    @cached_property
    def starts(self) -> Indices:
        """Position of each block's first edge in edge order (all blocks one after the other), and the total at the end."""
        return np.cumsum([0, *(len(block.tails) for block in self.blocks)], dtype=np.int64)

    @cached_property
    def tails(self) -> Indices:
        """Tail node of every edge, in edge order."""
        return np.concatenate([np.empty(0, dtype=np.int64), *(block.tails for block in self.blocks)])

    @cached_property
    def heads(self) -> Indices:
        """Head node of every edge, in edge order."""
        return np.concatenate([np.empty(0, dtype=np.int64), *(block.heads for block in self.blocks)])

    @cached_property
    def weights(self) -> Floats:
        """Weight of every edge, in edge order."""
        return np.concatenate([np.empty(0), *(block.weights for block in self.blocks)])

    def to_networkx(self) -> networkx.DiGraph:
        """The same graph for networkx: nodes carry `stage` and `channel`, edges `weight` and `parameter`.

        Parallel edges (a tensor concatenated with itself) become one whose weight is their sum.
        """
        # networkx takes a quarter of a second to import and only users of its algorithms need it.
        import networkx as nx

        graph = nx.DiGraph()
        for stage in self.stages:
            graph.add_nodes_from(
                (stage.start + channel, {"stage": stage.name, "channel": channel}) for channel in range(stage.size)
            )
        for block in self.blocks:
            for tail, head, weight in zip(
                block.tails.tolist(), block.heads.tolist(), block.weights.tolist(), strict=True
            ):
                if graph.has_edge(tail, head):
                    graph[tail][head]["weight"] += weight
                else:
                    graph.add_edge(tail, head, weight=weight, parameter=block.parameter)
        return graph

    def to_kernels(self, values: Floats, *, combine: np.ufunc = np.add, empty: float = 0.0) -> dict[str, Floats]:
        """Edge values (float64, in edge order) as (output, input) matrices per parameter; `empty` where there is no edge.

        A parameter that the network uses more than once gets its uses joined by `combine`, whose identity is `empty`. Linear
        layers behind a flattening get one column per channel, not per weight.
        """
        matrices: dict[str, Floats] = {}
        for index, block in enumerate(self.blocks):
            if block.parameter is None:
                continue
            shape = self.shapes[block.parameter]
            flat = matrices.setdefault(block.parameter, np.full(int(np.prod(shape)) // block.span, empty))
            flat[block.kernels] = combine(flat[block.kernels], values[self.starts[index] : self.starts[index + 1]])
        return {name: flat.reshape(self.shapes[name][0], -1) for name, flat in matrices.items()}

    def to_weights(self, values: Floats, *, combine: np.ufunc = np.add, empty: float = 0.0) -> dict[str, Floats]:
        """`to_kernels` spread over weights: every weight of a kernel gets the kernel's value, in the parameter's shape."""
        spread = {}
        for name, matrix in self.to_kernels(values, combine=combine, empty=empty).items():
            size = int(np.prod(self.shapes[name]))
            spread[name] = np.repeat(matrix.ravel(), size // matrix.size).reshape(self.shapes[name])
        return spread


@dataclass
class Builder:
    """Collects stages and blocks while a network is walked in execution order; `finish` gives the value.

    Channels travel as int64 arrays of node numbers, -1 for a channel that is constantly zero (padding).
    """

    stages: list[Stage] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def stage(self, name: str, size: int) -> Indices:
        """Add `size` nodes; returns their numbers."""
        start = self.stages[-1].start + self.stages[-1].size if self.stages else 0
        self.stages.append(Stage(name=name, start=start, size=size))
        return np.arange(start, start + size, dtype=np.int64)

    def layer(
        self,
        name: str,
        parameter: str,
        weight: NDArray[np.floating],
        channels: Indices,
        *,
        groups: int = 1,
        span: int = 1,
    ) -> Indices:
        """Add the output channels of a convolution or linear layer and one edge per non-empty kernel.

        `weight` is O x (I / groups) x ... as torch stores it; `channels` its I input channels; `span` the consecutive
        columns per channel of a linear layer behind a flattening. Returns the output channels.
        """
        outputs = weight.shape[0]
        inputs = len(channels) // groups
        kernels = np.abs(weight.reshape(outputs, inputs, -1)).sum(axis=2, dtype=np.float64)
        rows, columns = np.nonzero(kernels)
        tails = channels[(rows // (outputs // groups)) * inputs + columns]
        created = self.stage(name, outputs)
        self.shapes[parameter] = tuple(weight.shape)
        width = int(np.prod(weight.shape[2:])) * span
        self._connect(parameter, tails, created[rows], kernels[rows, columns], rows * inputs + columns, width)
        return created

    def combine(self, name: str, operands: list[Indices]) -> Indices:
        """Add the channels of an elementwise sum (or product) of equally wide operands: identity edges of weight 1."""
        created = self.stage(name, len(operands[0]))
        tails = np.concatenate(operands)
        heads = np.tile(created, len(operands))
        # A tensor added to itself is one edge of weight 2, not two paths.
        pairs, counts = np.unique(np.stack([tails, heads]), axis=1, return_counts=True)
        self._connect(None, pairs[0], pairs[1], counts.astype(np.float64), np.full(pairs.shape[1], -1), 1)
        return created

    def _connect(
        self, parameter: str | None, tails: Indices, heads: Indices, weights: Floats, kernels: Indices, span: int
    ) -> None:
        """Split edges by source stage and store one block each; edges from constant zero channels are none."""
        bounds = np.array([stage.start for stage in self.stages], dtype=np.int64)
        sources = np.searchsorted(bounds, tails, side="right") - 1
        for source in np.unique(sources[tails >= 0]).tolist():
            here = np.flatnonzero((sources == source) & (tails >= 0))
            self.blocks.append(
                Block(
                    source=source,
                    target=len(self.stages) - 1,
                    parameter=parameter,
                    tails=tails[here],
                    heads=heads[here],
                    weights=weights[here],
                    kernels=kernels[here].astype(np.int64),
                    span=span,
                )
            )

    def finish(self, inputs: Indices, outputs: Indices) -> ChannelGraph:
        """The graph, with its input and output nodes."""
        return ChannelGraph(
            stages=tuple(self.stages),
            blocks=tuple(self.blocks),
            inputs=inputs[inputs >= 0],
            outputs=outputs[outputs >= 0],
            shapes=dict(self.shapes),
        )
