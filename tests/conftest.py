"""A tiny signed model that tests of several parts share."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings

# The same examples in every run: what fails in one place fails in all. Search for new ones with --hypothesis-profile=default.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

# Files whose tests take minutes: begun last, they would run on one core while the others idle.
LONG = ("test_docs.py", "test_false_claims.py", "test_licensing.py", "test_run.py", "test_wheel.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, then those of many tests: files stay whole, and pytest-xdist hands them out in this order."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.name not in LONG, -tests[item.path], str(item.path)))


@pytest.fixture(scope="session")
def tiny_data():
    """160 training and 80 test images of 8 x 8 pixels in four classes that bright quadrants tell apart."""
    from ticketguard.data import Dataset

    rng = np.random.default_rng(5)
    labels = rng.integers(0, 4, 240)
    images = rng.integers(0, 80, (240, 1, 8, 8))
    for image, label in zip(images, labels, strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[0, row : row + 4, column : column + 4] += 120
    return Dataset(
        name="quadrants",
        train_images=images[:160].astype(np.uint8),
        train_labels=labels[:160],
        test_images=images[160:].astype(np.uint8),
        test_labels=labels[160:],
        classes=("a", "b", "c", "d"),
        mean=(0.27,),
        std=(0.25,),
    )


@pytest.fixture(scope="session")
def tiny_signed(tiny_data, tmp_path_factory):
    """A convnet's random ticket on `tiny_data`, signed and trained: folder, passphrase, unsigned ticket, and the values."""
    import torch

    from ticketguard import api
    from ticketguard.claims.keys import SecretKey
    from ticketguard.masks import Mask
    from ticketguard.models import build, fitted, prunable
    from ticketguard.tickets import Ticket, write_ticket
    from ticketguard.training import RECIPES, weights_of

    architecture = fitted("convnet", shape=tiny_data.shape, classes=4)
    torch.manual_seed(0)
    module = build(architecture)
    rewind = weights_of(module)
    rng = np.random.default_rng(0)
    mask = Mask({name: rng.random(rewind[name].shape) < 0.1 for name in prunable(module)})
    weights = {**rewind, **{name: (rewind[name] * bits).astype(np.float32) for name, bits in mask.items()}}
    described = {"shape": [1, 8, 8], "mean": [0.27], "std": [0.25]}
    ticket = Ticket(
        architecture=architecture,
        weights=weights,
        mask=mask,
        provenance={"classes": list(tiny_data.classes), "input": described},
    )
    signed = api.sign(
        ticket, SecretKey.from_seed(bytes(32)), owner="tests", rewind=rewind, master=bytes(32), nonce=bytes(32)
    )
    recipe = replace(RECIPES["digits"], epochs=12, batch_size=32, lr=0.05, evaluate_every=12, triggers_per_batch=24)
    model = api.train(signed.ticket, tiny_data, recipe=recipe, opening=signed.opening, threads=1, device="cpu")
    root: Path = tmp_path_factory.mktemp("tiny")
    # The vault's work factor is the same for every secret: one folder for all tests keeps it to one derivation each.
    bundle = signed.write(root / "signed", "tests")
    write_ticket(bundle.model, model)
    unsigned = root / "unsigned.safetensors"
    write_ticket(unsigned, ticket)
    return SimpleNamespace(
        bundle=bundle, passphrase="tests", unsigned=unsigned, ticket=ticket, model=model, signed=signed, data=tiny_data
    )
