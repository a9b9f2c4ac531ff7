"""Training a ticket: its rewind weights under its mask, from its rewind epoch to the recipe's end."""

from __future__ import annotations

from typing import Any

from ticketguard.data import Dataset
from ticketguard.models import build
from ticketguard.tickets import Model, Ticket, trained
from ticketguard.training.evaluate import evaluate, predict
from ticketguard.training.loop import OnEpoch, fit
from ticketguard.training.mixing import TriggerBatch
from ticketguard.training.recipe import Recipe
from ticketguard.training.weights import TrainState, load_weights


def train(
    ticket: Ticket,
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    triggers: TriggerBatch | None = None,
    state: TrainState | None = None,
    device: str = "auto",
    threads: int | None = None,
    on_epoch: OnEpoch | None = None,
) -> Model:
    """The model that a ticket becomes. Training starts at the recipe's rewind epoch, as in the rounds that found the ticket.

    The model's provenance gains `training`: recipe, seed, data set, test accuracy in percent, and `trigger_accuracy` when
    `triggers` were mixed in. `state` resumes from a checkpoint. Raises as `models.build` and `fit` do.
    """
    module = build(ticket.architecture)
    start = state or TrainState(weights=dict(ticket.weights), epoch=recipe.rewind_epoch)
    final = fit(
        module, dataset, recipe, seed=seed, mask=ticket.mask, triggers=triggers, state=start, device=device,
        threads=threads, on_epoch=on_epoch,
    )  # fmt: skip
    record: dict[str, Any] = {
        "recipe": recipe.to_json(),
        "seed": seed,
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "accuracy": round(
            evaluate(module, dataset.test_images, dataset.test_labels, dataset, precision=recipe.precision), 4
        ),
    }
    if triggers is not None:
        agreed = predict(module, triggers.images, dataset, precision=recipe.precision) == triggers.labels
        record["trigger_accuracy"] = round(100.0 * float(agreed.mean()), 4)
    return trained(ticket, final.weights, {"training": record})


def module_of(ticket: Ticket) -> Any:
    """The network of a ticket or model with its weights loaded, on the CPU, in evaluation mode."""
    module = build(ticket.architecture)
    load_weights(module, ticket.weights)
    return module.eval()
