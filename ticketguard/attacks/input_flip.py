"""Input flip: a service that mirrors every image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Victim
from ticketguard.attacks.input_transform import InputTransform
from ticketguard.data.dataset import Images


@dataclass(frozen=True, kw_only=True, repr=False)
class InputFlip(InputTransform):
    """Mirror every image, left to right.

    Source: Lukas et al. 2022 ("input flipping"). Costs accuracy where left and right differ (digits), next to nothing on
    photographs, and no training. Breaks triggers, whose answers were learned for the images as they are: for their mirror
    images the network was taught none, unless its triggers were trained with flips as well. Marks in the weights are not
    touched.
    """

    name: ClassVar[str] = "input-flip"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (1.0, 1.0)

    def transform(self, images: Images, victim: Victim) -> Images:  # noqa: ARG002
        """Left becomes right."""
        return np.ascontiguousarray(images[:, :, :, ::-1])
