"""The null hypothesis after alignment: fresh keys against permuted suspects, with a reference that saw no bit.

A suspect is aligned to the committed frame, then tested with keys drawn afresh: matches must be fair coins. The same
procedure with a reference that holds the signed edges themselves (the carriers) must be caught by these statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.readings import join, read
from ticketguard.claims.streams import Stream
from ticketguard.graph.alignment import align
from ticketguard.graph.cells import Layer, cell_counts, layer_of
from ticketguard.graph.groups import Symmetry
from ticketguard.graph.layout import rearranged
from ticketguard.graph.windows import windows
from ticketguard.masks import Mask
from ticketguard.models import build
from ticketguard.signatures.edge import PAIR_WEIGHTS, Carriers, Reading, draw, embed, moves
from ticketguard.tails import log2_binomial_tail, log2_signed_sum_bound
from ticketguard.tickets import Architecture
from ticketguard.tracing import symmetry_of

PAIRS = 90
# Kinds of suspect, in turn: a random mask, another ticket of the same recipe, the unsigned ticket.
KINDS = 3
Weights = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """A random ticket of a small residual network: heavy and light channels, as pruning leaves them."""

    symmetry: Symmetry
    layers: list[Layer]
    weights: Weights

    @property
    def mask(self) -> Mask:
        return Mask({layer.name: self.weights[layer.name] != 0 for layer in self.layers})


@cache
def shapes() -> tuple[Symmetry, list[Layer]]:
    arguments = {"classes": 10, "in_channels": 1, "image_size": 8}
    module = build(Architecture(name="convnet", arguments=arguments))
    layers = [layer_of(key, tuple(value.shape)) for key, value in module.state_dict().items() if value.ndim == 4][:2]
    return symmetry_of(module, torch.zeros(1, 1, 8, 8)), layers


def ticket(rng: np.random.Generator, density: float = 0.15) -> Ticket:
    symmetry, layers = shapes()
    weights = {}
    for layer in layers:
        size = (layer.rows, *(1,) * (len(layer.shape) - 1))
        share = np.clip(density * rng.uniform(0.3, 1.7, size), 0, 1)
        weights[layer.name] = rng.standard_normal(layer.shape) * (rng.random(layer.shape) < share)
    return Ticket(symmetry=symmetry, layers=layers, weights=weights)


def permuted(given: Ticket, rng: np.random.Generator) -> Weights:
    choice = {number: rng.permutation(group.size) for number, group in enumerate(given.symmetry.groups)}
    return rearranged(given.weights, given.symmetry, choice)


def key(layers: list[Layer], number: int) -> dict[str, Carriers]:
    """The carriers of a fresh key."""
    secret = number.to_bytes(32, "big")
    return {
        layer.name: draw(layer, PAIRS, leaf=0, groups=2, stream=Stream(f"edge/{layer.name}", bytes(32), 0, secret))
        for layer in layers
    }


def reading(carriers: dict[str, Carriers], weights: Weights) -> Reading:
    flat = {name: array.ravel() for name, array in weights.items()}
    return join([read(c, flat[name][c.first], flat[name][c.second]) for name, c in carriers.items()])


def suspects(reference: Ticket, rng: np.random.Generator, count: int) -> list[Weights]:
    """Random masks, other tickets of the same recipe, the unsigned ticket itself: all permuted, then aligned."""
    counts = {layer.name: cell_counts(layer, reference.mask[layer.name]) for layer in reference.layers}
    found = []
    for index in range(count):
        match index % KINDS:
            case 0:
                source = ticket(rng, 0.05 + 0.3 * rng.random())
            case 1:
                shared = {n: np.where(rng.random(a.shape) < 0.6, a, 0.0) for n, a in reference.weights.items()}
                other = ticket(rng)
                source = replace(other, weights={n: np.where(a != 0, a, other.weights[n]) for n, a in shared.items()})
            case _:
                source = reference
        stored = permuted(source, rng)
        found.append(align(counts, reference.layers, reference.symmetry, stored).apply(stored))
    return found


def tail_excess(log2_p: NDArray[np.float64], level: float) -> float:
    """Share of p-values at most `level`, above `level` plus three standard errors (positive: the bound is broken)."""
    share = float((log2_p <= np.log2(level)).mean())
    return share - level - 3 * np.sqrt(level * (1 - level) / len(log2_p))


def is_fair(readings: list[Reading]) -> bool:
    """Whether matches are fair coins within three standard errors, in their mean and in both tails of all tests."""
    counts = [seen.support() for seen in readings]
    informative, matches = sum(n for n, _ in counts), sum(hits for _, hits in counts)
    support = np.array([log2_binomial_tail(hits, n) for n, hits in counts])
    magnitudes = [
        np.array([log2_signed_sum_bound(*seen.magnitude(test)) for seen in readings]) for test in PAIR_WEIGHTS
    ]
    assert informative > len(readings) * 20
    return abs(matches - informative / 2) < 3 * np.sqrt(informative) / 2 and all(
        tail_excess(log2_p, level) <= 0 for log2_p in (support, *magnitudes) for level in (0.1, 0.01)
    )


@pytest.mark.parametrize("draws", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_evidence_after_alignment_is_that_of_fair_coins(draws: int) -> None:
    """`draws` fresh keys for each kind of suspect: each kind by itself, and all of them together."""
    rng = np.random.default_rng(2024)
    reference = ticket(rng)
    aligned = suspects(reference, rng, 9 if draws < 1000 else 27)
    readings = [
        reading(key(reference.layers, number), aligned[number % len(aligned)]) for number in range(KINDS * draws)
    ]
    for kind in range(KINDS):
        assert is_fair(readings[kind::KINDS]), kind
    assert is_fair(readings)


def dense(rng: np.random.Generator) -> Weights:
    """A first layer that keeps two thirds of its weights."""
    layer = shapes()[1][0]
    return {layer.name: rng.standard_normal(layer.shape) * (rng.random(layer.shape) < 0.66)}


def split_apart(given: Ticket, rng: np.random.Generator) -> Weights:
    """The channels between both layers twice, a little unlike, and read through noise and what the noise lacks."""
    one, two = (given.weights[layer.name] for layer in given.layers)
    first = np.repeat(one, 2, axis=0)
    first *= 1 + 10 ** rng.uniform(-4, -1) * rng.standard_normal(first.shape)
    read = rng.standard_normal((two.shape[0], 2 * two.shape[1], *two.shape[2:]))
    read[:, 1::2] = two - read[:, ::2]
    return dict(zip(given.weights, (first, read), strict=True))


def in_larger_kernels(given: Ticket, rng: np.random.Generator) -> Weights:
    """What is read of weights strewn over larger kernels, with most of them at a place of each row and input channel."""
    found = {}
    for name, kernels in given.weights.items():
        larger = 0.1 * rng.standard_normal((*kernels.shape[:2], 7, 7)) * (rng.random((*kernels.shape[:2], 7, 7)) < 0.1)
        places = rng.integers(0, 3, (len(kernels), 1, 2)) + rng.integers(0, 3, (kernels.shape[1], 2))
        for o, i in np.ndindex(*kernels.shape[:2]):
            top, left = places[o, i]
            larger[o, i, top : top + 3, left : left + 3] += kernels[o, i]
        read = windows(larger, (3, 3))
        assert not read.together
        found[name] = read.cut(larger)
    return found


@pytest.mark.parametrize("draws", [300, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("disguise", [split_apart, in_larger_kernels])
def test_evidence_after_near_copies_and_places_were_chosen_is_that_of_fair_coins(
    disguise: Callable[[Ticket, np.random.Generator], Weights], draws: int
) -> None:
    """Overlap with the frame chooses what is merged, magnitude where kernels lie; both are blind to keys drawn afterwards.

    Of the channels of a sparser first layer, which has nine inputs, many are copies of each other.
    """
    rng = np.random.default_rng(78)
    reference, stranger = (replace(each, weights=each.weights | dense(rng)) for each in (ticket(rng), ticket(rng)))
    counts = {layer.name: cell_counts(layer, reference.mask[layer.name]) for layer in reference.layers}
    everything = []
    for kind, source in enumerate((reference, stranger)):
        seen = []
        for _ in range(3):
            hidden = disguise(source, rng)
            found = align(counts, reference.layers, reference.symmetry, hidden)
            seen.append(found.apply(hidden))
            assert kind or disguise is in_larger_kernels or len(found.merges) > 20
        readings = [reading(key(reference.layers, 50_000 + number), seen[number % 3]) for number in range(draws)]
        assert is_fair(readings), kind
        everything += readings
    assert is_fair(everything)


def excess_matches(*, saw_carriers: bool, draws: int = 24) -> float:
    """Standard errors by which matches exceed one half, for strangers aligned to a signed ticket."""
    rng = np.random.default_rng(99)
    reference = ticket(rng)
    matches = informative = 0
    for number in range(draws):
        carriers = key(reference.layers, 10_000 + number)
        signed = embed(reference.mask, {name: [moves(c, reference.mask[name])] for name, c in carriers.items()})
        # A cell of one position makes the frame the mask itself, carriers included.
        layers = [replace(layer, cell=1) if saw_carriers else layer for layer in reference.layers]
        counts = {layer.name: cell_counts(layer, signed[layer.name]) for layer in layers}
        stranger = permuted(ticket(rng), rng)
        found = align(counts, layers, reference.symmetry, stranger).apply(stranger)
        n, hits = reading(carriers, found).support()
        matches, informative = matches + hits, informative + n
    return (matches - informative / 2) / (np.sqrt(informative) / 2)


@pytest.mark.slow
@pytest.mark.parametrize(("saw_carriers", "inflated"), [(False, False), (True, True)])
def test_a_reference_that_saw_the_carriers_is_caught(*, saw_carriers: bool, inflated: bool) -> None:
    assert bool(excess_matches(saw_carriers=saw_carriers) > 3) == inflated
