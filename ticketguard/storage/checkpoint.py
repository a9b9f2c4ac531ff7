"""How a training checkpoint names its tensors: weights and momentum of one network in one file."""

from __future__ import annotations

from collections.abc import Iterable

WEIGHT, MOMENTUM = "weight/", "momentum/"


def weights_among(names: Iterable[str]) -> dict[str, str]:
    """Parameter names of weights and the names they are stored under: momentum is left out, a state dict is as it is."""
    return {name.removeprefix(WEIGHT): name for name in names if not name.startswith(MOMENTUM)}
