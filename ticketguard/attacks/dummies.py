"""Dummy channels: widen the network with channels that change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Attack, Attacked, Victim, unchanged_cost
from ticketguard.attacks.scaling import scale_group
from ticketguard.attacks.widened import Wide, scale_outgoing, scramble_incoming
from ticketguard.attacks.widening import Kind, add_channels


@dataclass(frozen=True, kw_only=True, repr=False)
class Dummies(Attack):
    """Add dummy channels, a `strength` share of every group that can be widened, and shuffle the group.

    Costs nothing in accuracy, the extra channels in size and time (after Yan et al. 2023, "Rethinking white-box watermarks on
    deep learning models under neural structural obfuscation"). Breaks every reader that expects the registered shapes.
    """

    unit: ClassVar[str] = "dummy channels per channel"
    strengths: ClassVar[tuple[float, ...]] = (0.25,)
    lossless: ClassVar[bool] = True
    kind: ClassVar[Kind]

    def run(self, victim: Victim) -> Attacked:
        """The same function from a wider network."""
        symmetry, rng = victim.needs_symmetry(self), victim.generator(self.name)
        return unchanged_cost(victim, add_channels(victim.weights(), symmetry, self.strength, type(self).kind, rng))


def zero(wide: Wide, rng: np.random.Generator) -> None:
    """New channels compute something that nobody reads."""
    scramble_incoming(wide, wide.extra, rng.integers(0, 1 << 31, len(wide.extra)))
    scale_outgoing(wide, wide.extra, np.zeros(len(wide.extra)))


def clique(wide: Wide, rng: np.random.Generator) -> None:
    """New channels in equal pairs, read with opposite signs; an odd one is not read."""
    first, second = wide.extra[0 : len(wide.extra) // 2 * 2 : 2], wide.extra[1::2]
    for name, dimension, positions in [*wide.makers, *wide.readers]:
        array = np.moveaxis(wide.weights[name], dimension, 0)
        array[positions[second]] = array[positions[first]]
    seeds = rng.integers(0, 1 << 31, len(first))
    scramble_incoming(wide, first, seeds)
    scramble_incoming(wide, second, seeds)
    scale_outgoing(wide, second, np.full(len(second), -1.0))
    if len(wide.extra) % 2:
        scale_outgoing(wide, wide.extra[-1:], np.zeros(1))


def split(wide: Wide, rng: np.random.Generator) -> None:
    """New channels are copies of others; each copy and its original share what is read, and every copy has its own scale."""
    shares = rng.uniform(0.2, 0.8, len(wide.extra))
    # Sequential division keeps the sum right when one channel is split several times.
    for channel, original, share in zip(wide.extra, wide.copied, shares, strict=True):
        for name, dimension, positions in wide.readers:
            array = np.moveaxis(wide.weights[name], dimension, 0)
            array[positions[channel]] = array[positions[original]] * share
            array[positions[original]] = array[positions[original]] * (1 - share)
    factors = np.ones(wide.old + len(wide.extra))
    factors[wide.extra] = np.exp2(rng.uniform(-2, 2, len(wide.extra)))
    scale_group(wide.weights, wide.symmetry, wide.group, factors)


@dataclass(frozen=True, kw_only=True, repr=False)
class DummyZero(Dummies):
    """Dummy channels with zero outgoing weights."""

    name: ClassVar[str] = "dummy-zero"
    kind: ClassVar[Kind] = staticmethod(zero)


@dataclass(frozen=True, kw_only=True, repr=False)
class DummyClique(Dummies):
    """Dummy channels in cliques whose outgoing weights cancel."""

    name: ClassVar[str] = "dummy-clique"
    kind: ClassVar[Kind] = staticmethod(clique)


@dataclass(frozen=True, kw_only=True, repr=False)
class DummySplit(Dummies):
    """Channels split into several that share their outgoing weights."""

    name: ClassVar[str] = "dummy-split"
    kind: ClassVar[Kind] = staticmethod(split)
