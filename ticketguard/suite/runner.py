"""Run a suite: skip what is finished, run the rest on an engine, write every cell as it ends, and sum up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from ticketguard.bundle import Bundle
from ticketguard.data import Dataset
from ticketguard.errors import UsageError
from ticketguard.storage.atomic import make_folder, running
from ticketguard.storage.documents import append_jsonl
from ticketguard.suite.bench import Bench, prepare
from ticketguard.suite.cells import unsigned_matters
from ticketguard.suite.engines import ENGINES, EngineOptions, Outcome
from ticketguard.suite.plan import Cell, Plan, preset
from ticketguard.suite.results import (
    CELLS_FILE,
    Result,
    SuiteResult,
    line_of,
    read_cells,
    require_same_suite,
    write_results,
)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a suite is: cells `done` of `total`, seconds left at this pace, and the result that just came (None: resumed)."""

    done: int
    total: int
    seconds_left: float
    result: Result | None


def run_suite(
    signed: Bundle | Path | str,
    dataset: Dataset,
    plan: Plan | str = "quick",
    out: Path | str | None = None,
    *,
    passphrase: str,
    unsigned: Path | str | None = None,
    threads: int = 1,
    device: str = "cpu",
    engine: str = "serial",
    options: EngineOptions | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> SuiteResult:
    """Attack the model of a signed folder in every way of `plan` (a preset's name or a `Plan`) and measure what is left.

    `dataset`: the attacker's training images and the test images on which accuracy is measured; `unsigned`: the ticket before
    signing, for controls. See `prepare` and `run_bench`, whose errors are raised here.
    """
    bundle = signed if isinstance(signed, Bundle) else Bundle(Path(signed))
    ticket = None if unsigned is None else Path(unsigned)
    bench = prepare(bundle, passphrase, dataset, unsigned=ticket, threads=threads, device=device)
    chosen = preset(plan) if isinstance(plan, str) else plan
    return run_bench(
        bench, chosen, None if out is None else Path(out), engine=engine, options=options, on_progress=on_progress
    )


def run_bench(
    bench: Bench,
    plan: Plan,
    out: Path | None = None,
    *,
    engine: str = "serial",
    options: EngineOptions | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> SuiteResult:
    """Every cell of `plan` on `bench`. With a folder `out`, each is written as it ends and a later call skips it.

    The result is the same from every engine, and after any interruption, on one machine. Raises `UsageError` for an unknown
    engine and for a folder that holds another suite or where one runs, and as the storage layer does.
    """
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}: one of {', '.join(ENGINES)}")
    # The folder is made last: by then the model was read and measured, and the engine, which only starts without cells, works.
    wanted, accuracy = {cell.digest(bench.digest): cell for cell in plan.cells()}, bench.accuracy
    ENGINES[engine](bench, [], options or EngineOptions(), lambda outcome: outcome)
    with running(make_folder(out)) if out is not None else nullcontext():
        if out is not None:
            grown = bench.digest_without_unsigned
            require_same_suite(out, plan.name, bench.digest, wanted, settings=bench.settings, grown=grown)
        finished = {} if out is None else read_cells(out)
        outcomes = {digest: found for digest, cell in wanted.items() if (found := _known(bench, cell, finished))}
        missing = [cell for digest, cell in wanted.items() if digest not in outcomes]
        started, resumed = time.monotonic(), len(outcomes)
        _tell(on_progress, len(outcomes), len(wanted), resumed, started, None)

        def deliver(outcome: Outcome) -> None:
            result, timing = outcome
            outcomes[result.digest] = outcome
            if out is not None:
                append_jsonl(out / CELLS_FILE, line_of(result, timing))
            _tell(on_progress, len(outcomes), len(wanted), resumed, started, result)

        ENGINES[engine](bench, missing, options or EngineOptions(), deliver)
        suite = SuiteResult(
            plan=plan.name,
            subject=bench.digest,
            accuracy=accuracy,
            dataset=bench.dataset.name,
            results=tuple(outcomes[digest][0] for digest in wanted),
            timings={digest: outcomes[digest][1] for digest in wanted},
            settings=bench.settings,
        )
        if out is not None:
            write_results(out, suite)
    return suite


def _known(bench: Bench, cell: Cell, finished: Mapping[str, Outcome]) -> Outcome | None:
    """The outcome of a cell that ended before, on this bench, or where its `unsigned` cannot matter on the same without it."""
    digest = cell.digest(bench.digest)
    if digest in finished or unsigned_matters(cell):
        return finished.get(digest)
    before = finished.get(cell.digest(bench.digest_without_unsigned))
    return None if before is None else (replace(before[0], digest=digest), before[1])


def _tell(
    on_progress: Callable[[Progress], None] | None,
    done: int,
    total: int,
    resumed: int,
    started: float,
    result: Result | None,
) -> None:
    if on_progress is not None:
        pace = (time.monotonic() - started) / max(done - resumed, 1)
        on_progress(Progress(done=done, total=total, seconds_left=pace * (total - done), result=result))
