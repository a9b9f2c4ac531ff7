"""V1 on an extreme ticket: retrained accuracy by what chose the key mask and how large it is.

    python benchmarks/locks.py --out runs/locks

Handwritten digits (real, bundled with scikit-learn), the small convolutional network, a ticket of `find --extreme`. Every
score, every size, three seeds; locked, forged key and unlocked. Resumable: every retraining is a line of results.jsonl. The
page benchmarks/results/locks.md is written from what has run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

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
UNLOCKED, FORGED = "unlocked", "forged key (fake1)"


def main() -> None:
    """Find the ticket, then run what is missing, and write the page after every step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/locks"))
    parser.add_argument("--page", type=Path, default=Path("benchmarks/results/locks.md"))
    parser.add_argument("--seeds", type=int, default=3)
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
        write_page(options.page, steps, found, options.threads)
        return

    def measure(name: str, share: float, seed: int, ticket: Ticket) -> None:
        if (name, share, seed) in done:
            return
        model = train(ticket, data, recipe, seed=seed, threads=options.threads)
        step = {"name": name, "share": share, "seed": seed, "accuracy": model.provenance["training"]["accuracy"]}
        append_jsonl(results, step)
        steps.append(step)
        print(time.strftime("%H:%M:%S"), step, flush=True)
        write_page(options.page, steps, found, options.threads)

    for seed in range(options.seeds):
        measure(UNLOCKED, 0.0, seed, found.ticket)
    for seed in range(options.seeds):
        for share in SHARES:
            if not round(share * found.ticket.mask.kept):
                continue
            for name in SCORES:
                if (name, share, seed) not in done:
                    scores = scores_of(found.ticket, name, dataset=data, seed=seed)
                    measure(name, share, seed, lock(found.ticket, scores, share, score=name)[1])
            key, locked = lock(found.ticket, scores_of(found.ticket, "omp"), share, score="omp")
            forged = merge(forge(locked, key.edges, np.random.default_rng([seed, 3])), locked)
            measure(FORGED, share, seed, forged)
    write_page(options.page, steps, found, options.threads)


def write_page(path: Path, steps: list[Any], found: Any, threads: int) -> None:
    """The table of every score and size, and the smallest size that costs a point."""
    mask = found.ticket.mask
    base = [step["accuracy"] for step in steps if step["name"] == UNLOCKED]
    lines = [
        "# V1: what locking costs, by score and size of the key mask",
        "",
        "Handwritten digits (scikit-learn's, 1,437 training and 360 test images), `convnet`, every layer pruned by",
        "`find --extreme`:",
        f"dense {found.dense_accuracy:.2f} %, ticket {found.ticket_accuracy:.2f} %, {100 * mask.density:.3f} % of the prunable "
        f"weights kept ({mask.kept:,} edges), pruning {found.specification}.",
        "",
        f"Made by `{_command()}` on {time.strftime('%Y-%m-%d')}, {threads} thread(s) of {os.cpu_count()}, "
        f"torch {torch.__version__}.",
        "Retrained test accuracy in percent, mean ± standard deviation over seeds (number of seeds in brackets). One test",
        "image is 0.28 points. No row is left out; costs compare runs of the same seed.",
        "",
        f"Unlocked: {_cell(base)}.",
        "",
    ]
    shares = sorted({step["share"] for step in steps if step["name"] != UNLOCKED})
    names = [*(name for name in SCORES if any(step["name"] == name for step in steps)), FORGED]
    header = ["key mask chosen by", *(f"{100 * share:g} %" for share in shares), "smallest size that costs 1 point"]
    lines += ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for name in names:
        cells = {share: _of(steps, name, share) for share in shares}
        losses = {share: _loss(steps, name, share) for share in shares}
        costs = [share for share, lost in losses.items() if lost is not None and lost >= 1]
        least = f"{100 * min(costs):g} %" if costs else "none of these" if any(cells.values()) else "not run"
        lines.append("| " + " | ".join([name, *(_cell(cells[share]) for share in shares), least]) + " |")
    lines += [
        "",
        "The forged key joins the magnitude-locked ticket; its last column is the size from which forging costs a point too.",
    ]
    if shares and _plot(path.with_suffix(".svg"), steps, shares, names, base):
        lines += ["", f"![Retrained accuracy against key-mask size]({path.with_suffix('.svg').name})"]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def _command() -> str:
    """The command that makes the numbers; writing the page again does not."""
    return "python " + " ".join(part for part in sys.argv if part != "--page-only")


def _loss(steps: list[Any], name: str, share: float) -> float | None:
    """Points lost, mean over the seeds that ran, each against its own unlocked run."""
    whole = {step["seed"]: step["accuracy"] for step in steps if step["name"] == UNLOCKED}
    lost = [
        whole[step["seed"]] - step["accuracy"]
        for step in steps
        if step["name"] == name and step["share"] == share and step["seed"] in whole
    ]
    return mean(lost) if lost else None


def _of(steps: list[Any], name: str, share: float) -> list[float]:
    return [step["accuracy"] for step in steps if step["name"] == name and step["share"] == share]


def _cell(values: list[float]) -> str:
    if not values:
        return "not run"
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{spread} ({len(values)})"


def _plot(path: Path, steps: list[Any], shares: list[float], names: list[str], base: list[float]) -> bool:
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for name in names:
        points = [(100 * share, mean(_of(steps, name, share))) for share in shares if _of(steps, name, share)]
        style = "--x" if name == FORGED else "-o"
        axes.plot([x for x, _ in points], [y for _, y in points], style, label=name, markersize=4)
    axes.axhline(mean(base), color="black", linewidth=0.8, label="unlocked")
    axes.set(xlabel="key mask, % of the edges", ylabel="retrained accuracy, %", xscale="log")
    axes.legend(fontsize=7, ncol=2)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True


if __name__ == "__main__":
    main()
