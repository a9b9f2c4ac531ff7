"""Networks for attacked weights: built from the architecture, then given whatever shapes the attack left.

Folding drops batch norms and adds biases, dummy channels widen layers: the module keeps its structure and takes the tensors.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ticketguard.attacks.base import Attacked
from ticketguard.errors import UsageError
from ticketguard.models import build
from ticketguard.tickets import Architecture, Weights


def module_of(attacked: Attacked) -> nn.Module:
    """The network of an attacked copy, in evaluation mode on the CPU."""
    weights = {attacked.names.get(name, name): array for name, array in attacked.weights.items()}
    module = attacked.build() if attacked.build is not None else build(attacked.architecture)
    return adopt(module, weights).eval()


def network(architecture: Architecture, weights: Weights) -> nn.Module:
    """A network of `architecture` with `weights` of any fitting shapes, in evaluation mode on the CPU."""
    return adopt(build(architecture), weights).eval()


def adopt(module: nn.Module, weights: Weights) -> nn.Module:
    """Put `weights` into `module`, whatever their shapes: float32 parameters, buffers with their own dtype.

    A submodule none of whose parameters and buffers is among the weights (a batch norm that was folded away) becomes the
    identity; a parameter that the submodule allows but lacks (a convolution's bias) is added. Raises `UsageError` when a name
    fits no submodule or when only some tensors of a submodule are there.
    """
    for path, child in list(module.named_modules()):
        own = [name for name, _ in child.named_parameters(recurse=False)]
        own += [name for name, _ in child.named_buffers(recurse=False) if name != "num_batches_tracked"]
        prefix = f"{path}." if path else ""
        missing = [name for name in own if prefix + name not in weights]
        if own and len(missing) == len(own) and path:
            parent, _, last = path.rpartition(".")
            setattr(module.get_submodule(parent), last, nn.Identity())
        elif missing:
            raise UsageError(f"attacked weights lack {prefix}{missing[0]}")
    for name, array in weights.items():
        path, _, last = name.rpartition(".")
        _put(module, path, last, torch.from_numpy(np.array(array)))
    return module


def _put(module: nn.Module, path: str, last: str, value: torch.Tensor) -> None:
    try:
        owner = module.get_submodule(path)
    except AttributeError as problem:
        raise UsageError(f"attacked weights hold {path}.{last}, which the network has not") from problem
    if last in owner._buffers:
        owner._buffers[last] = value if last == "num_batches_tracked" else value.float()
    elif last in owner._parameters:
        owner._parameters[last] = nn.Parameter(value.float())
    else:
        raise UsageError(f"attacked weights hold {path}.{last}, which the network has not")
