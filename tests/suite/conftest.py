"""A bench on the tiny signed model, and a plan of a few fast cells."""

from __future__ import annotations

import pytest

from ticketguard.suite import Bench, Plan, prepare
from ticketguard.suite.plan import plan_of


@pytest.fixture(scope="session")
def bench(tiny_signed) -> Bench:
    return prepare(
        tiny_signed.bundle, tiny_signed.passphrase, tiny_signed.data, unsigned=tiny_signed.unsigned, device="cpu"
    )


@pytest.fixture(scope="session")
def plan() -> Plan:
    attacks = [("prune-magnitude", [0.3, 0.97]), "rename", ("finetune", [0.01]), "input-flip", "unsigned", "fake3"]
    return plan_of({"name": "few", "epochs": 1, "images": 64, "attacks": attacks}, where="tests")
