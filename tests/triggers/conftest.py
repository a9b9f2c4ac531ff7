from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from ticketguard.claims.streams import Stream


class LeavesOnly(SimpleNamespace):
    """Leaves and their streams, without a registration around them."""

    def stream(self, label: str, leaf: int) -> Stream:
        return Stream(label, bytes(range(32)), leaf, self.leaves[leaf])


@pytest.fixture
def opening() -> Callable[..., LeavesOnly]:
    """Builds the opening of some leaves of one fixed secret."""
    return lambda *leaves: LeavesOnly(leaves={leaf: hashlib.sha256(bytes([leaf])).digest() for leaf in leaves})
