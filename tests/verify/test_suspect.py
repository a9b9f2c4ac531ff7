"""Reading suspects: effective weights whatever they are called and however they are stored."""

import numpy as np
import pytest

from ticketguard.evidence import UNREAD
from ticketguard.graph.cells import layer_of
from ticketguard.storage.tensors import bf16, in_memory, read_tensors, write_tensors
from ticketguard.verify.suspect import effective_weights, locate

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32), RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
BITS = RNG.random(A.shape) < 0.5
LAYERS = {"a.weight": layer_of("a.weight", A.shape)}


def read(**tensors):
    named = {name.replace("__", "."): value for name, value in tensors.items()}
    return {name: weight.array() for name, weight in effective_weights(named).items()}


def test_a_stored_parameter_is_itself():
    assert np.array_equal(read(a__weight=A)["a.weight"], A)


def test_original_times_mask_is_the_effective_weight():
    found = read(a__weight_orig=A, a__weight_mask=BITS.astype(np.float32))
    assert list(found) == ["a.weight"]
    assert np.array_equal(found["a.weight"], A * BITS)


def test_a_mask_buffer_beside_a_parameter_is_ignored_whatever_it_says():
    assert np.array_equal(read(a__weight=A, a__weight_mask=np.zeros_like(A))["a.weight"], A)
    lying = read(a__weight=A, a__weight_orig=B, a__weight_mask=BITS.astype(np.uint8))
    assert np.array_equal(lying["a.weight"], A)


def test_only_where_a_mask_is_zero_it_masks():
    factors = np.where(BITS, 10.0 ** RNG.integers(-6, 6, A.shape), 0).astype(np.float32)
    factors[0, 0, 0] = np.where(BITS[0, 0, 0], (np.inf, np.nan, -1), 0)
    weights = {"a.weight_orig": np.where(BITS, A, np.inf).astype(np.float32), "a.weight_mask": factors}
    found = effective_weights(weights)["a.weight"]
    positions = np.arange(A.size)
    assert np.array_equal(found.array(), A * BITS)
    assert np.array_equal(found.gather(positions), (A * BITS).ravel())
    assert found.array().dtype == np.float32
    assert found.has_factors(positions)
    assert found.has_factors(None)
    assert not found.has_factors(positions[~BITS.ravel()])
    for mask in (BITS, BITS.astype(np.uint8), BITS.astype(np.float64)):
        assert not effective_weights({**weights, "a.weight_mask": mask})["a.weight"].has_factors(None)


def test_a_mask_of_another_shape_masks_nothing():
    assert np.array_equal(read(a__weight_orig=A, a__weight_mask=np.zeros(3))["a.weight"], A)


def test_a_bare_mask_is_a_suspect():
    assert np.array_equal(read(a__weight_mask=BITS.astype(np.uint8))["a.weight"], BITS)


@pytest.mark.parametrize("axes", [(1, 0, 2, 3), (2, 3, 1, 0), (0, 2, 3, 1), (2, 3, 0, 1)])
def test_weights_in_another_order_of_axes_are_turned(axes):
    kernels, matrix = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 5, 3, 3), (5, 6)))
    bits = RNG.random(kernels.shape) < 0.5
    layers = {name: layer_of(name, value.shape) for name, value in (("a.weight", kernels), ("c.weight", matrix))}
    tensors = {"a.weight_orig": kernels.transpose(axes), "a.weight_mask": bits.transpose(axes), "c.weight": matrix.T}
    found = effective_weights({name: np.ascontiguousarray(value) for name, value in tensors.items()}, layers)
    for name, expected in (("a.weight", kernels * bits), ("c.weight", matrix)):
        assert found[name].shape == expected.shape
        assert np.array_equal(found[name].array(), expected)
        positions = RNG.integers(0, expected.size, 50)
        assert np.array_equal(found[name].gather(positions), expected.ravel()[positions])
    located = locate(found, layers)
    assert set(located.weights) == set(layers)
    assert located.notes == ("weights are stored with their axes in another order, and were turned",)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_dead_tensors_turn_no_weights_that_stand_under_their_names_as_ours(prefix):
    shapes = {"a.weight": (24, 16, 3, 3), "b.weight": (24, 24, 3, 3)}
    layers = {name: layer_of(name, shape) for name, shape in shapes.items()}
    wide = {prefix + "a.weight": np.ones((25, 16, 3, 3)), prefix + "b.weight": np.ones((24, 25, 3, 3))}
    dead = {"z1": np.ones((16, 24, 3, 3)), "z2": np.ones((24, 24, 3, 3))}
    assert all(weight.axes is None for weight in effective_weights({**dead, **wide}, layers).values())
    # Nor when one of them is renamed: what is left says enough.
    some = {**dead, prefix + "a.weight": wide[prefix + "a.weight"], "renamed": wide[prefix + "b.weight"]}
    assert all(weight.axes is None for weight in effective_weights(some, layers).values())
    assert all(weight.axes == (1, 0, 2, 3) for weight in effective_weights(dead, layers).values())


@pytest.mark.parametrize("name", ["a.weight", "renamed.weight"])
def test_larger_kernels_are_cut_to_where_their_weight_lies(name):
    kernels = RNG.normal(size=(4, 5, 3, 3)).astype(np.float32)
    other = RNG.normal(size=(7, 4, 3, 3)).astype(np.float32)
    layers = {key: layer_of(key, value.shape) for key, value in (("a.weight", kernels), ("b.weight", other))}
    padded = np.pad(kernels, ((0, 0), (0, 0), (1, 1), (2, 0)))
    found = effective_weights({name: padded, "b.weight": other}, layers)
    assert found[name].shape == kernels.shape
    assert np.array_equal(found[name].array(), kernels)
    positions = RNG.integers(0, kernels.size, 50)
    assert np.array_equal(found[name].gather(positions), kernels.ravel()[positions])
    located = locate(found, layers)
    assert set(located.weights) == set(layers)
    assert "1 layers have larger kernels, and were read where most of their weight lies" in located.notes
    # A stem of larger kernels, which carries nothing, is left alone where every layer has its name.
    stem = {**dict.fromkeys(layers, kernels), "b.weight": other, "stem.weight": np.ones((8, 3, 7, 7))}
    assert effective_weights(stem, layers)["stem.weight"].shape == (8, 3, 7, 7)
    # Without registered layers nothing says what a kernel's size should be.
    assert effective_weights({name: padded})[name].shape == padded.shape


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.model.", "net."])
def test_prefixes_of_wrappers_are_taken_off(prefix):
    found = effective_weights({prefix + "a.weight_orig": A, prefix + "a.weight_mask": BITS})
    assert np.array_equal(found["a.weight"].array(), A * BITS)


def test_two_names_that_differ_by_a_prefix_are_both_kept():
    found = effective_weights({"module.a.weight": A, "model.a.weight": B})
    assert np.array_equal(found["a.weight"].array(), A)
    assert np.array_equal(found["model.a.weight"].array(), B)


def test_gathering_equals_indexing_the_whole():
    weight = effective_weights({"a.weight_orig": A, "a.weight_mask": BITS})["a.weight"]
    positions = np.array([0, 5, 107, 5])
    assert np.array_equal(weight.gather(positions), (A * BITS).ravel()[positions])
    assert weight.size == A.size


@pytest.mark.parametrize("stored", ["file", "bf16", "float16", "float64"])
def test_types_of_files_are_read(tmp_path, stored):
    value = {"file": A, "bf16": bf16(A), "float16": A.astype(np.float16), "float64": A.astype(np.float64)}[stored]
    write_tensors(tmp_path / "s.safetensors", {"model.a.weight": value}, {})
    weight = effective_weights(read_tensors(tmp_path / "s.safetensors"))["a.weight"]
    assert np.allclose(weight.gather(np.arange(A.size)), A.ravel(), rtol=1e-2)
    assert weight.shape == A.shape


def test_layers_are_located_by_name_and_shape():
    found = locate(effective_weights({"a.weight": A}), LAYERS)
    assert list(found.weights) == ["a.weight"]
    assert found.notes == ()


def test_renamed_layers_are_located_by_shape_and_order():
    found = locate(effective_weights({"stem.bias": np.zeros(4), "stem.kernel": A}), LAYERS)
    assert np.array_equal(found.weights["a.weight"].array(), A)
    assert "shape and order" in found.notes[0]


def test_layers_of_another_shape_are_reported_missing():
    found = locate(effective_weights({"a.weight": A[:2]}), LAYERS)
    assert not found.weights
    assert "1 of 1 registered layers were not found" in found.notes[0]


def test_names_that_only_end_like_masks_do_not_disturb():
    found = effective_weights(in_memory({"attention_mask": np.ones(3, np.float32), "x_orig": np.ones(2, np.float32)}))
    assert {name: weight.shape for name, weight in found.items()} == {"attention": (3,), "x": (2,)}


@pytest.mark.parametrize("axes", [None, (1, 0, 2, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_codes_with_a_zero_point_read_as_the_weights_they_stand_for(tmp_path, dtype, axes):
    zero = 128 if dtype is np.uint8 else -7
    codes = np.where(RNG.random((5, 4, 3, 3)) < 0.3, RNG.integers(-60, 61, (5, 4, 3, 3)), 0)
    stored = (codes + zero).astype(dtype)
    stored = stored if axes is None else np.ascontiguousarray(stored.transpose(axes))
    write_tensors(tmp_path / "s.safetensors", {"a.weight": stored}, {})
    layers = {"a.weight": layer_of("a.weight", (5, 4, 3, 3))}
    for source in (read_tensors(tmp_path / "s.safetensors"), {"a.weight": stored}):
        found = effective_weights(source, layers)["a.weight"]
        assert np.array_equal(found.array(), codes)
        positions = RNG.integers(0, codes.size, 50)
        assert np.array_equal(found.gather(positions), codes.ravel()[positions])


def test_kernels_at_no_one_place_are_read_and_clear_nobody(signed):
    """Channels shifted against each other in larger kernels: before, half of the pairs were read out of place (NO MATCH)."""
    rng = np.random.default_rng(9)
    copy, strange = dict(signed.model), dict(signed.unrelated)
    for name in signed.mask:
        rows, columns = signed.model[name].shape[:2]
        places = rng.integers(0, 3, (rows, 1, 2)) + rng.integers(0, 3, (columns, 2))
        for weights in (copy, strange):
            larger = np.zeros((rows, columns, 7, 7), np.float32)
            for (o, i), kernel in zip(np.ndindex(rows, columns), weights[name].reshape(-1, 3, 3), strict=True):
                top, left = places[o, i]
                larger[o, i, top : top + 3, left : left + 3] = kernel
            weights[name] = larger
    layers = signed.opening.registration.layers
    located = locate(effective_weights(copy, layers), layers)
    for name in signed.mask:
        assert np.array_equal(located.weights[name].array(), signed.model[name])
        positions = RNG.integers(0, signed.model[name].size, 50)
        assert np.array_equal(located.weights[name].gather(positions), signed.model[name].ravel()[positions])
    assert signed.plain.verify(copy).decision == "MATCH"
    verdict = signed.plain.verify(strange)
    assert verdict.decision == "INCONCLUSIVE"
    assert any(note.startswith(f"{UNREAD}2 layers of larger kernels") for note in verdict.notes)
