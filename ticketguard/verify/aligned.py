"""Undoing what moves channels: from a suspect's effective weights to the registered layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.claims.registration import Registration
from ticketguard.evidence import UNREAD
from ticketguard.graph.cells import Counts
from ticketguard.verify.suspect import Effective


@dataclass(frozen=True)
class Whole(Mapping[str, NDArray[Any]]):
    """Effective weights as whole arrays, each read when it is asked for."""

    effective: Mapping[str, Effective]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.effective[name].array()

    def __iter__(self) -> Iterator[str]:
        return iter(self.effective)

    def __len__(self) -> int:
        return len(self.effective)


@dataclass(frozen=True)
class InPlace:
    """A weight tensor in the registered layout."""

    values: NDArray[Any]

    def gather(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Values at flat positions."""
        return np.asarray(self.values.reshape(-1)[positions])


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Registered layers of a suspect in the registered layout, and what was done, in words.

    `moved` is False when every channel is where it was registered, so that reading again would read the same. `lineage`: the
    score of that name (`graph.alignment`) after alignment; it is unkeyed and decides nothing.
    """

    moved: bool
    weights: Mapping[str, InPlace]
    lineage: float
    notes: tuple[str, ...]


def align_suspect(effective: Mapping[str, Effective], registered: Registration, reference: Counts) -> Aligned:
    """Align a suspect to the committed frame `reference`. The target bits are not known here, so they cannot choose."""
    # Alignment needs an assignment solver, which takes as long to import as a whole verdict without it.
    from ticketguard.graph.alignment import align

    symmetry = registered.channel_groups
    whole = Whole(effective)
    found = align(reference, list(registered.layers.values()), symmetry, whole)
    notes = [*(f"alignment: {words}" for words in found.undone), *found.notes]
    if symmetry is None:
        notes.append("the registration knows no symmetry groups: only layer names could be aligned")
    elif not found.undone:
        notes.append("alignment: channels are where they were registered, or overlap with the frame nowhere better")
    notes.append(
        f"lineage: frame overlap {found.lineage:.2f} (unkeyed, no p-value; other models pruned from one ancestor overlap too)"
    )
    if found.guessed:
        notes.append(
            f"{UNREAD}which of its tensors is which of {len(found.guessed)} registered layers of other sizes was taken from "
            "their order in the file; another order could show more"
        )
    if found.surplus:
        # Which of them are copies, and which do nothing, is told from numbers that whoever made the suspect chose.
        notes.append(
            f"{UNREAD}{found.surplus} channels more than registered; merged or left out in another way the rest could show more"
        )
    weights = {name: InPlace(array) for name, array in found.apply(whole).items()}
    return Aligned(moved=bool(found.undone), weights=weights, lineage=found.lineage, notes=tuple(notes))
