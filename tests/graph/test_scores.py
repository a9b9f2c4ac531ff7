"""Path scores against brute force: every input-output path of small random graphs, enumerated by networkx."""

import math
from fractions import Fraction

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketguard.errors import UsageError
from ticketguard.graph.betweenness import edge_betweenness
from ticketguard.graph.channels import Builder
from ticketguard.graph.scores import (
    edge_products,
    edge_weight_product,
    magnitude,
    on_weights,
    random_paths,
    sample_paths,
    sampled_products,
    uniform,
)
from ticketguard.masks import Mask


@st.composite
def graphs(draw):
    """Random networks of sparse layers, sums, concatenations and zero-padded channels, with integer weights."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    builder = Builder()
    start = builder.stage("x", draw(st.integers(1, 3)))
    live = [start]
    for index in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["layer", "layer", "sum", "cat", "pad"]))
        one = live[draw(st.integers(0, len(live) - 1))]
        other = live[draw(st.integers(0, len(live) - 1))]
        if kind == "sum" and len(one) == len(other) and (one >= 0).all() and one is not other:
            live.append(builder.combine(f"add{index}", [one, other]))
        elif kind == "cat" and not np.intersect1d(one, other).size:
            live.append(np.concatenate([one, other]))
        elif kind == "pad":
            live.append(np.pad(one, 1, constant_values=-1))
        else:
            shape = (draw(st.integers(1, 4)), len(one))
            weight = rng.integers(1, 4, shape) * (rng.random(shape) < 0.7)
            live.append(builder.layer(f"fc{index}", f"fc{index}.weight", weight.astype(float), one))
    return builder.finish(start, live[-1])


def reference_products(graph):
    """Sum of the weight products of all input-output paths through each edge."""
    other = graph.to_networkx()
    totals = dict.fromkeys(other.edges, 0.0)
    for source in set(graph.inputs.tolist()):
        for target in set(graph.outputs.tolist()) - {source}:
            for path in nx.all_simple_edge_paths(other, source, target):
                product = np.prod([other.edges[edge]["weight"] for edge in path])
                for edge in path:
                    totals[edge] += product
    return np.array([totals[edge] for edge in zip(graph.tails.tolist(), graph.heads.tolist(), strict=True)])


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_products_equal_the_sum_over_all_paths(graph):
    # An input that is also an output is a path without edges, and sinks that are outputs may feed others: both are counted.
    with np.errstate(divide="ignore"):
        expected = np.log(reference_products(graph))
    assert np.allclose(edge_products(graph), expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(graphs(), st.booleans())
def test_betweenness_equals_networkx(graph, normalized):
    other = graph.to_networkx()
    edges = list(zip(graph.tails.tolist(), graph.heads.tolist(), strict=True))
    expected = nx.edge_betweenness_centrality(other, normalized=normalized)
    assert np.allclose(edge_betweenness(graph, normalized=normalized), [expected[edge] for edge in edges])
    expected = nx.edge_betweenness_centrality(other, normalized=normalized, weight="weight")
    found = edge_betweenness(graph, lengths=graph.weights, normalized=normalized)
    assert np.allclose(found, [expected[edge] for edge in edges])


@settings(max_examples=30, deadline=None)
@given(graphs())
def test_weighted_betweenness_with_equal_lengths_is_the_unweighted_one(graph):
    assert np.allclose(edge_betweenness(graph), edge_betweenness(graph, lengths=np.ones(graph.edges)))


def chain(width=6, depth=3, seed=0):
    rng = np.random.default_rng(seed)
    builder = Builder()
    at = start = builder.stage("x", width)
    weights = {}
    for index in range(depth):
        weights[f"w{index}"] = rng.normal(size=(width, width)) * (rng.random((width, width)) < 0.5)
        at = builder.layer(f"l{index}", f"w{index}", weights[f"w{index}"], at)
    return builder.finish(start, at), weights, Mask({name: array != 0 for name, array in weights.items()})


def test_source_samples_are_scaled_and_a_full_sample_is_exact():
    graph, _, _ = chain()
    exact = edge_betweenness(graph)
    everything = edge_betweenness(graph, sample=graph.nodes, generator=np.random.default_rng(0))
    assert np.allclose(everything, exact)
    draws = [edge_betweenness(graph, sample=8, generator=np.random.default_rng(seed)) for seed in range(300)]
    assert np.allclose(np.mean(draws, axis=0), exact, atol=0.25 * exact.max())
    assert not np.allclose(draws[0], exact)


def test_bad_samples_and_lengths_are_refused():
    graph, _, _ = chain()
    with pytest.raises(UsageError, match="sample"):
        edge_betweenness(graph, sample=3)
    with pytest.raises(UsageError, match="sample"):
        edge_betweenness(graph, sample=graph.nodes + 1, generator=np.random.default_rng(0))
    with pytest.raises(UsageError, match="positive"):
        edge_betweenness(graph, lengths=np.zeros(graph.edges))


def test_products_neither_overflow_nor_underflow():
    for scale in (1e-300, 1e300):
        builder = Builder()
        at = start = builder.stage("x", 2)
        for index in range(6):
            at = builder.layer(f"l{index}", f"w{index}", np.full((2, 2), scale), at)
        products = edge_products(builder.finish(start, at))
        # Through each edge pass 2 ** 5 paths of six weights.
        assert np.allclose(products, 6 * np.log(scale) + 5 * np.log(2))


def test_paths_far_apart_do_not_hide_each_other():
    builder = Builder()
    at = start = builder.stage("x", 2)
    for index in range(6):
        at = builder.layer(f"l{index}", f"w{index}", np.diag([1e-100, 1e100]), at)
    products = edge_products(builder.finish(start, at))
    assert np.allclose(products.reshape(6, 2), np.log(10) * np.array([-600, 600]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 20, 60, 90, 250]))
def test_products_are_right_whatever_the_range_of_the_weights(seed, decades):
    # Logs of exact fractions: the forward and the backward pass may each take either of two ways through the graph.
    rng = np.random.default_rng(seed)
    builder = Builder()
    at = start = builder.stage("x", 3)
    for index in range(4):
        weight = 10.0 ** rng.uniform(-decades, decades, (3, 3)) * (rng.random((3, 3)) < 0.7)
        before, at = at, builder.layer(f"l{index}", f"w{index}", weight, at)
        # Sums bring together potentials of other scales.
        at = builder.combine(f"sum{index}", [before, at]) if rng.random() < 0.5 else at
    graph = builder.finish(start, at)
    tails, heads, weights = graph.tails.tolist(), graph.heads.tolist(), [Fraction(w) for w in graph.weights.tolist()]
    into = {node: Fraction(int(node in start)) for node in range(graph.nodes)}
    out_of = {node: Fraction(int(node in at)) for node in range(graph.nodes)}
    for tail, head, weight in sorted(zip(tails, heads, weights, strict=True)):
        into[head] += into[tail] * weight
    for tail, head, weight in sorted(zip(tails, heads, weights, strict=True), reverse=True):
        out_of[tail] += out_of[head] * weight
    exact = [into[tail] * weight * out_of[head] for tail, head, weight in zip(tails, heads, weights, strict=True)]
    logs = [math.log(x.numerator) - math.log(x.denominator) if x else -math.inf for x in exact]
    assert np.allclose(edge_products(graph), logs, rtol=1e-12, atol=1e-12)


def test_weight_products_of_a_kernel_add_up_to_the_kernels():
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(3, 2, 3, 3)) * (rng.random((3, 2, 3, 3)) < 0.5)
    builder = Builder()
    start = builder.stage("x", 2)
    graph = builder.finish(start, builder.layer("c", "c.weight", weight, start))
    mask = Mask({"c.weight": weight != 0})
    scores = edge_weight_product(graph, {"c.weight": weight}, mask)["c.weight"]
    assert np.allclose(np.exp(scores).sum(axis=(2, 3)).ravel()[graph.blocks[0].kernels], np.exp(edge_products(graph)))
    assert (scores[~mask["c.weight"]] == -np.inf).all()


def test_sampled_paths_run_from_inputs_to_outputs_and_carry_their_product():
    graph, _, _ = chain()
    paths = sample_paths(graph, 50, np.random.default_rng(1))
    assert paths.edges.shape == (50, 3)
    assert np.isin(graph.tails[paths.edges[:, 0]], graph.inputs).all()
    assert np.isin(graph.heads[paths.edges[:, -1]], graph.outputs).all()
    assert np.array_equal(graph.heads[paths.edges[:, :-1]], graph.tails[paths.edges[:, 1:]])
    assert np.allclose(paths.log_products, np.log(graph.weights[paths.edges]).sum(axis=1))


def test_many_sampled_paths_find_the_largest_product():
    graph, _, mask = chain(width=3, depth=2)
    paths = sample_paths(graph, 3000, np.random.default_rng(1))
    other = graph.to_networkx()
    best = max(
        np.prod([other.edges[edge]["weight"] for edge in path])
        for source in graph.inputs.tolist()
        for target in graph.outputs.tolist()
        for path in nx.all_simple_edge_paths(other, source, target)
    )
    assert np.isclose(paths.log_products.max(), np.log(best))
    scores = sampled_products(graph, mask, 3000, np.random.default_rng(1))
    assert np.isclose(max(layer.max() for layer in scores.values()), np.log(best))


def test_a_graph_without_paths_has_no_samples():
    builder = Builder()
    start = builder.stage("x", 2)
    graph = builder.finish(start, builder.layer("l", "w", np.zeros((2, 2)), start))
    assert sample_paths(graph, 5, np.random.default_rng(0)).edges.size == 0


def test_every_score_ranks_pruned_weights_last_and_repeats_with_its_seed():
    graph, weights, mask = chain()
    table = {
        "magnitude": lambda _rng: magnitude(weights, mask),
        "uniform": lambda rng: uniform(mask, rng),
        "random paths": lambda rng: random_paths(graph, mask, 20, rng),
        "sampled products": lambda rng: sampled_products(graph, mask, 20, rng),
        "products": lambda _rng: edge_weight_product(graph, weights, mask),
        "betweenness": lambda _rng: on_weights(graph, edge_betweenness(graph), mask),
    }
    for name, score in table.items():
        once, again = score(np.random.default_rng(7)), score(np.random.default_rng(7))
        for layer, bits in mask.items():
            assert (once[layer][~bits] == -np.inf).all(), name
            assert not np.isnan(once[layer]).any(), name
            assert np.array_equal(once[layer], again[layer]), name
