"""V1 on an extreme ticket: retrained accuracy by what chose the key mask and how large it is.

    python benchmarks/locks.py --out runs/locks

Handwritten digits (real, bundled with scikit-learn), the small convolutional network, a ticket of `find --extreme`. Every
score, every size; unlocked, locked, and with a forged key joined (fake1). Resumable: every retraining is a line of
results.jsonl. The page benchmarks/results/locks.md is written from what has run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from key_panels import draw_key_masks
from steps import Steps, least_costly, number, rows

from ticketguard.data import load
from ticketguard.finding import FindConfig, find
from ticketguard.finding.importance import SCORES
from ticketguard.finding.locking import scores_of
from ticketguard.models import fitted
from ticketguard.signatures.keymask import forge, lock, merge
from ticketguard.storage.atomic import write_bytes
from ticketguard.storage.documents import append_jsonl, read_jsonl
from ticketguard.tickets import Ticket
from ticketguard.training import RECIPES, train

SHARES = (0.05, 0.2, 0.1, 0.01, 0.02)
UNLOCKED, FORGED = "unlocked", "forged key, "


def main() -> None:
    """Find the ticket, then run what is missing, and write the page after every step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/locks"))
    parser.add_argument("--page", type=Path, default=Path("benchmarks/results/locks.md"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--forged-seeds", type=int, default=3, help="seeds with a forged key, for each score")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--page-only", action="store_true", help="write the page from what has run and stop")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.jsonl"
    data, recipe = load("digits"), RECIPES["digits"]
    # Every layer may be pruned: with a dense first layer and classifier, 300 edges in between were still a winning ticket.
    config = FindConfig(
        architecture=fitted("convnet", shape=data.shape, classes=10),
        recipe=recipe,
        extreme=True,
        first=True,
        classifier=True,
    )
    found = find(config, data, options.out / "find", threads=options.threads)
    steps: list[Any] = read_jsonl(results) if results.exists() else []
    done = {(step["name"], step["share"], step["seed"]) for step in steps}

    if options.page_only:
        ran = time.localtime(results.stat().st_mtime) if results.exists() else time.localtime()
        write_page(options.page, steps, found, options.threads, time.strftime("%Y-%m-%d", ran))
        return

    def measure(name: str, share: float, seed: int, ticket: Ticket) -> None:
        if (name, share, seed) in done:
            return
        model = train(ticket, data, recipe, seed=seed, threads=options.threads)
        step = {"name": name, "share": share, "seed": seed, "accuracy": model.provenance["training"]["accuracy"]}
        append_jsonl(results, step)
        steps.append(step)
        print(time.strftime("%H:%M:%S"), step, flush=True)
        write_page(options.page, steps, found, options.threads, time.strftime("%Y-%m-%d"))

    for seed in range(options.seeds):
        measure(UNLOCKED, 0.0, seed, found.ticket)
    for seed in range(options.seeds):
        for share in SHARES:
            if not round(share * found.ticket.mask.kept):
                continue
            for name in SCORES:
                wanted = {name, FORGED + name} if seed < options.forged_seeds else {name}
                if all((what, share, seed) in done for what in wanted):
                    continue
                scores = scores_of(found.ticket, name, dataset=data, seed=seed)
                key, locked = lock(found.ticket, scores, share, score=name)
                measure(name, share, seed, locked)
                if len(wanted) > 1:
                    forged = merge(forge(locked, key.edges, np.random.default_rng([seed, 3])), locked)
                    measure(FORGED + name, share, seed, forged)
    write_page(options.page, steps, found, options.threads, time.strftime("%Y-%m-%d"))


def write_page(path: Path, steps: list[Any], found: Any, threads: int, date: str) -> None:
    """The table of every score and size, and the smallest size that costs a point."""
    known = Steps(steps)
    mask = found.ticket.mask
    base = known.by_seed("accuracy", name=UNLOCKED)
    shares = [share for share in known.values("share") if share]
    locked = [name for name in SCORES if known.where(name=name)]
    forged = [FORGED + name for name in SCORES if known.where(name=FORGED + name)]
    lines: dict[str, list[Any]] = {}
    for name in (*locked, *forged):
        cells = [number(known.pick("accuracy", name=name, share=share)) for share in shares]
        losses = {share: known.losses(base, "accuracy", name=name, share=share) for share in shares}
        lines[name] = [name.removeprefix(FORGED), *cells, least_costly(losses)]
    header = [
        "key mask chosen by",
        *(f"{100 * share:g} %" for share in shares),
        "smallest size that costs 1 point: cost",
    ]
    page = f"""# V1: what locking costs, by score and size of the key mask

Handwritten digits (scikit-learn's, 1,437 training and 360 test images), `convnet`, every layer pruned by `find --extreme`:
dense {found.dense_accuracy:.2f} %, ticket {found.ticket_accuracy:.2f} %, {100 * mask.density:.3f} % of the prunable \
weights kept ({mask.kept:,} edges), pruning {found.specification}.

Made by `{_command()}` on {date}, {threads} thread(s) of {os.cpu_count()}, torch {torch.__version__}.
Retrained test accuracy in percent, mean ± standard deviation over seeds (number of seeds in brackets). One test image is
0.28 points. No row is left out; costs compare runs of the same seed, and their mean must reach 1 point.

Unlocked: {number(list(base.values()))}.

{rows(header, [lines[name] for name in locked])}

A thief who lacks the key mask may guess one (fake1): as many random positions, joined to the locked ticket and trained. The
last column is the size from which that too costs a point.

{rows(header, [lines[name] for name in forged])}
"""

    def curve(name: str) -> dict[float, list[float]]:
        return {share: known.pick("accuracy", name=name, share=share) for share in shares}

    curves = {name: curve(name) for name in locked}
    guesses = {name.removeprefix(FORGED): curve(name) for name in forged}
    picture = path.with_suffix(".svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    if draw_key_masks(picture, curves, unlocked=list(base.values()), forged=guesses):
        page += f"\n![Retrained accuracy against key-mask size, a panel for each score]({picture.name})\n"
    write_bytes(path, page.encode())


def _command() -> str:
    """The command that makes the numbers; writing the page again does not."""
    return "python " + " ".join(part for part in sys.argv if part != "--page-only")


if __name__ == "__main__":
    main()
