"""The plain way to read carriers, layer by layer: what a board, which reads all of them at once, is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.signatures.edge import Carriers, Reading, bins_of, read_values

NOTHING = read_values(np.empty(0, dtype=np.bool_), np.empty((2, 0)), bins_of([]))


def read(carriers: Carriers, first: NDArray[Any], second: NDArray[Any]) -> Reading:
    """A suspect's weights at the pairs of one `Carriers`: `first` and `second` are its values there, any float dtype."""
    return read_values(carriers.bits, np.stack([first, second]), bins_of([carriers]))


def join(readings: list[Reading]) -> Reading:
    """The reading over several layers or leaves: entries one after the other."""
    parts = [NOTHING, *readings]
    return Reading(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in Reading.__annotations__}
    )
