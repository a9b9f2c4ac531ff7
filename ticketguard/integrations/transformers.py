"""Masks in Hugging Face Trainer: a callback for `Trainer(callbacks=[...])`."""

from __future__ import annotations

import importlib
from typing import Any

from ticketguard.errors import UsageError
from ticketguard.masks import Mask
from ticketguard.training.masking import MaskEnforcer


def transformers_callback(mask: Mask) -> Any:
    """A `transformers.TrainerCallback` that keeps the pruned weights of the trained model at exact zero.

    Mask names are parameter names of the model given to Trainer. Masks are applied at the end of every optimizer step,
    before Trainer evaluates or saves. Raises `UsageError` when transformers is missing.
    """

    def on_train_begin(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG001
        # The optimizer comes wrapped by Accelerate; its `state` is the inner one's.
        self.enforcer = MaskEnforcer(kwargs["model"], mask, optimizer=kwargs.get("optimizer"))

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG001
        self.enforcer.apply()

    def on_train_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG001
        self.enforcer.finish()

    try:
        base: type = importlib.import_module("transformers").TrainerCallback
    except ImportError as error:
        raise UsageError("transformers is not installed: pip install transformers") from error
    body = {
        "on_train_begin": on_train_begin,
        "on_step_end": on_step_end,
        "on_train_end": on_train_end,
        "__doc__": "Keeps pruned weights at exact zero.",
    }
    return type("TicketMaskCallback", (base,), body)()
