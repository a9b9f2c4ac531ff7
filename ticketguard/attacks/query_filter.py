"""A query filter: the service refuses images that do not look like its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ticketguard.attacks.base import Attack, Attacked, Predict, Victim
from ticketguard.data.dataset import Images, Labels
from ticketguard.triggers.score import ERASURE

COMPONENTS = 32
MOST_IMAGES = 5000


@dataclass(frozen=True, kw_only=True, repr=False)
class QueryFilter(Attack):
    """Refuse images far from the attacker's data; the strength is the share of honest queries that may be refused.

    Distance: Mahalanobis within the leading principal components of the pixels, plus the residual outside them. Costs refused
    customers. Triggers that look like nothing in the data are refused, which the verifier counts as erasures; the weights, if
    anybody ever sees them, are untouched.
    """

    name: ClassVar[str] = "query-filter"
    strengths: ClassVar[tuple[float, ...]] = (0.01, 0.05)
    unit: ClassVar[str] = "share of honest queries refused"

    def run(self, victim: Victim) -> Attacked:
        """The victim itself, behind a filter fitted to the attacker's training images."""
        data = victim.needs_data(self)
        fitted = _Distance(data.train_images[:MOST_IMAGES])
        limit = float(np.quantile(fitted(data.train_images[:MOST_IMAGES]), 1 - self.strength))

        def front(predict: Predict, images: Images) -> Labels:
            return np.where(fitted(images) > limit, ERASURE, predict(images)).astype(np.int64)

        return Attacked(
            weights=victim.model.weights,
            architecture=victim.model.architecture,
            front=front,
            hidden=True,
            images=min(len(data.train_images), MOST_IMAGES),
        )


class _Distance:
    """How unlike the data an image is: float64 (N,), larger is further."""

    def __init__(self, images: Images) -> None:
        flat = images.reshape(len(images), -1) / 255.0
        self._mean = flat.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(flat - self._mean, rowvar=False))
        count = min(COMPONENTS, len(values))
        self._basis = vectors[:, -count:]
        self._spread = np.sqrt(np.maximum(values[-count:], 1e-12))
        self._residual = float(np.sqrt(max(values[:-count].sum(), 1e-12)))

    def __call__(self, images: Images) -> NDArray[np.float64]:
        centred = images.reshape(len(images), -1) / 255.0 - self._mean
        inside = centred @ self._basis
        outside = np.linalg.norm(centred - inside @ self._basis.T, axis=1)
        return np.asarray(np.linalg.norm(inside / self._spread, axis=1) + outside / self._residual)
