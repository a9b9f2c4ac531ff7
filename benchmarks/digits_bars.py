"""The digits bars: what signing costs and what it proves, mean and spread over seeds.

Each seed: find a ticket, train it unsigned, sign it, train it with its triggers, verify it by weights and by answers.
Usage: python benchmarks/digits_bars.py [--seeds 5] [--out benchmarks/results/digits.md] (about two minutes a seed on two cores)
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ticketguard import api
from ticketguard.attacks.base import Victim
from ticketguard.attacks.registry import make
from ticketguard.claims.keys import SecretKey
from ticketguard.data import Dataset, load
from ticketguard.demo import DENSITY, ROUNDS
from ticketguard.evidence import Verdict
from ticketguard.finding import FindConfig, find, rate_for
from ticketguard.models import fitted
from ticketguard.training import RECIPES, evaluate, module_of, predict
from ticketguard.triggers.plan import plan_of


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One seed. Accuracies in percent, evidence in bits; `*_match` is whether the verdict was MATCH."""

    dense: float
    unsigned: float
    signed: float
    edges: float
    clean_bits: float
    clean_match: float
    pruned_bits: float
    pruned_match: float
    triggers_right: float
    pooled_bits: float
    pooled_match: float
    leaf_bits: float
    leaf_match: float
    seconds: float


def measure(seed: int, dataset: Dataset) -> Outcome:
    """Everything for one seed."""
    started, recipe = time.monotonic(), RECIPES["digits"]
    config = FindConfig(
        architecture=fitted("convnet", shape=dataset.shape, classes=len(dataset.classes)),
        recipe=recipe,
        rounds=ROUNDS,
        rate=rate_for(DENSITY, ROUNDS),
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        found = find(config, dataset, Path(folder))
        rewind = api.read_rewind(Path(folder) / "rewind.safetensors")
    signed = api.sign(
        found.ticket,
        SecretKey.from_seed(bytes([seed]) * 32),
        owner="Benchmark",
        rewind=rewind,
        master=bytes([seed, 1]) * 16,
        nonce=bytes([seed, 2]) * 16,
    )
    model = api.train(signed.ticket, dataset, recipe=recipe, opening=signed.opening, seed=seed)
    module = module_of(model)
    pruned = make("prune-magnitude@0.5").run(Victim(model=model, dataset=dataset, symmetry=None, recipe=recipe))
    clean, after = (api.verify(weights, signed=signed) for weights in (model.weights, pruned.weights))
    triggers, plan = api.triggers_of(signed.opening), plan_of(signed.opening.registration)
    if triggers is None or plan is None:
        raise SystemExit("a ticket of digits has triggers")
    labels = np.asarray(predict(module, triggers.images, dataset))
    # One leaf alone: the answers to the triggers of all other leaves are withheld.
    alone = [np.where(triggers.indices // plan.per_leaf == leaf, labels, -1) for leaf in range(plan.leaves)]
    pooled = api.verify(signed=signed, predictions=labels)
    leaves = [api.verify(signed=signed, predictions=answers) for answers in alone]
    worst = min(leaves, key=bits)
    return Outcome(
        dense=found.dense_accuracy,
        unsigned=found.ticket_accuracy,
        signed=evaluate(module, dataset.test_images, dataset.test_labels, dataset),
        edges=found.ticket.mask.kept,
        clean_bits=support(clean),
        clean_match=clean.decision == "MATCH",
        pruned_bits=support(after),
        pruned_match=after.decision == "MATCH",
        triggers_right=float((labels == triggers.labels).sum()),
        pooled_bits=bits(pooled),
        pooled_match=pooled.decision == "MATCH",
        leaf_bits=bits(worst),
        leaf_match=worst.decision == "MATCH",
        seconds=time.monotonic() - started,
    )


def bits(verdict: Verdict) -> float:
    """Evidence of the best test."""
    return verdict.best.bits if verdict.best else 0.0


def support(verdict: Verdict) -> float:
    """Evidence of the edge code's support test, all leaves pooled, as stored."""
    return next(item.bits for item in verdict.evidence if (item.test, item.scope) == ("support", "pooled"))


def bars(outcomes: list[Outcome]) -> list[tuple[str, float, bool]]:
    """Bar in words, measured value, passed."""
    lost = statistics.mean(row.unsigned - row.signed for row in outcomes)
    clean = statistics.mean(row.clean_bits for row in outcomes)
    checks = [
        ("signed accuracy within 1 point of the unsigned ticket, mean", lost, lost <= 1.0),
        ("at least 500 bits on the clean model, mean", clean, clean >= 500),
    ]
    for name, words in (
        ("clean_match", "MATCH by the edge code on the clean model"),
        ("pruned_match", "MATCH after 50 % magnitude pruning"),
        ("pooled_match", "MATCH by the triggers alone"),
        ("leaf_match", "MATCH by the triggers of the worst single leaf"),
    ):
        share = statistics.mean(getattr(row, name) for row in outcomes)
        checks.append((f"{words}, share of seeds", share, share == 1.0))
    return checks


def table(outcomes: list[Outcome]) -> str:
    """Markdown: one row a quantity with mean, spread and every seed, then the bars."""
    lines = [f"| quantity | mean | sd | {' | '.join(f'seed {n}' for n in range(len(outcomes)))} |"]
    lines.append("|" + " --- |" * (len(outcomes) + 3))
    for item in fields(Outcome):
        values = [float(getattr(row, item.name)) for row in outcomes]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        cells = " | ".join(f"{value:,.2f}" for value in values)
        lines.append(f"| {item.name.replace('_', ' ')} | {statistics.mean(values):,.2f} | {spread:,.2f} | {cells} |")
    lines += ["", "| bar | measured | passed |", "| --- | --- | --- |"]
    lines += [f"| {words} | {value:,.2f} | {'yes' if passed else 'NO'} |" for words, value, passed in bars(outcomes)]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    dataset = load("digits")
    outcomes = []
    for seed in range(options.seeds):
        outcomes.append(measure(seed, dataset))
        print(f"seed {seed}: {outcomes[-1]}", file=sys.stderr)
    text = table(outcomes)
    print(text)
    if options.out is not None:
        command = f"python benchmarks/digits_bars.py --seeds {options.seeds}"
        options.out.write_text(f"# Digits: the bars of the main job\n\n`{command}`\n\n{text}\n", encoding="utf-8")
    return 0 if all(passed for _, _, passed in bars(outcomes)) else 1


if __name__ == "__main__":
    sys.exit(main())
