"""Sign a sparse neural network and prove later, to anyone, that a suspect model descends from it.

`find`, `sign`, `train`, `verify` and `run_suite` mirror the commands; `Mask`, `Ticket`, `Model`, `Verdict` and the others are
the values that go in and come out. Names are imported when they are first used: verifying never loads torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ticketguard.api import Signed, sign, train, verify
    from ticketguard.attacks.registry import ATTACKS
    from ticketguard.bundle import Bundle
    from ticketguard.claims.keys import PublicKey, SecretKey
    from ticketguard.errors import TicketguardError
    from ticketguard.evidence import Evidence, Rule, Verdict
    from ticketguard.finding import FindConfig, FindResult, find
    from ticketguard.masks import Mask
    from ticketguard.suite import run_suite
    from ticketguard.tickets import Architecture, Model, Ticket, read_ticket, write_ticket
    from ticketguard.verify.verifier import Examiner

# public name -> module that defines it
_HOME = {
    "find": "finding",
    "FindConfig": "finding",
    "FindResult": "finding",
    "sign": "api",
    "Signed": "api",
    "train": "api",
    "verify": "api",
    "run_suite": "suite",
    "ATTACKS": "attacks.registry",
    "Mask": "masks",
    "Ticket": "tickets",
    "Model": "tickets",
    "Architecture": "tickets",
    "read_ticket": "tickets",
    "write_ticket": "tickets",
    "Bundle": "bundle",
    "SecretKey": "claims.keys",
    "PublicKey": "claims.keys",
    "Evidence": "evidence",
    "Rule": "evidence",
    "Verdict": "evidence",
    "Examiner": "verify.verifier",
    "TicketguardError": "errors",
}

__all__ = [
    "ATTACKS",
    "Architecture",
    "Bundle",
    "Evidence",
    "Examiner",
    "FindConfig",
    "FindResult",
    "Mask",
    "Model",
    "PublicKey",
    "Rule",
    "SecretKey",
    "Signed",
    "Ticket",
    "TicketguardError",
    "Verdict",
    "find",
    "read_ticket",
    "run_suite",
    "sign",
    "train",
    "verify",
    "write_ticket",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ticketguard' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ticketguard.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `ticketguard.verify` the function, also once the subpackage of that name has been imported.

    `from ticketguard.verify.verifier import Examiner` and the like find the subpackage all the same.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
