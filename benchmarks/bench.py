"""One table of ratios: each side measured in the same run, alternating, medians of several. `make bench` runs it.

    python benchmarks/bench.py [--only sign verify ...] [--runs 3] [--threads 1] [--output results/bench.md]

References are ordinary libraries, or the usual way written plainly here and in the modules that measure one thing thoroughly
(bench_training, bench_graph, bench_qr, bench_alignment, bench_scan, startup, bench_scaling): this script asks those for their
two sides with small budgets. Times are of the processor where one process works alone (others may use the machine), else of
the clock; the table says which.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
if "--threads" not in sys.argv:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import bench_alignment
import bench_graph
import bench_qr
import bench_scan
import bench_training
import networkx as nx
import numpy as np
import scipy
import startup
import torch

from ticketguard import api, signing
from ticketguard.claims.keys import SecretKey
from ticketguard.graph.betweenness import edge_betweenness
from ticketguard.graph.cells import layer_of
from ticketguard.graph.channels import ChannelGraph
from ticketguard.graph.layout import rearranged
from ticketguard.graph.scores import edge_products
from ticketguard.masks import Mask
from ticketguard.models import build, prunable
from ticketguard.signatures.position import agreement
from ticketguard.storage import torchfile
from ticketguard.storage.tensors import read_tensors, write_tensors
from ticketguard.storage.torchfile import read_torch
from ticketguard.tickets import Architecture, Ticket
from ticketguard.tracing import symmetry_of
from ticketguard.training import RECIPES
from ticketguard.training.devices import native_bf16, resolve_device
from ticketguard.verify.verifier import Examiner

PATHS = 1000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. `ours`, `other`: medians; `figure` is compared with `bar`, its minimum (`least`) or maximum."""

    what: str
    reference: str
    ours: str
    other: str
    figure: float
    unit: str
    bar: float | None
    least: bool
    clock: str

    @property
    def passed(self) -> str:
        """Whether the bar holds."""
        if self.bar is None:
            return ""
        return "yes" if (self.figure >= self.bar if self.least else self.figure <= self.bar) else "no"


def seconds(call: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of one call: of so many in a row that they take a fifth of a second, since few are too short to time."""
    calls, taken = timeit.Timer(call, timer=clock).autorange()
    return taken / calls


def alternating(calls: Sequence[Callable[[], Any]], runs: int) -> list[float]:
    """Median processor seconds of several calls, run in turns."""
    rounds = [[seconds(call) for call in calls] for _ in range(runs)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def shown(value: float) -> str:
    """Seconds in a readable unit."""
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"


def compared(what: str, reference: str, times: Sequence[float], bar: float | None) -> Row:
    """The row of a ratio other / ours."""
    ours, other = times
    return Row(
        what=what, reference=reference, ours=shown(ours), other=shown(other), figure=other / ours,
        unit="times faster", bar=bar, least=True, clock="processor",
    )  # fmt: skip


def training(runs: int) -> list[Row]:
    """ResNet-20, random images of CIFAR-10's size: more of them on a GPU, whose first steps compile and record."""
    device = resolve_device("auto")
    data = bench_training.images_for(None, 25600 if device.type == "cuda" else 640)
    module = build(bench_scan.ARCHITECTURE)
    rng = np.random.default_rng(0)
    mask = Mask({name: rng.random(module.get_parameter(name).shape) < 0.2 for name in prunable(module)})
    recipe = replace(RECIPES["short"], epochs=1, rewind_epoch=0, batch_size=128, evaluate_every=1, warmup=0.5)
    setting = bench_training.Setting(
        architecture=bench_scan.ARCHITECTURE, data=data, recipe=recipe, mask=mask, device=device, workers=0
    )
    usual, fast = [], []
    for _ in range(runs):
        usual.append(bench_training.reference(setting.module(), data, recipe, mask, device, 0))
        fast.append(bench_training.ours(setting.module(), data, recipe, mask, device)[0])
    ratio = statistics.median(a / b for a, b in zip(fast, usual, strict=True))
    one, two = statistics.median(fast), statistics.median(usual)
    share = bench_training.enforcement_share(setting, one)
    where = f"{device}, {torch.get_num_threads()} thread(s)"
    return [
        Row(
            what=f"train ResNet-20, batch 128 ({where})", reference="DataLoader fp32 loop", ours=f"{one:.0f} images/s",
            other=f"{two:.0f} images/s", figure=ratio, unit="times faster", bar=8.0 if device.type == "cuda" else 1.7,
            least=True, clock="clock",
        ),
        Row(
            what="mask enforcement", reference="a training step", ours="", other="", figure=share, unit="% of a step", bar=3.0,
            least=False, clock="clock",
        ),
    ]  # fmt: skip


def walked(
    graph: nx.DiGraph, inputs: Sequence[int], outputs: set[int], paths: int, *, by_weight: bool
) -> dict[tuple[int, int], float]:
    """Edge-weight products by random paths from the inputs, step by step; each edge keeps the best product of its paths.

    `by_weight`: each step is drawn in proportion to the weights of the edges that leave the node, as in the scripts that the
    paper's authors published (those also sum every kernel anew for each path); else every such edge is as likely.
    """
    rng = np.random.default_rng(0)
    best: dict[tuple[int, int], float] = {}
    found = 0
    while found < paths:
        node, path, product = int(rng.choice(inputs)), [], 1.0
        while node not in outputs:
            edges = graph[node]
            following = list(edges)
            if not following:
                break
            if by_weight:
                weights = np.array([edges[after]["weight"] for after in following])
                after = following[rng.choice(len(following), p=weights / weights.sum())]
            else:
                after = following[int(rng.integers(len(following)))]
            product *= edges[after]["weight"]
            path.append((node, after))
            node = after
        if node in outputs:
            found += 1
            for edge in path:
                best[edge] = max(best.get(edge, 0.0), product)
    return best


def paths(runs: int) -> list[Row]:
    """Exact edge-weight products against sampled walks, on the graph of ResNet-18 at the paper's density."""
    graph: ChannelGraph = bench_graph.graph_of("resnet18", 0.0124)
    directed = graph.to_networkx()
    ends = graph.inputs.tolist(), set(graph.outputs.tolist())
    ways = {"drawn by weight, as the authors do": (True, 200.0), "each edge as likely": (False, None)}
    sides = [lambda way=way: walked(directed, *ends, PATHS, by_weight=way) for way, _ in ways.values()]
    ours, *others = alternating([lambda: edge_products(graph), *sides], runs)
    return [
        compared(
            "edge-weight products, exact, all edges, ResNet-18",
            f"Python walk of {PATHS:,} paths, {name} ({len(side()) / graph.edges:.1%} of the edges)",
            (ours, taken),
            bar,
        )
        for (name, (_, bar)), side, taken in zip(ways.items(), sides, others, strict=True)
    ]


def betweenness(runs: int) -> list[Row]:
    """ResNet-20 at 19.4 %, networkx in the same run (once: it takes seconds)."""
    graph = bench_graph.graph_of("resnet20", 0.194)
    ours = alternating([lambda: edge_betweenness(graph)], runs)[0]
    directed = graph.to_networkx()
    rows = []
    for name, other, bar in (("directed", directed, 50.0), ("undirected", directed.to_undirected(), 100.0)):
        taken = seconds(lambda other=other: nx.edge_betweenness_centrality(other, normalized=False))
        rows.append(compared("edge betweenness, exact, ResNet-20", f"networkx, {name}", (ours, taken), bar))
    return rows


def position(runs: int) -> list[Row]:
    """The search for a QR code's place in all of ResNet-50, by the sliding loop in the same run (once: it takes long)."""
    code, images = bench_qr.projections()
    fast, slow = (
        lambda how=how: [how(image, code.modules, code.free) for image in images.values()]
        for how in (agreement, bench_qr.sliding)
    )
    what = f"QR position search, {len(images)} layers of ResNet-50"
    return [compared(what, "sliding double loop", (alternating([fast], runs)[0], seconds(slow)), 50.0)]


def processes(runs: int) -> list[Row]:
    """Whole processes, key derivation aside."""
    with tempfile.TemporaryDirectory() as name:
        suspect, signed = startup.prepare(Path(name))
        verify = startup.QUICK + startup.RUN.format(["verify", str(suspect), "--signed", str(signed)])
        taken = startup.measure({**startup.PROGRAMS, "ticketguard verify": verify}, runs)
    medians = {key: statistics.median(values) for key, values in taken.items()}
    return [
        Row(
            what=f"whole process: {what}", reference=other, ours=shown(medians[one]), other=shown(medians[other]),
            figure=medians[one] / medians[other], unit="times as long", bar=bar, least=False, clock="clock",
        )
        for what, (one, other, bar) in startup.BARS.items()
    ]  # fmt: skip


def verifying(runs: int) -> list[Row]:
    """One suspect of about 100 MB that is in memory's page cache: gathers against reading all of a .pt file."""
    rng = np.random.default_rng(0)
    mask = Mask(
        {f"layer{number}.weight": rng.random(startup.SHAPE) < startup.DENSITY for number in range(startup.LAYERS)}
    )
    weights = {key: rng.standard_normal(startup.SHAPE, dtype=np.float32) * mask[key] for key in mask}
    registered, embedded = signing.sign(
        Ticket(architecture=Architecture(), weights=weights, mask=mask), SecretKey.generate(), owner="Benchmark"
    )
    examiner = Examiner(registered.opening)
    with tempfile.TemporaryDirectory() as name:
        ours, usual = Path(name) / "suspect.safetensors", Path(name) / "suspect.pt"
        write_tensors(ours, dict(embedded.ticket.weights), {})
        torch.save({key: torch.from_numpy(np.array(value)) for key, value in embedded.ticket.weights.items()}, usual)

        def whole() -> None:
            state = torch.load(usual, weights_only=True)
            examiner.verify({key: value.numpy() for key, value in state.items()}, align="never")

        gathered = [lambda: examiner.verify(read_tensors(ours), align="never"), whole]
        alternating(gathered, 1)
        times = alternating(gathered, runs)
    return [compared("verify a 100 MB suspect, one of many", "torch.load, then the same tests", times, None)]


def old_files(runs: int) -> list[Row]:
    """A `.pt` file of 1 MB: by a fork of the process that has torch, and by a process that imports it for this file."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "suspect.pt"
        torch.save({"weight": torch.rand(512, 512)}, path)
        read_torch(path)
        forked = statistics.median(seconds(lambda: read_torch(path), time.perf_counter) for _ in range(runs))
        alone = []
        for _ in range(runs):
            torchfile.reader.stop()
            alone.append(seconds(lambda: read_torch(path), time.perf_counter))
    times = [forked, statistics.median(alone)]
    return [replace(compared("read a .pt suspect, one of many", "a new process for each", times, None), clock="clock")]


def scanning(runs: int) -> list[Row]:
    """Suspects of ResNet-20 size in one call: by one process, and 1,000 of them as `verify` does it."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        examiner, files = bench_scan.prepare(Path(name), 140)
        for align, bar in bench_scan.BARS.items():
            count = len(files) if align == "never" else 35
            found = [bench_scan.scan(examiner, files[:count], align) for _ in range(runs if align == "never" else 1)]
            rows.append(Row(
                what=f"scan, ResNet-20 size, align {align}, one process", reference="", ours="", other="",
                unit="ms a suspect", figure=statistics.median(one.processor for one in found), bar=bar, least=False,
                clock="processor",
            ))  # fmt: skip
    # Worker processes import the script they belong to: bench_scan.py needs no torch for that.
    command = [sys.executable, str(Path(bench_scan.__file__)), "--shared-only", "--json"]
    for found in json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout):
        rows.append(Row(
            what=f"the same, {found['suspects']:,} in one call, processes as verify takes them ({found['jobs']}), "
            f"align {found['align']}", reference="", ours="", other="", unit="ms a suspect", figure=found["wall"],
            bar=bench_scan.BARS[found["align"]], least=False, clock="clock",
        ))  # fmt: skip
    return rows


def alignment(runs: int) -> list[Row]:
    """A ResNet-20 with all channels permuted: from cell counts, against weight matching on single positions."""
    module = build(bench_scan.ARCHITECTURE)
    symmetry = symmetry_of(module, torch.zeros(1, 3, 32, 32))
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items() if value.ndim >= 2}
    layers = [layer_of(key, shape) for key, shape in shapes.items()]
    rng = np.random.default_rng(1)
    masks = {key: rng.random(shape) < 0.194 for key, shape in shapes.items()}
    weights = {key: bits.astype(np.float32) for key, bits in masks.items()}
    choice = {number: rng.permutation(group.size) for number, group in enumerate(symmetry.groups)}
    suspect = rearranged(weights, symmetry, choice)
    truth = {number: np.argsort(order) for number, order in choice.items()}
    single = [replace(layer, cell=1) for layer in layers]
    sides = [
        lambda cells=cells: bench_alignment.seconds(cells, masks, symmetry, suspect, truth)
        for cells in (layers, single)
    ]
    return [
        compared(
            "align a permuted ResNet-20", "weight matching on positions (Git Re-Basin)", alternating(sides, runs), None
        )
    ]


def signed(runs: int) -> list[Row]:
    """ResNet-50 with random masks at 13 %: registering and embedding alone, and with the network built and traced."""
    architecture = Architecture(name="resnet50", arguments={"classes": 10, "in_channels": 3, "image_size": 32})
    module, rng = build(architecture), np.random.default_rng(0)
    weights = {key: value.numpy().copy() for key, value in module.state_dict().items()}
    mask = Mask({key: rng.random(weights[key].shape) < 0.13 for key in prunable(module)})
    weights |= {key: np.where(bits, weights[key], np.float32(0)) for key, bits in mask.items()}
    ticket, key = Ticket(architecture=architecture, weights=weights, mask=mask), SecretKey.generate()
    kinds: dict[str, Callable[[], Any]] = {
        "sign ResNet-50 (register, embed)": lambda: signing.sign(ticket, key, owner="Benchmark"),
        "sign ResNet-50, network built and traced": lambda: api.sign(ticket, key, owner="Benchmark", triggers=False),
    }
    times = alternating(list(kinds.values()), runs)
    return [
        Row(what=what, reference="", ours="", other="", figure=taken, unit="s", bar=3.0, least=False, clock="processor")
        for what, taken in zip(kinds, times, strict=True)
    ]


def suites(runs: int) -> list[Row]:
    """The whole command `suite --preset quick` on handwritten digits, serial and with two processes, one thread a cell."""
    environment = {**os.environ, "TICKETGUARD_PASSPHRASE": "demo"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "demo"
        program = [sys.executable, "-m", "ticketguard"]

        def run(*words: str) -> None:
            subprocess.run([*program, *words], env=environment, check=True, capture_output=True)

        run("demo", "--out", str(folder))
        command = ["suite", str(folder / "signed"), "--data", "digits", "--preset", "quick", "--out"]
        kinds = {"serial": [], "processes": ["--engine", "processes", "--jobs", "2"]}
        taken: dict[str, list[float]] = {kind: [] for kind in kinds}
        for number in range(runs):
            for kind, options in kinds.items():
                line = [*command, f"{folder}/{kind}-{number}", *options]
                taken[kind].append(seconds(lambda line=line: run(*line), time.perf_counter))
    times = [statistics.median(taken[kind]) for kind in ("processes", "serial")]
    return [replace(compared("suite quick, digits, two processes", "serial", times, 1.6), clock="clock")]


SECTIONS: dict[str, Callable[[int], list[Row]]] = {
    "processes": processes,
    "verify": verifying,
    "old": old_files,
    "scan": scanning,
    "sign": signed,
    "align": alignment,
    "paths": paths,
    "betweenness": betweenness,
    "qr": position,
    "suite": suites,
    "training": training,
}


def facts() -> list[str]:
    """Machine and versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")] or [platform.processor()]
    cores = os.cpu_count()
    load = os.getloadavg()[0]
    busy = "other work slowed both sides" if load > (cores or 1) else "nothing else asked for a core"
    bf16 = "native" if native_bf16(torch.device("cpu")) else "emulated"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return [
        f"{names[0]} ({torch.backends.cpu.get_cpu_capability()}, bfloat16 {bf16}), {cores} cores, {platform.system()} "
        f"{platform.machine()}; GPU: {device}",
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, torch {torch.__version__}, "
        f"networkx {nx.__version__}",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {torch.get_num_threads()} thread(s) for numerics",
        f"load average {load:.1f} on {cores} cores when it began: {busy}",
    ]  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | reference | ours | reference takes | figure | bar | holds | time |", "| --- " * 8 + "|"]
    for row in rows:
        bar = "" if row.bar is None else f"{'at least' if row.least else 'at most'} {row.bar:g}"
        figure = f"{row.figure:,.{0 if row.figure >= 100 else 2}f} {row.unit}"
        lines.append(
            f"| {row.what} | {row.reference} | {row.ours} | {row.other} | {figure} | {bar} | {row.passed} | {row.clock} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="also write the table as Markdown")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines, rows = facts(), []
    print("\n".join(lines), flush=True)
    for name in options.only:
        begin = time.perf_counter()
        rows += SECTIONS[name](options.runs)
        print(f"{name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    print(table(rows))
    if options.output is not None:
        command = f"`python benchmarks/bench.py --runs {options.runs} --threads {options.threads}`"
        page = ["# Benchmarks", "", command, "", *(f"- {line}" for line in lines), "", table(rows), ""]
        options.output.write_text("\n".join(page))


if __name__ == "__main__":
    main()
