"""Finding registered layers in files with other names, orders and sizes."""

from __future__ import annotations

import numpy as np

from ticketguard.graph import matching
from ticketguard.graph.cells import layer_of
from ticketguard.graph.groups import Symmetry, fixed_axis
from ticketguard.graph.matching import Matched, fits, match, rematch, same

LAYERS = [
    layer_of("conv1.weight", (4, 3, 3, 3)),
    layer_of("a.weight", (4, 4, 3, 3)),
    layer_of("b.weight", (4, 4, 3, 3)),
]
SYMMETRY = Symmetry(axes={"bn.weight": (fixed_axis(4),)})


def test_layers_that_fit_nothing_look_through_the_file_once(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(matching, "fits", lambda *shapes: asked.append(shapes) or fits(*shapes))
    layers = [layer_of(f"w{number}", (8, 8, 5, 5)) for number in range(20)] + [layer_of("v", (8, 8, 3, 3))]
    shapes = {f"x{number}": (16, 16, 3, 3) for number in range(50)}
    assert match(layers, Symmetry(), shapes).names == {"v": "x0"}
    assert len(asked) == 50 + 1


def test_by_name_with_wrapper_prefixes_and_in_any_order() -> None:
    shapes = {
        "module.b.weight": (4, 4, 3, 3),
        "module.bn.weight": (4,),
        "_orig_mod.model.a.weight": (4, 4, 3, 3),
        "conv1.weight": (4, 3, 3, 3),
    }
    found = match(LAYERS, SYMMETRY, shapes)
    assert found.renamed == ()
    assert found.names == {
        "conv1.weight": "conv1.weight",
        "a.weight": "_orig_mod.model.a.weight",
        "b.weight": "module.b.weight",
        "bn.weight": "module.bn.weight",
    }


def test_of_names_that_differ_by_a_prefix_the_one_of_equal_shape_counts() -> None:
    layer = layer_of("fc.weight", (6, 4))
    shapes = {"fc.weight": (4, 6), "transposed.fc.weight": (6, 4), "net.fc.weight": (6, 4)}
    assert match([layer], Symmetry(), shapes).names == {"fc.weight": "transposed.fc.weight"}
    assert match([layer], Symmetry(), {"fc.weight": (5, 4), "net.fc.weight": (7, 4)}).names == {
        "fc.weight": "fc.weight"
    }


def test_by_shape_and_order_then_larger_ones() -> None:
    shapes = {"x": (4, 3, 3, 3), "n": (4,), "y": (4, 4, 3, 3), "z": (4, 4, 3, 3)}
    found = match(LAYERS, SYMMETRY, shapes)
    assert found.names == {"conv1.weight": "x", "a.weight": "y", "b.weight": "z"}
    assert found.renamed == ("conv1.weight", "a.weight", "b.weight")
    wider = match(LAYERS, SYMMETRY, {"x": (5, 3, 3, 3), "y": (6, 5, 3, 3), "z": (4, 6, 3, 3)})
    assert wider.names == {"conv1.weight": "x", "a.weight": "y", "b.weight": "z"}


def test_a_right_name_with_an_impossible_shape_does_not_count() -> None:
    found = match(LAYERS, SYMMETRY, {"a.weight": (4, 4, 5, 5), "b.weight": (400, 4, 3, 3)})
    assert found.names == {}


def test_shapes_that_fit() -> None:
    assert same((8, 4, 1, 1), (8, 4))
    assert fits((8, 4), (10, 5, 1, 1))
    assert fits((8, 4, 3, 3), (7, 4, 3, 3))
    assert not fits((8, 4, 3, 3), (8, 4, 1, 3))
    assert not fits((8, 4), (1, 4))


def test_rematching_sorts_reordered_layers_by_their_degrees() -> None:
    rng = np.random.default_rng(0)
    reference = {layer.name: rng.integers(0, 9, (layer.rows, layer.cells_per_row)) for layer in LAYERS}
    stored = {"p0": "b.weight", "p1": "a.weight", "p2": "conv1.weight"}
    matched = Matched(
        names={"conv1.weight": "p2", "a.weight": "p0", "b.weight": "p1"},
        renamed=("conv1.weight", "a.weight", "b.weight"),
    )
    rows, columns = rng.permutation(4), rng.permutation(4)
    suspect = {}
    for layer in LAYERS:
        counts = reference[stored[matched.names[layer.name]]]
        suspect[layer.name] = counts[rows][:, columns[: counts.shape[1]]] if counts.shape[1] == 4 else counts[rows]
    found = rematch(matched, LAYERS, reference, suspect)[0]
    assert found.names == {"conv1.weight": "p2", "a.weight": "p1", "b.weight": "p0"}


def test_swapped_names_are_noticed_and_honest_ones_kept() -> None:
    rng = np.random.default_rng(1)
    reference = {layer.name: rng.integers(0, 9, (layer.rows, layer.cells_per_row)) for layer in LAYERS}
    matched = Matched(names={layer.name: layer.name for layer in LAYERS})
    assert rematch(matched, LAYERS, reference, reference) == []
    swapped = {**reference, "a.weight": reference["b.weight"], "b.weight": reference["a.weight"]}
    (found,) = rematch(matched, LAYERS, reference, swapped)
    assert found.names == {"conv1.weight": "conv1.weight", "a.weight": "b.weight", "b.weight": "a.weight"}
    assert found.renamed == ("a.weight", "b.weight")


def test_renamed_and_pruned_layers_are_matched_by_their_overlap() -> None:
    """Half of the edges gone, the sorted degrees say little; cell by cell the right layer still overlaps best."""
    rng = np.random.default_rng(2)
    layers = [layer_of(f"l{number}.weight", (16, 16, 3, 3)) for number in range(6)]
    reference = {layer.name: rng.binomial(9, 0.2, (16, 16)) for layer in layers}
    order = rng.permutation(6)
    names = {layer.name: f"p{number}" for number, layer in enumerate(layers)}
    stored = {f"p{number}": layers[source].name for number, source in enumerate(order)}
    suspect = {name: rng.binomial(reference[stored[key]], 0.5) for name, key in names.items()}
    found = rematch(Matched(names=names, renamed=tuple(names)), layers, reference, suspect)
    assert {key: name for name, key in found[-1].names.items()} == stored


def test_shape_first_takes_a_name_only_where_it_has_the_shape_or_no_tensor_has() -> None:
    layers = [layer_of("a.weight", (8, 4, 3, 3)), layer_of("b.weight", (16, 8, 3, 3))]
    swapped = {"a.weight": (16, 8, 3, 3), "b.weight": (8, 4, 3, 3)}
    assert match(layers, Symmetry(), swapped).names == {"a.weight": "a.weight", "b.weight": "b.weight"}
    found = match(layers, Symmetry(), swapped, shape_first=True)
    assert found.names == {"a.weight": "b.weight", "b.weight": "a.weight"}
    assert found.guessed == ()
    wider = {"a.weight": (10, 4, 3, 3), "b.weight": (16, 10, 3, 3)}
    assert match(layers, Symmetry(), wider, shape_first=True) == match(layers, Symmetry(), wider)
