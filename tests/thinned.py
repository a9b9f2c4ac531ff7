"""Cases of a table of which the fast suite tries some, and the slow one all."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def thinned(names: Iterable[str], *, fast: Container[str] = (), slow: Container[str] = ()) -> list[Any]:
    """Values for `parametrize`: all `names`; those in `slow`, or not in `fast` where that is given, are marked slow."""
    return [
        pytest.param(name, marks=pytest.mark.slow) if name in slow or (fast and name not in fast) else name
        for name in names
    ]
