"""Searches that differ in nothing but their seed, side by side in processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ticketguard.data import Dataset
from ticketguard.errors import UsageError
from ticketguard.finding.config import FindConfig, FindResult
from ticketguard.finding.imp import find
from ticketguard.workers import Staff


def find_many(
    config: FindConfig,
    seeds: Sequence[int],
    dataset: Dataset,
    directory: Path | str,
    *,
    jobs: int = 1,
    threads: int | None = None,
) -> Iterator[tuple[int, FindResult]]:
    """`find` for each of `seeds`, `jobs` at a time, each in its own folder `directory`/seed-N and resumable there.

    Yields seed and result as each ends; the results do not depend on `jobs` when `threads` is given. With None, the processes
    share PyTorch's threads equally. Raises `UsageError` for no jobs, no seed or one given twice, and as `find` and
    `Staff` do.
    """
    if jobs < 1 or not seeds or len(set(seeds)) != len(seeds):
        raise UsageError("several searches need at least one job, and different seeds")
    search = partial(_search, config=config, dataset=dataset, directory=Path(directory), threads=threads)
    jobs = min(jobs, len(seeds))
    if jobs == 1:
        for seed in seeds:
            yield seed, search(seed)
        return
    share = max(1, torch.get_num_threads() // jobs)
    with Staff(jobs, __name__) as staff:
        staff.brief(torch.set_num_threads, share)
        yield from staff.each(search, seeds)


def _search(seed: int, *, config: FindConfig, dataset: Dataset, directory: Path, threads: int | None) -> FindResult:
    return find(replace(config, seed=seed), dataset, directory / f"seed-{seed}", threads=threads)
