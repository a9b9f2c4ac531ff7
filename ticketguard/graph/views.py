"""What a suspect's tensors look like through a symmetry: group sizes, its own axes, and one view per layer for the descent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.assignment import LayerView
from ticketguard.graph.cells import Counts, Layer
from ticketguard.graph.groups import Axes, Axis, Group, Indices, Segment, Symmetry, fixed_axis, length
from ticketguard.graph.layout import gather, take, widen
from ticketguard.graph.matching import WIDEST, fits, trimmed
from ticketguard.graph.support import edges


def axes_of(layer: Layer, symmetry: Symmetry) -> tuple[Axis, Axis]:
    """Output and input axis of a layer; fixed where the symmetry says nothing."""
    rows, columns = symmetry.axis(layer.name, 0), symmetry.axis(layer.name, 1)
    return (rows or fixed_axis(layer.shape[0]), columns or fixed_axis(layer.shape[1]))


def as_layer(array: NDArray[Any], layer: Layer) -> NDArray[Any]:
    """A suspect's tensor with the layer's number of dimensions (1 x 1 kernels are stored either way)."""
    if not array.size:
        # Nothing to count and no layer of ours: one zero says the same and has a shape that the counting takes.
        array = np.zeros((1, 1), dtype=array.dtype)
    shape = trimmed(array.shape)
    return array.reshape(shape + (1,) * (len(layer.shape) - len(shape)))


def _all_axes(symmetry: Symmetry, layers: Mapping[str, Layer], name: str) -> Axes:
    if name in layers:
        return axes_of(layers[name], symmetry)
    return symmetry.axes.get(name, ())


def suspect_sizes(
    symmetry: Symmetry, layers: Mapping[str, Layer], arrays: Mapping[str, NDArray[Any]]
) -> tuple[int, ...]:
    """Channels of every group in the suspect: from axes whose other segments are known, until nothing new is learnt."""
    axes = [
        (axis, array.shape[dimension])
        for name, array in arrays.items()
        for dimension, axis in enumerate(_all_axes(symmetry, layers, name))
        if axis is not None and dimension < array.ndim
    ]
    known: dict[int, int] = {}
    open_groups = [{s.group for s in axis if s.group is not None} for axis, _ in axes]
    mentions: dict[int, list[int]] = {}
    for number, groups in enumerate(open_groups):
        for group in groups:
            mentions.setdefault(group, []).append(number)
    # In the order of repeated passes over all axes: where two of them disagree about a group, the first counts.
    ready = [(0, number) for number, groups in enumerate(open_groups) if len(groups) == 1]
    while ready:
        turn, number = heappop(ready)
        if not open_groups[number]:
            continue
        (group,) = open_groups[number]
        size = _solve(*axes[number], group, symmetry.groups, known)
        if size is None:
            continue
        known[group] = size
        for other in mentions[group]:
            open_groups[other].discard(group)
            if len(open_groups[other]) == 1:
                heappush(ready, (turn + (other < number), other))
    return tuple(known.get(g, group.size) for g, group in enumerate(symmetry.groups))


def _solve(axis: Axis, total: int, group: int, groups: Sequence[Group], known: Mapping[int, int]) -> int | None:
    """Size of one group such that the axis has `total` positions; None when no size fits."""
    sizes = {s.group: known.get(s.group, groups[s.group].size) for s in axis if s.group is not None}
    surplus = total - length(widen(axis, groups, sizes))
    own = groups[group].size
    step = sum(s.repeat for s in axis if s.group == group and s.start + s.count == own)
    if step == 0 or surplus % step:
        return None
    size = own + surplus // step
    return size if 1 <= size <= WIDEST * own else None


def suspect_axes(
    symmetry: Symmetry, layers: Mapping[str, Layer], arrays: Mapping[str, NDArray[Any]], sizes: Sequence[int]
) -> tuple[dict[str, Axes], list[str]]:
    """The suspect's own axes by registered name, and the layers whose shape fits no reading of its channels.

    Norms and biases must be vectors; those of another shape, and tensors without values, count as missing.
    """
    vectors = {*symmetry.biases.values()} | {
        name for norm in symmetry.norms.values() for name in (norm.mean, norm.variance, norm.scale, norm.shift) if name
    }
    fitting, misfits = {}, []
    for name, array in arrays.items():
        if name in layers:
            readable = fits(layers[name].shape, array.shape)
        else:
            readable = array.size > 0 and (array.ndim == 1 or name not in vectors)
        own = tuple(
            None if axis is None else widen(axis, symmetry.groups, sizes) for axis in _all_axes(symmetry, layers, name)
        )
        if readable and all(
            axis is None or (d < array.ndim and length(axis) == array.shape[d]) for d, axis in enumerate(own)
        ):
            fitting[name] = own
        elif name in layers:
            misfits.append(name)
    return fitting, misfits


def view_of(
    layer: Layer,
    symmetry: Symmetry,
    arrays: Mapping[str, NDArray[Any]],
    axes: Mapping[str, Axes],
    left: Sequence[Indices],
    reference: Counts,
    filled: frozenset[str],
) -> LayerView:
    """One layer of the problem: reference counts, and the suspect's counts over the channels that are left."""
    rows, columns = axes_of(layer, symmetry)
    sizes = [len(channels) for channels in left]
    array = np.asarray(arrays[layer.name])
    narrow_rows, narrow_columns = (widen(axis, symmetry.groups, sizes) for axis in (rows, columns))
    for dimension, (axis, source) in enumerate(zip((narrow_rows, narrow_columns), axes[layer.name], strict=True)):
        if source is not None and length(axis) != length(source):
            array = take(array, dimension, gather(axis, source, dict(enumerate(left))))
    support = edges(layer, array, int(reference[layer.name].sum()), was_cleared=layer.name in filled)
    whole = layer.kernel > 1 and layer.cell == layer.kernel
    matrix = support.reshape(array.shape[0], array.shape[1], -1)
    counts = matrix.sum(axis=2, dtype=np.int64) if whole else matrix.reshape(len(matrix), -1).astype(np.int64)
    repeated = 1 if whole else layer.kernel
    return LayerView(
        reference=reference[layer.name],
        suspect=counts,
        rows=rows,
        columns=_repeat(columns, repeated),
        suspect_rows=narrow_rows,
        suspect_columns=_repeat(narrow_columns, repeated),
        block=0 if whole else layer.cell,
    )


def _repeat(axis: Axis, times: int) -> Axis:
    if times == 1:
        return axis
    return tuple(
        Segment(group=None, count=s.count * times) if s.group is None else replace(s, repeat=s.repeat * times)
        for s in axis
    )
