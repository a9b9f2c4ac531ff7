"""Evaluation for a while, and each part of a network as it was afterwards."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from ticketguard.models import build, evaluating, fitted
from ticketguard.tracing import symmetry_of
from ticketguard.training import predict

EXAMPLE = torch.zeros(1, 1, 8, 8)


def half_frozen() -> tuple[torch.nn.Module, dict[str, bool]]:
    """A network in training mode, one batch norm of which is frozen; and the mode of each part."""
    module = build(fitted("convnet", shape=(1, 8, 8), classes=4))
    module.train()
    next(part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)).eval()
    modes = {name: part.training for name, part in module.named_modules()}
    assert len(set(modes.values())) == 2
    return module, modes


@pytest.mark.parametrize("fails", [False, True])
def test_each_part_is_in_its_own_mode_again(fails: bool) -> None:
    module, modes = half_frozen()
    with pytest.raises(KeyError) if fails else nullcontext(), evaluating(module):
        assert not any(part.training for part in module.modules())
        if fails:
            raise KeyError
    assert {name: part.training for name, part in module.named_modules()} == modes


def test_predicting_and_tracing_change_no_mode(tiny_data) -> None:
    module, modes = half_frozen()
    assert predict(module, tiny_data.test_images, tiny_data).dtype == np.int64
    assert symmetry_of(module, EXAMPLE).groups
    assert {name: part.training for name, part in module.named_modules()} == modes
