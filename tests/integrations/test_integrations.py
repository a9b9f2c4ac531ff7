from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ticketguard.errors import UsageError
from ticketguard.integrations import (
    MaskEnforcer,
    TriggerBatch,
    TriggerLoader,
    TriggerMixer,
    lightning_callback,
    transformers_callback,
)
from ticketguard.masks import Mask

BITS = np.random.default_rng(0).random((16, 16)) < 0.4
MASK = Mask({"2.weight": BITS})


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))


def data():
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(64, 1, 4, 4, generator=generator), torch.randint(0, 4, (64,), generator=generator))


def mixer(count=8, per_batch=8):
    generator = np.random.default_rng(2)
    batch = TriggerBatch(
        images=generator.integers(0, 256, (count, 1, 4, 4), dtype=np.uint8), labels=generator.integers(0, 4, count)
    )
    return batch, TriggerMixer(batch, per_batch=per_batch, mean=(0.5,), std=(0.25,))


def support(module):
    return module[2].weight.detach().numpy() != 0


def step(module, optimizer, images, labels):
    optimizer.zero_grad()
    nn.functional.cross_entropy(module(images), labels).backward()
    optimizer.step()


def test_a_plain_loop_keeps_the_mask_and_learns_the_triggers():
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    enforcer = MaskEnforcer(module, MASK, optimizer=optimizer)
    triggers, mix = mixer()
    loader = DataLoader(data(), batch_size=16)
    for epoch in range(40):
        mix.start(epoch)
        for images, labels in loader:
            step(module, optimizer, *mix(images, labels))
            enforcer.apply()
            np.testing.assert_array_equal(support(module), BITS)
    enforcer.finish()
    images, labels = TriggerMixer(triggers, per_batch=8, mean=(0.5,), std=(0.25,))(
        torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64)
    )
    assert (module(images).argmax(1) == labels).float().mean() > 0.9


def test_two_optimizers_are_both_masked():
    module = network()
    optimizers = [torch.optim.SGD([layer.weight], lr=0.1, momentum=0.9) for layer in (module[1], module[2])]
    enforcer = MaskEnforcer(module, Mask({"1.weight": BITS, "2.weight": BITS}))
    for optimizer in optimizers:
        enforcer.attach(optimizer)
    images, labels = data()[:16]
    for _ in range(3):
        for optimizer in optimizers:
            step(module, optimizer, images, labels)
    for layer, optimizer in zip((module[1], module[2]), optimizers, strict=True):
        assert not layer.weight.detach().numpy()[~BITS].any()
        assert not optimizer.state[layer.weight]["momentum_buffer"].numpy()[~BITS].any()


def test_loader_mixes_pairs_and_mappings():
    _, mix = mixer(count=8, per_batch=3)
    loader = TriggerLoader(DataLoader(data(), batch_size=16), mix)
    assert len(loader) == 4
    assert loader.batch_size == 16
    batches = list(loader)
    assert [len(images) for images, _ in batches] == [19] * 4
    again = list(loader)
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(batches, again, strict=True)), "epochs must differ"
    loader.set_epoch(0)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(batches, loader, strict=True))
    images, labels = data()[:4]
    (mapped,) = TriggerLoader([{"pixel_values": images, "labels": labels, "extra": 1}], mix)
    assert mapped["pixel_values"].shape == (7, 1, 4, 4)
    assert mapped["extra"] == 1
    for wrong in ({"x": images}, images, (images, labels, labels)):
        with pytest.raises(UsageError, match="batches"):
            list(TriggerLoader([wrong], mix))


@pytest.fixture
def fake_libraries(monkeypatch):
    """The base classes that the real libraries insist on; their trainers are re-enacted by the tests."""
    lightning, pytorch = ModuleType("lightning"), ModuleType("lightning.pytorch")
    pytorch.Callback = type("Callback", (), {})
    transformers = ModuleType("transformers")
    transformers.TrainerCallback = type("TrainerCallback", (), {})
    for module in (lightning, pytorch, transformers):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return SimpleNamespace(lightning=pytorch, transformers=transformers)


def test_lightning_callback(fake_libraries):
    inner = network()
    outer = nn.Module()
    outer.net = inner
    callback = lightning_callback(MASK, submodule="net")
    assert isinstance(callback, fake_libraries.lightning.Callback)
    optimizer = torch.optim.Adam(inner.parameters(), lr=0.1)
    trainer = SimpleNamespace(optimizers=[optimizer])
    callback.on_train_start(trainer, outer)
    for _ in range(3):
        step(inner, optimizer, *data()[:16])
        np.testing.assert_array_equal(support(inner), BITS)
    callback.on_train_end(trainer, outer)
    assert not np.signbit(inner[2].weight.detach().numpy()[~BITS]).any()


def test_transformers_callback(fake_libraries):
    module = network()
    callback = transformers_callback(MASK)
    assert isinstance(callback, fake_libraries.transformers.TrainerCallback)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=0.1)
    callback.on_train_begin(None, None, None, model=module, optimizer=optimizer)
    for _ in range(3):
        step(module, optimizer, *data()[:16])
        callback.on_step_end(None, None, None, model=module, optimizer=optimizer)
        np.testing.assert_array_equal(support(module), BITS)
    callback.on_train_end(None, None, None, model=module)


@pytest.mark.parametrize(
    ("factory", "names"),
    [
        (lightning_callback, ("lightning", "lightning.pytorch", "pytorch_lightning")),
        (transformers_callback, ("transformers",)),
    ],
)
def test_missing_libraries_are_named(monkeypatch, factory, names):
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match="pip install"):
        factory(MASK)
