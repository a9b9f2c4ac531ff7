"""Widened suspects whose norms and biases have a shape that no layer could have: those count as missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ticketguard.graph.alignment import Alignment, align
from ticketguard.graph.cells import cell_counts, layer_of
from ticketguard.graph.groups import Group, Norm, Segment, Symmetry, fixed_axis

VECTORS = ("bn.running_mean", "bn.running_var", "bn.weight", "bn.bias", "one.bias")
INNER, OUTER = (Segment(group=0, count=8),), (Segment(group=1, count=5),)
SYMMETRY = Symmetry(
    groups=(Group(size=8, scalable=True), Group(size=5)),
    axes={
        "one.weight": (INNER, fixed_axis(2)),
        "two.weight": (OUTER, INNER),
        "two.bias": (OUTER,),
        **dict.fromkeys(VECTORS, (INNER,)),
    },
    norms={"one.weight": Norm(mean=VECTORS[0], variance=VECTORS[1], scale=VECTORS[2], shift=VECTORS[3])},
    biases={"one.weight": "one.bias"},
)
RNG = np.random.default_rng(0)
LAYERS = [layer_of("one.weight", (8, 2, 3, 3)), layer_of("two.weight", (5, 8, 3, 3))]
WEIGHTS = {layer.name: RNG.normal(size=layer.shape) * (RNG.random(layer.shape) < 0.4) for layer in LAYERS}
FRAME = {layer.name: cell_counts(layer, WEIGHTS[layer.name] != 0) for layer in LAYERS}


def widened() -> dict[str, NDArray[np.float64]]:
    """Two channels more, copies of the first two; every vector says the same of all channels."""
    source = np.array([*range(8), 0, 1])
    wide = {"one.weight": WEIGHTS["one.weight"][source], "two.weight": WEIGHTS["two.weight"][:, source].copy()}
    wide["two.weight"][:, [0, 1, 8, 9]] /= 2
    return {**wide, **{name: np.full(10, 0.5) for name in VECTORS}, "two.bias": np.ones(5)}


def aligned(suspect: dict[str, NDArray[np.float64]], symmetry: Symmetry = SYMMETRY) -> Alignment:
    return align(FRAME, LAYERS, symmetry, suspect)


@pytest.mark.parametrize("shape", [(10, 3), (10, 1), (8,), (11,), (1,), (0,), (10, 0), ()])
@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_of_another_shape_counts_as_missing(name: str, shape: tuple[int, ...]) -> None:
    suspect = widened()
    missing = aligned({key: value for key, value in suspect.items() if key != name})
    found = aligned({**suspect, name: np.full(shape, 7.0)})
    assert len(found.merges) == 2
    assert (found.merges, found.undone, found.notes) == (missing.merges, missing.undone, missing.notes)
    assert found.lineage == 1.0


@pytest.mark.parametrize("other", ["two.bias", "two.weight", "nothing"])
@pytest.mark.parametrize("part", ["mean", "variance", "scale", "shift", "bias"])
def test_a_symmetry_that_names_a_vector_of_another_length_loses_it(part: str, other: str) -> None:
    norm, biases = SYMMETRY.norms["one.weight"], dict(SYMMETRY.biases)
    if part == "bias":
        biases["one.weight"] = other
    else:
        norm = replace(norm, **{part: other})
    found = aligned(widened(), replace(SYMMETRY, norms={"one.weight": norm}, biases=biases))
    assert len(found.merges) == 2
