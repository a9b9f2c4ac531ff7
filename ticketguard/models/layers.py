"""Which parameters pruning may touch."""

from __future__ import annotations

from torch import nn

from ticketguard.errors import UsageError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def prunable(module: nn.Module, *, first: bool = False, classifier: bool = False) -> list[str]:
    """Names of the convolution and linear weights that pruning may touch, in registration order.

    The first such layer of the network is left out unless `first`, and the last linear layer unless `classifier`. A weight
    shared by two layers counts once. Raises `UsageError` when nothing is left.
    """
    found: dict[int, tuple[str, bool]] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, (*CONVOLUTIONS, nn.Linear)):
            full = f"{name}.weight" if name else "weight"
            found.setdefault(id(layer.weight), (full, isinstance(layer, nn.Linear)))
    layers = list(found.values())
    names = [name for name, _ in layers]
    dropped: set[str] = set()
    if not first and names:
        dropped.add(names[0])
    linear = [name for name, is_linear in layers if is_linear]
    if not classifier and linear:
        dropped.add(linear[-1])
    kept = [name for name in names if name not in dropped]
    if not kept:
        raise UsageError(
            f"{type(module).__name__} has no prunable layer besides its first one and its classifier: include those"
        )
    return kept
