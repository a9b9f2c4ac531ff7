"""Speed of path products and betweenness on the channel graphs of ResNet-18 and ResNet-20, with networkx in the same run.

    python benchmarks/bench_graph.py            # one core, about a minute

Random masks at the paper's densities; the bars are those of the project's issue on the paper.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import time
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import torch

from ticketguard.graph.betweenness import edge_betweenness
from ticketguard.graph.channels import ChannelGraph
from ticketguard.graph.scores import edge_products
from ticketguard.models import MODELS, prunable
from ticketguard.tracing.channels import channel_graph


def graph_of(name: str, density: float | None) -> ChannelGraph:
    """The channel graph of a freshly initialized network, its prunable weights kept at random with this density."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    module = MODELS[name]()
    with torch.no_grad():
        for parameter in prunable(module):
            weight = module.get_parameter(parameter)
            if density is not None:
                weight *= torch.from_numpy((rng.random(weight.shape) < density).astype(np.float32))
    return channel_graph(module, torch.zeros(1, 3, 32, 32))


def timed(call: Callable[[], Any], *, repeats: int = 1) -> tuple[float, Any]:
    """Best processor time in seconds (others may use the machine), and the last result."""
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        best = min(best, time.process_time() - start)
    return best, result


def against(graph: ChannelGraph, other: nx.Graph, name: str, bar: float, ours: float, values: np.ndarray) -> None:
    """Time networkx on the same graph and print the ratio, and the largest difference where the graphs agree in kind."""
    taken, found = timed(lambda: nx.edge_betweenness_centrality(other, normalized=False))
    note = ""
    if other.is_directed():
        edges = zip(graph.tails.tolist(), graph.heads.tolist(), strict=True)
        difference = max(abs(found[edge] - value) for edge, value in zip(edges, values.tolist(), strict=True))
        note = f", largest difference {difference:.1e}"
    print(f"  networkx, {name}: {taken:.2f} s, ratio {taken / ours:.0f} (bar {bar:.0f}){note}")


def main() -> None:
    """Print every timing and ratio."""
    for density in (0.0124, None):
        graph = graph_of("resnet18", density)
        label = "dense" if density is None else f"{density:.1%} kept"
        print(f"ResNet-18, {label}: {graph.nodes:,} nodes, {graph.edges:,} edges")
        taken, products = timed(lambda g=graph: edge_products(g), repeats=3)
        print(
            f"  edge-weight product, exact: {taken:.3f} s (bar 1 s), {np.isfinite(products).mean():.1%} of edges on a path"
        )
        taken, _ = timed(lambda g=graph: edge_betweenness(g))
        print(f"  betweenness, unweighted, exact: {taken:.2f} s" + (" (bar 60 s)" if density else ""))
        if density is not None:
            taken, _ = timed(lambda g=graph: edge_betweenness(g, lengths=1 / g.weights))
            print(f"  betweenness, weighted, exact: {taken:.2f} s")
    graph = graph_of("resnet20", 0.194)
    print(f"ResNet-20, 19.4 % kept: {graph.nodes:,} nodes, {graph.edges:,} edges")
    ours, values = timed(lambda: edge_betweenness(graph), repeats=3)
    print(f"  betweenness, unweighted, exact: {ours:.3f} s")
    directed = graph.to_networkx()
    against(graph, directed, "directed, the same graph", 50, ours, values)
    against(graph, directed.to_undirected(), "undirected form of the graph (other values)", 100, ours, values)


if __name__ == "__main__":
    main()
