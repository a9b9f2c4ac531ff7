"""The carriers of a registration: which pairs each revealed leaf drew in each registered layer."""

from __future__ import annotations

from ticketguard.claims.opening import Opening
from ticketguard.claims.registration import TableEntry
from ticketguard.signatures import edge

LABEL = "edge/"


def carriers_of(opening: Opening, entry: TableEntry, leaf: int) -> edge.Carriers:
    """The carriers of one revealed leaf in one registered layer."""
    stream = opening.stream(LABEL + entry.layer.name, leaf)
    return edge.draw(entry.layer, entry.pairs, leaf=leaf, groups=opening.registration.groups, stream=stream)


def all_carriers(opening: Opening) -> dict[int, dict[str, edge.Carriers]]:
    """Carriers by leaf and layer name. Nothing here depends on a suspect, so a scan of many suspects draws them once."""
    return {
        leaf: {entry.layer.name: carriers_of(opening, entry, leaf) for entry in opening.registration.table}
        for leaf in sorted(opening.leaves)
    }
