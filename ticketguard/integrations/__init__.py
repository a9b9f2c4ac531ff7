"""Hooks for other people's training loops: masks that hold, and trigger images in every batch.

`MaskEnforcer` and `TriggerMixer` are the very objects that the project's own loop uses. `lightning_callback` and
`transformers_callback` wrap them for Lightning and Hugging Face Trainer; neither library is imported before that.
"""

from __future__ import annotations

from ticketguard.integrations.lightning import lightning_callback
from ticketguard.integrations.loaders import TriggerLoader
from ticketguard.integrations.transformers import transformers_callback
from ticketguard.training.masking import MaskEnforcer
from ticketguard.training.mixing import TriggerBatch, TriggerMixer

__all__ = [
    "MaskEnforcer",
    "TriggerBatch",
    "TriggerLoader",
    "TriggerMixer",
    "lightning_callback",
    "transformers_callback",
]
