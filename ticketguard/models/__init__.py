"""Networks: a literal registry of CIFAR-sized architectures, and anybody's own by import path `package.module:callable`."""

from __future__ import annotations

from ticketguard.models.build import build, fitted, input_shape, outline
from ticketguard.models.layers import prunable
from ticketguard.models.modes import evaluating
from ticketguard.models.registry import MODELS

__all__ = ["MODELS", "build", "evaluating", "fitted", "input_shape", "outline", "prunable"]
