"""How layers, norms and elementwise operations carry channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch.fx import Node

from ticketguard.graph.groups import Norm
from ticketguard.tracing.atoms import (
    Atoms,
    Value,
    argument,
    broadcast,
    fixed,
    opname,
    plain,
    plain_like,
    shape_of,
    where,
)

HOMOGENEOUS = {"relu", "leaky_relu", "abs", "add", "sub", "neg", "prelu", "dropout", "clone"}
AFFINE = {"add", "sub", "neg", "mul", "div"}


def pointwise(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """Elementwise with broadcasting: add, relu, multiplication by a gate, ..."""
    name = opname(node).rstrip("_")
    result = Value(shape=shape_of(node), labels=broadcast(atoms, shape_of(node), inputs))
    streams = [value for value in inputs if value.parameter is None]
    numbers = [arg for arg in node.args[: 2 if name in AFFINE else 0] if isinstance(arg, int | float)]
    scaled = name in {"mul", "div"} and len(inputs) == 1 and bool(numbers) and node.args[0] not in numbers
    summed = name in HOMOGENEOUS and len(streams) == len(inputs) and not numbers
    if not scaled and not summed:
        for value in [*inputs, result]:
            atoms.stiffen(value)
    if name in AFFINE and (name in {"add", "sub", "neg"} or len(streams) == 1):
        sources = frozenset[str]().union(*(value.affine_of for value in streams))
        return replace(result, affine_of=sources)
    return result


def identity(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """Same shape, same values for our purpose: dropout in evaluation, clone, contiguous, to."""
    source = inputs[0]
    return replace(source, output_of=None) if shape_of(node) == source.shape else fixed(atoms, node, inputs)


def convolution(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """conv1d/2d/3d, depthwise and grouped included; weight (O, I / groups, kernel...)."""
    source, weight = inputs[0], inputs[1]
    groups = int(str(argument(node, 6, "groups", 1)))
    channel = len(source.shape) - len(weight.shape) + 1
    atoms.fix(*weight.labels[2:])
    entering, outputs = source.labels[channel], weight.labels[0]
    affine = frozenset({weight.parameter}) if weight.parameter else frozenset[str]()
    if groups == 1:
        atoms.same(entering, weight.labels[1])
        atoms.linear_step(source, weight.parameter)
    elif weight.shape[1] == 1 and entering is not None:
        atoms.same(np.repeat(entering, weight.shape[0] // groups), outputs)
        atoms.stiffen(source)
        affine = frozenset()
        atoms.notes["depthwise filters: cell counts show little of their channels, which may be recovered in part"] = (
            None
        )
    else:
        atoms.fix(entering, outputs, weight.labels[1])
        atoms.notes[f"{where(node)}: a grouped convolution's channels are taken as fixed"] = None
    return _layer_output(atoms, node, inputs, channel, affine)


def _layer_output(atoms: Atoms, node: Node, inputs: Sequence[Value], channel: int, affine: frozenset[str]) -> Value:
    weight = inputs[1]
    if len(inputs) > 2:
        atoms.same(weight.labels[0], inputs[2].labels[0])
        if weight.parameter and inputs[2].parameter:
            atoms.biases[weight.parameter] = inputs[2].parameter
    shape = shape_of(node)
    labels = tuple(weight.labels[0] if dim == channel else None for dim in range(len(shape)))
    return Value(shape=shape, labels=labels, affine_of=affine, output_of=weight.parameter)


def linear(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """Product x W^T + b over the last dimension; other dimensions pass through."""
    source, weight = inputs[0], inputs[1]
    atoms.same(source.labels[-1], weight.labels[1])
    atoms.linear_step(source, weight.parameter)
    affine = frozenset({weight.parameter}) if weight.parameter else frozenset[str]()
    result = _layer_output(atoms, node, inputs, len(source.shape) - 1, affine)
    return replace(result, labels=(*source.labels[:-1], result.labels[-1]))


def matmul(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """Product of two tensors over the last and the last but one dimension; batch dimensions never move."""
    if len(inputs) != 2 or min(len(value.shape) for value in inputs) < 2:
        return fixed(atoms, node, inputs)
    first, second = inputs
    atoms.same(first.labels[-1], second.labels[-2])
    atoms.fix(*first.labels[:-2], *second.labels[:-2])
    for value in inputs:
        atoms.stiffen(value)
        atoms.leave_out.update(dict.fromkeys(sorted(value.affine_of)))
    shape = shape_of(node)
    return replace(plain(shape), labels=(*(None,) * (len(shape) - 2), first.labels[-2], second.labels[-1]))


def attention(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """Scaled dot product attention: per-head maps are free between query and key, and between value and output."""
    for value in inputs:
        atoms.fix(*value.labels)
        atoms.leave_out.update(dict.fromkeys(sorted(value.affine_of)))
    atoms.notes[f"{where(node)}: attention heads are taken as fixed; maps inside a head erase topology for free"] = None
    return replace(plain(shape_of(node)), affine_of=inputs[2].affine_of)


def batch_norm(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """Batch norm in evaluation: per channel scale and shift."""
    source = inputs[0]
    for value in inputs[1:]:
        atoms.same(source.labels[1], value.labels[0])
    names = [
        None if arg is None else next((v.parameter for v in inputs if v.parameter and _names(arg, v)), None)
        for arg in node.args[1:5]
    ]
    scale, shift, mean, variance = (*names, None, None, None, None)[:4]
    consumer_only = isinstance(node.args[0], Node) and len(node.args[0].users) == 1
    if source.output_of and consumer_only and mean and variance and source.output_of not in atoms.norms:
        epsilon = float(str(argument(node, 7, "eps", 1e-5)))
        atoms.norms[source.output_of] = Norm(mean=mean, variance=variance, scale=scale, shift=shift, epsilon=epsilon)
    else:
        atoms.stiffen(source)
    return replace(source, output_of=None)


def _names(arg: object, value: Value) -> bool:
    return isinstance(arg, Node) and arg.meta.get("ticketguard") is value


def instance_norm(atoms: Atoms, _node: Node, inputs: Sequence[Value]) -> Value:
    """Norms that treat every channel (dimension 1) alike."""
    for value in inputs[1:]:
        atoms.same(inputs[0].labels[1], value.labels[0])
    atoms.stiffen(inputs[0])
    return plain_like(inputs[0])


def group_norm(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """Group norm: one group, or one per channel, treats all channels alike; otherwise they are fixed."""
    groups = int(str(argument(node, 1, "num_groups")))
    alike = groups in (1, inputs[0].shape[1])
    return instance_norm(atoms, node, inputs) if alike else fixed(atoms, node, inputs)


def layer_norm(atoms: Atoms, _node: Node, inputs: Sequence[Value]) -> Value:
    """Layer and RMS norm over trailing dimensions: symmetric in the channels."""
    source = inputs[0]
    for value in inputs[1:]:
        for back in range(1, len(value.shape) + 1):
            atoms.same(source.labels[-back], value.labels[-back])
    atoms.stiffen(source)
    return plain_like(source)


def embedding(atoms: Atoms, node: Node, inputs: Sequence[Value]) -> Value:
    """Rows of a table by token: the vocabulary is fixed, the features are free."""
    table = inputs[0]
    atoms.fix(table.labels[0])
    atoms.stiff.extend(labels for labels in table.labels[1:] if labels is not None)
    shape = shape_of(node)
    return replace(plain(shape), labels=(*(None,) * (len(shape) - 1), table.labels[1]))


def softmax(atoms: Atoms, _node: Node, inputs: Sequence[Value]) -> Value:
    """Symmetric in the channels, not homogeneous."""
    atoms.stiffen(inputs[0])
    return plain_like(inputs[0])


def prelu(atoms: Atoms, _node: Node, inputs: Sequence[Value]) -> Value:
    """One slope for all channels, or one for each."""
    source, slope = inputs
    if slope.shape[-1] > 1:
        atoms.same(source.labels[1], slope.labels[0])
    return plain_like(source)
