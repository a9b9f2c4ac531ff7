"""Input transforms: a service that changes every image before its network sees it. Nobody sees the weights."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ticketguard.attacks.base import Attack, Attacked, Predict, Victim
from ticketguard.data.dataset import Images, Labels


@dataclass(frozen=True, kw_only=True, repr=False)
class InputTransform(Attack):
    """A service that answers for `transform(images)` instead of the images it was sent."""

    def run(self, victim: Victim) -> Attacked:
        """The victim itself, behind the transform."""

        def front(predict: Predict, images: Images) -> Labels:
            return predict(self.transform(images, victim))

        return Attacked(weights=victim.model.weights, architecture=victim.model.architecture, front=front, hidden=True)

    @abstractmethod
    def transform(self, images: Images, victim: Victim) -> Images:
        """uint8 images (N, C, H, W) in, the same out."""


def to_pixels(values: NDArray[np.float64]) -> Images:
    """Rounded to whole grey levels within 0 to 255."""
    pixels: Images = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels
