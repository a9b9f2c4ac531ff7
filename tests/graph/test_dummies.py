"""Widened suspects whose norms and biases have a shape that no layer could have: those count as missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ticketguard.graph.alignment import Alignment, align
from ticketguard.graph.cells import cell_counts, layer_of
from ticketguard.graph.dummies import SUMS, TOLERANCE, _clusters, _near
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


def copies_by_comparing_all(rows: NDArray[np.float64], tolerance: float = TOLERANCE) -> list[list[int]]:
    """The first row that is left with all that are equal to it, and so on."""
    left, found = [index for index, row in enumerate(rows) if row.any()], []
    while left:
        close = [index for index in left if np.sqrt(((rows[index] - rows[left[0]]) ** 2).sum()) <= tolerance]
        found += [close] if len(close) > 1 else []
        left = [index for index in left if index not in close]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_copies_are_those_that_comparing_all_rows_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(60, 12)) * (rng.random((60, 12)) < 0.3)
    rows[rng.integers(0, 60, 30)] = rows[rng.integers(0, 60, 30)]
    rows += rng.choice([0.0, 2e-5, 2e-4], (60, 1)) * rng.normal(size=(60, 12))
    assert sorted(cluster.tolist() for cluster in _clusters(rows)) == sorted(copies_by_comparing_all(rows))


def test_rows_that_agree_in_any_one_direction_are_not_all_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 rows whose sums, and sums by cosines, are all zero: comparing each with each takes 10^8 differences."""
    rng = np.random.default_rng(0)
    fixed = np.stack([np.ones(64), np.cos(np.arange(1, 65) * 1.7)])
    rows = rng.normal(size=(10_000, 64))
    rows -= rows @ np.linalg.pinv(fixed) @ fixed
    compared = 0
    whole = np.sqrt

    def counted(values: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal compared
        compared += np.size(values)
        return whole(values)

    monkeypatch.setattr(np, "sqrt", counted)
    assert _clusters(rows / whole((rows**2).sum(axis=1, keepdims=True))) == []
    assert compared < 100_000


def split_by_noise(unlike: float) -> dict[str, NDArray[np.float64]]:
    """Every channel twice, the second `unlike` the first in its own length; one of them reads noise, the other what lacks."""
    first = np.repeat(WEIGHTS["one.weight"], 2, axis=0)
    noise = RNG.normal(size=first[::2].shape)
    sizes = [np.sqrt((rows**2).sum(axis=(1, 2, 3), keepdims=True)) for rows in (first[::2], noise)]
    first[1::2] += unlike * noise * sizes[0] / sizes[1]
    read = RNG.normal(size=(5, 16, 3, 3))
    read[:, 1::2] = WEIGHTS["two.weight"] - read[:, ::2]
    return {"one.weight": first, "two.weight": read, **{name: np.full(16, 0.5) for name in VECTORS}}


@pytest.mark.parametrize("unlike", [1e-9, 5e-5, 3e-4, 3e-3, 3e-2, 0.1])
def test_near_copies_that_share_noise_are_merged(unlike: float) -> None:
    """The same answers but for `unlike`, from tensors of nothing but noise; what little is left of it is no edge."""
    suspect = split_by_noise(unlike)
    found = aligned(suspect)
    assert found.undone[0] == "8 copies of channels merged"
    assert found.left_over == 0
    assert found.lineage > 0.9
    support = found.apply(suspect)["two.weight"] != 0
    assert np.mean(support == (WEIGHTS["two.weight"] != 0)) > 1 - unlike


def test_a_wider_network_of_its_own_keeps_its_channels() -> None:
    """Nothing in it is near anything else: what is left over is said, for somebody may have to look."""
    rng = np.random.default_rng(5)
    own = {
        "one.weight": rng.normal(size=(11, 2, 3, 3)) * (rng.random((11, 2, 3, 3)) < 0.4),
        "two.weight": rng.normal(size=(5, 11, 3, 3)) * (rng.random((5, 11, 3, 3)) < 0.4),
    }
    found = aligned(own)
    assert not found.merges
    assert found.left_over == 3


def test_no_more_near_copies_are_merged_than_there_are_channels_too_many() -> None:
    """Rows of the ticket itself may lie close together."""
    base = np.repeat(RNG.normal(size=(1, 2, 3, 3)), 9, axis=0)
    base += 0.02 * RNG.normal(size=base.shape)
    base[8] = base[3] * (1 + 1e-3 * RNG.normal(size=base[3].shape))
    near = {"one.weight": base, "two.weight": RNG.normal(size=(5, 9, 3, 3))}
    near["two.weight"][:, 3] = WEIGHTS["two.weight"][:, 3] - near["two.weight"][:, 8]
    near["two.weight"][:, [0, 1, 2, 4, 5, 6, 7]] = WEIGHTS["two.weight"][:, [0, 1, 2, 4, 5, 6, 7]]
    frame = {**FRAME, "one.weight": cell_counts(LAYERS[0], base[:8] != 0)}
    found = align(frame, LAYERS, SYMMETRY, near)
    assert [(merge.kept, merge.dropped) for merge in found.merges] == [(3, 8)]
    assert found.lineage > 0.99


@pytest.mark.parametrize("width", [4, SUMS, SUMS + 1, 3000])
def test_near_rows_are_those_that_comparing_all_rows_finds(width: int) -> None:
    """Of wide rows only sums are compared, which tell 0.03 from 1.4 every time."""
    rng = np.random.default_rng(width)
    rows = rng.normal(size=(300, width)) * (rng.random((300, 1)) < 0.9)
    copied = rng.choice(300, (2, 60), replace=False)
    rows[copied[0]] = rows[copied[1]]
    rows /= np.maximum(1e-9, np.sqrt((rows**2).sum(axis=1, keepdims=True)))
    rows += np.where(rows.any(axis=1, keepdims=True), 0.01 / np.sqrt(width) * rng.normal(size=rows.shape), 0)
    if width > SUMS:
        expected = sorted(sorted(pair) for pair in copied.T.tolist() if rows[pair[0]].any())
        assert sorted(cluster.tolist() for cluster in _near(rows, 0.1)) == expected
    else:
        for tolerance in (1e-2, 0.1):
            found = sorted(cluster.tolist() for cluster in _near(rows, tolerance))
            assert found == sorted(copies_by_comparing_all(rows, tolerance))


def test_rows_that_are_too_long_to_add_up_exactly_are_no_near_copies() -> None:
    assert _near(np.full((4, 3), 1e9), 0.3) == []


def test_constant_channels_are_dropped_however_loud() -> None:
    """As many as the group has, which read nothing and say nothing: they must not push out those that do."""
    suspect = {
        "one.weight": np.concatenate([WEIGHTS["one.weight"], np.zeros((12, 2, 3, 3))]),
        "two.weight": np.concatenate([WEIGHTS["two.weight"], 1e26 * RNG.normal(size=(5, 12, 3, 3))], axis=1),
        **{
            name: np.concatenate([np.full(8, 0.5), np.full(12, -1.0 if name == "bn.bias" else 0.5)]) for name in VECTORS
        },
        "two.bias": np.ones(5),
    }
    found = aligned(suspect)
    assert found.lineage == 1.0
    assert found.undone == ("12 dummy channels dropped",)


def test_channels_that_only_look_like_copies_are_tried_unmerged() -> None:
    """A loud input makes rows parallel; one dummy channel then lets them be merged."""
    loud = WEIGHTS["one.weight"].copy()
    loud[:, 0, 0, 0] = 1e9 * (1 + np.arange(8) % 2)
    frame = {**FRAME, "one.weight": cell_counts(LAYERS[0], loud != 0)}
    wide = {
        "one.weight": np.concatenate([loud, RNG.normal(size=(1, 2, 3, 3))]),
        "two.weight": np.concatenate([WEIGHTS["two.weight"], np.zeros((5, 1, 3, 3))], axis=1),
    }
    found = align(frame, LAYERS, SYMMETRY, wide)
    assert found.lineage > 0.9
    assert not found.merges


def test_missing_channels_are_said() -> None:
    """Else a suspect of another shape, whose channels are in order, would never be read."""
    narrow = {"one.weight": WEIGHTS["one.weight"][:-1], "two.weight": WEIGHTS["two.weight"][:, :-1]}
    assert aligned(narrow).undone == ("1 channels missing, the others in their places",)


def test_a_vector_that_widens_a_group_beyond_measure_counts_as_missing() -> None:
    suspect = {**WEIGHTS, **{name: np.full(33, 0.5) for name in VECTORS}, "two.bias": np.ones(5)}
    assert aligned(suspect).undone == ()
    assert aligned(suspect).lineage == 1.0


def test_overflow_on_the_way_says_nothing() -> None:
    """Warnings are errors here."""
    suspect = {name: np.where(RNG.random(value.shape) < 0.5, 1e300, value) for name, value in widened().items()}
    assert 0.0 <= aligned(suspect).lineage <= 1.0
