from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ticketguard.errors import UsageError
from ticketguard.masks import Mask
from ticketguard.training import MaskEnforcer
from ticketguard.training.masking import unwrap

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3))


def mask(seed=0):
    bits = np.random.default_rng(seed).random((4, 4, 3, 3)) < 0.3
    return Mask({"2.weight": bits})


def step(module, optimizer):
    optimizer.zero_grad()
    module(torch.randn(4, 1, 8, 8)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("attached", [False, True])
def test_pruned_weights_and_what_the_optimizer_remembers_stay_zero(name, attached):
    module, pruned = network(), ~mask()["2.weight"]
    optimizer = OPTIMIZERS[name](module.parameters())
    for _ in range(2):
        step(module, optimizer)  # memory from before the mask must not come back
    enforcer = MaskEnforcer(module, mask(), optimizer=None if attached else optimizer)
    if attached:
        enforcer.attach(optimizer)
    for _ in range(5):
        step(module, optimizer)
        if not attached:
            enforcer.apply()
        weight = module[2].weight.detach().numpy()
        assert not weight[pruned].any()
        assert weight[~pruned].all()
        assert enforcer.exact()
        for key, value in optimizer.state[module[2].weight].items():
            if value.shape == weight.shape:
                assert not value.numpy()[pruned].any(), key
    assert module[0].weight.detach().numpy().all()


def test_finish_leaves_positive_zeros_whatever_happened():
    module = network()
    enforcer = MaskEnforcer(module, mask())
    with torch.no_grad():
        module[2].weight.fill_(float("nan"))
    enforcer.apply()
    assert not enforcer.exact()
    enforcer.finish()
    pruned = module[2].weight.detach().numpy()[~mask()["2.weight"]]
    assert pruned.tobytes() == bytes(len(pruned) * 4)
    assert enforcer.exact()


def test_channels_last_weights():
    module = network().to(memory_format=torch.channels_last)
    enforcer = MaskEnforcer(module, mask())
    with torch.no_grad():
        module[2].weight.fill_(1.0)
    enforcer.apply()
    np.testing.assert_array_equal(module[2].weight.detach().numpy() != 0, mask()["2.weight"])


def test_wrapped_networks_are_found_inside():
    module = network()
    wrapped = nn.DataParallel(module)
    assert unwrap(wrapped) is module
    MaskEnforcer(wrapped, mask())
    np.testing.assert_array_equal(module[2].weight.detach().numpy() != 0, mask()["2.weight"])
    only_child = nn.Sequential(nn.Linear(2, 2))
    assert unwrap(only_child) is only_child


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match=r"no parameter of that name"):
        MaskEnforcer(network(), Mask({"9.weight": np.ones((1, 1), dtype=bool)}))
    with pytest.raises(UsageError, match=r"shape"):
        MaskEnforcer(network(), Mask({"2.weight": np.ones((4, 4), dtype=bool)}))
