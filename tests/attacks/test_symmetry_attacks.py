"""Attacks that use the network's symmetry: they must keep its function, and alignment must undo them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.thinned import thinned
from ticketguard.attacks.base import Attack, Attacked, Victim, succeed
from ticketguard.attacks.dummies import DummyClique, DummySplit, DummyZero
from ticketguard.attacks.fill import Fill
from ticketguard.attacks.fold_norm import FoldNorm
from ticketguard.attacks.permute import Permute
from ticketguard.attacks.prune_magnitude import PruneMagnitude
from ticketguard.attacks.rebuild import module_of
from ticketguard.attacks.rename import Rename
from ticketguard.attacks.rescale import Rescale
from ticketguard.attacks.sign_flip import SignFlip
from ticketguard.graph.alignment import Alignment, align
from ticketguard.graph.cells import Layer, cell_counts, layer_of
from ticketguard.masks import Mask
from ticketguard.models import build
from ticketguard.storage.suspects import read_any
from ticketguard.tickets import Architecture, Model
from ticketguard.tracing import symmetry_of

ATTACKS: list[Attack] = [
    Permute(),
    Rescale(strength=4.0),
    SignFlip(strength=0.5),
    FoldNorm(),
    Fill(strength=4.0),
    DummyZero(strength=0.25),
    DummyClique(strength=0.25),
    DummySplit(strength=0.25),
]
NETS = {"resnet20": (1, 8), "convnet": (1, 8), "mobilenet": (3, 16)}


@cache
def victim(name: str, density: float = 0.19) -> Victim:
    """A random masked network with random batch-norm statistics."""
    channels, size = NETS[name]
    torch.manual_seed(0)
    architecture = Architecture(name=name, arguments={"classes": 10, "in_channels": channels, "image_size": size})
    module = build(architecture)
    symmetry = symmetry_of(module, torch.zeros(1, channels, size, size))
    rng = np.random.default_rng(1)
    weights: dict[str, NDArray[np.generic]] = {}
    for key, value in module.state_dict().items():
        array = value.numpy().copy()
        if array.ndim == 1:
            array = (array + rng.uniform(0.1, 0.5, array.shape)).astype(array.dtype)
        weights[key] = array
    mask = {key: rng.random(array.shape) < density for key, array in weights.items() if array.ndim == 4}
    weights |= {key: (weights[key] * bits).astype(np.float32) for key, bits in mask.items()}
    model = Model(architecture=architecture, weights=weights, mask=Mask(mask))
    return Victim(model=model, symmetry=symmetry, seed=3)


def frame(given: Victim) -> tuple[dict[str, NDArray[np.int64]], list[Layer]]:
    layers = [layer_of(name, bits.shape) for name, bits in given.model.mask.items()]
    return {layer.name: cell_counts(layer, given.model.mask[layer.name]) for layer in layers}, layers


def aligned(given: Victim, attacked: Attacked) -> Alignment:
    reference, layers = frame(given)
    return align(reference, layers, given.symmetry, attacked.weights)


def recovered(given: Victim, attacked: Attacked) -> float:
    """Share of the victim's edges that the aligned suspect keeps at their places."""
    found = aligned(given, attacked).apply(attacked.weights)
    _, layers = frame(given)
    hits = 0
    for layer in layers:
        bits = given.model.mask[layer.name]
        values = np.abs(found[layer.name])
        kept = values > 1e-7 * values.max()
        hits += int((kept & bits).sum())
    return hits / given.model.mask.kept


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
@pytest.mark.parametrize("name", thinned(NETS, fast=["convnet"]))
def test_the_function_stays_and_the_weights_change(name: str, attack: Attack) -> None:
    given = victim(name)
    channels, size = NETS[name]
    attacked = attack.run(given)
    assert any(
        key not in attacked.weights or not np.array_equal(array, attacked.weights[key])
        for key, array in given.model.weights.items()
    )
    images = torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(5))
    plain = module_of(Attacked(weights=given.model.weights, architecture=given.model.architecture))
    with torch.no_grad():
        before, after = plain.double()(images.double()), module_of(attacked).double()(images.double())
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_alignment_recovers_every_edge(attack: Attack) -> None:
    given = victim("resnet20")
    assert recovered(given, attack.run(given)) > 0.999


@pytest.mark.parametrize(
    "attack", [DummyZero(strength=0.25), DummyClique(strength=0.25), DummySplit(strength=0.25)], ids=repr
)
def test_dummies_are_undone_on_permuted_pruned_and_folded_networks(attack: Attack) -> None:
    given = victim("resnet20")
    reordered = succeed(given, Permute().run(given))
    # The symmetry does not depend on the order of channels, so it serves the second attacker too.
    widened = attack.run(Victim(model=reordered.model, symmetry=given.symmetry, seed=4))
    pruned = PruneMagnitude(strength=0.3).run(succeed(given, widened))
    assert recovered(given, widened) > 0.999
    assert recovered(given, pruned) > 0.95 * 0.7
    words = " ".join(aligned(given, widened).undone)
    assert "permuted in" in words
    assert "dummy channels dropped" in words or "copies of channels merged" in words


def test_folded_renamed_reordered_and_permuted_all_at_once() -> None:
    given = victim("resnet20")
    step = succeed(given, Permute().run(given))
    step = succeed(step, FoldNorm().run(Victim(model=step.model, symmetry=given.symmetry, seed=9)))
    renamed = Rename().run(step)
    assert recovered(given, renamed) > 0.999
    assert "renamed layers found" in " ".join(aligned(given, renamed).undone)


@pytest.mark.slow
@pytest.mark.parametrize("density", [0.19, 0.02])
def test_zeros_hidden_under_a_fill_are_seen_again_after_permutation(density: float) -> None:
    given = victim("resnet20", density)
    step = succeed(given, Permute().run(given))
    filled = Fill(strength=4.0).run(Victim(model=step.model, symmetry=given.symmetry, seed=6))
    found = aligned(given, filled)
    restored = found.apply(filled.weights)
    shown = [np.mean((restored[name] != 0) == bits) for name, bits in given.model.mask.items()]
    assert np.mean(shown) > 0.9
    assert recovered(given, filled) > 0.99
    assert "invisible weights cleared in 19 layers" in found.undone


def test_an_onnx_export_of_a_folded_permuted_network_is_read(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    given = victim("resnet20")
    step = succeed(given, Permute().run(given))
    folded = FoldNorm().run(Victim(model=step.model, symmetry=given.symmetry, seed=9)).weights
    arrays = [array.T if name == "fc.weight" else array for name, array in folded.items()]
    names = [f"onnx::Conv_{number}" for number in range(len(arrays))]
    initializers = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(a), n) for a, n in zip(arrays, names, strict=True)
    ]
    head = onnx.helper.make_node("MatMul", ["x", names[list(folded).index("fc.weight")]], ["y"])
    graph = onnx.helper.make_graph([head], "g", [], [], initializer=initializers)
    (tmp_path / "suspect.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    suspect = read_any(tmp_path / "suspect.onnx")
    attacked = Attacked(weights=suspect, architecture=given.model.architecture)
    assert recovered(given, attacked) > 0.999


def test_partial_permutation_and_untouched_channels_stay() -> None:
    given = victim("resnet20")
    assert recovered(given, Permute(strength=0.25).run(given)) > 0.999
    found = aligned(given, Attacked(weights=given.model.weights, architecture=given.model.architecture))
    assert found.undone == ()
    assert found.lineage == 1.0
    assert all(np.array_equal(order, np.arange(len(order))) for order in found.choice.values())


def test_attacks_need_the_symmetry_and_leave_the_victim_alone() -> None:
    given = victim("convnet")
    before = {name: array.copy() for name, array in given.model.weights.items()}
    for attack in ATTACKS:
        attack.run(given)
    for name, array in before.items():
        np.testing.assert_array_equal(array, given.model.weights[name])
