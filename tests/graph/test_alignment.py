"""Alignment: random ticket-like masks, all channels permuted at once, found again from cell counts alone."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ticketguard.errors import FormatError
from ticketguard.graph.alignment import Alignment, align, lineage
from ticketguard.graph.cells import Layer, cell_counts, layer_of
from ticketguard.graph.groups import Group, Segment, Symmetry, fixed_axis
from ticketguard.graph.layout import rearranged
from ticketguard.models import build
from ticketguard.tickets import Architecture
from ticketguard.tracing import symmetry_of

Weights = dict[str, NDArray[np.float32]]
Counts = dict[str, NDArray[np.int64]]


@cache
def network(name: str) -> tuple[Symmetry, dict[str, tuple[int, ...]]]:
    """Symmetry of a registered network and the shapes of its convolutions and linear layers."""
    channels, size = (1, 8) if name in {"convnet", "mlp"} else (3, 32)
    module = build(Architecture(name=name, arguments={"classes": 10, "in_channels": channels, "image_size": size}))
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items() if value.ndim >= 2}
    return symmetry_of(module, torch.zeros(1, channels, size, size)), shapes


@dataclass(frozen=True, kw_only=True)
class Case:
    """A random ticket and its frame."""

    symmetry: Symmetry
    layers: list[Layer]
    reference: Counts
    weights: Weights

    def permuted(self, weights: Weights, rng: np.random.Generator) -> tuple[Weights, dict[int, NDArray[np.int64]]]:
        """All groups permuted, and the choice that undoes it."""
        choice = {number: rng.permutation(group.size) for number, group in enumerate(self.symmetry.groups)}
        back = {number: np.argsort(order) for number, order in choice.items()}
        return rearranged(weights, self.symmetry, choice), back

    def align(self, weights: Weights) -> Alignment:
        return align(self.reference, self.layers, self.symmetry, weights)


def ticket(name: str, density: float, rng: np.random.Generator) -> Case:
    symmetry, shapes = network(name)
    layers = [layer_of(key, shape) for key, shape in shapes.items()]
    weights = {
        layer.name: (rng.standard_normal(layer.shape) * (rng.random(layer.shape) < density)).astype(np.float32)
        for layer in layers
    }
    reference = {layer.name: cell_counts(layer, weights[layer.name] != 0) for layer in layers}
    return Case(symmetry=symmetry, layers=layers, reference=reference, weights=weights)


def right(found: Alignment, back: dict[int, NDArray[np.int64]]) -> float:
    hits = sum(int((found.choice[group] == order).sum()) for group, order in back.items())
    return hits / sum(len(order) for order in back.values())


def prune_random(weights: Weights, share: float, rng: np.random.Generator) -> Weights:
    return {name: np.where(rng.random(a.shape) < share, np.float32(0), a) for name, a in weights.items()}


def prune_and_add(weights: Weights, share: float, added: float, rng: np.random.Generator) -> Weights:
    """Magnitude pruning of the kept weights, then new edges, a share of the old number, anywhere."""
    result = {}
    for name, array in weights.items():
        kept = np.flatnonzero(array)
        flat = array.ravel().copy()
        flat[kept[np.argsort(np.abs(flat[kept]))[: round(share * len(kept))]]] = 0
        free = np.flatnonzero(flat == 0)
        new = rng.choice(free, round(added * len(kept)), replace=False)
        flat[new] = rng.standard_normal(len(new))
        result[name] = flat.reshape(array.shape)
    return result


@pytest.mark.parametrize("density", [0.19, 0.012])
@pytest.mark.parametrize("name", ["resnet20", "convnet"])
def test_every_channel_of_a_permuted_network_is_found(name: str, density: float) -> None:
    rng = np.random.default_rng(1)
    case = ticket(name, density, rng)
    suspect, back = case.permuted(case.weights, rng)
    found = case.align(suspect)
    assert found.lineage == 1.0
    assert found.sweeps <= 8
    restored = found.apply(suspect)
    # Channels with equal counts everywhere (empty ones) cannot be told apart, and need not be.
    assert right(found, back) > (0.999 if density > 0.1 else 0.98)
    agree = [float(((restored[n] != 0) == (case.weights[n] != 0)).mean()) for n in restored]
    assert min(agree) > 0.999
    assert "permuted in" in found.undone[0]


@pytest.mark.parametrize(
    ("name", "density", "least"),
    [("resnet20", 0.19, 1.0), ("resnet20", 0.012, 0.86), ("convnet", 0.19, 1.0)],
)
def test_found_after_half_of_the_edges_were_pruned_at_random(name: str, density: float, least: float) -> None:
    rng = np.random.default_rng(2)
    case = ticket(name, density, rng)
    suspect, back = case.permuted(prune_random(case.weights, 0.5, rng), rng)
    found = case.align(suspect)
    assert right(found, back) >= least
    assert found.sweeps <= 8


@pytest.mark.parametrize(("density", "least"), [(0.19, 1.0), (0.012, 0.97)])
def test_found_after_magnitude_pruning_and_added_edges(density: float, least: float) -> None:
    rng = np.random.default_rng(3)
    case = ticket("resnet20", density, rng)
    suspect, back = case.permuted(prune_and_add(case.weights, 0.3, 0.05, rng), rng)
    assert right(case.align(suspect), back) >= least


def test_a_filled_and_rescaled_network_is_found() -> None:
    rng = np.random.default_rng(4)
    case = ticket("convnet", 0.19, rng)
    filled = {
        n: np.where(a == 0, 1e-9 * rng.standard_normal(a.shape), a).astype(np.float32) for n, a in case.weights.items()
    }
    scaled = {
        n: a * np.exp2(rng.uniform(-4, 4, (len(a), *(1,) * (a.ndim - 1)))).astype(np.float32) for n, a in filled.items()
    }
    suspect, back = case.permuted(scaled, rng)
    assert right(case.align(suspect), back) > 0.999


def test_rows_of_linear_layers_are_found_from_blocks_and_columns_follow() -> None:
    rng = np.random.default_rng(5)
    case = ticket("mlp", 0.19, rng)
    suspect, _ = case.permuted(case.weights, rng)
    found = case.align(suspect)
    restored = found.apply(suspect)
    agree = [float(((restored[n] != 0) == (case.weights[n] != 0)).mean()) for n in restored]
    assert found.lineage == 1.0
    assert min(agree) > 0.99


def test_a_network_with_missing_channels_keeps_the_rest() -> None:
    rng = np.random.default_rng(6)
    case = ticket("convnet", 0.19, rng)
    suspect, back = case.permuted(case.weights, rng)
    gone = [5, 20]
    names = [layer.name for layer in case.layers]
    cut = dict(suspect)
    cut[names[0]] = np.delete(suspect[names[0]], gone, axis=0)
    cut[names[1]] = np.delete(suspect[names[1]], gone, axis=1)
    found = case.align(cut)
    chosen = found.choice[0]
    assert (chosen == -1).sum() == len(gone)
    left = np.delete(np.arange(len(back[0])), gone)
    kept = chosen >= 0
    assert np.array_equal(left[chosen[kept]], back[0][kept])
    assert not found.apply(cut)[names[0]][~kept].any()


def test_ties_and_unrelated_networks_keep_or_find_some_order_deterministically() -> None:
    rng = np.random.default_rng(7)
    case, other = ticket("resnet20", 0.05, rng), ticket("resnet20", 0.05, rng)
    one, two = case.align(other.weights), case.align(other.weights)
    assert all(np.array_equal(one.choice[g], two.choice[g]) for g in one.choice)
    assert one.lineage < 0.5
    same = case.align(case.weights)
    assert same.undone == ()
    assert same.sweeps == 0


def test_a_suspect_stored_in_another_precision_or_order_is_read() -> None:
    rng = np.random.default_rng(8)
    case = ticket("convnet", 0.19, rng)
    suspect, back = case.permuted(case.weights, rng)
    stored = {f"module.{name}": suspect[name].astype(np.float16) for name in reversed(list(suspect))}
    found = case.align(stored)
    assert right(found, back) > 0.999
    assert set(found.apply(stored)) == set(case.weights)


def test_layers_whose_names_were_swapped_are_put_right() -> None:
    rng = np.random.default_rng(15)
    case = ticket("resnet20", 0.19, rng)
    suspect, back = case.permuted(case.weights, rng)
    names = [layer.name for layer in case.layers if layer.shape == (32, 32, 3, 3)]
    swapped = {**suspect, **{name: suspect[other] for name, other in zip(names, names[1:] + names[:1], strict=True)}}
    found = case.align(swapped)
    assert found.lineage == 1.0
    assert right(found, back) > 0.999


def test_without_symmetry_only_names_are_matched() -> None:
    rng = np.random.default_rng(9)
    case = ticket("convnet", 0.19, rng)
    found = align(case.reference, case.layers, None, {f"x.{n}": a for n, a in case.weights.items()})
    assert found.lineage == 1.0
    assert found.undone == (f"{len(case.layers)} renamed layers found by shape",)


def test_nothing_comparable_is_no_error() -> None:
    case = ticket("convnet", 0.19, np.random.default_rng(10))
    found = case.align({"w": np.zeros((2, 2), dtype=np.float32)})
    assert found.apply({"w": np.zeros((2, 2), dtype=np.float32)}) == {}
    assert found.lineage == 0.0
    assert "no counterpart" in found.notes[0]


@pytest.mark.parametrize("kernel", [(3, 0), (0,), (2, 2), (5, 5), (3,), (3, 3, 2), ()])
def test_a_layer_with_another_kernel_is_left_out_and_the_others_are_found(kernel: tuple[int, ...]) -> None:
    """Its channels are as many as registered, so nothing but the kernel says that it is no version of the layer."""
    rng = np.random.default_rng(16)
    case = ticket("convnet", 0.19, rng)
    suspect, _ = case.permuted(case.weights, rng)
    name = next(layer.name for layer in case.layers if len(layer.shape) == 4 and layer.shape[1] > 1)
    suspect[name] = np.ones(suspect[name].shape[:2] + kernel, dtype=np.float32)
    found = case.align(suspect)
    assert set(found.apply(suspect)) == {layer.name for layer in case.layers} - {name}
    assert any("1 layers have a shape" in note for note in found.notes)
    assert found.lineage > 0.9


def test_nan_and_infinity_do_not_stop_alignment() -> None:
    rng = np.random.default_rng(11)
    case = ticket("convnet", 0.19, rng)
    suspect, back = case.permuted(case.weights, rng)
    for array in suspect.values():
        array.ravel()[:3] = [np.nan, np.inf, -np.inf]
    assert right(case.align(suspect), back) > 0.99


def test_a_symmetry_that_does_not_fit_the_layers_is_refused() -> None:
    layer = layer_of("w", (4, 4, 3, 3))
    reference = {"w": np.zeros((4, 4), dtype=np.int64)}
    wrong = Symmetry(groups=(Group(size=2),), axes={"w": (fixed_axis(3), None)})
    with pytest.raises(FormatError, match="dimension 0"):
        align(reference, [layer], wrong, {})
    with pytest.raises(FormatError, match="frame"):
        align({"w": np.zeros((3, 4), dtype=np.int64)}, [layer], None, {})


def test_lineage_is_one_for_a_copy_and_small_for_a_stranger() -> None:
    rng = np.random.default_rng(12)
    one = {"a": rng.poisson(1.7, (32, 32)).astype(np.int64)}
    other = {"a": rng.poisson(1.7, (32, 32)).astype(np.int64)}
    assert lineage(one, one) == pytest.approx(1.0)
    assert lineage(one, other) < 0.1
    assert lineage(one, {}) == 0.0
    assert lineage(one, {"a": np.ones((32, 32), dtype=np.int64)}) == 0.0


@pytest.mark.slow
def test_a_depthwise_separable_network_is_aligned() -> None:
    rng = np.random.default_rng(14)
    case = ticket("mobilenet", 0.19, rng)
    suspect, back = case.permuted(case.weights, rng)
    found = case.align(suspect)
    assert found.lineage == 1.0
    assert right(found, back) > 0.99


@pytest.mark.slow
def test_a_resnet_50_is_aligned() -> None:
    rng = np.random.default_rng(13)
    case = ticket("resnet50", 0.1, rng)
    suspect, back = case.permuted(case.weights, rng)
    found = case.align(suspect)
    assert found.lineage == 1.0
    assert right(found, back) > 0.999


def small(shapes: dict[str, tuple[int, ...]]) -> tuple[list[Layer], Symmetry]:
    """Layers one after the other, each reading the channels that the one before makes."""
    layers = [
        Layer(name=name, shape=shape, cell=9 if len(shape) > 2 and shape[2] > 1 else 4)
        for name, shape in shapes.items()
    ]
    groups = [Group(size=shape[0]) for shape in list(shapes.values())[:-1]]
    runs = [
        (Segment(group=None, count=layers[0].shape[1]),),
        *((Segment(group=number, count=group.size),) for number, group in enumerate(groups)),
        (Segment(group=None, count=layers[-1].shape[0]),),
    ]
    axes = {layer.name: (runs[number + 1], runs[number]) for number, layer in enumerate(layers)}
    return layers, Symmetry(groups=tuple(groups), axes=axes)


@pytest.mark.parametrize(
    "shapes",
    [
        {"a": (12, 20), "b": (16, 12), "c": (10, 16)},
        pytest.param(
            {"a": (12, 3, 3, 3), "b": (16, 12, 1, 1), "c": (8, 16, 3, 3), "d": (10, 8)}, marks=pytest.mark.slow
        ),
    ],
    ids=["linear", "pointwise between convolutions"],
)
def test_any_part_of_a_network_is_aligned_whatever_it_holds(shapes: dict[str, tuple[int, ...]]) -> None:
    """A thief leaves out layers, or empties them, so that others have nothing on either side to go by."""
    layers, symmetry = small(shapes)
    rng = np.random.default_rng(0)
    masks = {name: rng.random(shape) < 0.2 for name, shape in shapes.items()}
    reference = {layer.name: cell_counts(layer, masks[layer.name]) for layer in layers}
    contents = {
        "kept": lambda name: masks[name] * rng.normal(size=shapes[name]),
        "zero": lambda name: np.zeros(shapes[name]),
        "dense": lambda name: rng.normal(size=shapes[name]),
    }
    for count in range(1, len(shapes) + 1):
        for part in itertools.combinations(shapes, count):
            for held in itertools.product(contents, repeat=count):
                suspect = {name: contents[kind](name).astype(np.float32) for name, kind in zip(part, held, strict=True)}
                found = align(reference, layers, symmetry, suspect)
                assert found.names.keys() == set(part)
                assert all(
                    len(order) == group.size
                    for order, group in zip(found.choice.values(), symmetry.groups, strict=True)
                )
