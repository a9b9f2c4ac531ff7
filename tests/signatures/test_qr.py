"""The QR code: exact densities, honest reading, and peace with the edge code."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketguard.errors import CapacityError, FormatError, UsageError
from ticketguard.graph.cells import layer_of
from ticketguard.masks import Mask
from ticketguard.signatures import edge, qr
from ticketguard.signatures.labels import label, place_of, place_weights
from ticketguard.signatures.position import Place, agreement, project, search
from ticketguard.tickets import Architecture, Ticket

TEXT = "0123456789ab"
SHAPES = {
    "low": (16, 16, 3, 3),
    "narrow": (64, 16, 3, 3),
    "middle": (32, 32, 3, 3),
    "high": (64, 64, 3, 3),
    "fc": (64, 64),
}


def ticket(density, seed=0, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return Mask({name: rng.random(shape) < density for name, shape in shapes.items()})


def embedded(density=0.194, seed=0, **options):
    mask = ticket(density, seed)
    return mask, qr.embed(mask, TEXT, generator=np.random.default_rng(seed), **options)


@pytest.mark.parametrize("density", [0.0124, 0.05, 0.194, 0.5])
def test_every_layer_keeps_its_number_of_edges_and_the_code_reads(density):
    mask, done = embedded(density)
    for name, bits in mask.items():
        assert done.mask[name].sum() == bits.sum()
        if name != done.place.layer:
            assert np.array_equal(done.mask[name], bits)
    assert done.added == done.removed > 0
    reading = qr.read(done.mask, done.place, truth=done.code)
    assert reading.text == TEXT
    assert reading.wrong == 0.0
    assert "proves nothing" in reading.note


def test_reading_needs_the_place_alone_and_reports_wrong_modules():
    _, done = embedded()
    weights = {name: np.where(bits, 1.0, 0.0) for name, bits in done.mask.items()}
    place = Place.from_json(done.place.to_json())
    assert qr.read(weights, place).wrong is None
    at = (slice(place.row, place.row + 29), slice(place.column, place.column + 29))
    damaged = weights[place.layer].copy()
    damaged[at] = 0
    reading = qr.read({place.layer: damaged}, place, truth=done.code)
    assert reading.text is None
    assert reading.wrong == pytest.approx(done.code.modules[done.code.free].mean())


def test_the_fixed_modules_are_not_embedded_but_restored():
    mask, done = embedded()
    place = done.place
    at = (slice(place.row, place.row + 29), slice(place.column, place.column + 29))
    before, after = project(mask[place.layer])[at], project(done.mask[place.layer])[at]
    fixed = ~done.code.free
    # Version 3 has 70 codewords of 8 bits and 7 remainder bits.
    assert fixed.sum() == 841 - (70 * 8 + 7)
    assert np.array_equal(before[fixed], after[fixed])
    assert np.array_equal(qr.read(done.mask, place).picture[fixed], done.code.modules[fixed])


def test_the_threshold_of_the_owner_drops_added_weights():
    _, done = embedded()
    rng = np.random.default_rng(5)
    weights = {
        name: np.where(
            bits, rng.choice([-1.0, 1.0], bits.shape) * 0.5, np.where(rng.random(bits.shape) < 0.2, 0.01, 0.0)
        )
        for name, bits in done.mask.items()
    }
    assert qr.read(weights, done.place).text is None
    assert qr.read(weights, done.place, threshold=0.1).text == TEXT
    weights[done.place.layer][done.place.row, done.place.column] = np.nan
    assert qr.read(weights, done.place, threshold=0.1).text == TEXT


def added(mask, share, seed):
    """Weights on `mask` with a share of the pruned positions brought back at the same spread."""
    rng = np.random.default_rng(seed)
    return {
        name: np.where(bits | (rng.random(bits.shape) < share), rng.normal(size=bits.shape), 0.0)
        for name, bits in mask.items()
    }


def test_thick_kernels_are_told_from_single_added_edges():
    _, done = embedded()
    weights = added(done.mask, 0.03, seed=5)
    plain = qr.read(weights, done.place, least=(1,), truth=done.code)
    assert plain.text is None
    reading = qr.read(weights, done.place, truth=done.code)
    assert reading.text == TEXT
    assert reading.least > 1
    assert reading.wrong < plain.wrong
    # A clean code is read the paper's way.
    assert qr.read(done.mask, done.place).least == 1


def test_what_cannot_be_read_is_shown_the_papers_way():
    _, done = embedded()
    weights = added(done.mask, 0.6, seed=5)
    reading = qr.read(weights, done.place)
    assert (reading.text, reading.least) == (None, 1)
    assert np.array_equal(reading.picture, qr.read(weights, done.place, least=(1,)).picture)


def test_the_threshold_of_an_owner_gives_up_a_tenth_of_the_edges():
    _, done = embedded()
    weights = added(done.mask, 0.0, seed=5)
    layer = np.abs(weights[done.place.layer])
    kept = layer > qr.owner_threshold(weights, done.place)
    assert kept.sum() == pytest.approx(0.9 * (layer > 0).sum(), abs=1)
    assert qr.owner_threshold({done.place.layer: np.zeros(SHAPES[done.place.layer])}, done.place) == 0


@pytest.mark.slow
def test_unrelated_masks_never_decode():
    _, done = embedded()
    rng = np.random.default_rng(11)
    shape = SHAPES[done.place.layer]
    for _ in range(1000):
        assert qr.read({done.place.layer: rng.random(shape) < 0.08}, done.place).text is None


@functools.cache
def prepared(density):
    return embedded(density, seed=3)[1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.1, 0.194, 0.4]))
def test_the_edge_code_leaves_every_module_alone(seed, density):
    done = prepared(density)
    layer = layer_of(done.place.layer, SHAPES[done.place.layer])

    class Words:
        def words(self, count):
            return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)

    drawn = edge.draw(layer, 4000, leaf=0, groups=1, stream=Words())
    moved = edge.moves(drawn, done.mask[layer.name])
    signed = edge.embed(done.mask, {layer.name: [moved]})
    assert len(moved.source) > 0
    assert np.array_equal(project(signed[layer.name]), project(done.mask[layer.name]))
    before, after = qr.read(done.mask, done.place), qr.read(signed, done.place)
    assert np.array_equal(before.picture, after.picture)
    assert after.text == TEXT


def test_the_search_agrees_with_the_sliding_window():
    rng = np.random.default_rng(2)
    code = qr.encode(TEXT)
    projection = rng.random((47, 33)) < 0.6
    found = agreement(projection, code.modules, code.free)
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            window = projection[row : row + 29, column : column + 29]
            assert found[row, column] == (window == code.modules)[code.free].sum()


def test_the_search_prefers_lower_layers_unless_another_is_clearly_better():
    code = qr.encode(TEXT)
    mask = ticket(0.1)
    rng = np.random.default_rng(0)
    noise = {name: rng.random(SHAPES[name][:2]) < 0.5 for name in ("middle", "high")}
    noise["middle"][:] = False
    planted = dict(noise)
    planted["high"][5:34, 7:36] = code.modules
    assert search(mask, planted, code.modules, code.free) == ("high", 5, 7, 1.0)
    planted["middle"][1:30, 2:31] = code.modules
    assert search(mask, planted, code.modules, code.free)[:3] == ("middle", 1, 2)


def test_new_edges_take_rewind_values_and_are_never_zero():
    mask, done = embedded()
    rng = np.random.default_rng(4)
    rewind = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    rewind[done.place.layer][:8] = 0
    weights = {name: np.where(bits, rewind[name], 0).astype(np.float32) for name, bits in mask.items()}
    weights[done.place.layer] = np.where(mask[done.place.layer], 1.0, 0.0).astype(np.float32)
    placed = place_weights(weights, mask, done, rewind=rewind, generator=rng)[done.place.layer]
    assert placed.dtype == np.float32
    assert np.array_equal(placed != 0, done.mask[done.place.layer])
    new = done.mask[done.place.layer] & ~mask[done.place.layer]
    given_values = rewind[done.place.layer][new]
    assert np.array_equal(placed[new][given_values != 0], given_values[given_values != 0])


def test_scores_choose_the_positions():
    mask = ticket(0.02)
    rng = np.random.default_rng(0)
    scores = {name: rng.random(shape) for name, shape in SHAPES.items()}
    once = qr.embed(mask, TEXT, scores=scores)
    assert np.array_equal(once.mask[once.place.layer], qr.embed(mask, TEXT, scores=scores).mask[once.place.layer])
    new = once.mask[once.place.layer] & ~mask[once.place.layer]
    assert scores[once.place.layer][new].mean() > 0.8


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: qr.encode("x" * 25), CapacityError, "25 bytes"),
        (lambda: qr.encode(""), UsageError, "at least one"),
        (lambda: qr.encode("x", version=41), UsageError, "1 to 40"),
        (lambda: qr.encode("x", error="Z"), UsageError, "L M Q H"),
        (lambda: qr.embed(ticket(0.1), "x"), UsageError, "scores or a generator"),
        (
            lambda: qr.embed(ticket(0.1, shapes={"a": (28, 64, 3, 3)}), "x", generator=np.random.default_rng(0)),
            CapacityError,
            "no convolution",
        ),
        (
            lambda: qr.embed(ticket(0.0, shapes={"a": (32, 32, 3, 3)}), "x", generator=np.random.default_rng(0)),
            CapacityError,
            "no convolution",
        ),
        (
            lambda: qr.embed(ticket(0.0), "x", place=prepared(0.1).place, generator=np.random.default_rng(0)),
            CapacityError,
            "more than the layer has",
        ),
        (
            lambda: qr.embed(ticket(1.1), "x", place=prepared(0.1).place, generator=np.random.default_rng(0)),
            CapacityError,
            "too dense",
        ),
        (lambda: qr.read({}, embedded()[1].place), FormatError, "no layer"),
        (lambda: qr.read({"high": np.zeros((64, 20, 3, 3))}, embedded()[1].place), FormatError, "no layer"),
    ],
)
def test_what_cannot_be_done_is_said(call, error, said):
    with pytest.raises(error, match=said):
        call()


@pytest.mark.parametrize(
    "change",
    [
        {"row": -1},
        {"row": True},
        {"column": 1.5},
        {"version": 41},
        {"pattern": 8},
        {"error": "LM"},
        {"layer": 3},
        {"extra": 1},
    ],
)
def test_malformed_places_are_refused(change):
    good = Place(layer="a", row=0, column=0, version=3, error="H", pattern=0)
    assert Place.from_json(good.to_json()) == good
    with pytest.raises(FormatError, match="QR place"):
        Place.from_json({**good.to_json(), **change})
    with pytest.raises(FormatError, match="QR place"):
        Place.from_json([])


def test_another_kind_of_code_works_too():
    mask = ticket(0.2, shapes={"a": (64, 64, 3, 3)})
    done = qr.embed(mask, "Example Lab, 2026", generator=np.random.default_rng(0), version=7, error="L", pattern=3)
    assert qr.read(done.mask, done.place).text == "Example Lab, 2026"
    with pytest.raises(FormatError):
        qr.read(done.mask, replace(done.place, row=30))


@pytest.mark.parametrize("known", [True, False])
def test_a_labelled_ticket_keeps_its_law_and_says_where_its_code_lies(known):
    mask = ticket(0.194)
    rng = np.random.default_rng(4)
    rewind = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    weights = {name: np.where(bits, rewind[name], 0) for name, bits in mask.items()}
    plain = Ticket(architecture=Architecture(), weights=weights, mask=mask, provenance={"finder": "imp"})
    with pytest.raises(FormatError, match="no QR code"):
        place_of(plain)
    labelled, done = label(plain, TEXT, generator=rng, rewind=rewind if known else None)
    assert place_of(labelled) == done.place
    assert qr.read(labelled.weights, place_of(labelled)).text == TEXT
    for name, bits in labelled.mask.items():
        assert np.array_equal(labelled.weights[name] != 0, bits)
    if known:
        new = labelled.mask[done.place.layer] & ~mask[done.place.layer]
        assert np.array_equal(labelled.weights[done.place.layer][new], rewind[done.place.layer][new])
