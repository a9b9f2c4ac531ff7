"""Controls: models made without the owner's secret. A match on any of them would be a false accusation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.prune_magnitude import apply
from ticketguard.attacks.rebuild import network
from ticketguard.attacks.tuning import Arrays, TrainingAttack, seed_of, train
from ticketguard.claims.keys import SecretKey
from ticketguard.errors import UsageError
from ticketguard.masks import Mask, keep_largest
from ticketguard.models import build
from ticketguard.signing import sign
from ticketguard.tickets import Ticket
from ticketguard.training import weights_of


@dataclass(frozen=True, kw_only=True, repr=False)
class Unrelated(TrainingAttack):
    """An independent model of the same architecture, recipe and density: trained dense, pruned by magnitude, trained on."""

    name: ClassVar[str] = "unrelated"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (1.0, 1.0)
    control: ClassVar[bool] = True

    lr: float = 0.1

    def run(self, victim: Victim) -> Attacked:
        """Nothing of the victim is used but its architecture and density."""
        recipe = self.recipe(victim)
        module = network(victim.model.architecture, fresh(victim))
        train(self, victim, module, recipe, None)
        weights = weights_of(module)
        scores = {name: np.abs(weights[name].astype(np.float64)) for name in victim.names}
        mask = keep_largest(scores, victim.model.mask.kept)
        module = network(victim.model.architecture, apply(weights, mask))
        train(self, victim, module, recipe, mask)
        return self.result(victim, module, recipe, epochs=2.0 * recipe.epochs)


@dataclass(frozen=True, kw_only=True, repr=False)
class Unsigned(TrainingAttack):
    """The owner's own ticket before signing, retrained: same frame, same rewind weights, no secret in it."""

    name: ClassVar[str] = "unsigned"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (1.0, 1.0)
    control: ClassVar[bool] = True

    lr: float = 0.1

    def run(self, victim: Victim) -> Attacked:
        """Train the unsigned ticket. Raises `UsageError` when the victim comes without it."""
        if victim.unsigned is None:
            raise UsageError(
                f"control {self!r} needs the ticket before signing: give --unsigned run/ticket.safetensors"
            )
        return _trained(self, victim, victim.unsigned)


@dataclass(frozen=True, kw_only=True, repr=False)
class OtherOwner(TrainingAttack):
    """Another owner's signed model: the unsigned ticket (or else a random one of the same density) signed with another key, and
    trained.
    """

    name: ClassVar[str] = "other-owner"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (1.0, 1.0)
    control: ClassVar[bool] = True

    lr: float = 0.1

    def run(self, victim: Victim) -> Attacked:
        """Sign with a key from the seed, then train."""
        generator = victim.generator(self.name)
        ticket = victim.unsigned or _random_ticket(victim)
        _, embedded = sign(
            ticket,
            SecretKey.from_seed(generator.bytes(32)),
            owner="somebody else",
            master=generator.bytes(32),
            nonce=generator.bytes(32),
        )
        return _trained(self, victim, embedded.ticket)


def fresh(victim: Victim) -> Arrays:
    """Weights of a new network of the victim's architecture."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(victim, "fresh network"))
        return weights_of(build(victim.model.architecture))


def _random_ticket(victim: Victim) -> Ticket:
    generator = victim.generator("random ticket")
    mask = Mask(
        {
            name: generator.permutation(np.asarray(bits).ravel()).reshape(bits.shape)
            for name, bits in victim.model.mask.items()
        }
    )
    return Ticket(architecture=victim.model.architecture, weights=apply(fresh(victim), mask), mask=mask)


def _trained(attack: TrainingAttack, victim: Victim, ticket: Ticket) -> Attacked:
    recipe = attack.recipe(victim)
    module = network(ticket.architecture, ticket.weights)
    train(attack, victim, module, recipe, ticket.mask)
    return attack.result(victim, module, recipe)
