"""Masks in Lightning: a callback for `Trainer(callbacks=[...])`."""

from __future__ import annotations

import importlib
from typing import Any

from ticketguard.errors import UsageError
from ticketguard.masks import Mask
from ticketguard.training.masking import MaskEnforcer


def lightning_callback(mask: Mask, *, submodule: str | None = None) -> Any:
    """A `lightning.pytorch.Callback` that keeps the pruned weights of a LightningModule at exact zero.

    Mask names are parameter names of the LightningModule, or of its attribute `submodule` ("model" when the network is
    `self.model`). The masks hold after every step of every optimizer. Raises `UsageError` when Lightning is missing.
    """

    def on_train_start(self: Any, trainer: Any, pl_module: Any) -> None:
        module = pl_module if submodule is None else pl_module.get_submodule(submodule)
        self.enforcer = MaskEnforcer(module, mask)
        for optimizer in trainer.optimizers:
            self.enforcer.attach(optimizer)

    def on_train_end(self: Any, trainer: Any, pl_module: Any) -> None:  # noqa: ARG001
        self.enforcer.finish()

    body = {
        "on_train_start": on_train_start,
        "on_train_end": on_train_end,
        "__doc__": "Keeps pruned weights at exact zero.",
    }
    return type("TicketMaskCallback", (_callback_class(),), body)()


def _callback_class() -> type:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            found: type = importlib.import_module(name).Callback
        except ImportError:
            continue
        return found
    raise UsageError("Lightning is not installed: pip install lightning")
