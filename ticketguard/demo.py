"""The whole story on real handwritten digits: find, sign, train, attack, verify. Nothing is faked or cached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ticketguard import api
from ticketguard.attacks.base import Victim
from ticketguard.attacks.rebuild import module_of
from ticketguard.attacks.registry import make
from ticketguard.claims.keys import SecretKey, save_public, save_secret
from ticketguard.data import Dataset, load
from ticketguard.evidence import Verdict
from ticketguard.finding import FindConfig, find, rate_for
from ticketguard.models import fitted
from ticketguard.storage.atomic import make_folder
from ticketguard.storage.tensors import write_tensors
from ticketguard.tickets import Model
from ticketguard.training import RECIPES, evaluate, predict
from ticketguard.training import module_of as module_of_ticket

DENSITY = 0.2
ROUNDS = 3
# name of the copy, attack, words for the table
ATTACKS = (
    ("pruned.safetensors", "prune-magnitude@0.5", "copy, half of it pruned"),
    ("permuted.safetensors", "permute+quantize@8", "copy, permuted and int8"),
    ("finetuned.safetensors", "finetune", "copy, fine-tuned"),
)
FINETUNE_EPOCHS = 4

Say = Callable[[str], Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the closing table. `accuracy` in percent; `verdict` is None for a model that nobody is accused of."""

    suspect: str
    accuracy: float | None
    verdict: Verdict | None

    def to_json(self) -> dict[str, Any]:
        """`suspect`, `accuracy`, `verdict`, `bits`: evidence of the best test, null where nothing was tested."""
        best = self.verdict.best if self.verdict else None
        return {
            "suspect": self.suspect,
            "accuracy": None if self.accuracy is None else round(self.accuracy, 2),
            "verdict": self.verdict.decision if self.verdict else None,
            "bits": None if best is None else round(best.bits, 1),
        }


def demo(folder: Path, passphrase: str, *, seed: int = 0, say: Say = str) -> list[Row]:
    """Run the story in `folder` and return the rows of its closing table. `say` hears what is going on.

    Raises `StorageError` when the folder cannot be written and `DataError` when scikit-learn is missing.
    """
    dataset = load("digits")
    recipe = RECIPES["digits"]
    config = FindConfig(
        architecture=fitted("convnet", shape=dataset.shape, classes=len(dataset.classes)),
        recipe=recipe,
        rounds=ROUNDS,
        rate=rate_for(DENSITY, ROUNDS),
        seed=seed,
    )
    half = replace(recipe, epochs=recipe.epochs // 2)
    other = replace(config, rounds=1, rate=1 - DENSITY, seed=seed + 1000, recipe=half)
    # Whatever may be wrong with the request has been said by now: nobody finds an empty folder.
    make_folder(folder)
    say(f"find    iterative magnitude pruning on {len(dataset.train_images)} handwritten digits, {ROUNDS} rounds")
    found = find(config, dataset, folder / "run")
    say(f"        {found.ticket.mask.kept} edges kept ({found.ticket.mask.density:.0%}), winning: {found.winning}")

    key = SecretKey.generate()
    save_secret(folder / "owner.key", key, passphrase)
    save_public(folder / "owner.pub", key.public)
    rewind = api.read_rewind(folder / "run" / "rewind.safetensors")
    signed = api.sign(found.ticket, key, owner="Example Lab", rewind=rewind)
    bundle = signed.write(folder / "signed", passphrase)
    say(f"sign    {signed.embedded.moved} edges moved inside their cells, {signed.embedded.informative} bits")

    say("train   the signed ticket, with its 256 triggers in the batches")
    model = api.train(signed.ticket, dataset, recipe=recipe, opening=signed.opening, seed=seed)
    bundle.write_model(model)
    say("claim   the owner signs a claim over the trained model")
    bundle.write_claim(key)

    accuracy = _accuracy(model, dataset)
    rows = [
        Row(suspect="dense model", accuracy=found.dense_accuracy, verdict=None),
        Row(suspect="ticket, not signed", accuracy=found.ticket_accuracy, verdict=None),
        _tested("owner's model", model, signed, accuracy),
        _asked("owner's model, asked only", model, signed, accuracy, dataset),
    ]
    say("attack  three copies")
    symmetry, _ = api.symmetry_for(signed.ticket)
    short = replace(recipe, epochs=FINETUNE_EPOCHS, rewind_epoch=0)
    victim = Victim(model=model, dataset=dataset, symmetry=symmetry, recipe=short)
    rows += [_attacked(words, attack, victim, signed, dataset, folder / file) for file, attack, words in ATTACKS]
    say("control an independent ticket, and the owner's model under a wrong key")
    stranger = find(other, dataset).model
    wrong = api.sign(found.ticket, SecretKey.generate(), owner="Somebody Else", rewind=rewind)
    return [
        *rows,
        _tested("independent model", stranger, signed, _accuracy(stranger, dataset)),
        _tested("owner's model, wrong key", model, wrong, accuracy),
    ]


def _tested(suspect: str, model: Model, signed: api.Signed, accuracy: float) -> Row:
    """A model, by its weights."""
    return Row(suspect=suspect, accuracy=accuracy, verdict=api.verify(model.weights, signed=signed))


def _asked(suspect: str, model: Model, signed: api.Signed, accuracy: float, dataset: Dataset) -> Row:
    """A model, by its answers alone."""
    module = module_of_ticket(model)
    answers = api.verify(signed=signed, predictions=lambda images: np.asarray(predict(module, images, dataset)))
    return Row(suspect=suspect, accuracy=accuracy, verdict=answers)


def _attacked(suspect: str, attack: str, victim: Victim, signed: api.Signed, dataset: Dataset, path: Path) -> Row:
    """An attacked copy: written to `path`, measured, tested."""
    attacked = make(attack).run(victim)
    write_tensors(path, {name: np.asarray(array) for name, array in attacked.weights.items()}, {})
    accuracy = evaluate(module_of(attacked), dataset.test_images, dataset.test_labels, dataset)
    return Row(suspect=suspect, accuracy=accuracy, verdict=api.verify(path, signed=signed))


def _accuracy(model: Model, dataset: Dataset) -> float:
    return evaluate(module_of_ticket(model), dataset.test_images, dataset.test_labels, dataset)
