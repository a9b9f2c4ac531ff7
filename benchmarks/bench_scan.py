"""Many suspects in one call: milliseconds a suspect with and without alignment, memory before and after.

    python benchmarks/bench_scan.py                # 1,000 suspects of ResNet-20 size, about two minutes
    python benchmarks/bench_scan.py --suspects 100 --jobs 2

Suspects are hard links to a few files: the signed model, pruned by half, with its channels permuted, and four unrelated ones
of the same network and density. Files are in the page cache. Bars: 10 ms a suspect without alignment, 60 ms with it, memory
flat. Wall and processor seconds of one process; the first suspect (drawing the carriers, importing the solver) is not counted.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ticketguard import api
from ticketguard.claims.keys import SecretKey
from ticketguard.graph.groups import Symmetry
from ticketguard.graph.layout import rearranged
from ticketguard.masks import Mask
from ticketguard.models import build, prunable
from ticketguard.storage.tensors import write_tensors
from ticketguard.tickets import Architecture, Ticket
from ticketguard.verify.verifier import Align, Examiner

ARCHITECTURE = Architecture(name="resnet20", arguments={"classes": 10, "in_channels": 3, "image_size": 32})
DENSITY = 0.194
BARS = {"never": 10.0, "always": 60.0}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One scan: milliseconds a suspect beyond the first (wall, processor), resident MiB after a tenth and at the end."""

    align: Align
    suspects: int
    matches: int
    wall: float
    processor: float
    early: float
    late: float


def random_ticket(seed: int) -> Ticket:
    """ResNet-20 with random masks at the paper's density."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    module = build(ARCHITECTURE)
    weights = {name: value.numpy().copy() for name, value in module.state_dict().items()}
    mask = Mask({name: rng.random(weights[name].shape) < DENSITY for name in prunable(module)})
    return Ticket(
        architecture=ARCHITECTURE,
        weights={name: np.where(mask[name], value, 0) if name in mask else value for name, value in weights.items()},
        mask=mask,
    )


def prepare(folder: Path, suspects: int) -> tuple[Examiner, list[Path]]:
    """An examiner of a signed ticket, and `suspects` files in `folder`."""
    signed = api.sign(random_ticket(0), SecretKey.generate(), owner="Benchmark", triggers=False)
    weights, rng = signed.ticket.weights, np.random.default_rng(1)
    symmetry = Symmetry.from_json(signed.registered.registration.symmetry)
    choice = {number: rng.permutation(group.size) for number, group in enumerate(symmetry.groups)}
    files = [
        weights,
        {name: np.where(rng.random(value.shape) < 0.5, value, np.zeros_like(value)) for name, value in weights.items()},
        rearranged({name: np.asarray(value) for name, value in weights.items()}, symmetry, choice),
        *(random_ticket(seed).weights for seed in range(1, 5)),
    ]
    paths = [folder / f"file{number}.safetensors" for number in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        write_tensors(path, dict(content), {})
    links = [folder / f"suspect{number:04}.safetensors" for number in range(suspects)]
    for number, link in enumerate(links):
        os.link(paths[number % len(paths)], link)
    return api.examiner_of(signed), links


def resident() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def scan(examiner: Examiner, paths: list[Path], align: Align) -> Figures:
    """Scan `paths` in one process."""
    api.scan(examiner, paths[:7], align=align)
    tenth = len(paths) // 10
    begin = time.perf_counter(), time.process_time()
    first = api.scan(examiner, paths[:tenth], align=align)
    early = resident()
    both = {**first, **api.scan(examiner, paths[tenth:], align=align)}
    taken = time.perf_counter() - begin[0], time.process_time() - begin[1]
    return Figures(
        align=align,
        suspects=len(paths),
        matches=sum(getattr(result, "decision", "") == "MATCH" for result in both.values()),
        wall=1000 * taken[0] / len(paths),
        processor=1000 * taken[1] / len(paths),
        early=early,
        late=resident(),
    )


def main() -> None:
    """Scan without and with alignment, and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suspects", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1, help="also scan with this many processes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        examiner, paths = prepare(Path(name), options.suspects)
        for align in ("never", "always"):
            found = scan(examiner, paths, align)
            print(
                f"align {align:6}  {found.suspects} suspects, {found.matches} match: {found.wall:.1f} ms each on the clock, "
                f"{found.processor:.1f} ms of processor time (bar {BARS[align]:.0f} ms); "
                f"resident {found.early:.0f} MiB after a tenth, {found.late:.0f} MiB at the end"
            )
            if options.jobs > 1:
                begin = time.perf_counter()
                api.scan(examiner, paths, align=align, jobs=options.jobs)
                each = 1000 * (time.perf_counter() - begin) / len(paths)
                print(
                    f"align {align:6}  {options.jobs} processes: {each:.1f} ms each on the clock, their start included"
                )


if __name__ == "__main__":
    main()
