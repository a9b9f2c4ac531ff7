"""Iterative magnitude pruning with late rewinding (Frankle et al. 2020), resumable at any moment.

Train the dense network; then, round by round, keep exactly the k largest weights of the last trained network over all
prunable layers together, rewind the survivors to an early epoch, and train again.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ticketguard.data import Dataset
from ticketguard.errors import UsageError
from ticketguard.finding.config import FindConfig, FindProgress, FindResult, Round, last_accepted
from ticketguard.finding.rundir import RunDirectory
from ticketguard.finding.schedule import accepts, kept_after, next_rate, specification
from ticketguard.masks import Mask, keep_largest, zeroed
from ticketguard.models import build, prunable
from ticketguard.tickets import Model, Ticket
from ticketguard.training import EpochReport, TrainState, distributed, evaluate, fit, weights_of
from ticketguard.training.devices import default_threads, resolve_device, resolve_precision, settings
from ticketguard.training.mixing import derive

OnProgress = Callable[[FindProgress], None]


def find(
    config: FindConfig,
    dataset: Dataset,
    directory: Path | str | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> FindResult:
    """Find a ticket, going on from `directory` when a search of the same configuration was interrupted there.

    Without a directory nothing stays on disk. Files written: see `ticketguard.finding.rundir`. Under torchrun all processes
    train together, in a directory that all of them see, and `on_progress` is called on rank 0 only. Raises `UsageError` for a
    directory of another search or where one runs, for layers the network lacks, and when training diverges.
    """
    with distributed.group():
        place = None if directory is None else Path(directory)
        return _find(config, dataset, place, device=device, threads=threads, on_progress=on_progress)


def _find(
    config: FindConfig,
    dataset: Dataset,
    directory: Path | None,
    *,
    device: str,
    threads: int | None,
    on_progress: OnProgress | None,
) -> FindResult:
    if directory is None and distributed.active():
        raise UsageError("a search by several processes needs a directory that all of them see")
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="ticketguard-") as folder:
            return _find(config, dataset, Path(folder), device=device, threads=threads, on_progress=on_progress)
    threads = default_threads(dataset.shape) if threads is None else threads
    run = RunDirectory(path=directory)
    with run.alone():
        run.claim(_record(config, dataset, device, threads))
        search = _Search(
            config=config, dataset=dataset, run=run, device=device, threads=threads, on_progress=on_progress
        )
        with settings(threads=threads, seed=derive(config.seed, 0, purpose=5)):
            module = build(config.architecture)
        names = _layers(config, module)
        rounds = run.rounds()
        if not rounds:
            rounds = search.dense(module, names)
        while (rate := next_rate(config, rounds)) is not None:
            rounds = search.prune(module, names, rounds, rate)
        return _results(config, dataset, run, rounds, _record(config, dataset, device, threads))


@dataclass(frozen=True, kw_only=True)
class _Search:
    """One call of `find`: trains the network of one round after the other."""

    config: FindConfig
    dataset: Dataset
    run: RunDirectory
    device: str
    threads: int
    on_progress: OnProgress | None

    def dense(self, module: nn.Module, names: list[str]) -> tuple[Round, ...]:
        """Train the dense network, keeping its weights at the rewind epoch."""
        if self.config.recipe.rewind_epoch == 0:
            self.run.save_rewind(TrainState(weights=weights_of(module)))
        everything = Mask({name: np.ones(module.get_parameter(name).shape, dtype=np.bool_) for name in names})
        size = everything.size
        state = self._train(module, stage=0, mask=Mask({}), start=TrainState(weights=weights_of(module)), density=1.0)
        accuracy = self._accuracy(module)
        entry = Round(rate=0.0, kept=size, size=size, accuracy=accuracy, winning=True, accepted=True)
        model = Model(architecture=self.config.architecture, weights=state.weights, mask=everything)
        self.run.finish_stage((entry,), model, keep=frozenset({0}))
        return (entry,)

    def prune(self, module: nn.Module, names: list[str], rounds: tuple[Round, ...], rate: float) -> tuple[Round, ...]:
        """Prune the last accepted network by `rate`, rewind and train; the rounds with the new one at the end."""
        best, last = last_accepted(rounds)
        source = self.run.stage(best)
        scores = {name: np.abs(source.weights[name]) for name in names}
        kept = kept_after(last.kept, rate)
        mask = keep_largest(scores, kept, within=source.mask)
        digest = hashlib.sha256(b"".join(np.packbits(bits).tobytes() for bits in mask.values())).hexdigest()
        distributed.require_agreement(digest, "the mask")
        state = self._train(module, stage=len(rounds), mask=mask, start=self.run.rewind(), density=mask.density)
        accuracy = self._accuracy(module)
        winning = accuracy >= rounds[0].accuracy - self.config.tolerance
        accepted = accepts(self.config, winning=winning)
        entry = Round(rate=rate, kept=kept, size=last.size, accuracy=accuracy, winning=winning, accepted=accepted)
        model = Model(architecture=self.config.architecture, weights=state.weights, mask=mask)
        rounds = (*rounds, entry)
        self.run.finish_stage(rounds, model, keep=frozenset({0, last_accepted(rounds)[0]}))
        return rounds

    def _train(self, module: nn.Module, *, stage: int, mask: Mask, start: TrainState, density: float) -> TrainState:
        state = self.run.checkpoint(stage=stage) or start
        self.run.cut_metrics(stage=stage, epoch=state.epoch)
        stages = None if self.config.extreme else self.config.rounds + 1

        def keep(state: TrainState, report: EpochReport) -> None:
            self.run.add_metrics({"stage": stage, "density": round(density, 6), **report.__dict__})
            if stage == 0 and state.epoch == self.config.recipe.rewind_epoch:
                self.run.save_rewind(state)
            self.run.save_checkpoint(state, stage=stage)
            if self.on_progress is not None and distributed.rank() == 0:
                self.on_progress(FindProgress(stage=stage, stages=stages, density=density, report=report))

        return fit(
            module, self.dataset, self.config.recipe, seed=self.config.seed, mask=mask, state=state, device=self.device,
            threads=self.threads, on_state=keep,
        )  # fmt: skip

    def _accuracy(self, module: nn.Module) -> float:
        data = self.dataset
        with settings(threads=self.threads, seed=0):
            module.to(resolve_device(self.device))
            found = evaluate(module, data.test_images, data.test_labels, data, precision=self.config.recipe.precision)
            module.to("cpu")
        return round(found, 4)


def _layers(config: FindConfig, module: nn.Module) -> list[str]:
    if config.layers is None:
        return prunable(module, first=config.first, classifier=config.classifier)
    known = dict(module.named_parameters())
    unknown = [name for name in config.layers if name not in known]
    if unknown or not config.layers:
        raise UsageError(
            f"layers to prune: {config.architecture.name} has no parameter {', '.join(unknown) or '(none given)'}"
        )
    return [name for name in known if name in config.layers]


def _record(config: FindConfig, dataset: Dataset, device: str, threads: int) -> dict[str, Any]:
    """Everything that decides the bits of the result."""
    found = resolve_device(device)
    precision = resolve_precision(config.recipe.precision, found)
    return {
        "search": config.to_json(),
        "dataset": {"name": dataset.name, "digest": dataset.digest, "train": len(dataset.train_images)},
        "machine": {
            "device": found.type,
            "threads": threads,
            "processes": distributed.world(),
            "precision": str(precision).removeprefix("torch."),
            "torch": torch.__version__,
        },
    }


def _results(
    config: FindConfig, dataset: Dataset, run: RunDirectory, rounds: tuple[Round, ...], record: dict[str, Any]
) -> FindResult:
    index, last = last_accepted(rounds)
    rewind, trained, dense = run.rewind(), run.stage(index), run.stage(0)
    provenance = {
        "finder": "imp-extreme" if config.extreme else "imp",
        "rounds": [entry.to_json() for entry in rounds],
        "specification": specification(rounds),
        "rewind_epoch": config.recipe.rewind_epoch,
        "seeds": [config.seed],
        **dataset.task(),
        "dense_accuracy": rounds[0].accuracy,
        "ticket_accuracy": last.accuracy,
        "winning": index > 0 and last.winning,
        "tolerance": config.tolerance,
        **{key: record[key] for key in ("search", "machine")},
    }
    training = {
        "recipe": config.recipe.to_json(), "seed": config.seed, "dataset": dataset.name, "dataset_digest": dataset.digest,
    }  # fmt: skip
    sparse = zeroed(rewind.weights, trained.mask)
    ticket = Ticket(architecture=config.architecture, weights=sparse, mask=trained.mask, provenance=provenance)
    model = Model(
        architecture=config.architecture, weights=trained.weights, mask=trained.mask,
        provenance={**provenance, "training": {**training, "accuracy": last.accuracy}},
    )  # fmt: skip
    whole = Model(
        architecture=config.architecture, weights=dense.weights, mask=Mask({}),
        provenance={"finder": None, "training": {**training, "accuracy": rounds[0].accuracy}},
    )  # fmt: skip
    run.save_results({"dense": whole, "model": model, "ticket": ticket})
    return FindResult(ticket=ticket, model=model, dense=whole, rounds=rounds, specification=specification(rounds))
