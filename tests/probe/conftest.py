from __future__ import annotations

from dataclasses import replace

import pytest

from ticketguard.claims.keys import SecretKey
from ticketguard.claims.opening import Opening, derive_leaves, open_all, root_of
from ticketguard.claims.registration import Registration, TableEntry
from ticketguard.graph.cells import layer_of
from ticketguard.triggers.plan import make_plan

CLASSES = tuple("0123456789")
MASTER = bytes(range(32))
SEED = b"o" * 32


@pytest.fixture(scope="session")
def owner() -> SecretKey:
    return SecretKey.from_seed(SEED)


@pytest.fixture(scope="session")
def opening() -> Opening:
    """A registration with triggers for ten digits and four leaves, opened by its owner."""
    return make_opening()


@pytest.fixture(autouse=True)
def no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of short transcripts need not survive a power cut; the killed probes run in processes of their own."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


def make_opening() -> Opening:
    plan = make_plan((1, 8, 8), CLASSES, leaves=4, preprocess={"mean": [0.3], "std": [0.4]})
    draft = Registration(
        owner="Example Lab",
        public_key=SecretKey.from_seed(SEED).public,
        leaves=4,
        root=bytes(32),
        frame="0" * 64,
        table=(TableEntry(layer=layer_of("conv.weight", (8, 8, 3, 3)), pairs=10),),
        nonce="1" * 64,
        classes=CLASSES,
        triggers=plan.to_json(),
    )
    registration = replace(draft, root=root_of(derive_leaves(draft, MASTER)))
    return open_all(registration, registration.payload(), MASTER)
