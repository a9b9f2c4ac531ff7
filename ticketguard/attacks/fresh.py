"""What an attacker starts from who throws the victim's network away: fresh weights, and a fresh mask of the same density."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ticketguard.attacks.base import Victim
from ticketguard.attacks.tuning import Arrays, seed_of
from ticketguard.masks import Mask
from ticketguard.models import build
from ticketguard.tickets import Architecture


def fresh_network(victim: Victim, architecture: Architecture, purpose: str) -> nn.Module:
    """A new network of `architecture`, its weights drawn from the victim's seed and `purpose`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(victim, purpose))
        return build(architecture)


def fresh_mask(victim: Victim, purpose: str) -> Mask:
    """A random mask with the density of each of the victim's layers, drawn from the victim's seed and `purpose`."""
    generator = victim.generator(purpose)
    return Mask(
        {
            name: generator.permutation(np.asarray(bits).ravel()).reshape(bits.shape)
            for name, bits in victim.model.mask.items()
        }
    )


def fresh_layer(weights: Arrays, layer: str, generator: np.random.Generator, *, outputs: int | None = None) -> None:
    """Draw a layer's weight and bias anew in place, as PyTorch does for linear ones; `outputs` None: as many as it has."""
    old = weights[f"{layer}.weight"].shape
    shape = (old[0] if outputs is None else outputs, *old[1:])
    bound = 1 / np.sqrt(np.prod(old[1:]))
    for name, wanted in ((f"{layer}.weight", shape), (f"{layer}.bias", shape[:1])):
        if name in weights:
            weights[name] = generator.uniform(-bound, bound, wanted).astype(weights[name].dtype)
