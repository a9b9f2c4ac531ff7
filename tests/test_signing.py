"""Signing: the frame does not change, pruned is exactly zero, new edges start from their own rewind values."""

from dataclasses import replace

import numpy as np
import pytest

from ticketguard import signing
from ticketguard.claims import envelope, registration
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.registration import frame_counts
from ticketguard.errors import AuthenticityError, CapacityError, FormatError, UsageError
from ticketguard.masks import Mask
from ticketguard.signatures import capacity
from ticketguard.signatures.carriers import all_carriers
from ticketguard.tickets import Architecture, Model, Ticket
from ticketguard.verify.verifier import Examiner

KEY = SecretKey.from_seed(bytes(range(32)))
FIXED = {"master": bytes(32), "nonce": bytes(32)}
SHAPES = {"conv.weight": (32, 32, 3, 3), "down.weight": (32, 32, 1, 1), "fc.weight": (64, 64)}


def dense(seed=0):
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in SHAPES.items()}
    return {**weights, "conv.bias": np.zeros(32, np.float32)}


def ticket_of(kind=Ticket, seed=0, density=0.3):
    weights, rng = dense(seed), np.random.default_rng(seed + 100)
    mask = Mask({name: rng.random(shape) < density for name, shape in SHAPES.items()})
    pruned = {name: np.where(mask[name], weights[name], np.float32(0)) for name in mask}
    return kind(architecture=Architecture(), weights={**weights, **pruned}, mask=mask, provenance={"finder": "test"})


@pytest.fixture(scope="module")
def ticket():
    return ticket_of()


@pytest.fixture(scope="module")
def signed(ticket):
    return signing.sign(ticket, KEY, owner="Lab", rewind=dense(), **FIXED)


def test_frame_and_every_count_stay(ticket, signed):
    registered, embedded = signed
    layers = registered.registration.layers
    before, after = frame_counts(ticket.mask, layers), frame_counts(embedded.ticket.mask, layers)
    for name, layer in layers.items():
        assert np.array_equal(before[name], after[name])
        one, two = (mask[name].reshape(layer.rows, layer.fan_in) for mask in (ticket.mask, embedded.ticket.mask))
        assert np.array_equal(one.sum(axis=1), two.sum(axis=1))
    assert embedded.ticket.mask.kept == ticket.mask.kept == embedded.edges
    assert embedded.moved > 100


def test_masks_and_weights_agree_and_pruned_is_exactly_zero(signed):
    found = signed[1].ticket
    for name, bits in found.mask.items():
        assert np.array_equal(np.asarray(found.weights[name]) != 0, bits)


def test_new_edges_start_from_their_own_rewind_values_and_old_edges_stay(ticket, signed):
    found, rewind = signed[1].ticket, dense()
    for name, bits in found.mask.items():
        assert np.array_equal(found.weights[name][bits], rewind[name][bits])
        new = bits & ~ticket.mask[name]
        assert new.any()
        # A moved value would leave duplicates, by which the moves could be found.
        assert not np.isin(found.weights[name][new], ticket.weights[name][ticket.mask[name] & ~bits]).any()


def test_what_is_not_in_the_table_stays(ticket, signed):
    assert np.array_equal(signed[1].ticket.weights["conv.bias"], ticket.weights["conv.bias"])


def test_without_rewind_values_new_edges_get_the_layers_spread(ticket):
    _, embedded = signing.sign(ticket, KEY, owner="Lab", **FIXED)
    for name, bits in embedded.ticket.mask.items():
        new = embedded.ticket.weights[name][bits & ~ticket.mask[name]]
        assert len(np.unique(new)) == len(new)
        assert new.std() == pytest.approx(0.1, rel=0.4)
        assert embedded.ticket.weights[name].dtype == np.float32


def test_rewind_values_that_are_zero_still_give_edges(ticket):
    zeros = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    _, embedded = signing.sign(ticket, KEY, owner="Lab", rewind=zeros, **FIXED)
    for name, bits in embedded.ticket.mask.items():
        assert np.array_equal(np.asarray(embedded.ticket.weights[name]) != 0, bits)


def test_in_a_model_the_value_moves_and_the_old_place_is_zero():
    model = ticket_of(Model)
    _, embedded = signing.sign(model, KEY, owner="Lab", rewind=dense(7), **FIXED)
    assert isinstance(embedded.ticket, Model)
    for name in SHAPES:
        before, after = model.weights[name], embedded.ticket.weights[name]
        assert not np.array_equal(before, after)
        assert np.array_equal(np.sort(before, axis=None), np.sort(after, axis=None))


def test_signed_ticket_names_its_registration(signed):
    registered, embedded = signed
    assert embedded.ticket.provenance["signed"] == {"registration": registered.secret.registration}
    assert embedded.ticket.provenance["finder"] == "test"


def test_sign_then_verify_gives_every_pair(signed):
    registered, embedded = signed
    verdict = Examiner(registered.opening).verify(embedded.ticket.weights)
    support = verdict.evidence[0]
    assert support.n == support.matches == embedded.informative
    assert verdict.decision == "MATCH"


def test_plan_expects_what_embedding_gives(signed):
    registered, embedded = signed
    assert embedded.informative == pytest.approx(registered.plan.informative, rel=0.1)
    assert embedded.moved / embedded.edges == pytest.approx(registered.plan.moved, rel=0.15)


def test_registering_and_embedding_later_is_the_same(ticket, signed):
    registered = signing.register(ticket, KEY, owner="Lab", **FIXED)
    assert registered.envelope == signed[0].envelope
    embedded = signing.embed(ticket, registered.opening, rewind=dense())
    assert all(np.array_equal(embedded.ticket.mask[name], signed[1].ticket.mask[name]) for name in SHAPES)


def test_embedding_twice_changes_nothing(signed):
    registered, embedded = signed
    again = signing.embed(embedded.ticket, registered.opening)
    assert again.moved == 0
    assert all(np.array_equal(again.ticket.weights[name], embedded.ticket.weights[name]) for name in SHAPES)


def test_another_ticket_is_refused(signed):
    with pytest.raises(AuthenticityError, match="frame of this ticket is not the registered one"):
        signing.embed(ticket_of(seed=1), signed[0].opening)


def test_ticket_with_another_layer_is_refused(ticket, signed):
    fewer = replace(ticket, mask=Mask({"conv.weight": ticket.mask["conv.weight"]}))
    with pytest.raises(FormatError, match=r"no mask of the registered shape for down\.weight"):
        signing.embed(fewer, signed[0].opening)


def test_registration_is_signed_by_the_key_and_commits_to_what_was_asked(ticket):
    registered = signing.register(ticket, KEY, owner="Lab", leaves=3, leave_out=("fc.weight",), **FIXED)
    result = envelope.open(registered.envelope, KEY.public)
    found = registration.parse(result.payload)
    assert found == registered.registration
    assert (found.owner, found.leaves, found.public_key) == ("Lab", 3, KEY.public)
    assert list(found.layers) == ["conv.weight", "down.weight"]


@pytest.mark.parametrize("leaves", [1, 15, 16, 64])
def test_plan_of_tests_counts_every_scope(leaves):
    assert signing.rule_of(leaves).tests >= max(64, 2 * 2 * (leaves + 1))


def test_registered_plan_of_tests_is_that_of_the_leaves(ticket):
    registered = signing.register(ticket, KEY, owner="Lab", leaves=3, **FIXED).registration
    assert registered.tests == signing.rule_of(3).tests


def test_leaf_that_no_judge_could_accept_is_not_signed(ticket):
    """What is pooled would pass: a judge sees one leaf."""
    assert signing.register(ticket, KEY, owner="Lab", leaves=4, **FIXED).plan.informative > 800
    with pytest.raises(CapacityError, match=r"in each of 16 leaves, .* needs 127; sign with \d leaves"):
        signing.register(ticket, KEY, owner="Lab", leaves=16, **FIXED)


def test_embedding_refuses_a_leaf_that_came_out_below_the_bar(ticket, monkeypatch):
    monkeypatch.setattr(capacity, "_weakest", lambda leaf: 2 * leaf)
    registered = signing.register(ticket, KEY, owner="Lab", leaves=12, **FIXED)
    with pytest.raises(CapacityError, match=r"weakest of 12 carries \d+ bits, .* needs 126"):
        signing.embed(ticket, registered.opening)


@pytest.mark.parametrize(
    "changed",
    [
        {"owner": "Lab 2"},
        {"leaves": 5},
        {"spend": 0.1},
        {"block": 4},
        {"beacon": "rfc3161"},
        {"classes": ["a", "b"]},
        {"nonce": bytes([1]) * 32},
        {"leave_out": ("fc.weight",)},
        {"qr": {"layer": "conv.weight"}},
    ],
)
def test_every_parameter_moves_every_carrier(ticket, signed, changed):
    """Nothing can be searched for piece by piece: all streams hang on the whole registration."""
    options = {"owner": "Lab", **FIXED, **changed}
    other = signing.register(ticket, KEY, **options).opening
    mine = all_carriers(signed[0].opening)[0]["conv.weight"]
    theirs = all_carriers(other)[0]["conv.weight"]
    both = np.intersect1d(mine.first, theirs.first)
    assert len(both) < 0.6 * len(mine.first)


def test_another_master_secret_gives_other_carriers(ticket, signed):
    other = signing.register(ticket, KEY, owner="Lab", master=bytes([9]) * 32, nonce=bytes(32)).opening
    mine, theirs = (all_carriers(each)[0]["conv.weight"] for each in (signed[0].opening, other))
    assert not np.array_equal(mine.first[:20], theirs.first[:20])


def test_fresh_secrets_differ(ticket):
    one, two = (signing.register(ticket, KEY, owner="Lab") for _ in range(2))
    assert one.secret.master != two.secret.master
    assert one.registration.nonce != two.registration.nonce


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"beacon": "moon"}, UsageError, "unknown beacon policy 'moon'"),
        ({"block": 1}, UsageError, "block has 2 to"),
        ({"block": 1 << 20}, UsageError, "block has 2 to"),
        ({"leaves": 0}, UsageError, "1 to 64 leaves"),
        ({"spend": 0.9}, UsageError, "share of edges"),
        ({"owner": ""}, FormatError, "owner is not a printable text"),
        ({"owner": "two\nlines"}, FormatError, "owner is not a printable text"),
        ({"classes": ["a", "a"]}, FormatError, "class names repeat"),
        ({"leave_out": tuple(SHAPES)}, CapacityError, "nothing to sign"),
    ],
)
def test_impossible_requests_are_refused_before_anything_is_signed(ticket, options, error, says):
    with pytest.raises(error, match=says):
        signing.register(ticket, KEY, **{"owner": "Lab", **options})


def test_embedding_without_the_stamp_asks_for_what_a_judge_without_one_asks(ticket):
    registered = signing.register(ticket, KEY, owner="Lab", leaves=10, beacon="rfc3161", **FIXED)
    with pytest.raises(CapacityError, match=r"weakest of 10 carries \d+ bits, .* needs 126"):
        signing.embed(ticket, registered.opening)


def test_dense_layers_and_vectors_carry_nothing(ticket):
    mask = Mask({**ticket.mask, "full.weight": np.ones((9, 9), np.bool_), "norm.weight": np.ones(9, np.bool_)})
    weights = {**ticket.weights, "full.weight": np.ones((9, 9)), "norm.weight": np.ones(9)}
    found = signing.register(replace(ticket, mask=mask, weights=weights), KEY, owner="Lab", **FIXED)
    assert list(found.registration.layers) == list(SHAPES)
