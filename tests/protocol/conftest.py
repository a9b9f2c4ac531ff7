"""Parties of the protocol tests: owners with tiny synthetic tickets, their public files, and what a thief can do with them."""

import copy
import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from ticketguard import signing
from ticketguard.claims import keys, ownership, registration, reveal, vault
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.opening import Opening, open_all
from ticketguard.claims.secret import write_secret
from ticketguard.errors import TicketguardError
from ticketguard.graph.cells import layer_of
from ticketguard.masks import Mask
from ticketguard.storage.tensors import in_memory, write_tensors
from ticketguard.tickets import Architecture, Model, write_ticket
from ticketguard.triggers.plan import make_plan
from ticketguard.verify.judge import Case, digest_of

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 7, 1, tzinfo=UTC)
NONCE = "ab" * 32
CLASSES = tuple("abcdefghij")
SHAPES = {"a.weight": (40, 24, 3, 3), "b.weight": (48, 40, 3, 3), "c.weight": (10, 48)}


def key_of(number):
    return SecretKey.from_seed(bytes([number]) * 32)


def random_model(seed, density=0.2):
    """A sparse model as from training: heavy rows and columns differ from seed to seed."""
    generator = np.random.default_rng(seed)
    weights, masks = {}, {}
    for name, shape in SHAPES.items():
        strength = generator.gamma(4, size=(shape[0], 1)) * generator.gamma(4, size=(1, shape[1]))
        chance = np.clip(density * strength / strength.mean(), 0.02, 0.9)
        masks[name] = generator.random(shape) < chance.reshape(shape[:2] + (1,) * (len(shape) - 2))
        weights[name] = np.where(masks[name], generator.normal(size=shape), 0).astype(np.float32)
    return Model(architecture=Architecture(), weights=weights, mask=Mask(masks))


def tensors_of(model):
    return in_memory(dict(model.weights))


def ticket_file(model):
    """The tensors of a model's ticket file: weights and masks."""
    masks = {name + "_mask": bits.astype(np.uint8) for name, bits in model.mask.items()}
    return in_memory({**model.weights, **masks})


def trained(model, seed):
    """Weights drawn anew on the model's mask."""
    generator = np.random.default_rng(seed)
    weights = {
        name: np.where(model.mask[name], generator.normal(size=bits.shape), 0).astype(np.float32)
        for name, bits in model.mask.items()
    }
    return replace(model, weights=weights)


def pruned(model, share, seed=0):
    generator = np.random.default_rng(seed)
    return {
        name: np.where(generator.random(w.shape) < share, 0, w).astype(np.float32) for name, w in model.weights.items()
    }


def random_in_frame(model, seed):
    """Another model with the same kept count in every cell: all edges placed anew inside their cells."""
    generator = np.random.default_rng(seed)
    masks = {}
    for name, bits in model.mask.items():
        layer = layer_of(name, bits.shape)
        rows = bits.reshape(layer.rows, layer.fan_in).copy()
        for start in range(0, layer.fan_in, layer.cell):
            cell = rows[:, start : start + layer.cell]
            rows[:, start : start + layer.cell] = generator.permuted(cell, axis=1)
        masks[name] = rows.reshape(bits.shape)
    weights = {name: bits.astype(np.float32) for name, bits in masks.items()}
    return trained(Model(architecture=Architecture(), weights=weights, mask=Mask(masks)), seed)


def with_original(party, file):
    """The party with a claim over another model."""
    claim, signed = ownership.make(
        party.registered.payload,
        owner=party.claim.owner,
        key=party.key,
        ticket=party.claim.ticket,
        model=digest_of(file),
    )
    model = Model(
        architecture=Architecture(), weights={n: file[n] for n in file}, mask=Mask({n: file[n] != 0 for n in file})
    )
    return replace(party, model=model, claim=claim, claim_envelope=signed)


@dataclass(frozen=True)
class Party:
    """An owner with everything of theirs, secret and public."""

    key: SecretKey
    registered: signing.Registered
    opening: Opening
    model: Model
    reference: dict
    claim: ownership.OwnershipClaim
    claim_envelope: bytes
    stamp: object = None

    def reveal_for(self, suspect_digest, *, leaf=0, kind="weights", nonce=NONCE, expires=LATER, **options):
        return reveal.make(
            self.opening, leaf, self.key, kind=kind, suspect=suspect_digest, nonce=nonce, expires=expires, **options
        )

    def case(self, suspect=None, *, transcript=None, controls=(), leaf=0, original=None, **options):
        digest = digest_of(suspect) if suspect is not None else transcript.digest
        kind = "weights" if suspect is not None else "transcript"
        shown, _ = self.reveal_for(digest, leaf=leaf, kind=kind)
        return Case(
            registration=self.registered.registration,
            registration_payload=self.registered.payload,
            claim=self.claim,
            claim_payload=self.claim.payload(),
            reveal=shown,
            reveal_payload=shown.payload(),
            reference=self.reference,
            ticket=self.claim.ticket,
            original=original or tensors_of(self.model),
            suspect=suspect,
            transcript=transcript,
            controls=controls,
            stamp=options.pop("stamp", self.stamp),
            **options,
        )


def make_party(number, base, *, beacon_bytes=None, triggers=True, original=None, **options):
    """Sign `base` with key `number`; the original is the signed model unless another is given."""
    key = key_of(number)
    if triggers:
        plan = make_plan((1, 8, 8), CLASSES, leaves=4) if triggers is True else triggers
        options |= {"classes": CLASSES, "triggers": plan.to_json(), "carriers": plan.digests}
    registered = signing.register(
        base,
        key,
        owner=f"Owner {number}",
        spend=0.15,
        master=bytes([number]) * 32,
        nonce=bytes([number]) * 32,
        **options,
    )
    beacon = beacon_bytes or bytes(32)
    opening = open_all(registered.registration, registered.payload, registered.secret.master, beacon)
    signed = signing.embed(base, opening).ticket
    shown = original or signed
    counts = registration.frame_counts(base.mask, registered.registration.layers)
    claim, claim_envelope = ownership.make(
        registered.payload,
        owner=f"Owner {number}",
        key=key,
        ticket=digest_of(ticket_file(shown)),
        model=digest_of(tensors_of(shown)),
    )
    return Party(key, registered, opening, shown, counts, claim, claim_envelope), signed


@pytest.fixture
def passphrase(monkeypatch):
    """A passphrase, and a key derivation that takes no time: the real one is tested with the vault."""
    monkeypatch.setenv("TICKETGUARD_PASSPHRASE", "correct horse")
    monkeypatch.setitem(vault.KDFS, "argon2id", (1, lambda word, salt: hashlib.sha256(word + salt).digest()))


def save_party(folder, party):
    """The signed folder of a party as `sign`, `train` and `claim` leave it, and the public copy of it."""
    signed, public = folder / "signed", folder / "public"
    for place in (signed, public):
        place.mkdir(parents=True)
        (place / "registration.dsse.json").write_bytes(party.registered.envelope)
        (place / "claim.dsse.json").write_bytes(party.claim_envelope)
        write_ticket(place / "ticket.safetensors", party.model)
        write_tensors(place / "model.safetensors", dict(party.model.weights), {})
    write_secret(signed / "secret.tgs", party.registered.secret, "correct horse")
    keys.save_secret(folder / "owner.key", party.key, "correct horse")
    return signed


@pytest.fixture(scope="session")
def owner():
    return make_party(1, random_model(1))[0]


@pytest.fixture(scope="session")
def unrelated():
    return tensors_of(random_model(99))


# Values that parsers like to stumble over.
ODD = [
    None, True, False, 0, -1, 1, 2**53 - 1, 1.5, -0.0, 1e300, "", "0", "00" * 32, "ab" * 32, "A" * 600, "\u0000", "é", "AAAA",
    [], {}, [[]], [None], {"": None}, {"sha256": "00" * 32}, [1] * 70, "2026-06-01T00:00:00Z", "none", "rfc3161",
]  # fmt: skip


def places(value, path=()):
    """Paths to every value inside a JSON document."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def mutate(document, generator):
    """One structural change: a value replaced, deleted, added, doubled, renamed or reordered."""
    changed = copy.deepcopy(document)
    path = generator.choice([path for path in places(changed) if path])
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    last = path[-1]
    kind = generator.choice(["replace", "delete", "add", "swap", "text"])
    if kind == "replace":
        parent[last] = copy.deepcopy(generator.choice(ODD))
    elif kind == "delete":
        del parent[last]
    elif kind == "add" and isinstance(parent, dict):
        parent["extra"] = copy.deepcopy(generator.choice(ODD))
    elif kind == "add":
        parent.insert(last, copy.deepcopy(parent[last]))
    elif kind == "swap":
        other = generator.choice([path for path in places(document) if path])
        source = document
        for key in other:
            source = source[key]
        parent[last] = copy.deepcopy(source)
    elif isinstance(parent[last], str) and parent[last]:
        text = parent[last]
        at = generator.randrange(len(text))
        parent[last] = text[:at] + generator.choice("0123456789abcdefXYZ+/=") + text[at + 1 :]
    elif isinstance(parent[last], int):
        parent[last] = parent[last] + generator.choice([-1, 1])
    return changed


def refusal(call):
    """The message of the project's own error that `call` raises, or None; anything else escapes."""
    try:
        call()
    except TicketguardError as problem:
        return str(problem)
    return None


@pytest.fixture(scope="session")
def world():
    """Everything defined here: pytest's importlib mode lets no test import its conftest."""
    return SimpleNamespace(**globals())
