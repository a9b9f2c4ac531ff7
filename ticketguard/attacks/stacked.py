"""Several attacks one after the other, each on what the one before left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar

from ticketguard.attacks.base import Attack, Attacked, Front, Predict, Victim, succeed
from ticketguard.data.dataset import Images, Labels


@dataclass(frozen=True, kw_only=True, repr=False)
class Stacked(Attack):
    """Run `parts` in order. `strength` only labels the stack: each part has its own. Costs add up."""

    name: ClassVar[str] = "stacked"
    bounds: ClassVar[tuple[float, float]] = (0.0, inf)

    parts: tuple[Attack, ...] = ()

    def __repr__(self) -> str:
        """The parts, joined by a plus sign: `permute@1+prune-magnitude@0.3`."""
        return "+".join(repr(part) for part in self.parts)

    def run(self, victim: Victim) -> Attacked:
        """Each part meets the model that the one before made."""
        total: Attacked | None = None
        for part in self.parts:
            step = part.run(victim)
            victim = succeed(victim, step)
            total = step if total is None else _joined(total, step)
        return total if total is not None else Attacked(
            weights=victim.model.weights, architecture=victim.model.architecture
        )  # fmt: skip


def _joined(first: Attacked, second: Attacked) -> Attacked:
    """The second result, with the first one's costs, fronts and secrecy added to its own."""
    return replace(
        second,
        front=_in_front(second.front, first.front),
        build=second.build or first.build,
        hidden=first.hidden or second.hidden,
        epochs=first.epochs + second.epochs,
        images=max(first.images, second.images),
    )


def _in_front(outer: Front | None, inner: Front | None) -> Front | None:
    if outer is None or inner is None:
        return outer or inner

    def both(predict: Predict, images: Images) -> Labels:
        return outer(lambda seen: inner(predict, seen), images)

    return both
