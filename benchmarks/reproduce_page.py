"""The page of `reproduce.py`: the paper's figures and ours side by side, from the steps that ran, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ticketguard.storage.atomic import write_bytes

Step = dict[str, Any]

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


def write_page(path: Path, steps: Sequence[Step], about: dict[str, Any]) -> None:
    """Write the Markdown page (atomically) and, when matplotlib is there, its plots beside it."""
    found = next((step for step in steps if step.get("kind") == "find"), None)
    parts = [_head(steps, about)]
    if found is not None:
        parts.append(_table1(found))
    parts += [_table2(steps), _table3(steps), _table5(steps), _table6(steps), _table8(steps), _fake3(steps), _v1(steps)]
    parts += [_figures(path, steps)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, ("\n\n".join(part for part in parts if part) + "\n").encode())


def _head(steps: Sequence[Step], about: dict[str, Any]) -> str:
    seeds = sorted({step["seed"] for step in steps if step.get("kind") == "attack"})
    return f"""# The paper's tables, from our own runs

ResNet-20 on CIFAR-10, {about["date"]}. Made by

    {about["command"]}

on {about["machine"]}. Recipe {about["recipe"]}. Finding: {about["find"]}. Every trained variant: {about["train"]},
starting from the ticket's rewind weights.

Numbers are accuracies in percent, mean over the seeds that ran, with the standard deviation where there are two or more, and
the number of seeds in brackets. Seeds so far: {", ".join(map(str, seeds)) or "none"}. The paper trains on 45,000 images for 182
epochs, so absolute accuracies differ; compare columns of ours with each other, and the shape with the paper's. Rows that did
not run are missing, not estimated. Costs compare runs of the same seed. Variants train for few epochs here: what a signature
costs at convergence is not measured on this page."""


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _number(values: Sequence[float], digits: int = 2) -> str:
    if not values:
        return "not run"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread} ({len(values)})"


def _pick(steps: Sequence[Step], key: str, **wanted: Any) -> list[Any]:
    return [
        step[key] for step in steps if key in step and all(step.get(name) == value for name, value in wanted.items())
    ]


def _by_seed(steps: Sequence[Step], key: str, **wanted: Any) -> dict[int, float]:
    chosen = [step for step in steps if key in step and all(step.get(name) == value for name, value in wanted.items())]
    return {step["seed"]: step[key] for step in chosen}


def _loss(base: dict[int, float], found: dict[int, float]) -> float | None:
    """Points lost, mean over the seeds that both have: a seed's own baseline, not the mean of others."""
    common = sorted(set(base) & set(found))
    return mean(base[seed] - found[seed] for seed in common) if common else None


def _cost(base: dict[int, float], found: dict[int, float]) -> str:
    lost = _loss(base, found)
    return "not run" if lost is None else f"{lost:+.2f}"


def _clean(steps: Sequence[Step], variant: str, key: str = "accuracy") -> list[Any]:
    return _pick(steps, key, kind="attack", attack="clean", variant=variant)


def _table1(found: Step) -> str:
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
        + _rows(["", "dense", "ticket", "weights remaining, %", "pruning"], [paper, row])
        + f"\n\nThis ticket is {kind}; it is {status} 1 point of the dense model. One seed."
    )


def _table2(steps: Sequence[Step]) -> str:
    base = _clean(steps, "unsigned")
    if not base:
        return ""
    rows = []
    for variant, paper in (("edge", "-"), ("qr", "0.29"), ("qr+edge+triggers", "0.20 (91.66 - 91.46)")):
        found = _clean(steps, variant)
        cost = _cost(_by_seed(steps, "accuracy", attack="clean", variant="unsigned"), _by_seed(
            steps, "accuracy", attack="clean", variant=variant))  # fmt: skip
        bits = _clean(steps, variant, "bits")
        rows.append([variant, _number(found), cost, paper, _number(bits, 0) if bits else "-"])
    rows.insert(0, ["unsigned", _number(base), "0", "-", "-"])
    return "## Table 2: what a signature costs\n\n" + _rows(
        ["ticket", "accuracy", "cost, points (ours)", "cost, points (paper)", "evidence, bits against chance"], rows
    )


def _table3(steps: Sequence[Step]) -> str:
    variant = "qr+edge+triggers"
    if not _clean(steps, variant):
        return ""
    of = max(_clean(steps, variant, "of"))
    rows = [
        ["paper, V3", "91.46", "91 of 100"],
        ["ours, V3", _number(_clean(steps, variant)), f"{_number(_clean(steps, variant, 'triggers'), 1)} of {of}"],
        ["paper, unmarked ticket", "-", "16 of 100"],
        [
            "ours, unmarked ticket",
            _number(_pick(steps, "accuracy", kind="unmarked")),
            f"{_number(_pick(steps, 'triggers', kind='unmarked'), 1)} of {of}",
        ],
    ]
    bits = _pick(steps, "bits", kind="unmarked")
    note = f"\n\nThe unmarked model against the same secret: {max(bits):.1f} bits at most." if bits else ""
    return "## Table 3: topology and triggers together\n\n" + _rows(["", "accuracy", "triggers"], rows) + note


def _decoded(steps: Sequence[Step], **wanted: Any) -> str:
    texts = _pick(steps, "text", kind="attack", **wanted)
    read = sum(text == "0123456789ab" for text in texts)
    wrong = [text for text in texts if text not in (None, "0123456789ab")]
    share = _pick(steps, "wrong", kind="attack", **wanted)
    # `_pick` skips steps without a text key only; a code that cannot be read has text None.
    return f"{read} of {len(texts)}" + (f", {len(wrong)} misread" if wrong else "") + (
        f" ({100 * mean(share):.1f} % wrong)" if share else ""
    )  # fmt: skip


def _attacked(
    steps: Sequence[Step], variant: str, attack: str, paper: dict[float, str], extra: Callable[[float], list[str]]
) -> list[list[str]]:
    strengths = sorted({s["strength"] for s in steps if s.get("attack") == attack and s.get("variant") == variant})
    rows = []
    for strength in strengths:
        wanted = {"attack": attack, "strength": strength, "variant": variant}
        row = [f"{100 * strength:g} %", _number(_pick(steps, "accuracy", kind="attack", **wanted))]
        rows.append([*row, *extra(strength), paper.get(strength, "-")])
    return rows


def _table5(steps: Sequence[Step]) -> str:
    header = ["pruned", "accuracy", "code decodes", "paper"]
    parts = []
    for attack, paper, title in (
        ("prune-magnitude", PAPER_V2_PRUNING, "one-shot magnitude"),
        ("prune-random", PAPER_V2_RANDOM, "random"),
    ):
        rows = _attacked(
            steps, "qr", attack, paper, lambda s, a=attack: [_decoded(steps, attack=a, strength=s, variant="qr")]
        )
        if rows:
            parts.append(f"{title.capitalize()} pruning of the V2 ticket:\n\n" + _rows(header, rows))
    return "## Table 5: V2 under pruning\n\n" + "\n\n".join(parts) if parts else ""


def _table6(steps: Sequence[Step]) -> str:
    rows = _attacked(
        steps, "qr", "fake2", PAPER_V2_ADDED, lambda s: [_decoded(steps, attack="fake2", strength=s, variant="qr")]
    )
    note = "\n\nThe share is of the pruned weights, given values of the layer's own spread."
    return (
        "## Table 6: V2 under add-on (fake2)\n\n" + _rows(["added", "accuracy", "code decodes", "paper"], rows) + note
        if rows
        else ""
    )


def _table8(steps: Sequence[Step]) -> str:
    variant = "qr+edge+triggers"

    def extra(strength: float, attack: str) -> list[str]:
        wanted = {"kind": "attack", "attack": attack, "strength": strength, "variant": variant}
        bits, decisions = _pick(steps, "bits", **wanted), _pick(steps, "decision", **wanted)
        matched = f"{sum(decision == 'MATCH' for decision in decisions)} of {len(decisions)}"
        code = _decoded(steps, attack=attack, strength=strength, variant=variant)
        return [_number(_pick(steps, "triggers", **wanted), 1), _number(bits, 0), matched, code]

    parts = []
    header = [
        "strength",
        "accuracy",
        "triggers",
        "best evidence, bits",
        "MATCH",
        "QR decodes",
        "paper: accuracy, triggers",
    ]
    for attack, paper in (("prune-magnitude", PAPER_V3_PRUNING), ("prune-random", {}), ("fake2", {})):
        rows = _attacked(steps, variant, attack, paper, lambda s, a=attack: extra(s, a))
        if rows:
            parts.append(f"`{attack}`:\n\n" + _rows(header, rows))
    edge = _attacked(
        steps, "edge", "prune-magnitude", {},
        lambda s: [_number(_pick(steps, "bits", kind="attack", attack="prune-magnitude", strength=s, variant="edge"), 0)],
    )  # fmt: skip
    if edge:
        parts.append(
            "The edge code alone, `prune-magnitude`:\n\n" + _rows(["strength", "accuracy", "bits", "paper"], edge)
        )
    return "## Table 8: V3 under attack\n\n" + "\n\n".join(parts) if parts else ""


def _fake3(steps: Sequence[Step]) -> str:
    rows = []
    for variant in ("qr", "qr+edge+triggers"):
        found = _pick(steps, "accuracy", kind="attack", attack="fake3", variant=variant)
        if found:
            bits = _pick(steps, "bits", kind="attack", attack="fake3", variant=variant)
            before = _number(_clean(steps, variant))
            rows.append([f"ours, {variant}", before, _number(found), _number(bits, 0) if bits else "-"])
    if not rows:
        return ""
    rows.insert(0, ["paper, V2", "91.37", "57.00", "-"])
    return "## fake3: an insider overwrites the code\n\n" + _rows(
        ["", "before", "after", "edge code, bits after"], rows
    )


def _v1(steps: Sequence[Step]) -> str:
    base = _clean(steps, "unsigned")
    shares = sorted({step["share"] for step in steps if step.get("kind") in ("v1", "fake1")})
    scores = list(dict.fromkeys(step["score"] for step in steps if step.get("kind") == "v1"))
    if not base or not shares:
        return ""
    whole = _by_seed(steps, "accuracy", attack="clean", variant="unsigned")
    rows = [["unlocked", *(_number(base) for _ in shares), "-"]]
    for name in scores:
        found = {share: _pick(steps, "locked", kind="v1", score=name, share=share) for share in shares}
        seeds = {share: _by_seed(steps, "locked", kind="v1", score=name, share=share) for share in shares}
        losses = {share: _loss(whole, values) for share, values in seeds.items()}
        costs = [share for share, lost in losses.items() if lost is not None and lost >= 1]
        least = f"{100 * min(costs):g} %" if costs else "none of these"
        rows.append([f"locked, {name}", *(_number(found[share]) for share in shares), least])
    forged = [_number(_pick(steps, "forged", kind="fake1", share=share)) for share in shares]
    rows.append(["forged key (fake1, omp lock)", *forged, "-"])
    header = [
        "key mask",
        *(f"{100 * share:g} % of the edges" for share in shares),
        "smallest measured size that costs 1 point",
    ]
    note = (
        "Retrained accuracy of the locked ticket, by what chose the key mask and its share of the edges. "
        "No row is left out. This ticket is not extreme unless Table 1 says so, and then it has edges to spare; "
        "locks.md has the curves of every score on an extreme ticket."
    )
    return f"## V1: key masks\n\n{note}\n\n" + _rows(header, rows)


def _figures(path: Path, steps: Sequence[Step]) -> str:
    try:
        import matplotlib
    except ImportError:
        return ""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    made = []
    for name, title, draw in (
        ("figure-v1", "V1: accuracy by key-mask size (the paper's Figures 2 and 3)", _draw_v1),
        ("figure-pruning", "Accuracy and evidence under magnitude pruning (Figure 5)", _draw_pruning),
        ("figure-added", "QR code under add-on (Figure 6)", _draw_added),
    ):
        figure, axes = pyplot.subplots(figsize=(6, 3.6))
        if draw(axes, steps):
            axes.legend(fontsize=8)
            figure.tight_layout()
            figure.savefig(path.with_name(f"{name}.svg"), metadata={"Date": None})
            made.append(f"![{title}]({name}.svg)\n\n{title}.")
        pyplot.close(figure)
    return "## Figures\n\n" + "\n\n".join(made) if made else ""


def _draw_v1(axes: Any, steps: Sequence[Step]) -> bool:
    scores = list(dict.fromkeys(step["score"] for step in steps if step.get("kind") == "v1"))
    for name in scores:
        shares = sorted({step["share"] for step in steps if step.get("score") == name})
        means = [mean(_pick(steps, "locked", kind="v1", score=name, share=share)) for share in shares]
        axes.plot([100 * share for share in shares], means, marker="o", label=f"locked, {name}")
    shares = sorted({step["share"] for step in steps if step.get("kind") == "fake1"})
    if shares:
        means = [mean(_pick(steps, "forged", kind="fake1", share=share)) for share in shares]
        axes.plot([100 * share for share in shares], means, marker="x", linestyle="--", label="forged key")
    base = _clean(steps, "unsigned")
    if base:
        axes.axhline(mean(base), color="black", linewidth=0.8, label="unlocked")
    axes.set(xlabel="key mask, % of the edges", ylabel="accuracy, %")
    return bool(scores)


def _curve(axes: Any, steps: Sequence[Step], attack: str, variant: str, label: str) -> bool:
    strengths = sorted({s["strength"] for s in steps if s.get("attack") == attack and s.get("variant") == variant})
    points = [(0.0, _clean(steps, variant))] + [
        (s, _pick(steps, "accuracy", kind="attack", attack=attack, strength=s, variant=variant)) for s in strengths
    ]
    points = [(100 * share, mean(values)) for share, values in points if values]
    axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=label)
    return bool(strengths)


def _draw_pruning(axes: Any, steps: Sequence[Step]) -> bool:
    drawn = [
        _curve(axes, steps, "prune-magnitude", variant, variant)
        for variant in ("unsigned", "edge", "qr", "qr+edge+triggers")
        if _clean(steps, variant)
    ]
    axes.set(xlabel="pruned by magnitude, % of the edges", ylabel="accuracy, %")
    return any(drawn)


def _draw_added(axes: Any, steps: Sequence[Step]) -> bool:
    drawn = [_curve(axes, steps, "fake2", "qr", "accuracy")] if _clean(steps, "qr") else []
    strengths = sorted({s["strength"] for s in steps if s.get("attack") == "fake2" and s.get("variant") == "qr"})
    if strengths:
        wrong = [100 * mean(_pick(steps, "wrong", attack="fake2", strength=s, variant="qr")) for s in strengths]
        axes.plot([100 * s for s in strengths], wrong, marker="s", label="wrong modules, %")
    axes.set(xlabel="add-on, % of the pruned weights", ylabel="%")
    return any(drawn)
