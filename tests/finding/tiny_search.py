"""A search that takes a fraction of a second, as values and as a program: `python tiny_search.py DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ticketguard.data import Dataset
from ticketguard.finding import FindConfig, find
from ticketguard.models import fitted
from ticketguard.training import Recipe


def dataset() -> Dataset:
    generator = np.random.default_rng(7)
    patterns = generator.integers(0, 256, (4, 1, 4, 4))

    def split(count):
        labels = np.arange(count) % 4
        return np.clip(patterns[labels] + generator.integers(-60, 61, (count, 1, 4, 4)), 0, 255).astype(
            np.uint8
        ), labels

    train, test = split(96), split(40)
    return Dataset(
        name="blobs", train_images=train[0], train_labels=train[1], test_images=test[0], test_labels=test[1],
        classes=("a", "b", "c", "d"), mean=(0.5,), std=(0.25,), augment="shift",
    )  # fmt: skip


def config(**changes) -> FindConfig:
    fields = {
        "architecture": fitted("mlp", shape=(1, 4, 4), classes=4, arguments={"width": 16}),
        "recipe": Recipe(epochs=3, batch_size=32, lr=0.1, schedule="cosine", rewind_epoch=1),
        "rounds": 2,
        "rate": 0.5,
        "seed": 1,
    }
    return FindConfig(**{**fields, **changes})


if __name__ == "__main__":
    find(
        config(rounds=20, rate=0.2),
        dataset(),
        Path(sys.argv[1]),
        threads=1,
        on_progress=lambda progress: print("epoch", flush=True),
    )
