"""Widen symmetry groups: the common part of the attacks that add dummy channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ticketguard.attacks.widened import Arrays, Wide
from ticketguard.graph.groups import Axis, Group, Indices, Symmetry
from ticketguard.graph.layout import gather, rearranged, slots, take, widen

Kind = Callable[[Wide, np.random.Generator], None]


def add_channels(weights: Arrays, symmetry: Symmetry, share: float, kind: Kind, rng: np.random.Generator) -> Arrays:
    """Add about `share` of their size to all groups that can be widened, made useless by `kind`, and shuffle their channels.

    A group can be widened when it lies whole on every axis, is not depthwise (the number of filter groups is part of the
    module) and passes piecewise-linear steps only.
    """
    current = symmetry
    for number, group in enumerate(symmetry.groups):
        extra = round(share * group.size)
        if extra == 0 or not group.scalable or not _whole(weights, symmetry, number):
            continue
        copied = rng.choice(group.size, extra, replace=extra > group.size)
        wide = _copied(weights, current, number, copied)
        kind(wide, rng)
        order = rng.permutation(group.size + extra)
        weights = rearranged(wide.weights, wide.symmetry, {number: order})
        current = wide.symmetry
    return weights


def _whole(weights: Arrays, symmetry: Symmetry, number: int) -> bool:
    size = symmetry.groups[number].size
    runs = [
        segment for axes in symmetry.axes.values() for axis in axes for segment in axis or () if segment.group == number
    ]
    depthwise = any(
        name in weights and weights[name].ndim > 2 and axes[1] is None and _on(axes[0] or (), number)
        for name, axes in symmetry.axes.items()
    )
    return not depthwise and all(segment.start == 0 and segment.count == size for segment in runs)


def _copied(weights: Arrays, symmetry: Symmetry, number: int, copied: Indices) -> Wide:
    """The network with copies of channels `copied` appended to a group; nothing is compensated yet."""
    old = symmetry.groups[number].size
    sizes = [group.size for group in symmetry.groups]
    sizes[number] = old + len(copied)
    choice = {number: np.concatenate([np.arange(old, dtype=np.int64), copied])}
    axes = {
        name: tuple(None if axis is None else widen(axis, symmetry.groups, sizes) for axis in own)
        for name, own in symmetry.axes.items()
    }
    result = dict(weights)
    makers: list[tuple[str, int, Indices]] = []
    readers: list[tuple[str, int, Indices]] = []
    for name, own in symmetry.axes.items():
        for dimension, axis in enumerate(own):
            wider = axes[name][dimension]
            if name not in weights or axis is None or wider is None or not _on(axis, number):
                continue
            result[name] = take(result[name], dimension, gather(wider, axis, choice))
            (readers if dimension else makers).append((name, dimension, slots(wider, number)))
    groups = tuple(Group(size=size, scalable=g.scalable) for size, g in zip(sizes, symmetry.groups, strict=True))
    wide = Symmetry(groups=groups, axes=axes, norms=symmetry.norms, biases=symmetry.biases)
    extra = np.arange(old, sizes[number], dtype=np.int64)
    return Wide(
        weights=result, symmetry=wide, group=number, makers=makers, readers=readers, old=old, extra=extra, copied=copied
    )


def _on(axis: Axis, number: int) -> bool:
    return any(segment.group == number for segment in axis)
