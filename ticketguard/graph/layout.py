"""Where channels sit on an axis, and how to gather an axis in another order of channels: shared by alignment and attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.groups import MOST_REMEMBERED, Axes, Axis, Group, Indices, Symmetry, expand, length

Weights = Mapping[str, NDArray[Any]]
Choice = Mapping[int, Indices]


def widen(axis: Axis, groups: Sequence[Group], sizes: Sequence[int] | Mapping[int, int]) -> Axis:
    """The axis of a network whose groups have other `sizes`: the run that ends a group takes the difference.

    A run that would become empty or negative leaves the axis unchanged there; the length then tells that it does not fit.
    """
    result = []
    for segment in axis:
        if segment.group is not None and segment.start + segment.count == groups[segment.group].size:
            count = max(1, sizes[segment.group] - segment.start)
            segment = replace(segment, count=count)
        result.append(segment)
    return tuple(result)


def slots(axis: Axis, group: int) -> Indices:
    """Positions of a group's channels: int64 (channels, occurrences), read-only; row c lists where channel c sits, in order."""
    return _slots_once(axis, group) if length(axis) <= MOST_REMEMBERED else _slots(axis, group)


@lru_cache(maxsize=512)
def _slots_once(axis: Axis, group: int) -> Indices:
    found = _slots(axis, group)
    found.flags.writeable = False
    return found


def _slots(axis: Axis, group: int) -> Indices:
    owners, channels = expand(axis)
    positions = np.flatnonzero(owners == group)
    if positions.size == 0:
        return np.empty((0, 0), dtype=np.int64)
    mine = channels[positions]
    return positions[np.argsort(mine, kind="stable")].reshape(int(mine.max()) + 1, -1)


def places(axis: Axis, source: Axis) -> dict[int, tuple[Indices, Indices]]:
    """Where each group's channels sit on an axis and on its source (see `slots`); positions that never move under -1."""
    owners, given = expand(axis)[0], expand(source)[0]
    found = {group: (slots(axis, group), slots(source, group)) for group in np.unique(owners[owners >= 0]).tolist()}
    fixed = np.flatnonzero(owners < 0), np.flatnonzero(given < 0)
    return {-1: fixed, **found} if fixed[0].size else found


def whole_group(axis: Axis, source: Axis) -> int:
    """The group whose channels, each once and in order, are an axis and its source; -1 where there is none."""
    for segments in (axis, source):
        if len(segments) != 1 or segments[0].start or segments[0].repeat != 1:
            return -1
    return -1 if axis[0].group is None or axis[0].group != source[0].group else axis[0].group


def gather(axis: Axis, source: Axis, choice: Choice) -> Indices:
    """For every position of `axis`, the position of `source` to read; -1 where there is none.

    `choice[g][c]` is the source channel for channel c of group g, or -1; groups that are absent keep their order.
    """
    return gather_at(places(axis, source), length(axis), choice)


def gather_at(known: Mapping[int, tuple[Indices, Indices]], size: int, choice: Choice) -> Indices:
    """`gather` for an axis of `size` positions whose `places` are known: a descent asks thousands of times."""
    result = np.full(size, -1, dtype=np.int64)
    for group, (here, there) in known.items():
        if group < 0:
            shared = min(here.size, there.size)
            result[here[:shared]] = there[:shared]
            continue
        chosen = choice.get(group, np.arange(len(here), dtype=np.int64))[: len(here)]
        usable = (chosen >= 0) & (chosen < len(there))
        result[here[usable]] = there[chosen[usable]]
    return result


def carrying(axes: Mapping[str, Axes], group: int, *, made: bool) -> list[tuple[str, int, Indices]]:
    """Parameters that make a group (dimension 0) or read it (later ones): name, dimension, and the group's `slots` there."""
    return [
        (name, dimension, slots(axis, group))
        for name, own in axes.items()
        for dimension, axis in enumerate(own)
        if axis is not None and (dimension == 0) == made and any(segment.group == group for segment in axis)
    ]


def take(array: NDArray[Any], dimension: int, indices: Indices) -> NDArray[Any]:
    """`np.take` along one dimension; index -1 gives zeros."""
    if not indices.size or indices.min() >= 0:
        return np.take(array, indices, axis=dimension)
    result = np.take(array, np.maximum(indices, 0), axis=dimension)
    shape = [1] * array.ndim
    shape[dimension] = indices.size
    return np.where((indices >= 0).reshape(shape), result, np.zeros((), dtype=array.dtype))


def rearranged(weights: Weights, symmetry: Symmetry, choice: Choice) -> dict[str, NDArray[Any]]:
    """All parameters with the channels of each group reordered: the new channel c is the old channel `choice[g][c]`.

    Only reorders (sizes stay); parameters that carry no channel are returned as they are.
    """
    result = {}
    for name, array in weights.items():
        array = np.asarray(array)
        for dimension, axis in enumerate(symmetry.axes.get(name, ())):
            if axis is not None and any(segment.group in choice for segment in axis):
                array = take(array, dimension, gather(axis, axis, choice))
        result[name] = array
    return result
