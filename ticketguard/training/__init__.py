"""The one training loop, its recipes, and the values it takes and gives."""

from __future__ import annotations

from ticketguard.training.evaluate import evaluate, predict
from ticketguard.training.loop import EpochReport, Loss, fit
from ticketguard.training.masking import MaskEnforcer
from ticketguard.training.mixing import TriggerBatch, TriggerMixer
from ticketguard.training.recipe import RECIPES, Recipe
from ticketguard.training.train import module_of, train
from ticketguard.training.weights import TrainState, load_state, load_weights, save_state, weights_of

__all__ = [
    "RECIPES",
    "EpochReport",
    "Loss",
    "MaskEnforcer",
    "Recipe",
    "TrainState",
    "TriggerBatch",
    "TriggerMixer",
    "evaluate",
    "fit",
    "load_state",
    "load_weights",
    "module_of",
    "predict",
    "save_state",
    "train",
    "weights_of",
]
