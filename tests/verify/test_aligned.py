"""Aligning a suspect to the committed frame, without sight of a target bit."""

import inspect
from dataclasses import replace

import numpy as np
import pytest

from ticketguard.evidence import UNREAD
from ticketguard.verify import aligned
from ticketguard.verify.aligned import align_suspect
from ticketguard.verify.suspect import effective_weights


def run(signed, weights, registered=None):
    return align_suspect(
        effective_weights(weights), registered or signed.opening.registration, signed.examiner.reference
    )


def test_permuted_channels_come_back_to_their_places(signed):
    found = run(signed, signed.permuted)
    assert found.moved
    assert found.lineage == pytest.approx(1.0)
    for name in signed.mask:
        assert np.array_equal(found.weights[name].values, signed.model[name])
    assert any("permuted in 3 groups" in note for note in found.notes)


def test_what_is_in_place_is_left_in_place(signed):
    found = run(signed, signed.model)
    assert not found.moved
    assert np.array_equal(found.weights["conv2.weight"].gather(np.arange(9)), signed.model["conv2.weight"].ravel()[:9])


def test_without_symmetry_groups_nothing_moves_and_a_note_says_so(signed):
    found = run(signed, signed.permuted, replace(signed.opening.registration, symmetry=None))
    assert not found.moved
    assert any("no symmetry groups" in note for note in found.notes)


def test_lineage_is_reported_with_its_caveat(signed):
    notes = run(signed, signed.unrelated).notes
    assert any("lineage: frame overlap" in note and "no p-value" in note for note in notes)


def test_alignment_is_given_no_leaf_and_no_carrier():
    """Whoever chooses the channels must not see a bit: the arguments hold public things only."""
    assert list(inspect.signature(align_suspect).parameters) == ["effective", "registered", "reference"]
    assert not hasattr(aligned, "all_carriers")


def test_a_guess_at_which_layer_is_which_clears_nobody(signed):
    """Renamed, reordered and widened: sizes and order in the file are all that is left, and order can mislead."""
    wide = {}
    for number, weight in enumerate(reversed(signed.unrelated.values())):
        padding = [(0, 1), (0, 1), *[(0, 0)] * (weight.ndim - 2)][: weight.ndim]
        wide[f"t{number}"] = np.pad(weight, padding, mode="edge")
    verdict = signed.examiner.verify(wide)
    assert verdict.decision == "INCONCLUSIVE"
    assert any(note.startswith(f"{UNREAD}which of its tensors") for note in verdict.notes)


@pytest.mark.parametrize("decoy", [False, True])
def test_names_swapped_between_layers_of_other_sizes_are_seen_through(signed, decoy):
    """Every float is exact: only the names of two layers are exchanged, which a loader undoes."""
    one, two = "conv2.weight", "conv3.weight"
    assert signed.permuted[one].shape != signed.permuted[two].shape
    weights = {**signed.permuted, one: signed.permuted[two], two: signed.permuted[one]}
    if decoy:  # the layer's own name on a tensor that fits it less than the other does
        weights = {**signed.permuted, one: signed.permuted[two], "head.weight": signed.permuted[one]}
        weights[two] = np.zeros((20, 16, 3, 3))
    verdict = signed.examiner.verify(weights)
    assert verdict.decision == "MATCH"
    assert verdict.best.matches == (signed.n if not decoy else verdict.best.n)


def doubled(weights, unlike, rng):
    """Every inner channel twice, nearly alike in the first layer; what reads them is noise, and what the noise lacks."""
    wide = {name: np.repeat(value, 2, axis=0) if value.ndim else value for name, value in weights.items()}
    first = wide["conv1.weight"]
    noise = rng.normal(size=first.shape)
    wide["conv1.weight"] = first + unlike * noise * np.linalg.norm(first) / np.linalg.norm(noise)
    for name in ("conv2.weight", "conv3.weight", "fc.weight"):
        rows = wide[name] if name != "fc.weight" else weights[name]
        read = rng.normal(size=(len(rows), 2 * rows.shape[1], *rows.shape[2:])) * np.abs(rows[rows != 0]).mean()
        read[:, 1::2] = rows - read[:, ::2]
        wide[name] = read
    wide["fc.bias"] = weights["fc.bias"]
    return {name: np.asarray(value, dtype=np.float32) for name, value in wide.items()}


@pytest.mark.parametrize("unlike", [0.0, 3e-4, 1e-2])
def test_a_copy_split_into_unlike_halves_is_no_stranger(signed, unlike):
    """Before, halves that differed by a ten-thousandth in the first layer were never merged: NO MATCH, the same answers."""
    found = run(signed, doubled(signed.model, unlike, np.random.default_rng(0)))
    assert found.lineage > 0.95
    support = [(found.weights[name].values != 0) == signed.mask[name] for name in signed.mask]
    assert np.concatenate([each.ravel() for each in support]).mean() > 0.99


def test_channels_left_over_clear_nobody(signed):
    """A stranger of twice the width: nothing says what its other channels would show if they were merged."""
    strange = doubled(signed.unrelated, 1.0, np.random.default_rng(1))
    verdict = signed.examiner.verify(strange)
    assert verdict.decision == "INCONCLUSIVE"
    assert any(note.startswith(f"{UNREAD}") and "channels more than registered" in note for note in verdict.notes)
