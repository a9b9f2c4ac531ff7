"""Many suspects against one signature, one after the other or in several processes: same verdicts, same order."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from ticketguard.errors import TicketguardError, UsageError
from ticketguard.evidence import Verdict
from ticketguard.storage.suspects import read_any
from ticketguard.storage.tensors import INDEX_SUFFIX
from ticketguard.verify.verifier import Align, Examiner
from ticketguard.workers import MOST_JOBS, Staff, cores

Result = Verdict | TicketguardError

# Suspects handed to a process at a time: few enough that all processes end together.
MOST_AT_ONCE = 16
# Suspects that pay for another process, whose start takes as long as some fifty of a ResNet-20's size as stored.
WORTH_A_PROCESS = 50
# Bytes of the largest suspects that processes may be at together; aligning one takes several times its size.
MOST_TOGETHER = 1 << 29

# In a process of a scan: its examiner.
_mine: list[Examiner] = []


def scan(examiner: Examiner, suspects: Sequence[Path], *, align: Align = "auto", jobs: int = 1) -> dict[Path, Result]:
    """Verify many suspects; the number of tests paid for counts all of them.

    A file that cannot be read gives its error in place of a verdict, so that one bad file does not stop a scan; so does one
    on which a bug of ours shows, after a traceback on standard error, unless it is the only suspect. With `jobs`
    over 1 that many fresh processes share the work, and `examiner` (so its `reference`) must be picklable; a script that asks
    for them needs the usual `if __name__ == "__main__"`. Raises `StorageError` when a process dies.
    """
    if not 1 <= jobs <= MOST_JOBS:
        raise UsageError(f"a scan takes 1 to {MOST_JOBS} processes, found {jobs}")
    paths, count = list(dict.fromkeys(suspects)), len(suspects)
    jobs = min(jobs, len(paths))
    if jobs <= 1:
        return {path: _examine(examiner, path, align, count) for path in paths}
    share = max(1, min(MOST_AT_ONCE, len(paths) // (4 * jobs)))
    found: dict[Path, Result] = {}
    with Staff(jobs, __name__) as staff:
        staff.brief(_begin, examiner)
        some = [paths[start : start + share] for start in range(0, len(paths), share)]
        for part, results in staff.each(partial(_work, align=align, count=count), some):
            found.update(zip(part, results, strict=True))
    return {path: found[path] for path in paths}


def jobs_for(suspects: Sequence[Path]) -> int:
    """Processes that a scan of these suspects gains by: one for every `WORTH_A_PROCESS`, a core each, fewer for large files."""
    wanted = min(cores(), len(suspects) // WORTH_A_PROCESS, MOST_JOBS)
    if wanted <= 1:
        return 1
    # An index of shards is as large as the folder that they lie in.
    places = {path.parent if path.name.endswith(INDEX_SUFFIX) else path for path in suspects}
    return max(1, min(wanted, MOST_TOGETHER // max(1, *map(_bytes, places))))


def _bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder. What cannot be read is none."""
    try:
        files = list(path.iterdir()) if path.is_dir() else [path]
    except OSError:
        return 0
    total = 0
    for file in files:
        with suppress(OSError):
            total += file.stat().st_size
    return total


def _begin(examiner: Examiner) -> None:
    _mine[:] = [examiner]


def _work(paths: Sequence[Path], align: Align, count: int) -> list[Result]:
    return [_examine(_mine[0], path, align, count) for path in paths]


def _examine(examiner: Examiner, path: Path, align: Align, count: int) -> Result:
    """One suspect; its file is closed when this returns."""
    try:
        return examiner.verify(read_any(path), suspects=count, align=align)
    except TicketguardError as problem:
        # A traceback would keep the frames, and with them the mapped file, for as long as the error.
        problem.__cause__ = problem.__context__ = None
        return problem.with_traceback(None)
    except Exception as problem:
        if count == 1:
            raise
        # Our bug, and its traceback is what a report of it needs; but one hostile file must not hide what the others are.
        traceback.print_exc()
        return TicketguardError(
            f"{path}: cannot be examined, for a bug in ticketguard: {type(problem).__name__}: {problem}"
        )
