"""A network with one symmetry group widened, and what makes the new channels different or unread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.groups import Indices, Symmetry

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Wide:
    """A network with one `group` widened: its weights, and the parameters that make and read the group, with positions.

    `old`: number of original channels; `extra`: numbers of the new ones; `copied`: the original channel each was copied from.
    """

    weights: Arrays
    symmetry: Symmetry
    group: int
    makers: list[tuple[str, int, Indices]]
    readers: list[tuple[str, int, Indices]]
    old: int
    extra: Indices
    copied: Indices


def scramble_incoming(wide: Wide, channels: Indices, seeds: Indices) -> None:
    """Shuffle the incoming weights of new channels, so that they compute something new; equal `seeds` shuffle equally."""
    for name, _, positions in wide.makers:
        array = wide.weights[name]
        if array.ndim < 2:
            continue
        for channel, seed in zip(channels.tolist(), seeds.tolist(), strict=True):
            rng = np.random.default_rng([seed, len(name)])
            for row in positions[channel]:
                array[row] = rng.permutation(array[row].ravel()).reshape(array[row].shape)


def scale_outgoing(wide: Wide, channels: Indices, factors: NDArray[np.float64]) -> None:
    """Multiply what the network reads from some channels by factors (0: nothing is read)."""
    for name, dimension, positions in wide.readers:
        array = np.moveaxis(wide.weights[name], dimension, 0)
        for channel, factor in zip(channels.tolist(), factors.tolist(), strict=True):
            array[positions[channel]] = array[positions[channel]] * factor
