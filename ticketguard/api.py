"""Commands as functions of values: `sign`, `train`, `verify`, `scan`. `find` is in `finding`, `run_suite` in `suite`.

Everything that needs torch is imported when it is used: verifying never loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ticketguard import signing
from ticketguard.bundle import Bundle, write_registered
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.opening import Opening
from ticketguard.errors import TicketguardError, UsageError
from ticketguard.evidence import Verdict
from ticketguard.graph.groups import Symmetry
from ticketguard.probe.adapters import input_of, prepare
from ticketguard.signatures.capacity import DEFAULT_LEAVES
from ticketguard.signing import Embedded, Registered
from ticketguard.storage.checkpoint import weights_among
from ticketguard.storage.suspects import read_any
from ticketguard.tickets import Model, Ticket, Weights, task_of, write_ticket
from ticketguard.triggers.labels import integers
from ticketguard.triggers.plan import TriggerPlan, make_plan, plan_of
from ticketguard.triggers.render import Triggers, render
from ticketguard.verify.verifier import Align, Examiner

if TYPE_CHECKING:
    from ticketguard.data import Dataset
    from ticketguard.training import EpochReport, Recipe, TriggerBatch

Predict = Callable[[NDArray[np.uint8]], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A signed ticket with everything that belongs to it. `notes` say what the signature will not survive.

    `write(folder, passphrase)` makes the signed folder that the commands work on.
    """

    registered: Registered
    embedded: Embedded
    notes: tuple[str, ...] = ()

    @property
    def ticket(self) -> Ticket:
        """The signed ticket."""
        return self.embedded.ticket

    @property
    def opening(self) -> Opening:
        """The owner's opening: what `verify` needs."""
        return self.registered.opening

    def write(self, folder: Path | str, passphrase: str) -> Bundle:
        """Write ticket, registration and encrypted secret to `folder`, which must not hold a signature yet."""
        bundle = Bundle(folder)
        write_registered(bundle, self.registered, passphrase)
        write_ticket(bundle.ticket, self.ticket)
        return bundle


def symmetry_for(ticket: Ticket) -> tuple[Symmetry | None, tuple[str, ...]]:
    """The symmetry groups of a ticket's architecture, or None, and notes on what alignment cannot undo."""
    if ticket.architecture.name is None:
        return None, (
            "the architecture is unknown: a permutation of channels cannot be undone; sign with --arch to change that",
        )
    import torch

    from ticketguard.models import input_shape, outline
    from ticketguard.tracing import symmetry_of

    # A network that is named but cannot be built is a mistake to mend; one that cannot be traced signs without alignment.
    module = outline(ticket.architecture)
    device = next((parameter.device for parameter in module.parameters()), None)
    task = task_of(ticket)
    try:
        shape = input_shape(ticket.architecture) if task is None else task.shape
        symmetry = symmetry_of(module, torch.zeros(1, *shape, device=device))
    except TicketguardError as problem:
        return None, (str(problem),)
    return symmetry, symmetry.notes


def trigger_plan(
    ticket: Ticket,
    *,
    leaves: int,
    own_images: NDArray[np.uint8] | None = None,
    service_input: Mapping[str, Any] | None = None,
) -> TriggerPlan | None:
    """The trigger plan of a ticket whose provenance names classes and input; None when it does not.

    `service_input` is committed with it: how services take images, where that is not how the model was trained (see
    `probe.adapters.Input`). Raises `UsageError` when it makes no sense.
    """
    task = task_of(ticket)
    if task is None or not task.classes:
        return None
    declared = {} if service_input is None else {"input": dict(service_input)}
    plan = make_plan(
        task.shape,
        task.classes,
        leaves=leaves,
        bar_bits=signing.rule_of(leaves).bar_bits,
        preprocess={"mean": list(task.mean), "std": list(task.std), **declared},
        own_images=own_images,
    )
    # Prepared once here: what no probe could use must not be committed.
    prepare(np.zeros(plan.shape, dtype=np.uint8), input_of(plan), plan)
    return plan


def register(
    ticket: Ticket, key: SecretKey, *, owner: str, triggers: bool = True, leaves: int = DEFAULT_LEAVES, **options: Any
) -> tuple[Registered, tuple[str, ...]]:
    """Trace, plan and register a ticket without embedding anything yet.

    Options: `own_images` and `service_input` of `trigger_plan`, and those of `signing.register`.
    """
    symmetry, notes = symmetry_for(ticket)
    chosen = {name: options.pop(name, None) for name in ("own_images", "service_input")}
    unused = [name for name, value in chosen.items() if value is not None]
    if unused and not triggers:
        raise UsageError(f"{' and '.join(unused)} belong to triggers, and none are wanted")
    plan = trigger_plan(ticket, leaves=leaves, **chosen) if triggers else None
    if triggers and plan is None:
        notes = (*notes, "no triggers: the ticket does not say which classes and input its task has")
    registered = signing.register(
        ticket,
        key,
        owner=owner,
        leaves=leaves,
        symmetry=None if symmetry is None else symmetry.to_json(),
        leave_out=() if symmetry is None else symmetry.leave_out,
        classes=None if plan is None else plan.classes,
        triggers=None if plan is None else plan.to_json(),
        carriers=None if plan is None else plan.digests,
        **options,
    )
    return registered, notes


def sign(
    ticket: Ticket, key: SecretKey, *, owner: str, rewind: Weights | None = None, triggers: bool = True, **options: Any
) -> Signed:
    """Register and embed: see `signing.register` for the options (`leaves`, `spend`, `block`, ...).

    `rewind`: dense rewind weights, from which new edges start; without them they start from values of the layer's own spread.
    """
    registered, notes = register(ticket, key, owner=owner, triggers=triggers, **options)
    embedded = signing.embed(ticket, registered.opening, rewind=rewind)
    return Signed(registered=registered, embedded=embedded, notes=notes)


def read_rewind(path: Path | str) -> dict[str, NDArray[Any]]:
    """Dense rewind weights by parameter name: of a state dict, or of the checkpoint that `find` leaves beside its ticket.

    The momentum that a checkpoint also holds is left out.
    """
    tensors = read_any(Path(path))
    return {name: np.asarray(tensors[stored]) for name, stored in weights_among(tensors).items()}


def triggers_of(opening: Opening, *, own_images: NDArray[np.uint8] | None = None) -> Triggers | None:
    """Trigger images and target labels of the revealed leaves; None when the registration has none."""
    plan = plan_of(opening.registration)
    return None if plan is None else render(opening, plan, own_images=own_images)


def train(
    ticket: Ticket,
    dataset: Dataset,
    *,
    recipe: Recipe,
    opening: Opening | None = None,
    seed: int = 0,
    on_epoch: Callable[[EpochReport], Any] | None = None,
    device: str = "auto",
    threads: int | None = None,
    own_images: NDArray[np.uint8] | None = None,
) -> Model:
    """Train a ticket; with an `opening`, its triggers join every batch (`own_images` when those are registered)."""
    from ticketguard.training import TriggerBatch
    from ticketguard.training import train as run

    found = None if opening is None else triggers_of(opening, own_images=own_images)
    batch: TriggerBatch | None = None if found is None else TriggerBatch(images=found.images, labels=found.labels)
    return run(ticket, dataset, recipe, seed=seed, triggers=batch, on_epoch=on_epoch, device=device, threads=threads)


def verify(
    suspect: Path | str | Weights | None = None,
    *,
    signed: Path | str | Bundle | Signed,
    passphrase: str | None = None,
    predictions: NDArray[np.int64] | Sequence[int] | Predict | None = None,
    own_images: NDArray[np.uint8] | None = None,
    align: Align = "auto",
    supplied_by: str = "",
) -> Verdict:
    """Test one suspect: a path or named weights, `predictions` on the triggers (labels, -1 for none,
    or a callable from images), or both.

    `signed` is a signed folder (then `passphrase` opens its secret) or the value of `sign`. A callable is asked about
    `own_images` when those are registered; by default they come from the signed folder. Raises `DataError` for labels that are
    not integers.
    """
    examiner = examiner_of(signed, passphrase)
    weights = read_any(Path(suspect)) if isinstance(suspect, Path | str) else suspect
    if weights is None and predictions is None:
        raise UsageError("nothing to verify: give a suspect or its predictions")
    if callable(predictions):
        if own_images is None and not isinstance(signed, Signed):
            own_images = _bundle(signed).own_images(examiner.opening.registration)
        found = triggers_of(examiner.opening, own_images=own_images)
        if found is None:
            raise UsageError("this registration has no triggers: a model cannot be tested by its predictions")
        predictions = predictions(found.images)
    labels = None if predictions is None else integers(predictions, where="predictions")
    return examiner.verify(weights, predictions=labels, align=align, supplied_by=supplied_by)


def examiner_of(signed: Path | str | Bundle | Signed, passphrase: str | None = None) -> Examiner:
    """An examiner for many suspects against one signature."""
    if isinstance(signed, Signed):
        from ticketguard.claims.registration import frame_counts

        layers = dict(signed.registered.registration.layers)
        return Examiner(signed.opening, reference=partial(frame_counts, signed.ticket.mask, layers))
    bundle = _bundle(signed)
    if passphrase is None:
        raise UsageError(f"{bundle.folder}: a passphrase is needed to open the secret")
    opening = bundle.open(passphrase)
    return Examiner(opening, reference=partial(bundle.reference, opening.registration))


def _bundle(signed: Path | str | Bundle) -> Bundle:
    return signed if isinstance(signed, Bundle) else Bundle(Path(signed))


def scan(
    examiner: Examiner, suspects: Sequence[Path | str], *, align: Align = "auto", jobs: int = 1
) -> dict[Path, Verdict | TicketguardError]:
    """Verify many suspects against one signature, in `jobs` processes: see `verify.scan.scan`."""
    from ticketguard.verify.scan import scan as run

    return run(examiner, [Path(suspect) for suspect in suspects], align=align, jobs=jobs)
