"""Engines: the same cells, one after the other, in processes, or on Ray. Results are delivered as they end, in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ticketguard.errors import UsageError
from ticketguard.suite.bench import Bench
from ticketguard.suite.cells import run_cell, trains
from ticketguard.suite.plan import Cell
from ticketguard.suite.results import Result, Timing
from ticketguard.workers import MOST_JOBS, Staff

Outcome = tuple[Result, Timing]
Deliver = Callable[[Outcome], object]


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """`jobs`: cells at a time; `address`: of a Ray cluster (None: a local one); `gpus`: share of a GPU for each cell.

    `staff`: workers of the engine `processes` that have been started already (None: it starts its own).
    """

    jobs: int = 1
    address: str | None = None
    gpus: float = 0.0
    staff: Staff | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.jobs <= MOST_JOBS or not 0 <= self.gpus <= 64:
            raise UsageError(f"engine: at least one job and at most {MOST_JOBS}, and a GPU share that is not negative")


Engine = Callable[[Bench, Sequence[Cell], EngineOptions, Deliver], None]


def serial(bench: Bench, cells: Sequence[Cell], options: EngineOptions, deliver: Deliver) -> None:  # noqa: ARG001
    """In this process, in the plan's order."""
    for cell in cells:
        deliver(run_cell(bench, cell))


def processes(bench: Bench, cells: Sequence[Cell], options: EngineOptions, deliver: Deliver) -> None:
    """`jobs` at a time, in workers and in this process. Cells that train go first: short ones last let all end together."""
    jobs = min(options.jobs, len(cells))
    if jobs < 2:
        serial(bench, cells, options, deliver)
        return
    with options.staff or Staff(jobs - 1, f"{__name__}:warm") as staff:
        staff.brief(_enter, bench)
        staff.share(_run_here, sorted(cells, key=trains, reverse=True), deliver, own=partial(run_cell, bench))


def warm() -> None:
    """A process's first optimizer imports a second's worth of PyTorch (2.13): better while the brief is still to come."""
    torch.optim.SGD([torch.zeros(1)])


def on_ray(bench: Bench, cells: Sequence[Cell], options: EngineOptions, deliver: Deliver) -> None:
    """One Ray task per cell, on a local or a given cluster. The signed folder must be readable there under the same path."""
    try:
        import ray  # the extra `ray`: only this engine needs it
    except ImportError as problem:
        raise UsageError("engine ray needs Ray: pip install 'ticketguard[ray]'") from problem
    if not ray.is_initialized():
        local: dict[str, Any] = {"num_cpus": options.jobs} if options.address is None else {}
        ray.init(address=options.address, include_dashboard=False, log_to_driver=False, **local)
    task = ray.remote(num_cpus=1, num_gpus=options.gpus)(run_cell)
    shared = ray.put(bench)
    waiting = [task.remote(shared, cell) for cell in cells]
    while waiting:
        done, waiting = ray.wait(waiting)
        for outcome in ray.get(done):
            deliver(outcome)


ENGINES: dict[str, Engine] = {"serial": serial, "processes": processes, "ray": on_ray}

_bench: list[Bench] = []


def _enter(bench: Bench) -> None:
    _bench[:] = [bench]


def _run_here(cell: Cell) -> Outcome:
    return run_cell(_bench[0], cell)
