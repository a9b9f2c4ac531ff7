"""Masks enforced after every optimizer step: pruned weights, and everything the optimizer remembers about them, stay zero."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ticketguard.errors import UsageError
from ticketguard.masks import Mask
from ticketguard.storage.wrappers import MODULES


def unwrap(module: nn.Module) -> nn.Module:
    """The network inside `DistributedDataParallel`, `DataParallel` and `torch.compile`."""
    while True:
        children = dict(module.named_children())
        name = next(iter(children), "")
        if len(children) != 1 or name not in MODULES:
            return module
        module = children[name]


class MaskEnforcer:
    """Keeps the pruned weights of a module at exact zero while any optimizer trains it.

    Call `apply()` after each `optimizer.step()`, or `attach(optimizer)` once. Masking only the forward pass is not enough:
    weight decay and momentum then move pruned weights away from zero, unseen. `finish()` after training settles the signs
    of zeros and non-finite values and must be called before saving.
    """

    def __init__(self, module: nn.Module, mask: Mask, *, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Zeroes the pruned weights of `module` at once. Raises `UsageError` for a parameter it lacks or a wrong shape."""
        parameters = dict(unwrap(module).named_parameters())
        self._optimizers = [] if optimizer is None else [optimizer]
        self._weights: list[nn.Parameter] = []
        self._masks: list[Tensor] = []
        for name, bits in mask.items():
            if name not in parameters:
                raise UsageError(f"mask of {name}: {type(unwrap(module)).__name__} has no parameter of that name")
            weight = parameters[name]
            if tuple(weight.shape) != bits.shape:
                raise UsageError(f"mask of {name}: shape {bits.shape}, the parameter has {tuple(weight.shape)}")
            kept = torch.zeros_like(weight, requires_grad=False)  # in the weight's memory format: products run flat
            kept.copy_(torch.from_numpy(bits.copy()))
            self._weights.append(weight)
            self._masks.append(kept)
        self.finish()

    @torch.no_grad()
    def apply(self) -> None:
        """Multiply pruned weights, and the optimizer's memory of them, by zero: one fused operation over all layers."""
        if not self._weights:
            return
        tensors: list[Tensor] = [weight.data for weight in self._weights]
        masks = list(self._masks)
        for optimizer in self._optimizers:
            for weight, kept in zip(self._weights, self._masks, strict=True):
                for value in optimizer.state.get(weight, {}).values():
                    if isinstance(value, Tensor) and value.shape == weight.shape:
                        tensors.append(value)
                        masks.append(kept)
        torch._foreach_mul_(tensors, masks)

    @torch.no_grad()
    def finish(self) -> None:
        """Set pruned weights to +0.0, whatever they are now (a product with zero can be -0.0, or NaN)."""
        for weight, kept in zip(self._weights, self._masks, strict=True):
            weight.masked_fill_(kept == 0, 0.0)

    @torch.no_grad()
    def exact(self) -> bool:
        """Whether every pruned weight is exactly zero now."""
        return all(
            not bool(torch.any(weight[kept == 0] != 0)) for weight, kept in zip(self._weights, self._masks, strict=True)
        )

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Run `apply()` by itself after every step of `optimizer`, covering its momentum; may be called for several."""
        self._optimizers.append(optimizer)
        optimizer.register_step_post_hook(self._after_step)

    def _after_step(self, optimizer: torch.optim.Optimizer, args: object, kwargs: Mapping[str, object]) -> None:  # noqa: ARG002
        self.apply()
