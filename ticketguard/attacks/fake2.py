"""fake2: add-on by somebody who does not know where or how a code is embedded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ticketguard.attacks.add_on import AddOn


@dataclass(frozen=True, kw_only=True, repr=False)
class Fake2(AddOn):
    """The paper's name for add-on with weights of the model's own scale, at its strengths (Chen et al. 2021, V2)."""

    name: ClassVar[str] = "fake2"
