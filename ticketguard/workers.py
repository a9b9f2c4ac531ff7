"""Worker processes: spawned, as a fork of one with threads (numpy's, torch's) may hang, and gone when their parent is."""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import pkgutil
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from ticketguard.errors import StorageError, UsageError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

Given = ParamSpec("Given")
Found = TypeVar("Found")
Item = TypeVar("Item")

MOST_JOBS = 256

# Seconds that a worker which is asked to go may take to clean up.
PATIENCE = 10.0


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    briefed: bool = False


def cores() -> int:
    """CPU cores that this process may use, by its affinity where the system has one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Staff:
    """`size` processes that make themselves `ready` at once and then wait until `brief` says what they are to work on.

    `ready` names a module to import, or as `module:function` what to call. So they can start before their parent has imported
    torch itself, or knows the work: seconds that both spend side by side. A script that wants some needs the usual
    `if __name__ == "__main__"`. Leaving the context ends them, and with an error also what they are at. Ctrl-C is the parent's
    to answer. Raises `UsageError` for a size below 1 or above `MOST_JOBS`, and `StorageError` when they cannot be started.
    """

    def __init__(self, size: int, ready: str) -> None:
        if not 1 <= size <= MOST_JOBS:
            raise UsageError(f"1 to {MOST_JOBS} worker processes, not {size}")
        from multiprocessing import resource_tracker  # who only asks for MOST_JOBS does not pay for it

        self._workers: list[_Worker] = []
        self._threads: list[threading.Thread] = []
        self._brief: bytes | None = None
        try:
            # New processes must not hear Ctrl-C before they ignore it; the start of Python's own tracker would unblock it.
            resource_tracker.ensure_running()
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                for _ in range(size):
                    self._workers.append(_started(ready))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException as problem:
            self._end(at_once=True)
            if isinstance(problem, OSError):
                raise StorageError(f"cannot start {size} worker processes: {problem.strerror or problem}") from problem
            raise

    def brief(self, enter: Callable[Given, object], *arguments: Given.args, **named: Given.kwargs) -> None:
        """Let every worker call `enter` with these arguments before its first task; once for each staff."""
        if self._brief is not None:
            raise UsageError("these workers have been briefed already")
        self._brief = pickle.dumps((enter, arguments, named))

    def each(self, task: Callable[[Item], Found], items: Sequence[Item]) -> Iterator[tuple[Item, Found]]:
        """Items with what `task` made of them in a worker, as they end. What it takes and gives must be picklable.

        Raises the first error of a task, and `StorageError` when a worker died.
        """
        news: SimpleQueue[tuple[Item, Found] | BaseException | None] = SimpleQueue()
        running = self._start(task, deque(items), lambda item, found: news.put((item, found)), news.put)
        while running:
            one = news.get()
            if isinstance(one, BaseException):
                raise one
            if one is None:
                running -= 1
            else:
                yield one

    def share(
        self,
        task: Callable[[Item], Found],
        items: Sequence[Item],
        deliver: Callable[[Found], object],
        *,
        own: Callable[[Item], Found],
    ) -> None:
        """As `each`, while this process does some of the items itself, by `own`.

        Every result goes to `deliver` when it is there, also while `own` runs: one at a time, from any thread.
        """
        ends: SimpleQueue[BaseException | None] = SimpleQueue()
        waiting, turn = deque(items), threading.Lock()

        def ended(_: Item, found: Found) -> None:
            with turn:
                deliver(found)

        running = self._start(task, waiting, ended, ends.put)
        for item in _taken(waiting):
            ended(item, own(item))
        for _ in range(running):
            problem = ends.get()
            if problem is not None:
                raise problem

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(at_once=kind is not None)

    def _start(
        self,
        task: Callable[[Item], Found],
        waiting: deque[Item],
        ended: Callable[[Item, Found], None],
        over: Callable[[BaseException | None], None],
    ) -> int:
        """Serve as many workers as have use, each in a thread, and return how many: each says once that it is `over`."""
        serving = self._workers[: len(waiting)]
        for worker in serving:
            thread = threading.Thread(target=self._serve, args=(worker, task, waiting, ended, over), daemon=True)
            self._threads.append(thread)
            thread.start()
        return len(serving)

    def _serve(
        self,
        worker: _Worker,
        task: Callable[[Item], Found],
        waiting: deque[Item],
        ended: Callable[[Item, Found], None],
        over: Callable[[BaseException | None], None],
    ) -> None:
        try:
            if not worker.briefed:
                _tell(worker.pipe, self._brief or b"")
                worker.briefed = True
                if all(other.briefed for other in self._workers):
                    self._brief = b""  # it may be large
            for item in _taken(waiting):
                ended(item, _asked(worker.pipe, task, item))
        except BaseException as problem:  # raised where the results are waited for
            waiting.clear()
            over(problem)
        else:
            over(None)

    def _end(self, *, at_once: bool) -> None:
        workers, self._workers = self._workers, []
        for worker in workers:
            if not worker.briefed:  # perhaps it still imports: it has nothing to clean up
                worker.process.kill()
            elif at_once:
                worker.process.terminate()
            else:
                worker.pipe.close()
        for worker in workers:
            worker.process.join(PATIENCE)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
        for thread in self._threads:  # its worker is gone, and so is what it waits for
            thread.join(PATIENCE)
        for worker in workers:
            worker.pipe.close()


def _taken(waiting: deque[Item]) -> Iterator[Item]:
    """The items from the left, each for one taker only, until none is left."""
    while True:
        try:
            yield waiting.popleft()
        except IndexError:
            return


def _started(ready: str) -> _Worker:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    try:
        process = context.Process(target=_work, args=(ready, there), daemon=True)
        process.start()
    except BaseException:
        here.close()
        raise
    finally:
        there.close()  # so that the pipe ends with the worker
    return _Worker(process, here)


def _tell(pipe: Connection, message: bytes) -> None:
    with suppress(ConnectionError):  # a worker that has gone may have left a last word
        pipe.send_bytes(message)


def _asked(pipe: Connection, task: Callable[[Item], Found], item: Item) -> Found:
    """What a worker makes of an item."""
    _tell(pipe, pickle.dumps((task, item)))
    try:
        well, found = pipe.recv()
    except (EOFError, ConnectionError) as problem:
        raise StorageError("a worker process died, for want of memory perhaps: use fewer --jobs") from problem
    if not well:
        raise found
    answer: Found = found
    return answer


def _work(ready: str, pipe: Connection) -> None:
    # Ctrl-C reaches all processes of a terminal; the parent hears it and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # An exception, so that half-written files are cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    atexit.register(gc.freeze)  # as the command line does: no last search for garbage
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # the parent has no more to ask
        _answer_all(ready, pipe)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _answer_all(ready: str, pipe: Connection) -> None:
    """In a worker: get ready, read the brief, then answer until the pipe ends."""
    try:
        prepare = pkgutil.resolve_name(ready)
        if callable(prepare):
            prepare()
        brief = pipe.recv_bytes()
        if brief:
            enter, arguments, named = pickle.loads(brief)  # noqa: S301 - from the parent, through a pipe of its own
            del brief
            enter(*arguments, **named)
    except Exception as problem:
        pipe.send_bytes(_failure(problem))
        return
    while True:
        pipe.send_bytes(_answer(pipe.recv_bytes()))


def _answer(question: bytes) -> bytes:
    try:
        task, item = pickle.loads(question)  # noqa: S301 - from the parent
        return pickle.dumps((True, task(item)))
    except Exception as problem:
        return _failure(problem)


def _failure(problem: Exception) -> bytes:
    """An error for the parent to raise; its traceback here goes along as a note."""
    problem.add_note(f"in a worker process:\n{traceback.format_exc()}")
    try:
        answer = pickle.dumps((False, problem))
        pickle.loads(answer)  # noqa: S301 - an exception of more than one argument often cannot be read back
        return answer
    except Exception:
        return pickle.dumps((False, RuntimeError(f"{type(problem).__name__} in a worker process: {problem}")))


def _leave_with_parent() -> None:
    """A busy worker does not look at its pipe: without this it would go on when the parent is killed."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
