"""Scores of a ticket file for locking, and the paper's fidelity test of a lock (V1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ticketguard.data import Dataset
from ticketguard.errors import UsageError
from ticketguard.finding.importance import SCORES, Subject, score
from ticketguard.graph import scores
from ticketguard.graph.scores import Scores
from ticketguard.models import input_shape
from ticketguard.signatures.keymask import KeyMask, forge, merge, unlock
from ticketguard.tickets import Ticket, task_of
from ticketguard.training import EpochReport, Recipe, module_of, train
from ticketguard.training.batches import Normalizer

NEEDS_DATA = ("taylor", "hessian", "integrated-gradients")
BATCH = 256
MOST_SEED = 1 << 53
CRITERION = 1.0


def scores_of(ticket: Ticket, name: str, *, dataset: Dataset | None = None, seed: int = 0) -> Scores:
    """The score `name` of every edge of a ticket; `dataset` gives the batch that gradient scores look at.

    Raises `UsageError` for an unknown score, a gradient score without data, or a network nobody can build.
    """
    if name not in SCORES:
        raise UsageError(f"unknown score {name!r}: one of {', '.join(SCORES)}")
    if not 0 <= seed < MOST_SEED:
        raise UsageError(f"seed must be between 0 and 2^53, not {seed}")
    if name == "omp":
        return scores.magnitude(ticket.weights, ticket.mask)
    if name == "random":
        return scores.uniform(ticket.mask, np.random.default_rng(seed))
    if name in NEEDS_DATA and dataset is None:
        raise UsageError(f"score {name} looks at gradients on real images: give --data")
    if dataset is None:
        task = task_of(ticket)
        shape = input_shape(ticket.architecture) if task is None else task.shape
        images, labels = torch.zeros(2, *shape), torch.zeros(2, dtype=torch.int64)
    else:
        chosen = np.random.default_rng(seed).permutation(len(dataset.train_images))[:BATCH]
        pixels = torch.from_numpy(dataset.train_images[chosen]).permute(0, 2, 3, 1)
        images = Normalizer(dataset.mean, dataset.std, torch.device("cpu"))(pixels).float()
        labels = torch.from_numpy(dataset.train_labels[chosen])
    subject = Subject(module=module_of(ticket), mask=ticket.mask, images=images, labels=labels, seed=seed)
    try:
        with torch.no_grad():
            subject.module(images[:1])
    except RuntimeError as error:
        raise UsageError(f"the network does not take images of shape {tuple(images.shape[1:])}") from error
    return score(name, subject)


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Test accuracies in percent after retraining: the whole ticket, the locked one, the locked one with a forged key.

    `edges` is the key's number of edges. The lock holds when both of the others lose more than one point (the paper's
    criterion).
    """

    unlocked: float
    locked: float
    forged: float
    edges: int

    @property
    def holds(self) -> bool:
        """Whether locking and forging each cost more than `CRITERION` points."""
        return self.unlocked - max(self.locked, self.forged) > CRITERION

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {**asdict(self), "holds": self.holds, "criterion": CRITERION}


def fidelity(
    key: KeyMask,
    locked: Ticket,
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    threads: int | None = None,
    on_epoch: Callable[[EpochReport, str], Any] | None = None,
) -> Fidelity:
    """Retrain all three with the same recipe and seed. Raises `AuthenticityError` when key and ticket do not fit."""
    whole = unlock(key, locked)
    forged = merge(forge(locked, key.edges, np.random.default_rng([seed, 1])), locked)

    def accuracy(ticket: Ticket, title: str) -> float:
        def report(epoch: EpochReport) -> None:
            if on_epoch is not None:
                on_epoch(epoch, title)

        model = train(ticket, dataset, recipe, seed=seed, threads=threads, on_epoch=report)
        return float(model.provenance["training"]["accuracy"])

    return Fidelity(
        unlocked=accuracy(whole, "unlocked"),
        locked=accuracy(locked, "locked"),
        forged=accuracy(forged, "forged key"),
        edges=key.edges,
    )
