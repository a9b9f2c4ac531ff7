"""Lineage: how much of a committed frame a suspect shows. Unkeyed, without a p-value: it decides nothing alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims.registration import Registration
from ticketguard.claims.streams import NO_BEACON, SECRET_BYTES, Stream
from ticketguard.graph.cells import Counts, Layer, cell_counts
from ticketguard.graph.support import suspect_support
from ticketguard.tickets import Weights
from ticketguard.verify.aligned import align_suspect
from ticketguard.verify.suspect import effective_weights, locate

CHANCE_TRIES = 4


def frame_overlap(weights: Weights, registered: Registration, reference: Counts) -> float:
    """Correlation, in [-1, 1], of a suspect's cell counts with a committed frame; the larger of stored and aligned.

    Row and column means of every layer are taken off first, which `graph.alignment.lineage` does not: networks trained apart
    prefer the same rows and columns, but not the same cells. 1 for the ticket itself, near 0 for unrelated models, 0 when
    nothing can be compared.
    """
    return max(_overlaps(weights, registered, reference, [reference]))


def chance_overlap(weights: Weights, registered: Registration, reference: Counts) -> float:
    """The largest overlap with `CHANCE_TRIES` frames of the same counts in random places: what alignment finds in anything.

    The smaller the network, the more: 0.03 for one that cannot be aligned, 0.33 for a network of 100,000 weights, 0.42 for
    one of 9,000. The places are those of a public stream (docs/protocol.md, Disputes), so that everybody computes the same
    number, with whatever version of numpy.
    """
    shuffled = ({name: _shuffled(name, counts, j) for name, counts in reference.items()} for j in range(CHANCE_TRIES))
    return max(_overlaps(weights, registered, reference, shuffled))


def _shuffled(name: str, counts: NDArray[np.int64], j: int) -> NDArray[np.int64]:
    """A layer's counts with the cells of every row in the order of the words of public stream `j`."""
    stream = Stream(f"lineage/{name}", binder=NO_BEACON, j=j, leaf=bytes(SECRET_BYTES))
    order = np.argsort(stream.words(counts.size).reshape(counts.shape), axis=1, kind="stable")
    return np.take_along_axis(counts, order, axis=1)


def frame_weights(registered: Registration, reference: Counts) -> dict[str, NDArray[np.float32]]:
    """A committed frame as weights of the registered shapes: 1 at the first positions of each cell, as many as it keeps."""
    weights = {}
    for name, counts in reference.items():
        layer = registered.layers[name]
        column = np.arange(layer.fan_in)
        kept = column % layer.cell < counts[:, column // layer.cell]
        weights[name] = kept.astype(np.float32).reshape(layer.shape)
    return weights


def _overlaps(
    weights: Weights, registered: Registration, reference: Counts, frames: Iterable[Counts]
) -> Iterator[float]:
    """`frame_overlap` with each of `frames`, which have as many edges in every layer as `reference`."""
    layers = registered.layers
    effective = effective_weights(weights, layers)
    located = locate(effective, layers).weights
    stored = _shown(((name, weight.array()) for name, weight in located.items()), layers, reference)
    for frame in frames:
        found = align_suspect(effective, registered, frame).weights
        aligned = _shown(((name, weight.values) for name, weight in found.items()), layers, reference)
        yield max(_correlation(counts, frame) for counts in (stored, aligned))


def _shown(found: Iterable[tuple[str, NDArray[Any]]], layers: Mapping[str, Layer], reference: Counts) -> Counts:
    """Cell counts of a suspect's layers."""
    # A dense suspect is cut to the frame's density, by sizes that no rescaling of rows and channels changes.
    return {
        name: cell_counts(layers[name], suspect_support(values.reshape(layers[name].shape), int(reference[name].sum())))
        for name, values in found
    }


def _correlation(shown: Counts, frame: Counts) -> float:
    ours = np.concatenate([np.zeros(1), *(_centred(frame[name]) for name in shown)])
    theirs = np.concatenate([np.zeros(1), *(_centred(counts) for counts in shown.values())])
    norm = float(np.sqrt((ours @ ours) * (theirs @ theirs)))
    return float(ours @ theirs) / norm if norm > 0 else 0.0


def _centred(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    matrix = counts.astype(np.float64)
    centred = matrix - matrix.mean(axis=0) - matrix.mean(axis=1, keepdims=True) + matrix.mean()
    return np.asarray(centred.ravel())
