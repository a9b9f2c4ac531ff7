"""Lossless rescaling on plain arrays: between layers through positively homogeneous steps, and between a layer and its norm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.graph.groups import Norm, Symmetry
from ticketguard.graph.layout import carrying

Arrays = dict[str, NDArray[Any]]
Factors = NDArray[np.float64]


def scale_group(weights: Arrays, symmetry: Symmetry, group: int, factors: Factors) -> bool:
    """Multiply each channel of a group where it is made and divide it where it is read, in place.

    Returns False, having changed nothing, when the group cannot be rescaled: it is not scalable, or a norm without scale
    and shift makes it.
    """
    axes = {name: own for name, own in symmetry.axes.items() if name in weights}
    makers = carrying(axes, group, made=True)
    if not symmetry.groups[group].scalable or any(_rigid(symmetry.norms.get(name)) for name, _, _ in makers):
        return False
    for name, _, positions in makers:
        if weights[name].ndim < 2:
            continue
        norm, bias = symmetry.norms.get(name), symmetry.biases.get(name)
        targets = [name, bias] if norm is None else [norm.scale, norm.shift]
        for target in targets:
            if target is not None and target in weights:
                _multiply(weights, target, 0, positions, factors)
    for name, dimension, positions in carrying(axes, group, made=False):
        _multiply(weights, name, dimension, positions, 1.0 / factors)
    return True


def scale_rows(weights: Arrays, layer: str, norm: Norm, factors: Factors) -> None:
    """Multiply a layer's rows by non-zero factors and let the batch norm that follows take them back, in place.

    Where a factor would make the running variance negative it is replaced by its sign.
    """
    variance = np.asarray(weights[norm.variance], dtype=np.float64)
    scaled = factors**2 * (variance + norm.epsilon) - norm.epsilon
    safe = scaled > 0
    factors = np.where(safe, factors, np.sign(factors))
    every = np.arange(len(factors), dtype=np.int64)[:, None]
    _multiply(weights, layer, 0, every, factors)
    bias = f"{layer.removesuffix('weight')}bias"
    for target in (norm.mean, bias):
        if target in weights:
            _multiply(weights, target, 0, every, factors)
    weights[norm.variance] = np.where(safe, scaled, variance).astype(weights[norm.variance].dtype)
    if norm.scale is not None:
        _multiply(weights, norm.scale, 0, every, np.sign(factors))


def _rigid(norm: Norm | None) -> bool:
    return norm is not None and (norm.scale is None or norm.shift is None)


def _multiply(weights: Arrays, name: str, dimension: int, positions: NDArray[np.int64], factors: Factors) -> None:
    array = weights[name]
    along = np.ones(array.shape[dimension])
    along[positions] = factors[:, None]
    shape = [1] * array.ndim
    shape[dimension] = -1
    weights[name] = (array.astype(np.float64) * along.reshape(shape)).astype(array.dtype)
