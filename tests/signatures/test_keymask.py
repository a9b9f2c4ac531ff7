"""Key masks: two halves that fit only each other."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketguard.errors import AuthenticityError, FormatError, UsageError
from ticketguard.masks import Mask
from ticketguard.signatures.keymask import forge, lock, merge, read_key, ticket_digest, unlock, write_key
from ticketguard.storage.tensors import write_tensors
from ticketguard.tickets import Architecture, Ticket, read_ticket, write_ticket


def ticket(seed=0, density=0.4):
    rng = np.random.default_rng(seed)
    mask = Mask({"a.weight": rng.random((6, 5, 3, 3)) < density, "b.weight": rng.random((7, 6)) < density})
    weights = {name: np.where(bits, rng.normal(size=bits.shape), 0).astype(np.float32) for name, bits in mask.items()}
    weights["bn.bias"] = rng.normal(size=7).astype(np.float32)
    return Ticket(architecture=Architecture(name="mlp"), weights=weights, mask=mask, provenance={"seed": seed})


def scores_of(value, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.random(bits.shape) for name, bits in value.mask.items()}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.02, 0.9))
def test_unlock_undoes_lock_exactly(seed, share):
    whole = ticket(seed)
    key, locked = lock(whole, scores_of(whole, seed), share)
    assert key.edges == round(share * whole.mask.kept)
    assert locked.mask.kept + key.edges == whole.mask.kept
    again = unlock(key, locked)
    assert again.provenance == whole.provenance
    assert ticket_digest(again) == ticket_digest(whole)
    for name in whole.weights:
        assert np.array_equal(again.weights[name], whole.weights[name])


def test_the_key_holds_the_highest_scores_over_all_layers_and_the_locked_ticket_none_of_them():
    whole = ticket()
    scores = scores_of(whole)
    key, locked = lock(whole, scores, 0.1)
    taken = np.concatenate([scores[name].ravel()[where] for name, where in key.positions.items()])
    left = np.concatenate([scores[name][bits] for name, bits in locked.mask.items()])
    assert taken.min() > left.max()
    for name, where in key.positions.items():
        assert (locked.weights[name].ravel()[where] == 0).all()


def test_files_survive_a_round_trip(tmp_path):
    whole = ticket()
    key, locked = lock(whole, scores_of(whole), 0.05, score="omp")
    write_key(tmp_path / "key.safetensors", key)
    write_ticket(tmp_path / "locked.safetensors", locked)
    again = unlock(read_key(tmp_path / "key.safetensors"), read_ticket(tmp_path / "locked.safetensors"))
    assert ticket_digest(again) == ticket_digest(whole)
    assert read_key(tmp_path / "key.safetensors").score == "omp"


def damaged_value(key):
    values = {name: array.copy() for name, array in key.values.items()}
    values["a.weight"][0] += 1e-3
    return replace(key, values=values)


def damaged_weight(locked):
    bias = locked.weights["bn.bias"].copy()
    bias[0] += 1e-3
    return replace(locked, weights={**locked.weights, "bn.bias": bias})


def test_wrong_and_damaged_halves_are_refused():
    whole, other = ticket(0), ticket(1)
    key, locked = lock(whole, scores_of(whole), 0.05)
    other_key, other_locked = lock(other, scores_of(other), 0.05)
    same_key, _ = lock(whole, scores_of(whole, 1), 0.05)
    note = locked.provenance["locked"]
    lying = replace(locked, provenance={"locked": {**note, "merged": "0" * 64}})
    cases = [
        (other_key, locked, "not the one"),
        (same_key, locked, "not the one"),
        (key, other_locked, "not the one"),
        (damaged_value(key), locked, "not the one"),
        (key, damaged_weight(locked), "not the ticket"),
        (key, whole, "not locked"),
        (key, lying, "do not give"),
        (forge(locked, key.edges, np.random.default_rng(0)), locked, "not the one"),
    ]
    for one, two, said in cases:
        with pytest.raises(AuthenticityError, match=said):
            unlock(one, two)


def test_a_forged_key_has_the_size_and_misses_the_locked_edges():
    whole = ticket()
    key, locked = lock(whole, scores_of(whole), 0.1)
    forged = forge(locked, key.edges, np.random.default_rng(3))
    assert forged.edges == key.edges
    assert all(not locked.mask[name].ravel()[where].any() for name, where in forged.positions.items())
    merged = merge(forged, locked)
    assert merged.mask.kept == whole.mask.kept
    assert ticket_digest(merged) != ticket_digest(whole)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1e-9, float("nan")])
def test_shares_that_leave_nothing_are_refused(share):
    whole = ticket()
    with pytest.raises(UsageError, match=f"the share {share:g} of .* edges: .* both sides"):
        lock(whole, scores_of(whole), share)


def test_missing_scores_are_refused():
    whole = ticket()
    with pytest.raises(UsageError, match=r"b\.weight"):
        lock(whole, {"a.weight": scores_of(whole)["a.weight"]}, 0.1)


def test_files_that_are_no_keys_are_refused(tmp_path):
    whole = ticket()
    key, locked = lock(whole, scores_of(whole), 0.1)
    path = tmp_path / "x.safetensors"
    write_ticket(path, locked)
    with pytest.raises(FormatError, match="not a key mask"):
        read_key(path)
    meta = {"format": 1, "locked": key.locked, "merged": key.merged, "score": "omp"}
    bad = [
        ({"a_positions": np.arange(3)}, meta, "nothing else"),
        ({"a_positions": np.arange(3), "a_values": np.ones(2)}, meta, "as many"),
        ({"a_positions": np.arange(3.0), "a_values": np.ones(3)}, meta, "int64"),
        ({"a_positions": np.arange(3), "a_values": np.ones(3)}, {"format": 1}, "malformed"),
    ]
    for tensors, metadata, said in bad:
        write_tensors(path, tensors, {"ticketguard_key": metadata})
        with pytest.raises(FormatError, match=said):
            read_key(path)


def test_positions_outside_the_ticket_are_refused():
    whole = ticket()
    key, locked = lock(whole, scores_of(whole), 0.1)
    with pytest.raises(FormatError, match="no such weights"):
        merge(replace(key, positions={"a.weight": np.array([10**6])}, values={"a.weight": np.ones(1)}), locked)
