"""The paper's tables on ResNet-20 / CIFAR-10, from our own runs, under a stated recipe.

    python benchmarks/reproduce.py --directory data --out runs/reproduce            # short recipe, a CPU afternoon
    python benchmarks/reproduce.py --directory data --out runs/paper --recipe paper --limit 0 --train-limit 0 --extreme

Every finished step is one line of results.jsonl in --out: interrupted runs go on where they stopped, and the page
benchmarks/results/reproduction.md is written anew after every step, from what has run so far. Nothing else is quoted.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reproduce_page import write_page
from steps import READINGS, TEXT

from ticketguard import api
from ticketguard.attacks.base import Attacked, Victim, unchanged_cost
from ticketguard.attacks.rebuild import module_of
from ticketguard.attacks.registry import make
from ticketguard.claims.keys import SecretKey
from ticketguard.data import Dataset, load
from ticketguard.finding import FindConfig, FindResult, find, rate_for
from ticketguard.finding.importance import Subject, score
from ticketguard.models import fitted
from ticketguard.signatures import qr
from ticketguard.signatures.keymask import forge, lock, merge
from ticketguard.signatures.labels import label, place_of
from ticketguard.signatures.symbols import encode
from ticketguard.storage.documents import append_jsonl, read_jsonl
from ticketguard.tickets import Model, Ticket, read_ticket, write_ticket
from ticketguard.training import RECIPES, TriggerBatch, evaluate, predict, train
from ticketguard.training import module_of as network_of
from ticketguard.training.batches import Normalizer

VARIANTS = ("unsigned", "edge", "qr", "qr+edge+triggers")
PRUNINGS = (0.05, 0.1, 0.2, 0.3, 0.5)
ADDITIONS = (0.005, 0.01, 0.02, 0.05, 0.1)
SHARES = (0.05, 0.2, 0.01, 0.1)
KEY_SCORES = ("omp", "ewp", "betweenness", "random-paths", "random", "synflow", "taylor")
BATCH = 256


class Reproduction:
    """One run folder: the data, the ticket, its variants, and the record of what has been measured."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out: Path = options.out
        (self.out / "models").mkdir(parents=True, exist_ok=True)
        self.results = self.out / "results.jsonl"
        self.done = {step["id"]: step for step in read_jsonl(self.results)} if self.results.exists() else {}
        self.recipe = RECIPES[options.recipe]
        if options.epochs:
            self.recipe = replace(self.recipe, epochs=options.epochs)
        short = options.train_epochs or self.recipe.epochs
        self.train_recipe = replace(self.recipe, epochs=short, evaluate_every=short)

    @cached_property
    def data(self) -> Dataset:
        """What finding sees."""
        return load("cifar10", self.options.directory, limit=self.options.limit or None)

    @cached_property
    def train_data(self) -> Dataset:
        """What every variant is trained on; a fixed part of the test images measures it."""
        data = self.data
        if self.options.train_limit:
            data = data.subset(self.options.train_limit, seed=1)
        count = self.options.test_limit or len(data.test_images)
        return replace(data, test_images=data.test_images[:count], test_labels=data.test_labels[:count])

    @cached_property
    def found(self) -> FindResult:
        """The ticket, found once (seed 0)."""
        config = FindConfig(
            architecture=fitted("resnet20", shape=self.data.shape, classes=10),
            recipe=self.recipe,
            rounds=self.options.rounds,
            rate=rate_for(0.195, self.options.rounds),
            seed=0,
            extreme=self.options.extreme,
        )
        started = time.time()
        return find(
            config, self.data, self.options.found or self.out / "find",
            threads=self.options.find_threads or self.options.threads,
            on_progress=lambda p: print(f"find: stage {p.stage}, {p.report}, {time.time() - started:.0f} s", flush=True),
        )  # fmt: skip

    @cached_property
    def ticket(self) -> Ticket:
        """The ticket that every variant starts from: --ticket, or the one that finding gives."""
        return read_ticket(self.options.ticket) if self.options.ticket else self.found.ticket

    @cached_property
    def rewind(self) -> dict[str, np.ndarray]:
        """Dense rewind weights by name."""
        return api.read_rewind((self.options.found or self.out / "find") / "rewind.safetensors")

    def record(self, name: str, **values: Any) -> None:
        """Note a finished step and print it."""
        step = {"id": name, **values}
        append_jsonl(self.results, step)
        self.done[name] = step
        print(f"{time.strftime('%H:%M:%S')} {name}: {values}", flush=True)
        write_page(self.options.page, list(self.done.values()), self.about())

    def about(self) -> dict[str, Any]:
        """What the page says about how its numbers came to be."""
        return {
            "command": "python " + " ".join(part for part in sys.argv if part != "--page-only"),
            "machine": f"{_processor()}, {self.options.threads} thread(s) of {os.cpu_count()}, torch {torch.__version__}",
            "date": time.strftime(
                "%Y-%m-%d", time.localtime(self.results.stat().st_mtime if self.results.exists() else None)
            ),
            "find": f"{len(self.data.train_images):,} training images, {self.recipe.epochs} epochs a round, "
            f"{self.options.rounds} rounds of IMP, rewound to epoch {self.recipe.rewind_epoch}, seed 0",
            "train": f"{len(self.train_data.train_images):,} training images, {self.train_recipe.epochs} epochs, "
            f"tested on {len(self.train_data.test_images):,} test images",
            "recipe": f"`{self.options.recipe}`: SGD, lr {self.recipe.lr}, weight decay {self.recipe.weight_decay}, "
            f"batch {self.recipe.batch_size}, {self.recipe.schedule} schedule, crop and flip",
        }

    def variant(self, name: str, seed: int) -> tuple[Ticket, api.Signed | None]:
        """A variant's ticket before training, and its signature. Seeds make everything repeatable across restarts."""
        ticket, signed = self.ticket, None
        # The seed also draws the signature's secret, so that the spread over seeds covers it.
        rng = np.random.default_rng([seed, 2])
        if name.startswith("qr"):
            ticket, _ = label(ticket, TEXT, generator=rng, rewind=self.rewind)
        if "edge" in name:
            signed = api.sign(
                ticket, SecretKey.from_seed(rng.bytes(32)), owner="Example Lab", rewind=self.rewind,
                triggers="triggers" in name, master=rng.bytes(32), nonce=rng.bytes(32),
            )  # fmt: skip
            ticket = signed.ticket
        return ticket, signed

    def model(self, name: str, seed: int, ticket: Ticket, signed: api.Signed | None = None) -> Model:
        """The trained variant, from its file when it was trained before."""
        path = self.out / "models" / f"{name.replace('+', '-')}-{seed}.safetensors"
        if path.exists():
            trained = read_ticket(path)
            if isinstance(trained, Model):
                return trained
        found = api.triggers_of(signed.opening) if signed is not None else None
        batch = None if found is None else TriggerBatch(images=found.images, labels=found.labels)
        trained = train(
            ticket, self.train_data, self.train_recipe, seed=seed, triggers=batch, threads=self.options.threads
        )
        write_ticket(path, trained)
        return trained

    def subject(self, ticket: Ticket, seed: int) -> Subject:
        """What importance scores look at: the untrained ticket and one batch."""
        data = self.train_data
        images = torch.from_numpy(data.train_images[:BATCH]).permute(0, 2, 3, 1)
        pixels = Normalizer(data.mean, data.std, torch.device("cpu"))(images)
        labels = torch.from_numpy(data.train_labels[:BATCH])
        return Subject(module=network_of(ticket), mask=ticket.mask, images=pixels.float(), labels=labels, seed=seed)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if (
        info.exists()) else []  # fmt: skip
    return names[0] if names else platform.processor() or platform.machine()


def measure(
    run: Reproduction, weights: Any, variant: str, seed: int, signed: api.Signed | None, place: Any, owner: Any = None
) -> dict[str, Any]:
    """Accuracy, triggers, QR text and edge-code bits of one suspect.

    The code is read the paper's way (`text`), that way under the threshold of the `owner` (weights; `defended`), and by the
    number of edges in a kernel (`thick`).
    """
    module = module_of(weights)
    data = run.train_data
    values: dict[str, Any] = {"variant": variant, "seed": seed}
    values["accuracy"] = round(evaluate(module, data.test_images, data.test_labels, data), 2)
    if place is not None:
        reading = qr.read(weights.weights, place, least=(1,), truth=encode(TEXT))
        values |= {"text": reading.text, "wrong": round(reading.wrong or 0.0, 4)}
        threshold = qr.owner_threshold(owner, place)
        values["defended"] = qr.read(weights.weights, place, least=(1,), threshold=threshold).text
        values["thick"] = qr.read(weights.weights, place).text
    if signed is not None:
        verdict = api.verify(weights.weights, signed=signed, align="never")
        values |= {"decision": verdict.decision, "bits": round(float(max(0.0, verdict.against_chance_bits)), 1)}
        found = api.triggers_of(signed.opening)
        if found is not None:
            answers = predict(module, found.images, data)
            values |= {"triggers": int((answers == found.labels).sum()), "of": len(found.labels)}
    return values


def tables(run: Reproduction, variant: str, seed: int) -> None:
    """Train a variant and measure it clean and under the paper's attacks; what has been measured is left out."""
    pending = [
        (name, strength)
        for name, strength in attacks_on(variant)
        if not _measured(run, f"{variant}/{name}/{strength:g}/{seed}", variant)
    ]
    lacks_chance = variant == "qr+edge+triggers" and f"unmarked/{seed}" not in run.done
    if not pending and not lacks_chance:
        return
    ticket, signed = run.variant(variant, seed)
    place = place_of(ticket) if variant.startswith("qr") else None
    model = run.model(variant, seed, ticket, signed)
    victim = Victim(model=model, dataset=run.train_data, seed=seed, threads=run.options.threads, device="cpu")
    for name, strength in pending:
        attacked = unchanged_cost(victim, model.weights) if name == "clean" else make(name, strength).run(victim)
        measured = measure(run, attacked, variant, seed, signed, place, model.weights)
        step = f"{variant}/{name}/{strength:g}/{seed}"
        run.record(step, kind="attack", attack=name, strength=strength, **measured)
    if lacks_chance:
        unmarked(run, seed, signed)


def _measured(run: Reproduction, step: str, variant: str) -> bool:
    """Whether a step ran and, where there is a QR code, read it every way."""
    return step in run.done and (not variant.startswith("qr") or all(key in run.done[step] for key in READINGS))


def unmarked(run: Reproduction, seed: int, signed: api.Signed | None) -> None:
    """The unsigned model asked the same triggers, and searched for the same bits: what chance looks like."""
    ticket, _ = run.variant("unsigned", seed)
    model = run.model("unsigned", seed, ticket)
    bare = Attacked(weights=model.weights, architecture=model.architecture)
    run.record(f"unmarked/{seed}", kind="unmarked", **measure(run, bare, "unsigned", seed, signed, None))


def attacks_on(variant: str) -> Iterator[tuple[str, float]]:
    """Which attacks the paper's tables show for a variant; pruning is shown for all, for comparison."""
    yield "clean", 0.0
    if variant in ("edge", "unsigned"):
        yield from (("prune-magnitude", share) for share in PRUNINGS)
        return
    yield from (("prune-magnitude", share) for share in PRUNINGS)
    if variant == "qr":
        yield from (("prune-random", share) for share in PRUNINGS)
        yield from (("fake2", share) for share in ADDITIONS)
    yield "fake3", 1.0


def key_masks(run: Reproduction, name: str, share: float, seed: int) -> None:
    """V1: retrain the locked ticket, and the locked ticket with a forged key; the unlocked one is the unsigned variant."""
    step = f"v1/{name}/{share:g}/{seed}"
    if step in run.done:
        return
    ticket = run.ticket
    key, locked = lock(ticket, score(name, run.subject(ticket, seed)), share, score=name)
    model = run.model(f"locked-{name}-{share:g}", seed, locked)
    accuracy = _accuracy(run, model)
    run.record(step, kind="v1", score=name, share=share, seed=seed, locked=accuracy, edges=key.edges)


def forged_keys(run: Reproduction, share: float, seed: int) -> None:
    """V1, fake1: a random key on the magnitude-locked ticket."""
    step = f"fake1/{share:g}/{seed}"
    if step in run.done:
        return
    ticket = run.ticket
    key, locked = lock(ticket, score("omp", run.subject(ticket, seed)), share, score="omp")
    forged = merge(forge(locked, key.edges, np.random.default_rng([seed, 3])), locked)
    model = run.model(f"forged-{share:g}", seed, forged)
    run.record(step, kind="fake1", share=share, seed=seed, forged=_accuracy(run, model))


def _accuracy(run: Reproduction, model: Model) -> float:
    data = run.train_data
    return round(evaluate(network_of(model), data.test_images, data.test_labels, data), 2)


def main() -> None:
    """Run every step that is missing, the most telling first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--directory", type=Path, default=Path("data"), help="folder with CIFAR-10 in an official layout"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="run folder; resumed when it exists")
    parser.add_argument("--found", type=Path, help="a folder of `find` to go on from, instead of --out/find")
    parser.add_argument("--ticket", type=Path, help="a ticket file to go on from while its search still runs")
    parser.add_argument("--page", type=Path, default=Path("benchmarks/results/reproduction.md"))
    parser.add_argument("--recipe", choices=list(RECIPES), default="short")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of finding; 0 for the recipe's own")
    parser.add_argument("--limit", type=int, default=20000, help="training images for finding; 0 for all")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--extreme", action="store_true", help="search on until the ticket is extreme (long)")
    parser.add_argument("--train-limit", type=int, default=0, help="training images per variant; 0 for all of --limit")
    parser.add_argument("--train-epochs", type=int, default=0, help="epochs per variant; 0 for those of finding")
    parser.add_argument("--test-limit", type=int, default=0, help="test images; 0 for all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--find-threads", type=int, default=0, help="threads of finding; 0 for --threads")
    parser.add_argument("--page-only", action="store_true", help="write the page from results.jsonl and stop")
    run = Reproduction(parser.parse_args())
    if run.options.page_only:
        write_page(run.options.page, list(run.done.values()), run.about())
        return
    if "find" not in run.done and not run.options.ticket:
        result = run.found
        run.record(
            "find", kind="find", dense=result.dense_accuracy, ticket=result.ticket_accuracy, winning=result.winning,
            density=round(100 * result.ticket.mask.density, 3), specification=result.specification,
            extreme=run.options.extreme,
        )  # fmt: skip
    for seed in range(run.options.seeds):
        for variant in VARIANTS:
            tables(run, variant, seed)
    for seed in range(run.options.seeds):
        locks(run, seed, SHARES[:2], KEY_SCORES[:4])
    for seed in range(run.options.seeds):
        locks(run, seed, SHARES, KEY_SCORES)
    write_page(run.options.page, list(run.done.values()), run.about())


def locks(run: Reproduction, seed: int, shares: tuple[float, ...], names: tuple[str, ...]) -> None:
    """V1 for some sizes and scores: every locked ticket, and the forged key of each size."""
    for share in shares:
        for name in names:
            key_masks(run, name, share, seed)
        forged_keys(run, share, seed)


if __name__ == "__main__":
    main()
