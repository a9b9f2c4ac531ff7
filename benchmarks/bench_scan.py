"""Many suspects in one call: milliseconds a suspect with and without alignment, memory before and after.

    python benchmarks/bench_scan.py                # 1,000 suspects of ResNet-20 size, a few minutes
    python benchmarks/bench_scan.py --suspects 100 --jobs 1

Suspects are hard links to a few files: the signed model, pruned by half, with its channels permuted, and four unrelated ones
of the same network and density. Files are in the page cache. Bars: 10 ms a suspect without alignment, 60 ms with it, memory
flat. First one process, clock and processor time: the first suspects (drawing the carriers, importing the solver) are not
counted. Then as many as `verify` takes (or --jobs), clock time, the start of the processes and their first suspects included.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ticketguard import api
from ticketguard.claims.keys import SecretKey
from ticketguard.graph.groups import Symmetry
from ticketguard.graph.layout import rearranged
from ticketguard.masks import Mask
from ticketguard.storage.tensors import write_tensors
from ticketguard.tickets import Architecture, Ticket
from ticketguard.verify.scan import jobs_for
from ticketguard.verify.verifier import Align, Examiner

ARCHITECTURE = Architecture(name="resnet20", arguments={"classes": 10, "in_channels": 3, "image_size": 32})
DENSITY = 0.194
BARS: dict[Align, float] = {"never": 10.0, "always": 60.0}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One scan: milliseconds a suspect (clock, processor time of this process), resident MiB after a tenth and at the end."""

    align: Align
    jobs: int
    suspects: int
    matches: int
    wall: float
    processor: float
    early: float
    late: float


def random_ticket(seed: int) -> Ticket:
    """ResNet-20 with random masks at the paper's density."""
    # Worker processes import this file again, and need no torch.
    import torch

    from ticketguard.models import build, prunable

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
    """Scan `paths` in this process, after a few that are not counted."""
    api.scan(examiner, paths[:7], align=align)
    tenth = len(paths) // 10
    begin = time.perf_counter(), time.process_time()
    first = api.scan(examiner, paths[:tenth], align=align)
    early = resident()
    both = {**first, **api.scan(examiner, paths[tenth:], align=align)}
    return _figures(align, 1, both, begin, early)


def shared(examiner: Examiner, paths: list[Path], align: Align, jobs: int) -> Figures:
    """Scan `paths` in `jobs` fresh processes; memory is this one's."""
    begin, early = (time.perf_counter(), time.process_time()), resident()
    return _figures(align, jobs, api.scan(examiner, paths, align=align, jobs=jobs), begin, early)


def _figures(align: Align, jobs: int, found: dict, begin: tuple[float, float], early: float) -> Figures:
    taken = time.perf_counter() - begin[0], time.process_time() - begin[1]
    return Figures(
        align=align,
        jobs=jobs,
        suspects=len(found),
        matches=sum(getattr(result, "decision", "") == "MATCH" for result in found.values()),
        wall=1000 * taken[0] / len(found),
        processor=1000 * taken[1] / len(found),
        early=early,
        late=resident(),
    )


def main() -> None:
    """Scan without and with alignment, by one process and by several, and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suspects", type=int, default=1000)
    parser.add_argument("--jobs", type=int, help="processes of the second scan; 1 for none")
    parser.add_argument("--shared-only", action="store_true", help="leave out the scans by one process")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    every: list[Figures] = []
    with tempfile.TemporaryDirectory() as name:
        examiner, paths = prepare(Path(name), options.suspects)
        jobs = options.jobs or jobs_for(paths)
        for align in BARS:
            if not options.shared_only:
                every.append(scan(examiner, paths, align))
            if jobs > 1 or options.shared_only:
                every.append(shared(examiner, paths, align, jobs))
    if options.json:
        print(json.dumps([asdict(figures) for figures in every]))
        return
    for figures in every:
        own = f", {figures.processor:.1f} ms of processor time" if figures.jobs == 1 else ""
        print(
            f"align {figures.align:6}  {figures.jobs} {'process' if figures.jobs == 1 else 'processes'}: "
            f"{figures.suspects} suspects, {figures.matches} match, {figures.wall:.1f} ms each on the clock{own} "
            f"(bar {BARS[figures.align]:.0f} ms); resident {figures.early:.0f} MiB, then {figures.late:.0f} MiB"
        )


if __name__ == "__main__":
    main()
