"""From a module to its channel graph: a symbolic trace (torch.fx) whose result is plain data (`graph.channels`).

Every traced operation says what it does to channels: layers make new ones, sums join them, concatenations and slices list
them anew, everything elementwise or spatial passes them on. An operation whose effect is unknown is refused, not guessed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from ticketguard.errors import UsageError
from ticketguard.graph.channels import Builder, ChannelGraph, Indices
from ticketguard.models import evaluating

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Modules that treat each channel by itself, or (layer norms) only rescale it by its neighbours.
PASSING = (
    nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Mish, nn.BatchNorm1d, nn.BatchNorm2d,
    nn.BatchNorm3d, nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample, nn.ZeroPad2d, nn.Softmax, nn.LogSoftmax,
)  # fmt: skip
PASSING_FUNCTIONS = (
    F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.hardswish, F.hardtanh, F.sigmoid, F.tanh, F.dropout, F.max_pool2d,
    F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.interpolate, F.softmax, F.log_softmax, F.batch_norm,
    torch.relu, torch.sigmoid, torch.tanh, torch.flatten, torch.mean, torch.amax, torch.clone, torch.squeeze, torch.neg,
)  # fmt: skip
PASSING_METHODS = (
    "relu", "sigmoid", "tanh", "flatten", "view", "reshape", "mean", "amax", "contiguous", "clone", "float", "squeeze", "to",
    "neg", "detach",
)  # fmt: skip
JOINING: tuple[Callable[..., Any], ...] = (
    operator.add, operator.iadd, operator.sub, operator.isub, operator.mul, operator.imul, operator.truediv,
    torch.add, torch.sub, torch.mul,
)  # fmt: skip
JOINING_METHODS = ("add", "add_", "sub", "mul", "mul_")


@dataclass(frozen=True, kw_only=True)
class _Channels:
    """Axis 1 of a traced tensor: a node per channel (-1: constantly zero), each standing for `span` consecutive entries."""

    nodes: Indices
    span: int = 1


def channel_graph(module: nn.Module, example: Tensor) -> ChannelGraph:
    """The channel graph of `module` for inputs like `example` (N, C, ...).

    Masked weights must be exact zeros, as in a ticket. Parameter names are the module's. Raises `UsageError` when the module
    cannot be traced or holds an operation whose effect on channels is unknown.
    """
    try:
        with evaluating(module), torch.no_grad():
            traced = fx.symbolic_trace(module)
            ShapeProp(traced).propagate(example)
    except (fx.proxy.TraceError, RuntimeError, TypeError, ValueError) as problem:
        reason = next(iter(str(problem).strip().splitlines()), type(problem).__name__)[:200]
        raise UsageError(f"{type(module).__name__} cannot be traced into a channel graph: {reason}") from problem
    return _Walk(traced).run()


class _Walk:
    """One pass over a traced module in execution order."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced = traced
        self.builder = Builder()
        self.values: dict[fx.Node, Any] = {}
        self.inputs: list[Indices] = []
        self.outputs: list[Indices] = []

    def run(self) -> ChannelGraph:
        handlers = {
            "placeholder": self._placeholder,
            "get_attr": lambda _node: None,
            "call_module": self._module,
            "call_function": self._function,
            "call_method": self._method,
            "output": self._output,
        }
        for node in self.traced.graph.nodes:
            self.values[node] = handlers[node.op](node)
        if not self.inputs or not self.outputs:
            raise UsageError("channel graph: the trace has no tensor input or no tensor output")
        return self.builder.finish(np.concatenate(self.inputs), np.concatenate(self.outputs))

    def _placeholder(self, node: fx.Node) -> _Channels | None:
        shape = _shape(node)
        if shape is None or len(shape) < 2:
            return None
        nodes = self.builder.stage(node.name, shape[1])
        self.inputs.append(nodes)
        return _Channels(nodes=nodes)

    def _output(self, node: fx.Node) -> None:
        for argument in node.all_input_nodes:
            if isinstance(self.values[argument], _Channels):
                self.outputs.append(self.values[argument].nodes)

    def _module(self, node: fx.Node) -> Any:
        module = self.traced.get_submodule(str(node.target))
        value = self._operand(node)
        if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
            groups = module.groups if isinstance(module, CONVOLUTIONS) else 1
            name = f"{node.target}.weight"
            return self._layer(node, value, name, module.weight, groups)
        if isinstance(module, PASSING):
            return self._passed(node, value)
        raise self._unknown(node, type(module).__name__)

    def _layer(self, node: fx.Node, value: _Channels, name: str, parameter: Tensor, groups: int) -> _Channels:
        weight = parameter.detach().cpu().float().numpy()
        shape = _shape(node)
        input_shape = _shape(node.all_input_nodes[0])
        if weight.ndim == 2 and (shape is None or input_shape is None or len(input_shape) != 2):
            raise self._unknown(node, f"a linear layer on a tensor of shape {input_shape}")
        if weight.size == 0 or weight.shape[0] == 0:
            raise self._unknown(node, "a layer without weights")
        created = self.builder.layer(node.name, name, weight, value.nodes, groups=groups, span=value.span)
        return _Channels(nodes=created)

    def _function(self, node: fx.Node) -> Any:
        if node.target in (operator.getitem,):
            return self._item(node)
        if node.target in (torch.cat, torch.concat):
            return self._concatenated(node)
        if node.target is F.pad:
            return self._padded(node)
        if node.target in (torch.chunk, torch.split):
            return self._split(node)
        if node.target in JOINING:
            return self._joined(node)
        if node.target in PASSING_FUNCTIONS:
            return self._passed(node, self._operand(node))
        if _shape(node) is None:
            return None
        raise self._unknown(node, getattr(node.target, "__name__", str(node.target)))

    def _method(self, node: fx.Node) -> Any:
        if node.target in JOINING_METHODS:
            return self._joined(node)
        if node.target in ("chunk", "split"):
            return self._split(node)
        if node.target in PASSING_METHODS:
            return self._passed(node, self._operand(node))
        if _shape(node) is None:
            return None
        raise self._unknown(node, f"method {node.target}")

    def _operand(self, node: fx.Node) -> _Channels:
        """The one tensor that a layer or elementwise operation works on."""
        found = [
            self.values[argument] for argument in node.all_input_nodes if isinstance(self.values[argument], _Channels)
        ]
        if not found:
            raise self._unknown(node, "an operation on something that is not the network's input")
        first: _Channels = found[0]
        return first

    def _passed(self, node: fx.Node, value: _Channels) -> _Channels:
        """Elementwise and spatial operations keep axis 1; a flattening repeats every channel for its positions."""
        shape = _shape(node)
        size = shape[1] if shape is not None and len(shape) >= 2 else 0
        before = len(value.nodes) * value.span
        if size == before:
            return value
        source = _shape(node.all_input_nodes[0])
        if shape is not None and len(shape) == 2 and source is not None and size == int(np.prod(source[1:])):
            return _Channels(nodes=value.nodes, span=size // len(value.nodes))
        raise self._unknown(node, f"a reshaping from {source} to {shape}")

    def _joined(self, node: fx.Node) -> Any:
        """Sums and products of two tensors: a new channel fed by both. With a number or a constant: passed on."""
        operands = [
            self.values[a] for a in node.args if isinstance(a, fx.Node) and isinstance(self.values[a], _Channels)
        ]
        if not operands:
            return None
        if len(operands) == 1:
            return self._passed(node, operands[0])
        first, second = operands
        if len(first.nodes) != len(second.nodes) or first.span != second.span:
            raise self._unknown(node, f"a sum of {len(first.nodes)} and {len(second.nodes)} channels")
        return _Channels(nodes=self.builder.combine(node.name, [first.nodes, second.nodes]), span=first.span)

    def _concatenated(self, node: fx.Node) -> _Channels:
        parts = [self.values[part] for part in node.args[0]]  # type: ignore[union-attr, index]
        axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        rank = len(_shape(node) or ())
        known = all(isinstance(part, _Channels) for part in parts)
        if not known or axis not in (1, 1 - rank) or len({part.span for part in parts}) != 1:
            raise self._unknown(node, f"a concatenation along axis {axis}")
        return _Channels(nodes=np.concatenate([part.nodes for part in parts]), span=parts[0].span)

    def _padded(self, node: fx.Node) -> _Channels:
        """Zero padding; pairs count from the last axis, so the channels' pair is there only when all axes but N are padded."""
        value = self._operand(node)
        shape = _shape(node) or ()
        pairs = tuple(node.args[1] if len(node.args) > 1 else node.kwargs["pad"])  # type: ignore[arg-type]
        at = 2 * (len(shape) - 2)
        low, high = (pairs[at], pairs[at + 1]) if len(pairs) > at + 1 else (0, 0)
        if value.span != 1 or min(low, high) < 0:
            raise self._unknown(node, "a padding that is not of whole channels")
        return _Channels(nodes=np.pad(value.nodes, (low, high), constant_values=-1))

    def _split(self, node: fx.Node) -> tuple[_Channels, ...]:
        value = self._operand(node)
        axis = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0)
        pieces = node.meta["tensor_meta"]
        sizes = [int(piece.shape[1]) for piece in pieces]
        if axis != 1 or value.span != 1 or sum(sizes) != len(value.nodes):
            raise self._unknown(node, f"a split along axis {axis}")
        return tuple(_Channels(nodes=part) for part in np.split(value.nodes, np.cumsum(sizes)[:-1]))

    def _item(self, node: fx.Node) -> Any:
        value, index = self.values[node.args[0]], node.args[1]  # type: ignore[index]
        if isinstance(value, tuple) and isinstance(index, int):
            return value[index]
        if not isinstance(value, _Channels):
            return None
        parts = index if isinstance(index, tuple) else (index,)
        selector = parts[1] if len(parts) > 1 else slice(None)
        if not isinstance(selector, slice) or Ellipsis in parts or value.span != 1:
            raise self._unknown(node, "an indexing that is no slice of channels")
        if any(isinstance(part, fx.Node) for part in (selector.start, selector.stop, selector.step)):
            raise self._unknown(node, "a slice whose bounds are computed")
        return _Channels(nodes=value.nodes[selector])

    def _unknown(self, node: fx.Node, what: str) -> UsageError:
        return UsageError(f"channel graph: {what} at {node.name}: its effect on channels is not known")


def _shape(node: fx.Node) -> tuple[int, ...] | None:
    """Shape of a traced tensor; None for anything else."""
    shape = getattr(node.meta.get("tensor_meta"), "shape", None)
    return None if shape is None else tuple(int(size) for size in shape)
