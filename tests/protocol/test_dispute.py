"""Disputes: who was first, by marks, then by trusted time stamps, and otherwise nobody knows."""

import importlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ticketguard import signing
from ticketguard.claims.timestamps import Stamp
from ticketguard.errors import UsageError
from ticketguard.graph.cells import layer_of
from ticketguard.masks import Mask
from ticketguard.signatures.carriers import all_carriers
from ticketguard.storage.tensors import in_memory
from ticketguard.tickets import Architecture, Model
from ticketguard.verify.dispute import settle
from ticketguard.verify.lineage import frame_overlap

EARLY, LATE = (
    Stamp(time=datetime(2026, 1, day, tzinfo=UTC), authority="CN=Test", beacon=bytes([day]) * 32) for day in (1, 20)
)


def settled(world, a, b, suspect, *, stamp_a=None, stamp_b=None, **options):
    return settle(
        a.case(suspect, stamp=stamp_a, **options),
        b.case(suspect, leaf=1, stamp=stamp_b),
        nonce=world.NONCE,
        now=world.NOW,
    )


def passed(found):
    return {check.name: check.passed for check in found.checks}


@pytest.fixture(scope="module")
def thief(world, owner):
    """Signs the stolen model and shows the result as the original: the owner's mark is still in it."""
    return world.make_party(7, owner.model)[0]


@pytest.fixture(scope="module")
def overwritten(thief):
    return world_tensors(thief.model)


def world_tensors(model):
    return in_memory(dict(model.weights))


def test_each_case_is_opened_once(world, owner, thief, overwritten, monkeypatch):
    opened = []
    verifier = importlib.import_module("ticketguard.verify.verifier")
    monkeypatch.setattr(verifier, "all_carriers", lambda opening: opened.append(opening) or all_carriers(opening))
    assert settled(world, owner, thief, overwritten).outcome == "A PRIOR"
    assert len(opened) == 2


def test_resigning_a_stolen_ticket_shows_the_first_mark(world, owner, thief, overwritten):
    found = settled(world, owner, thief, overwritten)
    assert found.outcome == "A PRIOR"
    assert passed(found) == {
        "A verifies": True,
        "B verifies": True,
        "A's mark in B's original": True,
        "B's mark in A's original": False,
    }
    assert settled(world, thief, owner, overwritten).outcome == "B PRIOR"


def test_time_stamps_do_not_outweigh_marks(world, owner, thief, overwritten):
    """A thief's early stamp proves nothing when the owner's mark is in the thief's own original."""
    assert settled(world, owner, thief, overwritten, stamp_a=LATE, stamp_b=EARLY).outcome == "A PRIOR"


@pytest.fixture(scope="module")
def decoy_thief(world, owner):
    """Overwrites the stolen model, but shows a freshly made original with only the thief's mark in it.

    The registration commits to the decoy's frame; the pairs are moved in the stolen model all the same.
    """
    return world.make_party(8, world.random_model(80))[0]


def mark_over(party, model):
    """The thief's pairs moved in somebody else's model, whatever its frame."""
    from ticketguard.signatures import edge
    from ticketguard.signatures.carriers import all_carriers

    moved = {}
    for layers in all_carriers(party.opening).values():
        for name, carriers in layers.items():
            moved.setdefault(name, []).append(edge.moves(carriers, model.mask[name]))
    return edge.embed(model.mask, moved)


def suspect_of(world, owner, thief):
    mask = mark_over(thief, owner.model)
    weights = {name: mask[name].astype("float32") for name in mask}
    return in_memory(weights)


def test_fresh_decoy_original_is_defeated_by_the_frame(world, owner, decoy_thief):
    suspect = suspect_of(world, owner, decoy_thief)
    for stamps in ({"stamp_a": EARLY, "stamp_b": LATE}, {"stamp_a": EARLY}):
        found = settled(world, owner, decoy_thief, suspect, **stamps)
        assert found.outcome == "A PRIOR"
        facts = passed(found)
        assert not facts["A's mark in B's original"]
        assert not facts["B's mark in A's original"]
        assert facts["A's frame in the suspect"]
        assert not facts["B's frame in the suspect"]
        assert not facts["B's original in the suspect"]


def test_a_decoy_that_was_stamped_first_leaves_it_undecided(world, owner, decoy_thief):
    """An earlier owner's model, in which a thief hid the frame, looks the same."""
    suspect = suspect_of(world, owner, decoy_thief)
    found = settled(world, owner, decoy_thief, suspect, stamp_a=LATE, stamp_b=EARLY)
    assert (found.outcome, "hidden, or a decoy" in found.reason) == ("UNDECIDED", True)


def wider_model(seed):
    """A model whose mark survives when two fifths of its edges go, as it would in a network of the usual size."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in {"a.weight": (64, 48, 3, 3), "b.weight": (64, 64, 3, 3)}.items():
        chance = rng.beta(1, 2, size=(*shape[:2], 1, 1))
        weights[name] = np.where(rng.random(shape) < chance, rng.normal(size=shape), 0).astype(np.float32)
    return Model(
        architecture=Architecture(), weights=weights, mask=Mask({name: weight != 0 for name, weight in weights.items()})
    )


def in_cells(weights, counts):
    """The largest weights of every kernel, as many as another frame keeps there; small new edges where there are fewer."""
    fitted = {}
    for name, weight in weights.items():
        new = np.random.default_rng(7).uniform(1e-3, 2e-3, size=weight.shape)
        kernels = np.where(weight != 0, weight, new).reshape(*weight.shape[:2], -1)
        rank = np.argsort(np.argsort(-np.abs(kernels), axis=2), axis=2)
        fitted[name] = np.where(rank < counts[name][:, :, None], kernels, 0).reshape(weight.shape).astype(np.float32)
    return fitted


def test_a_stolen_model_fitted_into_an_early_frame_wins_nothing(world):
    """The thief stamped some frame long before; of a stolen ticket he keeps what fits into it, and fills the rest."""
    stamped = {"beacon": "rfc3161", "triggers": False}
    early = world.make_party(14, wider_model(83), beacon_bytes=EARLY.beacon, **stamped)[0]
    stolen = world.make_party(23, wider_model(21), beacon_bytes=LATE.beacon, **stamped)[0]
    fitted = in_cells(stolen.model.weights, early.reference)
    base = Model(
        architecture=Architecture(), weights=fitted, mask=Mask({name: weight != 0 for name, weight in fitted.items()})
    )
    mask = mark_over(early, base)
    suspect = in_memory(
        {n: np.where(mask[n], np.where(w != 0, w, 0.5), 0).astype(np.float32) for n, w in fitted.items()}
    )
    found = settled(world, stolen, early, suspect, stamp_a=LATE, stamp_b=EARLY)
    facts = passed(found)
    assert facts["A verifies"]
    assert facts["B verifies"]
    assert facts["B's frame in the suspect"]
    assert not facts["A's frame in the suspect"]
    assert facts["A's original in the suspect"]
    assert found.outcome == "UNDECIDED"


def test_a_hidden_frame_does_not_make_a_later_one_win(world, large_owner):
    """A third of the ticket pruned, and sparse cells filled: the mark is there, the frame is not to be seen."""
    weights = world.pruned(large_owner.model, 0.3)
    for name, weight in weights.items():
        cells = weight.reshape(-1, layer_of(name, weight.shape).cell)
        cells[(cells != 0).sum(axis=1) <= 1] = 0.1
    stolen = replace(large_owner.model, weights=weights, mask=Mask({n: weight != 0 for n, weight in weights.items()}))
    late = world.make_party(22, world.random_in_frame(stolen, 81), beacon_bytes=LATE.beacon, beacon="rfc3161")[0]
    suspect = in_memory({name: kept.astype(np.float32) for name, kept in mark_over(late, stolen).items()})
    found = settled(world, large_owner, late, suspect, stamp_a=EARLY, stamp_b=LATE)
    facts = passed(found)
    assert facts["A verifies"]
    assert facts["B verifies"]
    assert not facts["A's frame in the suspect"]
    assert found.outcome == "UNDECIDED"


def test_decoy_against_an_unstamped_owner_is_undecided(world, owner, decoy_thief):
    suspect = suspect_of(world, owner, decoy_thief)
    for stamps in ({}, {"stamp_b": EARLY}):
        found = settled(world, owner, decoy_thief, suspect, **stamps)
        assert found.outcome == "UNDECIDED"
        assert "unproven" in found.reason


@pytest.fixture(scope="module")
def frame_thief(world, owner):
    """Registers the victim's frame and shows an original in which the owner's mark was scrambled away."""
    base = world.random_in_frame(owner.model, 81)
    return world.make_party(10, base)[0]


def test_both_frames_in_the_suspect_the_earlier_stamp_decides(world, owner, frame_thief):
    suspect = suspect_of(world, owner, frame_thief)
    facts = passed(settled(world, owner, frame_thief, suspect))
    assert facts["A's frame in the suspect"]
    assert facts["B's frame in the suspect"]
    assert settled(world, owner, frame_thief, suspect, stamp_a=EARLY, stamp_b=LATE).outcome == "A PRIOR"
    assert settled(world, owner, frame_thief, suspect, stamp_a=LATE, stamp_b=EARLY).outcome == "B PRIOR"


@pytest.mark.parametrize("stamps", [{}, {"stamp_b": EARLY}, {"stamp_a": LATE, "stamp_b": EARLY}])
def test_a_frame_planted_in_a_stolen_model_wins_nothing(world, owner, stamps):
    """The thief registered a dense ticket of his own long before: edges of 1e-6 of the usual size bring its frame in."""
    early = world.make_party(13, world.random_model(82, density=0.6))[0]
    planted = {
        name: np.where(weight != 0, weight, np.float32(1e-6) * early.model.mask[name])
        for name, weight in owner.model.weights.items()
    }
    found = settled(world, owner, early, in_memory(planted), **stamps)
    facts = passed(found)
    assert facts["A's frame in the suspect"]
    assert facts["B's frame in the suspect"]
    assert found.outcome == "UNDECIDED"
    if len(stamps) == 2:
        assert "not made from" in found.reason
        assert not facts["A's frame shows B's"]
        assert not facts["A's frame inside B's"]


def pruned_of_one_ancestor(world, seed, noise):
    """A ticket pruned by magnitude from one public dense network, after some training of its own (`noise`)."""
    public, own = np.random.default_rng(5), np.random.default_rng(seed)
    weights = {}
    for name, shape in world.SHAPES.items():
        strength = public.gamma(4, size=(shape[0], 1)) * public.gamma(4, size=(1, shape[1]))
        dense = public.normal(size=shape) * (strength / strength.mean()).reshape(shape[:2] + (1,) * (len(shape) - 2))
        trained = dense + noise * np.std(dense) * own.normal(size=shape)
        kept = np.abs(trained) > np.quantile(np.abs(trained), 0.8)
        weights[name] = np.where(kept, trained, 0).astype(np.float32)
    mask = Mask({name: weight != 0 for name, weight in weights.items()})
    return Model(architecture=Architecture(), weights=weights, mask=mask)


def ancestor_dispute(world, noise, **stamps):
    """A's ticket stolen by B, who moved his pairs in it; their frames are two prunings of one network."""
    one, other = (world.make_party(n, pruned_of_one_ancestor(world, 10 * n, noise))[0] for n in (1, 2))
    return settled(world, one, other, suspect_of(world, one, other), **stamps)


@pytest.mark.parametrize("stamps", [(LATE, EARLY), (EARLY, LATE)])
def test_an_early_pruning_of_the_owners_public_ancestor_wins_nothing(world, stamps):
    """The thief stamped it before the owner stamped the ticket that was stolen: two prunings of one network overlap."""
    found = ancestor_dispute(world, 0.6, stamp_a=stamps[0], stamp_b=stamps[1])
    facts = passed(found)
    assert facts["A verifies"]
    assert facts["B verifies"]
    assert facts["A's frame in the suspect"]
    assert facts["B's frame in the suspect"]
    assert (found.outcome, "share an ancestor" in found.reason) == ("UNDECIDED", True)


def test_a_late_stamp_does_not_win_over_a_frame_that_is_hard_to_see(world):
    """Neither clearly there nor at chance: as of an early owner's frame in a copy that a thief pruned, and stamped late."""
    found = ancestor_dispute(world, 1.0, stamp_a=LATE, stamp_b=EARLY)
    facts = passed(found)
    assert facts["A's frame in the suspect"]
    assert not facts["B's frame in the suspect"]
    assert (found.outcome, "told from chance" in found.reason) == ("UNDECIDED", True)


@pytest.fixture(scope="module")
def large_owner(world):
    """An owner whose mark is left after most edges are gone: a lower bar, and more edges than in the other tests."""
    return world.make_party(21, world.random_model(21, density=0.4), beacon_bytes=EARLY.beacon, beacon="rfc3161")[0]


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_pruned_copy_registered_later_loses_to_the_earlier_stamp(world, large_owner, share):
    """Pruned, edges scrambled in the original so that no mark is left there, registered and stamped after the theft."""
    found = pruned_dispute(world, large_owner, share)
    assert (found.outcome, passed(found)["B's frame inside A's"]) == ("A PRIOR", True)


def pruned_dispute(world, first, share, *, add=0.0):
    weights = world.pruned(first.model, share)
    for number, weight in enumerate(weights.values()):
        free = np.flatnonzero(weight == 0)
        weight.flat[np.random.default_rng(number).choice(free, int(add * (weight != 0).sum()), replace=False)] = 0.01
    stolen = replace(first.model, weights=weights, mask=Mask({name: weight != 0 for name, weight in weights.items()}))
    base = world.random_in_frame(stolen, 81)
    second = world.make_party(22, base, beacon_bytes=LATE.beacon, beacon="rfc3161")[0]
    mask = mark_over(second, stolen)
    suspect = in_memory({name: np.where(kept, np.float32(1), np.float32(0)) for name, kept in mask.items()})
    return settled(world, first, second, suspect, stamp_a=EARLY, stamp_b=LATE)


def test_a_densified_copy_registered_later_is_left_undecided(world, large_owner):
    """Edges in places that the earlier frame leaves empty: as of a second pruning of one ancestor, so nobody can tell."""
    found = pruned_dispute(world, large_owner, 0.0, add=0.1)
    assert (found.outcome, passed(found)["B's frame inside A's"]) == ("UNDECIDED", False)


def test_rescaled_rows_do_not_choose_which_frame_is_seen(owner):
    """A quarter of the rows made loud, and edges of a thousandth laid there: both are free, and what is loud is not more."""
    rng = np.random.default_rng(5)
    weights = {}
    for name, weight in owner.model.weights.items():
        loud = (rng.random(len(weight)) < 0.25).reshape(-1, *(1,) * (weight.ndim - 1))
        laid = loud & (weight == 0) & (rng.random(weight.shape) < 0.5)
        weights[name] = (np.where(laid, np.float32(1e-3), weight) * np.where(loud, 2.0**16, 1.0)).astype(np.float32)
    case = owner.case(in_memory(weights))
    assert frame_overlap(weights, case.registration, case.reference) > 0.9


@pytest.mark.parametrize("stamps", [{}, {"stamp_a": EARLY}, {"stamp_b": EARLY}, {"stamp_a": EARLY, "stamp_b": EARLY}])
def test_missing_or_equal_stamps_leave_it_undecided(world, owner, frame_thief, stamps):
    suspect = suspect_of(world, owner, frame_thief)
    assert settled(world, owner, frame_thief, suspect, **stamps).outcome == "UNDECIDED"


def test_both_marks_in_both_originals_is_undecided_without_stamps(world, owner):
    """Two owners of one base, each showing a copy that the other marked too."""
    first, _ = world.make_party(11, owner.model)
    second, _ = world.make_party(12, owner.model)
    both = in_memory({n: m.astype("float32") for n, m in mark_over(second, first.model).items()})
    a = world.with_original(first, both)
    b = world.with_original(second, both)
    found = settled(world, a, b, both)
    facts = passed(found)
    assert facts["A's mark in B's original"]
    assert facts["B's mark in A's original"]
    assert found.outcome == "UNDECIDED"
    assert settled(world, a, b, both, stamp_a=LATE, stamp_b=EARLY).outcome == "B PRIOR"


def test_one_key_is_one_claimant(world, owner):
    again = world.make_party(1, world.random_model(1))[0]
    found = settled(world, owner, again, world_tensors(owner.model), stamp_a=EARLY)
    assert (found.outcome, "one key" in found.reason) == ("UNDECIDED", True)


def test_claim_that_does_not_match_makes_no_dispute(world, owner, decoy_thief, unrelated):
    found = settled(world, owner, decoy_thief, world_tensors(owner.model), stamp_b=EARLY)
    assert (found.outcome, "only A's claim" in found.reason) == ("UNDECIDED", True)
    found = settled(world, owner, decoy_thief, unrelated)
    assert (found.outcome, "neither" in found.reason) == ("UNDECIDED", True)


def test_suspect_with_neither_frame_is_undecided(world, owner, decoy_thief):
    """Kept positions thinned to one pair of the two codes: evidence for both, no frame of either."""
    keep = {}
    for party in (owner, decoy_thief):
        for layers in signing_carriers(party).values():
            for name, carriers in layers.items():
                flat = keep.setdefault(name, [])
                flat.append((carriers.first, carriers.second, carriers.bits))
    suspect = in_memory({name: spread(world.SHAPES[name], rows) for name, rows in keep.items()})
    found = settled(world, owner, decoy_thief, suspect, stamp_a=EARLY, stamp_b=LATE)
    assert (found.outcome, "neither registered frame" in found.reason) == ("UNDECIDED", True)


def signing_carriers(party):
    from ticketguard.signatures.carriers import all_carriers

    return all_carriers(party.opening)


def spread(shape, rows):
    flat = np.zeros(int(np.prod(shape)), dtype=np.float32)
    for first, second, bits in rows:
        flat[np.where(bits, first, second)] = 1
    return flat.reshape(shape)


def test_two_suspects_are_refused(world, owner, thief, overwritten, unrelated):
    with pytest.raises(UsageError, match="one suspect"):
        settle(owner.case(overwritten), thief.case(unrelated), nonce=world.NONCE, now=world.NOW)


def test_reveals_are_checked_in_a_dispute_too(world, owner, thief, overwritten):
    from ticketguard.errors import AuthenticityError

    a, b = owner.case(overwritten), thief.case(overwritten, leaf=1)
    with pytest.raises(AuthenticityError, match="expired"):
        settle(a, b, nonce=world.NONCE, now=world.LATER + timedelta(days=1))
    with pytest.raises(AuthenticityError, match="Merkle"):
        settle(a, replace(b, reveal=replace(b.reveal, leaf=bytes(32))), nonce=world.NONCE, now=world.NOW)


def test_signing_again_keeps_the_frame(world, owner, thief):
    """Why rule (2) asks who stamped the frame first: a second signature leaves it as it was."""
    assert thief.registered.registration.frame == owner.registered.registration.frame
    assert signing.carrier_layers(owner.model.mask).keys() == thief.registered.registration.layers.keys()
