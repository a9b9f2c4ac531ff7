"""The channel graph value: what becomes a node, what becomes an edge, and the way back to weights."""

from dataclasses import replace

import numpy as np
import pytest

from ticketguard.errors import UsageError
from ticketguard.graph.channels import Builder


def small():
    """2 inputs -> 3 channels (one kernel empty) -> sum with itself through a second layer -> 2 outputs."""
    builder = Builder()
    start = builder.stage("x", 2)
    first = np.array([[1.0, 0.0], [2.0, -3.0], [0.5, 4.0]])
    hidden = builder.layer("conv", "conv.weight", first[:, :, None, None] * np.array([[1.0, -1.0]]), start)
    inner = builder.layer("conv2", "conv2.weight", np.eye(3), hidden)
    total = builder.combine("add", [hidden, inner])
    out = builder.layer("fc", "fc.weight", np.ones((2, 3)), total)
    return builder.finish(start, out)


def test_nodes_edges_and_weights():
    graph = small()
    assert graph.nodes == 2 + 3 + 3 + 3 + 2
    # Five non-empty kernels, three diagonal ones, six identity edges, six of the classifier.
    assert graph.edges == 5 + 3 + 6 + 6
    first = graph.blocks[0]
    assert first.parameter == "conv.weight"
    assert np.array_equal(first.weights, [2.0, 4.0, 6.0, 1.0, 8.0])
    assert np.array_equal(first.kernels, [0, 2, 3, 4, 5])
    assert all(block.parameter is None for block in graph.blocks if graph.stages[block.target].name == "add")


def test_back_to_kernels_and_weights():
    graph = small()
    values = np.arange(1.0, graph.edges + 1)
    kernels = graph.to_kernels(values)
    assert set(kernels) == {"conv.weight", "conv2.weight", "fc.weight"}
    assert np.array_equal(kernels["conv.weight"], [[1, 0], [2, 3], [4, 5]])
    spread = graph.to_weights(values)["conv.weight"]
    assert spread.shape == (3, 2, 1, 2)
    assert np.array_equal(spread[1, 1, 0], [3, 3])


def test_networkx_has_the_same_edges():
    graph = small()
    other = graph.to_networkx()
    assert other.number_of_nodes() == graph.nodes
    edges = {
        (t, h): w for t, h, w in zip(graph.tails.tolist(), graph.heads.tolist(), graph.weights.tolist(), strict=True)
    }
    assert {(t, h): data["weight"] for t, h, data in other.edges(data=True)} == edges
    assert other.nodes[4] == {"stage": "conv", "channel": 2}


def test_a_tensor_added_to_itself_is_one_edge_of_weight_two():
    builder = Builder()
    start = builder.stage("x", 2)
    graph = builder.finish(start, builder.combine("add", [start, start]))
    assert graph.edges == 2
    assert np.array_equal(graph.weights, [2.0, 2.0])


def test_constant_zero_channels_have_no_edges():
    builder = Builder()
    start = builder.stage("x", 1)
    padded = np.array([-1, start[0], -1])
    graph = builder.finish(start, builder.layer("conv", "w", np.ones((2, 3)), padded))
    assert graph.edges == 2
    assert np.array_equal(graph.to_kernels(np.ones(2))["w"], [[0, 1, 0], [0, 1, 0]])


def test_grouped_layers_connect_only_inside_a_group():
    builder = Builder()
    start = builder.stage("x", 4)
    graph = builder.finish(start, builder.layer("dw", "w", np.ones((4, 1, 3, 3)), start, groups=4))
    assert graph.edges == 4
    assert np.array_equal(graph.tails, np.arange(4))
    assert np.array_equal(graph.heads, np.arange(4, 8))
    assert np.array_equal(graph.weights, np.full(4, 9.0))


def test_flattened_columns_of_one_channel_are_one_kernel():
    builder = Builder()
    start = builder.stage("x", 2)
    graph = builder.finish(start, builder.layer("fc", "w", np.arange(8.0).reshape(1, 8), start, span=4))
    assert np.array_equal(graph.weights, [6.0, 22.0])
    assert np.array_equal(graph.to_weights(np.array([1.0, 2.0]))["w"], [[1, 1, 1, 1, 2, 2, 2, 2]])


def test_backward_edges_and_bad_weights_are_refused():
    graph = small()
    with pytest.raises(UsageError, match="order"):
        replace(graph, blocks=graph.blocks[::-1])
    backward = replace(graph.blocks[0], source=2, target=1)
    with pytest.raises(UsageError, match="forward"):
        replace(graph, blocks=(backward,))
    with pytest.raises(UsageError, match="not positive"):
        replace(graph, blocks=(replace(graph.blocks[0], weights=-graph.blocks[0].weights),))
