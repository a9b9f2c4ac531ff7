"""The page of `reproduce.py`: the paper's figures and ours side by side, from the steps that ran, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from reproduce_figures import figures
from steps import READINGS, TEXT, Step, Steps, least_costly, number, rows

from ticketguard.storage.atomic import write_bytes

# The paper's figures for ResNet-20 / CIFAR-10 (Chen et al. 2021), quoted for comparison.
PAPER_V2_PRUNING = {0.05: "91.25, decodes", 0.1: "90.72, decodes", 0.2: "88.03, damaged", 0.3: "80.08", 0.5: "36.62"}
PAPER_V2_RANDOM = {0.05: "60.87", 0.1: "30.49"}
PAPER_V2_ADDED = {
    0.005: "91.04, decodes",
    0.01: "90.23, decodes",
    0.02: "86.64, lost",
    0.05: "79.49, lost",
    0.1: "71.06, lost",
}
PAPER_V3_PRUNING = {0.0: "91.46, 91", 0.05: "91.33, 89", 0.1: "90.66, 90", 0.2: "87.86, 81", 0.5: "33.04, 18"}
V3 = "qr+edge+triggers"


def write_page(path: Path, steps: Sequence[Step], about: dict[str, Any]) -> None:
    """Write the Markdown page (atomically) and, when matplotlib is there, its plots beside it."""
    known = Steps(steps)
    parts = [_head(known, about)]
    for part in (_table1, _table2, _table3, _table5, _table6, _table8, _fake3, _v1):
        parts.append(part(known))
    parts.append(figures(path, known))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, ("\n\n".join(part for part in parts if part) + "\n").encode())


def _head(steps: Steps, about: dict[str, Any]) -> str:
    seeds = steps.values("seed", kind="attack")
    return f"""# The paper's tables, from our own runs

ResNet-20 on CIFAR-10, {about["date"]}. Made by

    {about["command"]}

on {about["machine"]}. Recipe {about["recipe"]}. Finding: {about["find"]}. Every trained variant: {about["train"]},
starting from the ticket's rewind weights.

Numbers are accuracies in percent, mean over the seeds that ran, with the standard deviation where there are two or more, and
the number of seeds in brackets. A seed draws the training order and the signature's secret; the ticket is one. Seeds so far:
{", ".join(map(str, seeds)) or "none"}. The paper trains on 45,000 images for 182 epochs, so absolute accuracies differ; compare
columns of ours with each other, and the shape with the paper's. Rows that did not run are missing or say so, never estimated.
Costs compare runs of the same seed, positive when accuracy is lost. Variants train for few epochs here: what a signature costs
at convergence is not measured on this page."""


def _table1(steps: Steps) -> str:
    found = next(iter(steps.where(kind="find")), None)
    if found is None:
        return ""
    kind = (
        "an extreme ticket by `find --extreme`"
        if found["extreme"]
        else "found at a fixed density, not searched to the extreme"
    )
    row = ["ours", f"{found['dense']:.2f}", f"{found['ticket']:.2f}", f"{found['density']:.3f}", found["specification"]]
    paper = ["paper", "91.67", "91.66", "19.369", "extreme"]
    status = "within" if found["winning"] else "not within"
    return (
        "## Table 1: the ticket\n\n"
        + rows(["", "dense", "ticket", "weights remaining, %", "pruning"], [paper, row])
        + f"\n\nThis ticket is {kind}; it is {status} 1 point of the dense model. One seed."
    )


def _table2(steps: Steps) -> str:
    base = steps.by_seed("accuracy", kind="attack", attack="clean", variant="unsigned")
    if not base:
        return ""
    lines = [["unsigned", number(list(base.values())), "0", "-", "-"]]
    for variant, paper in (("edge", "-"), ("qr", "0.29"), (V3, "0.20 (91.66 - 91.46)")):
        cost = number(steps.losses(base, "accuracy", kind="attack", attack="clean", variant=variant), sign="+")
        bits = steps.clean(variant, "bits")
        lines.append([variant, number(steps.clean(variant)), cost, paper, number(bits, 0) if bits else "-"])
    header = ["ticket", "accuracy", "cost, points (ours)", "cost, points (paper)", "evidence, bits against chance"]
    return "## Table 2: what a signature costs\n\n" + rows(header, lines)


def _table3(steps: Steps) -> str:
    if not steps.clean(V3):
        return ""
    of = max(steps.clean(V3, "of"))
    unmarked = [steps.pick(key, kind="unmarked") for key in ("accuracy", "triggers", "bits")]
    lines = [
        ["paper, V3", "91.46", "91 of 100"],
        ["ours, V3", number(steps.clean(V3)), f"{number(steps.clean(V3, 'triggers'), 1)} of {of}"],
        ["paper, unmarked ticket", "-", "16 of 100"],
        [
            "ours, unmarked ticket",
            number(unmarked[0]),
            f"{number(unmarked[1], 1)} of {of}" if unmarked[1] else "not run",
        ],
    ]
    note = (
        f"\n\nThe unmarked model against the same secret: {max(unmarked[2]):.1f} bits at most." if unmarked[2] else ""
    )
    return "## Table 3: topology and triggers together\n\n" + rows(["", "accuracy", "triggers"], lines) + note


def _decoded(steps: Steps, key: str = "text", **wanted: Any) -> str:
    texts = steps.pick(key, kind="attack", **wanted)
    if not texts:
        return "not run"
    read = sum(text == TEXT for text in texts)
    wrong = [text for text in texts if text not in (None, TEXT)]
    return f"{read} of {len(texts)}" + (f", {len(wrong)} misread" if wrong else "")


def _attacked(
    steps: Steps, variant: str, attack: str, paper: dict[float, str], extra: Callable[[dict[str, Any]], list[str]]
) -> list[list[str]]:
    lines = []
    for strength in steps.values("strength", attack=attack, variant=variant):
        wanted = {"attack": attack, "strength": strength, "variant": variant}
        row = [f"{100 * strength:g} %", number(steps.pick("accuracy", kind="attack", **wanted))]
        lines.append([*row, *extra(wanted), paper.get(strength, "-")])
    return lines


def _readings(steps: Steps, wanted: dict[str, Any]) -> list[str]:
    share = steps.pick("wrong", kind="attack", **wanted)
    decoded = [_decoded(steps, key, **wanted) for key in READINGS]
    return [*decoded, f"{100 * mean(share):.1f} %" if share else "-"]


def _v2(steps: Steps, attack: str, paper: dict[float, str], what: str) -> str:
    header = [what, "accuracy", *(f"decodes, {label}" for label in READINGS.values()), "wrong modules", "paper"]
    lines = _attacked(steps, "qr", attack, paper, lambda wanted: _readings(steps, wanted))
    return rows(header, lines) if lines else ""


def _table5(steps: Steps) -> str:
    parts = []
    for attack, paper, title in (
        ("prune-magnitude", PAPER_V2_PRUNING, "One-shot magnitude"),
        ("prune-random", PAPER_V2_RANDOM, "Random"),
    ):
        table = _v2(steps, attack, paper, "pruned")
        if table:
            parts.append(f"{title} pruning of the V2 ticket:\n\n{table}")
    return "## Table 5: V2 under pruning\n\n" + "\n\n".join(parts) if parts else ""


def _table6(steps: Steps) -> str:
    table = _v2(steps, "fake2", PAPER_V2_ADDED, "added")
    note = """

The share is of the pruned weights, given values of the layer's own spread. Readings: the paper's calls a kernel dark when it
holds an edge; its defence drops weights under a threshold of the owner's, here the magnitude that a tenth of the owner's own
edges in that layer do not reach; `read-qr` counts edges: when one does not make a readable code it asks for two, then three.
None uses the true text. Wrong modules are those of the paper's reading."""
    return "## Table 6: V2 under add-on (fake2)\n\n" + table + note if table else ""


def _table8(steps: Steps) -> str:
    def extra(wanted: dict[str, Any]) -> list[str]:
        bits, decisions = (steps.pick(key, kind="attack", **wanted) for key in ("bits", "decision"))
        matched = f"{sum(decision == 'MATCH' for decision in decisions)} of {len(decisions)}"
        triggers = number(steps.pick("triggers", kind="attack", **wanted), 1)
        return [triggers, number(bits, 0), matched, _decoded(steps, **wanted)]

    header = [
        "pruned",
        "accuracy",
        "triggers",
        "best evidence, bits",
        "MATCH",
        "QR decodes",
        "paper: accuracy, triggers",
    ]
    parts = []
    lines = _attacked(steps, V3, "prune-magnitude", PAPER_V3_PRUNING, extra)
    if lines:
        of = max(steps.clean(V3, "of"), default=0)
        parts.append(f"One-shot magnitude pruning; triggers of {of}:\n\n" + rows(header, lines))
    edge = _attacked(
        steps, "edge", "prune-magnitude", {}, lambda wanted: [number(steps.pick("bits", kind="attack", **wanted), 0)]
    )
    if edge:
        # The paper has no edge code, so its column goes.
        lines = [line[:-1] for line in edge]
        parts.append("The edge code alone, the same pruning:\n\n" + rows(["pruned", "accuracy", "bits"], lines))
    return "## Table 8: V3 under attack\n\n" + "\n\n".join(parts) if parts else ""


def _fake3(steps: Steps) -> str:
    lines = []
    for variant in ("qr", V3):
        wanted = {"kind": "attack", "attack": "fake3", "variant": variant}
        after = steps.by_seed("accuracy", **wanted)
        if not after:
            continue
        before = steps.by_seed("accuracy", kind="attack", attack="clean", variant=variant)
        lost = number(steps.losses(before, "accuracy", **wanted), sign="+")
        bits, texts = steps.pick("bits", **wanted), steps.pick("text", **wanted)
        others = sum(text not in (None, TEXT) for text in texts)
        read = f"owner's {sum(text == TEXT for text in texts)}, insider's {others} of {len(texts)}"
        row = [number([before[s] for s in after if s in before]), number(list(after.values())), lost]
        lines.append([f"ours, {variant}", *row, read, number(bits, 0) if bits else "-"])
    if not lines:
        return ""
    lines.insert(0, ["paper, V2", "91.37", "57.00", "+34.37", "-", "-"])
    header = ["", "before", "after", "points lost", "code that decodes", "edge code, bits after"]
    return "## fake3: an insider overwrites the code\n\n" + rows(header, lines)


def _v1(steps: Steps) -> str:
    base = steps.by_seed("accuracy", kind="attack", attack="clean", variant="unsigned")
    shares = sorted({*steps.values("share", kind="v1"), *steps.values("share", kind="fake1")})
    if not base or not shares:
        return ""
    lines = [["unlocked", *(number(list(base.values())) for _ in shares), "-"]]
    cases = [(f"locked, {name}", "locked", {"kind": "v1", "score": name}) for name in steps.values("score", kind="v1")]
    for title, key, wanted in (*cases, ("forged key (fake1, omp lock)", "forged", {"kind": "fake1"})):
        accuracies = [number(steps.pick(key, share=share, **wanted)) for share in shares]
        losses = {share: steps.losses(base, key, share=share, **wanted) for share in shares}
        lines.append([title, *accuracies, least_costly(losses)])
    sizes = (f"{100 * share:g} % of the edges" for share in shares)
    note = """\
Retrained accuracy of the locked ticket, by what chose the key mask and its share of the edges. No row is left out. The last
column is the smallest measured size that costs 1 point or more in the mean, and what it costs. This ticket is not extreme
unless Table 1 says so, and then it has edges to spare; locks.md has the curves of every score on an extreme ticket."""
    header = ["key mask", *sizes, "smallest measured size that costs 1 point"]
    return f"## V1: key masks\n\n{note}\n\n" + rows(header, lines)
