"""State between stages: module weights as numpy arrays and back, and the training state that a checkpoint file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ticketguard.errors import FormatError, UsageError
from ticketguard.storage.checkpoint import MOMENTUM, WEIGHT
from ticketguard.storage.tensors import read_tensors, write_tensors
from ticketguard.tickets import MASK_SUFFIX
from ticketguard.training.masking import unwrap

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Everything that the next epoch depends on: weights and buffers, momentum, and how many epochs are done.

    Both mappings are numpy arrays under PyTorch names; no momentum means that the optimizer starts anew.
    """

    weights: Arrays
    momentum: Arrays = field(default_factory=dict)
    epoch: int = 0


def save_state(path: Path, state: TrainState, notes: Mapping[str, Any]) -> None:
    """Write a training state and JSON `notes` atomically."""
    tensors = {WEIGHT + name: array for name, array in state.weights.items()}
    tensors |= {MOMENTUM + name: array for name, array in state.momentum.items()}
    write_tensors(path, tensors, {"state": {"epoch": state.epoch, "notes": dict(notes)}})


def load_state(path: Path) -> tuple[TrainState, dict[str, Any]]:
    """The state and notes of `save_state`. Raises `FormatError` when the file is anything else."""
    file = read_tensors(path)
    meta = file.metadata.get("state")
    if not isinstance(meta, dict) or not isinstance(meta.get("epoch"), int) or not isinstance(meta.get("notes"), dict):
        raise FormatError(f"{path}: not a training checkpoint of ticketguard")
    groups: dict[str, Arrays] = {WEIGHT: {}, MOMENTUM: {}}
    for name in file:
        prefix, slash, rest = name.partition("/")
        if prefix + slash not in groups:
            raise FormatError(f"{path}: unexpected tensor {name} in a checkpoint")
        groups[prefix + slash][rest] = np.array(file[name])
    return TrainState(weights=groups[WEIGHT], momentum=groups[MOMENTUM], epoch=meta["epoch"]), meta["notes"]


def weights_of(module: nn.Module) -> Arrays:
    """Parameters and buffers of a module as numpy arrays of their own, under state-dict names; bf16 becomes float32."""
    return {
        name: to_numpy(tensor) for name, tensor in unwrap(module).state_dict().items() if isinstance(tensor, Tensor)
    }


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """A C-ordered numpy copy of a tensor, on whatever device it is; bf16 becomes float32."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: NDArray[Any] = np.array(tensor.cpu().numpy(), order="C", copy=True)
    return array


def load_weights(module: nn.Module, weights: Mapping[str, NDArray[Any]]) -> None:
    """Copy arrays into a module's parameters and buffers. Raises `UsageError` unless names and shapes agree exactly.

    A file with masks is read by `tickets.read_ticket`, whose `weights` are what goes in here.

    `num_batches_tracked` counters may be absent: many files leave them out, and nothing here depends on them.
    """
    own = unwrap(module).state_dict()
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    extra = [name for name in weights if name not in own]
    for problem, names in (("lacks", missing), ("has unknown", extra)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            masks = all(name.endswith(MASK_SUFFIX) and name.removesuffix(MASK_SUFFIX) in own for name in names)
            advice = (
                ": masks, as a ticket's file has them: read it with read_ticket, and load its .weights" if masks else ""
            )
            raise UsageError(
                f"these weights do not fit {type(unwrap(module)).__name__}: it {problem} {', '.join(names[:3])}{more}{advice}"
            )
    with torch.no_grad():
        for name, array in weights.items():
            values = np.asarray(array)
            if values.shape != tuple(own[name].shape):
                raise UsageError(f"weights of {name}: shape {values.shape}, the network has {tuple(own[name].shape)}")
            own[name].copy_(torch.from_numpy(np.array(values, copy=True)))
