"""The bench: the signed model under test with all that its attacks and measurements need. It travels to other processes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ticketguard.attacks.base import Victim
from ticketguard.attacks.rebuild import network
from ticketguard.bundle import Bundle
from ticketguard.claims import registration
from ticketguard.claims.opening import Opening
from ticketguard.data import Dataset
from ticketguard.errors import FormatError, UsageError
from ticketguard.signatures.carriers import all_carriers
from ticketguard.signatures.edge import Carriers
from ticketguard.storage.atomic import sha256_of
from ticketguard.suite.plan import Cell
from ticketguard.tickets import Model, Ticket, Weights, read_ticket
from ticketguard.training import RECIPES, Recipe, evaluate
from ticketguard.training.devices import resolve_device, resolve_precision
from ticketguard.training.evaluate import require_fit
from ticketguard.triggers.plan import plan_of
from ticketguard.triggers.render import Triggers, render
from ticketguard.verify.verifier import Examiner

MOST_THREADS = 4096
# Names of two parts of a bench's digest.
RUNNING, UNSIGNED = "threads and device", "unsigned ticket"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A signed folder whose secret is open, the data, and how attacks run. Plain values only, so that it can be pickled.

    `payload`, `beacon`, `leaves`: the opening; `unsigned`: path of the ticket before signing, for controls; `threads`: CPU
    threads of every cell (results depend on them, engines do not); `device`: as in `training.fit`.
    """

    folder: Path
    payload: bytes
    beacon: bytes
    leaves: Mapping[int, bytes] = field(repr=False)
    dataset: Dataset
    unsigned: Path | None = None
    threads: int = 1
    device: str = "auto"

    def __getstate__(self) -> dict[str, object]:
        """Only the fields travel to another process; what was computed from them is computed there again."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @cached_property
    def opening(self) -> Opening:
        """The owner's opening; it was checked when the bench was made."""
        return Opening(
            registration=registration.parse(self.payload), payload=self.payload, beacon=self.beacon, leaves=self.leaves
        )

    @cached_property
    def model(self) -> Model:
        """The released signed model."""
        found = read_ticket(Bundle(self.folder).model)
        if not isinstance(found, Model):
            raise FormatError(
                f"{Bundle(self.folder).model}: a ticket, not a trained model: run ticketguard train first"
            )
        return found

    @cached_property
    def triggers(self) -> Triggers | None:
        """Trigger images and labels, rendered or the owner's own; None when the registration has none."""
        registered = self.opening.registration
        plan = plan_of(registered)
        return (
            None if plan is None else render(self.opening, plan, own_images=Bundle(self.folder).own_images(registered))
        )

    @cached_property
    def examiner(self) -> Examiner:
        """The verifier, aligned by the released ticket's frame."""
        return Examiner(self.opening, reference=lambda: Bundle(self.folder).reference(self.opening.registration))

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 over everything that a result depends on, apart from its cell."""
        return _joined(self._parts)

    @cached_property
    def digest_without_unsigned(self) -> str:
        """The `digest` of the same bench before it was given its `unsigned`."""
        return _joined({**self._parts, UNSIGNED: hashlib.sha256(b"").digest()})

    @property
    def settings(self) -> dict[str, str]:
        """What `digest` is over, by name, so that two that differ can be told apart: values, or hex SHA-256; "" for none."""
        found = {name: digest.hex() for name, digest in self._parts.items()}
        return {**found, UNSIGNED: found[UNSIGNED] if self.unsigned else "", RUNNING: ", ".join(self._running)}

    @property
    def _running(self) -> list[str]:
        """Threads, the device that is used (also for "auto"), and bf16 where it computes in that."""
        device = resolve_device(self.device)
        low = resolve_precision(recipe_of(self.model).precision, device) == torch.bfloat16
        return [str(self.threads), device.type, *(["bf16"] if low else [])]

    @cached_property
    def _parts(self) -> dict[str, bytes]:
        texts = {
            "registration": self.payload,
            "beacon": self.beacon,
            "data": self.dataset.digest.encode(),
            RUNNING: " ".join(self._running).encode(),
        }
        folder = Bundle(self.folder)
        files = {"model": folder.model, "ticket": folder.ticket, UNSIGNED: self.unsigned}
        return {
            **{name: hashlib.sha256(part).digest() for name, part in texts.items()},
            **{
                name: hashlib.sha256(b"").digest() if path is None else bytes.fromhex(sha256_of(path))
                for name, path in files.items()
            },
        }

    @cached_property
    def accuracy(self) -> float:
        """Test accuracy of the released model in percent: what the attacker starts from."""
        module = network(self.model.architecture, self.model.weights).to(resolve_device(self.device))
        data = self.dataset
        require_fit(module, data)
        return round(evaluate(module, data.test_images, data.test_labels, data), 4)

    def victim(self, cell: Cell) -> Victim:
        """What the attacker of one cell gets: the release, his own data, and for insiders the leaked leaves."""
        data = self.dataset
        if cell.images is not None and cell.images < len(data.train_images):
            data = data.subset(cell.images, seed=cell.seed)
        return Victim(
            model=self.model,
            dataset=data,
            symmetry=self.opening.registration.channel_groups,
            recipe=replace(recipe_of(self.model), epochs=cell.epochs, milestones=(), rewind_epoch=0, compiled=False),
            seed=cell.seed,
            rewind=self._rewind,
            leaked=self._carriers,
            unsigned=self._unsigned,
            device=self.device,
            threads=self.threads,
        )

    @cached_property
    def _rewind(self) -> Weights:
        return Bundle(self.folder).read_ticket().weights

    @cached_property
    def _carriers(self) -> dict[int, dict[str, Carriers]]:
        return all_carriers(self.opening)

    @cached_property
    def _unsigned(self) -> Ticket | None:
        return None if self.unsigned is None else read_ticket(self.unsigned)


def prepare(
    bundle: Bundle,
    passphrase: str,
    dataset: Dataset,
    *,
    unsigned: Path | None = None,
    threads: int = 1,
    device: str = "auto",
) -> Bench:
    """Open a signed folder for a suite. Raises as `Bundle.open` and `read_ticket` (of `unsigned`) do.

    Also `UsageError` when data and model do not fit, for an `unsigned` that this registration signed, and for threads or a
    device that cannot be.
    """
    opening = bundle.open(passphrase)
    bench = Bench(
        folder=bundle.folder,
        payload=opening.payload,
        beacon=opening.beacon,
        leaves=dict(opening.leaves),
        dataset=dataset,
        unsigned=unsigned,
        threads=threads,
        device=device,
    )
    classes = opening.registration.classes
    if classes is not None and classes != dataset.classes:
        raise UsageError(f"data set {dataset.name} has other classes than this model was registered with")
    # What every cell would stumble over is told once, before the first.
    if not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"threads must be at least 1 and at most {MOST_THREADS}, not {threads}")
    resolve_device(device)
    if unsigned is not None:
        note = read_ticket(unsigned).provenance.get("signed")
        if isinstance(note, Mapping) and note.get("registration") == hashlib.sha256(opening.payload).hexdigest():
            raise UsageError(f"{unsigned}: signed by this registration; --unsigned takes the ticket before signing")
    return bench


def _joined(parts: Mapping[str, bytes]) -> str:
    return hashlib.sha256(b"".join(parts.values())).hexdigest()


def recipe_of(model: Model) -> Recipe:
    """The recipe that a model says it was trained with, or the short one."""
    record: Any = model.provenance.get("training")
    fields = record.get("recipe") if isinstance(record, Mapping) else None
    if not isinstance(fields, Mapping):
        return RECIPES["short"]
    try:
        return Recipe(**{**fields, "milestones": tuple(fields.get("milestones", ()))})
    except TypeError as problem:
        raise FormatError(f"the model's training record is not a recipe: {problem}") from problem
