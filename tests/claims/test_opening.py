"""Openings: only the registered secret opens a registration, as a whole or one leaf of it."""

from dataclasses import replace

import pytest

from ticketguard.claims import merkle, streams
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.opening import derive_leaves, open_all, open_one, root_of
from ticketguard.claims.registration import Registration, TableEntry
from ticketguard.errors import AuthenticityError, TicketguardError
from ticketguard.graph.cells import layer_of

MASTER = bytes(range(32))
PLAIN = Registration(
    owner="x",
    public_key=SecretKey.from_seed(bytes(32)).public,
    leaves=5,
    root=bytes(32),
    frame="00" * 32,
    table=(TableEntry(layer=layer_of("w", (8, 4, 3, 3)), pairs=20),),
    nonce="00" * 32,
)
REGISTERED = replace(PLAIN, root=root_of(derive_leaves(PLAIN, MASTER)))
PAYLOAD = REGISTERED.payload()


def proof(index):
    leaves = derive_leaves(REGISTERED, MASTER)
    return leaves[index], merkle.proof([streams.commitment(leaves[j], j) for j in range(5)], index)


def test_the_owner_opens_every_leaf():
    opening = open_all(REGISTERED, PAYLOAD, MASTER)
    assert sorted(opening.leaves) == [0, 1, 2, 3, 4]
    assert len({*opening.leaves.values()}) == 5
    assert opening.binder == streams.binder(PAYLOAD)


def test_the_payload_is_hashed_once_for_all_streams(monkeypatch):
    opening, calls, binder = open_all(REGISTERED, PAYLOAD, MASTER), [], streams.binder
    monkeypatch.setattr(streams, "binder", lambda *given: calls.append(given) or binder(*given))
    assert opening.stream("a", 0).words(4).tolist() != opening.stream("b", 1).words(4).tolist()
    assert len(calls) == 1


@pytest.mark.parametrize("position", [0, 31])
def test_another_master_secret_is_refused(position):
    other = bytearray(MASTER)
    other[position] ^= 1
    with pytest.raises(AuthenticityError, match="does not belong to this registration"):
        open_all(REGISTERED, PAYLOAD, bytes(other))


def test_the_same_master_secret_under_another_key_is_refused():
    stolen = replace(REGISTERED, public_key=SecretKey.from_seed(bytes([1]) * 32).public)
    with pytest.raises(AuthenticityError):
        open_all(stolen, stolen.payload(), MASTER)


@pytest.mark.parametrize("index", range(5))
def test_one_leaf_opens_with_its_proof_and_gives_the_owners_stream(index):
    leaf, path = proof(index)
    opening = open_one(REGISTERED, PAYLOAD, index, leaf, path)
    owner = open_all(REGISTERED, PAYLOAD, MASTER)
    assert list(opening.leaves) == [index]
    assert opening.stream("edge/w", index).bytes(64) == owner.stream("edge/w", index).bytes(64)


@pytest.mark.parametrize(
    ("index", "of", "path_of"), [(1, 0, 0), (0, 1, 0), (0, 0, 1), (4, 0, 4), (5, 4, 4), (-1, 4, 4)]
)
def test_a_leaf_at_another_place_is_refused(index, of, path_of):
    with pytest.raises(TicketguardError):
        open_one(REGISTERED, PAYLOAD, index, proof(of)[0], proof(path_of)[1])


def test_a_made_up_leaf_is_refused():
    with pytest.raises(AuthenticityError):
        open_one(REGISTERED, PAYLOAD, 2, bytes(32), proof(2)[1])


def test_one_leaf_says_nothing_about_the_others():
    opening = open_one(REGISTERED, PAYLOAD, 2, *proof(2))
    with pytest.raises(KeyError):
        opening.stream("edge/w", 1)


def test_streams_differ_by_label_leaf_beacon_and_payload():
    owner = open_all(REGISTERED, PAYLOAD, MASTER)
    stamped = open_all(REGISTERED, PAYLOAD, MASTER, bytes([1]) * 32)
    changed = replace(owner, payload=PAYLOAD + b" ")
    found = {
        owner.stream("edge/w", 0).bytes(32),
        owner.stream("edge/v", 0).bytes(32),
        owner.stream("edge/w", 1).bytes(32),
        stamped.stream("edge/w", 0).bytes(32),
        changed.stream("edge/w", 0).bytes(32),
    }
    assert len(found) == 5
