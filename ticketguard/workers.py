"""Worker processes: spawned, as a fork of one with threads (numpy's, torch's) may hang, and gone when their parent is."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def pool(jobs: int, enter: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()) -> ProcessPoolExecutor:
    """`jobs` spawned processes, each of which calls `enter(*arguments)` once before its first task."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_enter, initargs=(enter, arguments))


def _enter(enter: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    if enter is not None:
        enter(*arguments)


def _leave_with_parent() -> None:
    """A killed parent closes no queue: without this, a worker would wait on it for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
