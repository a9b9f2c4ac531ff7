"""Scores that need the network to run: Taylor, Hessian-vector, integrated gradients, SynFlow; and the table of all scores.

Every score is a mapping from masked parameter to a float64 array of its shape, -inf at pruned weights; the key mask takes the
highest (paper, V1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from ticketguard.errors import UsageError
from ticketguard.graph import scores
from ticketguard.graph.betweenness import edge_betweenness
from ticketguard.graph.channels import ChannelGraph
from ticketguard.graph.scores import Scores
from ticketguard.masks import Mask
from ticketguard.models import evaluating
from ticketguard.tracing.channels import channel_graph

INTEGRATION_STEPS = 32
PATHS_PER_EDGE = 4
# Above this many nodes, betweenness is estimated from this many sources.
MOST_SOURCES = 20_000

Named = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What scores look at: a network with its (masked) weights loaded, its mask, and one batch of its task.

    `images` (N, ...) float and normalized, `labels` (N,) int64; `seed` of everything random. The module is never changed.
    """

    module: nn.Module
    mask: Mask
    images: Tensor
    labels: Tensor
    seed: int = 0

    @cached_property
    def graph(self) -> ChannelGraph:
        """The channel graph of the module as it is."""
        return channel_graph(self.module, self.images[:1])

    @property
    def weights(self) -> dict[str, NDArray[Any]]:
        """The masked parameters as numpy arrays."""
        return {name: self.module.get_parameter(name).detach().cpu().float().numpy() for name in self.mask}

    def generator(self) -> np.random.Generator:
        """A fresh generator from the seed."""
        return np.random.default_rng(self.seed)

    def on_mask(self, values: Mapping[str, Tensor]) -> Scores:
        """Tensors as scores."""
        arrays = {name: value.detach().cpu().double().numpy() for name, value in values.items()}
        return {name: np.where(bits, arrays[name], -np.inf) for name, bits in self.mask.items()}


def _parameters(subject: Subject) -> Named:
    return {name: subject.module.get_parameter(name).detach().clone().requires_grad_() for name in subject.mask}


def _loss(subject: Subject, parameters: Named) -> Tensor:
    return F.cross_entropy(functional_call(subject.module, parameters, (subject.images,)), subject.labels)


def gradients(subject: Subject, scale: float = 1.0) -> Named:
    """Gradient of the batch's cross-entropy at `scale` times the masked weights, by parameter name."""
    with evaluating(subject.module):
        parameters = {name: (scale * value).detach().requires_grad_() for name, value in _parameters(subject).items()}
        found = torch.autograd.grad(_loss(subject, parameters), list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


def taylor(subject: Subject) -> Scores:
    """|w g|: the first-order change of the loss when a weight is removed (Molchanov et al. 2017)."""
    parameters = _parameters(subject)
    return subject.on_mask({name: (parameters[name] * value).abs() for name, value in gradients(subject).items()})


def hessian_product(subject: Subject) -> Named:
    """H w of the batch's cross-entropy at the weights w, by two backward passes."""
    with evaluating(subject.module):
        parameters = _parameters(subject)
        values = list(parameters.values())
        first = torch.autograd.grad(_loss(subject, parameters), values, create_graph=True)
        inner = torch.stack([(one * value.detach()).sum() for one, value in zip(first, values, strict=True)]).sum()
        found = torch.autograd.grad(inner, values)
    return dict(zip(parameters, found, strict=True))


def hessian(subject: Subject) -> Scores:
    """|w (H w)|: how much removing a weight changes the loss's curvature along the weights (as in Wang et al. 2020)."""
    parameters = _parameters(subject)
    return subject.on_mask({name: (parameters[name] * value).abs() for name, value in hessian_product(subject).items()})


def attributions(subject: Subject, steps: int = INTEGRATION_STEPS) -> Named:
    """W times the mean gradient on the way from zero weights to w (Sundararajan et al. 2017), midpoint rule.

    Summed over all weights it is the loss at w minus the loss at zero, up to the rule's error.
    """
    parameters = _parameters(subject)
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for step in range(steps):
        for name, value in gradients(subject, (step + 0.5) / steps).items():
            total[name] += value / steps
    return {name: value.detach() * total[name] for name, value in parameters.items()}


def integrated_gradients(subject: Subject) -> Scores:
    """The absolute attribution of the loss to each weight."""
    return subject.on_mask({name: value.abs() for name, value in attributions(subject).items()})


def synflow(subject: Subject) -> Scores:
    """|w dR/dw|, R = the summed outputs of the network with absolute weights on an input of ones (Tanaka et al. 2020).

    In float64, batch norm as the identity. The result is the share of all input-output weight products that run through w.
    """
    replaced = {}
    for name, value in subject.module.state_dict().items():
        plain = value.detach().double() if value.is_floating_point() else value
        replaced[name] = plain.abs()
    for prefix, part in subject.module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            neutral = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0 - part.eps}
            for suffix, constant in neutral.items():
                name = _within(prefix, suffix)
                if name in replaced:
                    replaced[name] = torch.full_like(replaced[name], constant)
        elif isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and part.bias is not None:
            bias = _within(prefix, "bias")
            replaced[bias] = torch.zeros_like(replaced[bias])
    chosen = [replaced[name].requires_grad_() for name in subject.mask]
    with evaluating(subject.module):
        output = functional_call(subject.module, replaced, (torch.ones_like(subject.images[:1]).double(),))
        found = torch.autograd.grad(output.sum(), chosen)
    values = {name: value * grad for name, value, grad in zip(subject.mask, chosen, found, strict=True)}
    return subject.on_mask(values)


def _within(prefix: str, name: str) -> str:
    """A parameter's name in the network, whose own have no prefix."""
    return f"{prefix}.{name}" if prefix else name


def _betweenness(subject: Subject, *, weighted: bool) -> Scores:
    graph = subject.graph
    sample = MOST_SOURCES if graph.nodes > MOST_SOURCES else None
    lengths = 1.0 / graph.weights if weighted else None
    values = edge_betweenness(graph, lengths=lengths, sample=sample, generator=subject.generator())
    spread = graph.to_weights(values)
    return {name: np.where(bits, spread[name], -np.inf) for name, bits in subject.mask.items()}


def _paths(subject: Subject) -> int:
    return PATHS_PER_EDGE * subject.graph.edges


SCORES: dict[str, Callable[[Subject], Scores]] = {
    "omp": lambda subject: scores.magnitude(subject.weights, subject.mask),
    "ewp": lambda subject: scores.edge_weight_product(subject.graph, subject.weights, subject.mask),
    "ewp-sampled": lambda s: scores.sampled_products(s.graph, s.mask, _paths(s), s.generator()),
    "betweenness": lambda subject: _betweenness(subject, weighted=False),
    "betweenness-weighted": lambda subject: _betweenness(subject, weighted=True),
    "random-paths": lambda s: scores.random_paths(s.graph, s.mask, _paths(s), s.generator()),
    "random": lambda subject: scores.uniform(subject.mask, subject.generator()),
    "taylor": taylor,
    "hessian": hessian,
    "integrated-gradients": integrated_gradients,
    "synflow": synflow,
}


def score(name: str, subject: Subject) -> Scores:
    """The score `name` of a subject. Raises `UsageError` for an unknown name or scores that are not numbers."""
    if name not in SCORES:
        raise UsageError(f"unknown score {name!r}: one of {', '.join(SCORES)}")
    found = SCORES[name](subject)
    if any(np.isnan(values).any() for values in found.values()):
        raise UsageError(f"score {name}: the network gives no finite loss or gradient on this batch")
    return found
