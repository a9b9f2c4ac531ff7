"""The paper's attacks on a small model that carries a QR code."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ticketguard.attacks import fine_pruning
from ticketguard.attacks.add_on import Fake2
from ticketguard.attacks.base import Victim
from ticketguard.attacks.fake1 import Fake1
from ticketguard.attacks.fake3 import Fake3
from ticketguard.attacks.nad import _Maps
from ticketguard.attacks.transfer import Transfer
from ticketguard.data import load
from ticketguard.errors import FormatError, UsageError
from ticketguard.masks import Mask
from ticketguard.models import build, prunable
from ticketguard.signatures import qr
from ticketguard.signatures.labels import label, place_of
from ticketguard.tickets import Architecture, Model
from ticketguard.training import RECIPES, weights_of

TEXT = "0123456789ab"


@pytest.fixture(scope="module")
def victim():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    architecture = Architecture(name="convnet", arguments={"classes": 10})
    module = build(architecture)
    weights = weights_of(module)
    mask = Mask({name: rng.random(weights[name].shape) < 0.2 for name in prunable(module)})
    weights |= {name: np.where(bits, weights[name], 0).astype(np.float32) for name, bits in mask.items()}
    model = Model(architecture=architecture, weights=weights, mask=mask)
    labelled, _ = label(model, TEXT, generator=rng)
    data = load("digits")
    small = replace(
        data,
        train_images=data.train_images[:128], train_labels=data.train_labels[:128],
        test_images=data.test_images[:32], test_labels=data.test_labels[:32],
    )  # fmt: skip
    recipe = replace(RECIPES["digits"], epochs=1, rewind_epoch=0, evaluate_every=1)
    return Victim(model=labelled, dataset=small, recipe=recipe, seed=5, device="cpu")


def support(weights, names):
    return {name: np.asarray(weights[name]) != 0 for name in names}


def test_the_victim_shows_its_code(victim):
    assert qr.read(victim.model.weights, place_of(victim.model)).text == TEXT


def test_fake1_replaces_exactly_the_keys_edges(victim):
    attacked = Fake1(strength=0.1).run(victim)
    before, after = victim.model.mask, support(attacked.weights, victim.names)
    lost = sum(int((before[name] & ~after[name]).sum()) for name in before)
    gained = sum(int((after[name] & ~before[name]).sum()) for name in before)
    key = round(0.1 * before.kept)
    # A forged position may happen to be one of the key's own; both counts fall together then.
    assert lost == gained
    assert 0.95 * key < gained <= key
    assert attacked.epochs == 1


def test_fake2_adds_the_stated_share(victim):
    attacked = Fake2(strength=0.05).run(victim)
    before, after = victim.model.mask, support(attacked.weights, victim.names)
    for name, bits in before.items():
        assert (after[name] & bits).sum() == bits.sum()
        assert (after[name] & ~bits).sum() == round(0.05 * (~bits).sum())


def test_fake3_writes_another_code_and_keeps_the_density(victim):
    attacked = Fake3().run(victim)
    reading = qr.read(attacked.weights, place_of(victim.model))
    assert reading.text not in (None, TEXT)
    for name, bits in victim.model.mask.items():
        assert (attacked.weights[name] != 0).sum() == bits.sum()
    assert qr.read(victim.model.weights, place_of(victim.model)).text == TEXT


def test_fake3_needs_a_code(victim):
    bare = replace(victim, model=replace(victim.model, provenance={}))
    with pytest.raises(FormatError, match="no QR code"):
        Fake3().run(bare)


def test_transfer_swaps_the_classifier_and_keeps_the_topology(victim):
    attacked = Transfer(strength=0.01).run(victim)
    assert attacked.architecture.arguments["classes"] == 2
    assert attacked.weights["fc.weight"].shape[0] == 2
    after = support(attacked.weights, victim.names)
    assert all(not (after[name] & ~bits).any() for name, bits in victim.model.mask.items())
    assert any(not np.array_equal(attacked.weights[name], victim.model.weights[name]) for name in victim.names)


def test_transfer_takes_another_data_set_of_the_same_shape(victim, tmp_path):
    other = Transfer(strength=0.01, data="digits").run(victim)
    assert other.weights["fc.weight"].shape[0] == 10
    with pytest.raises(UsageError, match="have shape"):
        Transfer(strength=0.01, data="digits").run(
            replace(victim, dataset=replace(
                victim.dataset,
                train_images=np.zeros((2, 1, 4, 4), np.uint8), train_labels=np.zeros(2, np.int64),
                test_images=np.zeros((2, 1, 4, 4), np.uint8), test_labels=np.zeros(2, np.int64),
            ))
        )  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (torch.nn.Conv1d(2, 3, 3), (5, 2, 8)),
        (torch.nn.Conv2d(2, 3, 3), (5, 2, 4, 5)),
        (torch.nn.Conv3d(2, 3, 1), (5, 2, 1, 2, 3)),
    ],
)
def test_attention_is_over_places_of_convolutions_of_any_rank(layer, shape):
    maps = _Maps(layer)
    places = layer(torch.randn(shape))[0, 0].numel()
    assert [found.shape for found in maps.take()] == [(5, places)]


def test_silent_units_of_a_convolution_over_a_line_are_its_channels(victim, monkeypatch):
    module = torch.nn.Sequential(
        torch.nn.Flatten(2), torch.nn.Conv1d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 62, 10)
    )
    weights = weights_of(module)
    mask = Mask({name: weights[name] != 0 for name in ("1.weight", "3.weight")})
    model = Model(architecture=Architecture(), weights=weights, mask=mask)
    monkeypatch.setattr(fine_pruning, "network", lambda *_: module)
    found = fine_pruning.FinePruning(strength=0.5).responses(replace(victim, model=model))
    assert {name: response.shape for name, response in found.items()} == {"1.weight": (4,), "3.weight": (10,)}
