"""Worker processes: spawned, as a fork of one with threads (numpy's, torch's) may hang, and gone when their parent is."""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import pickle
import pkgutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from ticketguard.errors import StorageError, UsageError

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

Given = ParamSpec("Given")
Found = TypeVar("Found")
Item = TypeVar("Item")

MOST_JOBS = 256


class Staff:
    """`size` processes that make themselves `ready` at once and then wait until `brief` says what they are to work on.

    `ready` names a module to import, or as `module:function` what to call. So they can start before their parent has imported
    torch itself, or knows the work: seconds that both spend side by side. A script that wants some needs the usual
    `if __name__ == "__main__"`. As a context it ends them: tasks that nobody has begun are dropped, and one that has begun is
    waited for. Raises `UsageError` for a size below 1 or above `MOST_JOBS`; on leaving, `StorageError` if a worker died.
    """

    def __init__(self, size: int, ready: str) -> None:
        if not 1 <= size <= MOST_JOBS:
            raise UsageError(f"1 to {MOST_JOBS} worker processes, not {size}")
        context = multiprocessing.get_context("spawn")
        self.size = size
        self._briefs: Queue[bytes] = context.Queue()
        # A worker that died leaves its copy unread, which would hold this process at its end.
        self._briefs.cancel_join_thread()
        self._briefed = False
        self._pool = ProcessPoolExecutor(size, mp_context=context, initializer=_begin, initargs=(ready, self._briefs))
        for _ in range(size):  # the pool starts a process for a task, not before
            self._pool.submit(_arrive)

    def brief(self, enter: Callable[Given, object], *arguments: Given.args, **named: Given.kwargs) -> None:
        """Let every worker call `enter` with these arguments before its first task; once for each staff."""
        if self._briefed:
            raise UsageError("these workers have been briefed already")
        self._briefed = True
        self._send(pickle.dumps((enter, arguments, named)))

    def submit(self, task: Callable[Given, Found], *arguments: Given.args, **named: Given.kwargs) -> Future[Found]:
        """Have a worker call `task`, once all are briefed. What it takes and returns must be picklable."""
        return self._pool.submit(task, *arguments, **named)

    def map(self, task: Callable[[Item], Found], items: Iterable[Item], *, chunk: int = 1) -> Iterator[Found]:
        """The results of `task` for each item, in order; `chunk` items travel together."""
        return self._pool.map(task, items, chunksize=chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._briefed:
            self._send(b"")
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._briefs.close()
        if isinstance(problem, BrokenProcessPool):
            raise StorageError("a worker process died, for want of memory perhaps: use fewer --jobs") from problem

    def _send(self, message: bytes) -> None:
        for _ in range(self.size):
            self._briefs.put(message)


def _begin(ready: str, briefs: Queue[bytes]) -> None:
    # Ctrl-C reaches the workers too: the parent says what there is to say.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    atexit.register(gc.freeze)  # as the command line does: no last search for garbage
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    prepare = pkgutil.resolve_name(ready)
    if callable(prepare):
        prepare()
    message = briefs.get()
    if message:
        enter, arguments, named = pickle.loads(message)  # noqa: S301 - from the parent, through a pipe of its own
        enter(*arguments, **named)


def _arrive() -> None:
    """The task for which the pool starts a process."""


def _leave_with_parent() -> None:
    """A killed parent closes no queue: without this, a worker would wait on it for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
