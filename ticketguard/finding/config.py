"""What finding takes and gives: the request, the record of each round, and the result, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ticketguard.errors import UsageError
from ticketguard.tickets import Architecture, Model, Ticket
from ticketguard.training import EpochReport, Recipe

FALLING_RATES = (0.2, 0.1, 0.05, 0.01)


@dataclass(frozen=True, kw_only=True)
class FindConfig:
    """A request to find a winning ticket by iterative magnitude pruning with late rewinding.

    Each of `rounds` rounds removes the share `rate` of the weights that are left. With `extreme`, rounds go on, at the
    falling `rates`, until no rate leaves a ticket within `tolerance` points of the dense model. `layers` names the
    parameters to prune; None means all convolutions and linear layers but the first (unless `first`) and the classifier
    (unless `classifier`).
    """

    architecture: Architecture
    recipe: Recipe
    rounds: int = 3
    rate: float = 0.42
    seed: int = 0
    tolerance: float = 1.0
    first: bool = False
    classifier: bool = False
    layers: tuple[str, ...] | None = None
    extreme: bool = False
    rates: tuple[float, ...] = FALLING_RATES
    max_rounds: int = 100

    def __post_init__(self) -> None:
        for rate in (self.rate, *self.rates):
            if not 0 < rate < 1:
                raise UsageError(f"pruning rate must be between 0 and 1, not {rate}")
        if not 0 <= self.rounds <= 1000:
            raise UsageError(f"rounds must be between 0 and 1000, not {self.rounds}")
        if not 1 <= self.max_rounds <= 1000:
            raise UsageError(f"max rounds must be between 1 and 1000, not {self.max_rounds}")
        if list(self.rates) != sorted(set(self.rates), reverse=True):
            raise UsageError(f"rates of an extreme ticket must fall: {self.rates}")
        if not 0 <= self.tolerance <= 100:
            raise UsageError(f"tolerance must be between 0 and 100 points, not {self.tolerance}")
        if not 0 <= self.seed < 1 << 53:
            raise UsageError(f"seed must be between 0 and 2^53, not {self.seed}")

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            **fields,
            "architecture": {"name": self.architecture.name, "arguments": dict(self.architecture.arguments)},
            "recipe": self.recipe.to_json(),
            "layers": None if self.layers is None else list(self.layers),
            "rates": list(self.rates),
        }


def rate_for(density: float, rounds: int) -> float:
    """The pruning rate that leaves the share `density` of the weights after `rounds` equal rounds."""
    if not 0 < density < 1 or rounds < 1:
        raise UsageError(
            f"cannot reach density {density} in {rounds} rounds: use a density between 0 and 1, 1 round or more"
        )
    return float(1 - density ** (1 / rounds))


@dataclass(frozen=True, kw_only=True)
class Round:
    """One trained network on the way: the dense one (rate 0) or a ticket of `kept` of `size` prunable weights.

    `accuracy` in percent; `winning` when it is within the tolerance of the dense model; `accepted` unless the round was
    undone.
    """

    rate: float
    kept: int
    size: int
    accuracy: float
    winning: bool
    accepted: bool

    @property
    def density(self) -> float:
        """Share of prunable weights kept."""
        return self.kept / self.size

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FindProgress:
    """Where a search stands: which training run out of how many (None when unknown), its density, its last epoch."""

    stage: int
    stages: int | None
    density: float
    report: EpochReport


@dataclass(frozen=True, kw_only=True)
class FindResult:
    """A found ticket, the model it trains to, the dense model, and every round. `specification` sums up the pruning rates."""

    ticket: Ticket
    model: Model
    dense: Model
    rounds: tuple[Round, ...]
    specification: str

    @property
    def dense_accuracy(self) -> float:
        """Test accuracy of the dense model, in percent."""
        return self.rounds[0].accuracy

    @property
    def ticket_accuracy(self) -> float:
        """Test accuracy of the trained ticket, in percent."""
        return last_accepted(self.rounds)[1].accuracy

    @property
    def winning(self) -> bool:
        """Whether a round was kept whose ticket is within the tolerance of the dense model, which does not count itself."""
        return self.pruned and last_accepted(self.rounds)[1].winning

    @property
    def pruned(self) -> bool:
        """Whether any round was kept; else the ticket is the dense model's."""
        return last_accepted(self.rounds)[0] > 0


def last_accepted(rounds: tuple[Round, ...]) -> tuple[int, Round]:
    """Index and record of the last round that was not undone; the dense model counts as round 0."""
    return next((index, rounds[index]) for index in reversed(range(len(rounds))) if rounds[index].accepted)
