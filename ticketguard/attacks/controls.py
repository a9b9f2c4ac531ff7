"""Controls from the owner's own ticket, made without the owner's secret: a match on any would be a false accusation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.fresh import fresh_mask, fresh_network
from ticketguard.attacks.rebuild import network
from ticketguard.attacks.tuning import TrainingAttack, train
from ticketguard.claims.keys import SecretKey
from ticketguard.errors import UsageError
from ticketguard.masks import zeroed
from ticketguard.signing import sign
from ticketguard.tickets import Ticket
from ticketguard.training import weights_of


@dataclass(frozen=True, kw_only=True, repr=False)
class Control(TrainingAttack):
    """What all controls share: one strength, and a full rate, since they train from the beginning."""

    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (1.0, 1.0)
    control: ClassVar[bool] = True

    lr: float = 0.1


@dataclass(frozen=True, kw_only=True, repr=False)
class Unsigned(Control):
    """The owner's own ticket before signing, retrained: same frame, same rewind weights, no secret in it."""

    name: ClassVar[str] = "unsigned"
    unsigned_matters: ClassVar[bool] = True

    def run(self, victim: Victim) -> Attacked:
        """Train the unsigned ticket. Raises `UsageError` when the victim comes without it."""
        if victim.unsigned is None:
            raise UsageError(
                f"control {self!r} needs the ticket before signing: give --unsigned run/ticket.safetensors"
            )
        return _trained(self, victim, victim.unsigned)


@dataclass(frozen=True, kw_only=True, repr=False)
class OtherOwner(Control):
    """Another owner's signed model: the unsigned ticket (or else a random one of the same density) signed with another key, and
    trained.
    """

    name: ClassVar[str] = "other-owner"
    unsigned_matters: ClassVar[bool] = True

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


def _random_ticket(victim: Victim) -> Ticket:
    architecture, mask = victim.model.architecture, fresh_mask(victim, "random ticket")
    weights = weights_of(fresh_network(victim, architecture, "fresh network"))
    return Ticket(architecture=architecture, weights=zeroed(weights, mask), mask=mask)


def _trained(attack: TrainingAttack, victim: Victim, ticket: Ticket) -> Attacked:
    recipe = attack.recipe(victim)
    module = network(ticket.architecture, ticket.weights)
    train(attack, victim, module, recipe, ticket.mask)
    return attack.result(victim, module, recipe)
