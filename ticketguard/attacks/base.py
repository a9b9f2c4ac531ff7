"""What an attack is: a frozen value that turns a victim into an attacked copy and never grades itself.

Success, accuracy and evidence are measured by `ticketguard.suite`, from outside, in the same way for every attack.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ticketguard.data.dataset import Dataset, Images, Labels
from ticketguard.errors import UsageError
from ticketguard.graph.groups import Symmetry
from ticketguard.masks import Mask
from ticketguard.signatures.edge import Carriers
from ticketguard.tickets import Architecture, Model, Ticket, Weights
from ticketguard.training import RECIPES, Recipe

Predict = Callable[[Images], Labels]
# What stands between a caller and the network: given the network's own answers, the answers that the service gives.
Front = Callable[[Predict, Images], Labels]


@dataclass(frozen=True, kw_only=True)
class Victim:
    """A released signed model, and what the attacker has besides it.

    `model`: the released model; `dataset`: the attacker's data (None for attacks that need none); `symmetry`: channel groups
    of the network; `recipe`: what the attacker trains with (its epochs are the attacker's budget); `seed`: of all the attack's
    randomness; `rewind`: the rewind weights, when they are public; `leaked`: carriers of leaked leaves, by leaf and layer;
    `unsigned`: the owner's ticket before signing, for controls only; `device` and `threads` as in `training.fit`.
    """

    model: Model
    dataset: Dataset | None = None
    symmetry: Symmetry | None = None
    recipe: Recipe = RECIPES["digits"]
    seed: int = 0
    rewind: Weights | None = None
    leaked: Mapping[int, Mapping[str, Carriers]] = field(default_factory=dict)
    unsigned: Ticket | None = None
    device: str = "auto"
    threads: int | None = None

    @property
    def names(self) -> list[str]:
        """Names of the masked parameters."""
        return list(self.model.mask)

    def weights(self) -> dict[str, NDArray[Any]]:
        """All parameters and buffers, as copies that the attack may write to."""
        return {name: np.array(array) for name, array in self.model.weights.items()}

    def generator(self, purpose: str) -> np.random.Generator:
        """The attack's random generator: it depends on the victim's seed and `purpose` alone."""
        return np.random.default_rng([self.seed & (2**64 - 1), zlib.crc32(purpose.encode())])

    def needs_data(self, attack: object) -> Dataset:
        """The attacker's data. Raises `UsageError` when there is none."""
        if self.dataset is None:
            raise UsageError(f"attack {attack!r} trains or queries, so it needs data: give --data")
        return self.dataset

    def needs_symmetry(self, attack: object) -> Symmetry:
        """The network's symmetry. Raises `UsageError` when it is not known."""
        if self.symmetry is None:
            raise UsageError(
                f"attack {attack!r} rearranges channels, so it needs the network's symmetry: sign with --arch"
            )
        return self.symmetry


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """What an attack made, and what it cost.

    `weights` and `architecture`: the suspect, as its file would hold it; shapes may differ from the victim's, and parameters
    may be missing or new (`attacks.rebuild` builds such networks). `names`: stored name -> network name, where layers were
    renamed. `build`: how to build the network when `rebuild` could not. `front`: what stands between callers and the network.
    `hidden`: the suspect is a service, nobody sees its weights. `epochs` over `images` training images: the price in work.
    """

    weights: Weights
    architecture: Architecture
    names: Mapping[str, str] = field(default_factory=dict)
    build: Callable[[], nn.Module] | None = None
    front: Front | None = None
    hidden: bool = False
    epochs: float = 0.0
    images: int = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class Attack(ABC):
    """One attack at one strength. Subclasses set the class variables and write `run`.

    `name`: as in the registry; `strengths`: the default grid; `unit`: what `strength` means; `lossless`: the network's function
    stays the same; `trains`: needs data and an optimizer; `control`: the result is made without the owner's secret, so a match
    would be a false accusation; `unsigned_matters`: what it makes depends on `Victim.unsigned`.
    """

    name: ClassVar[str]
    strengths: ClassVar[tuple[float, ...]] = (1.0,)
    unit: ClassVar[str] = ""
    lossless: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    control: ClassVar[bool] = False
    unsigned_matters: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    strength: float = 1.0

    def __post_init__(self) -> None:
        low, high = self.bounds
        if not isfinite(self.strength) or not low <= self.strength <= high:
            raise UsageError(f"attack {self.name}: strength {self.strength} is not within {low:g} to {high:g}")

    def __repr__(self) -> str:
        """`name@strength`, and every other field that is not at its default: also the test id and the name in reports."""
        changed = [
            f"{item.name}={getattr(self, item.name)}"
            for item in fields(self)
            if item.name != "strength" and getattr(self, item.name) != item.default
        ]
        return f"{self.name}@{self.strength:g}" + (f"[{','.join(changed)}]" if changed else "")

    @abstractmethod
    def run(self, victim: Victim) -> Attacked:
        """The attacked copy of `victim`; the victim is left as it was."""


def unchanged_cost(victim: Victim, weights: Weights) -> Attacked:
    """The result of an attack that trained nothing: new `weights`, the same architecture."""
    return Attacked(weights=weights, architecture=victim.model.architecture)


def succeed(victim: Victim, attacked: Attacked) -> Victim:
    """The victim that a second attack meets after a first: its model, with the support of its weights as the mask.

    The symmetry is kept only while every parameter still has the shape it describes.
    """
    weights = {attacked.names.get(name, name): array for name, array in attacked.weights.items()}
    mask = Mask({name: np.asarray(weights[name]) != 0 for name in victim.names if name in weights})
    before = {name: np.shape(array) for name, array in victim.model.weights.items()}
    same = before == {name: np.shape(array) for name, array in weights.items()}
    model = Model(architecture=attacked.architecture, weights=weights, mask=mask, provenance=victim.model.provenance)
    return replace(victim, model=model, symmetry=victim.symmetry if same else None)
