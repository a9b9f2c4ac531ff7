"""Worker processes: they are briefed once each, end with their parent's wish, and one that dies is an error of one line."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ticketguard.errors import StorageError, UsageError
from ticketguard.workers import MOST_JOBS, Staff

heard: list[int] = []

START = """
import os, resource, signal, sys, time
from ticketguard.errors import StorageError
from ticketguard.workers import Staff

def pid(_):
    time.sleep(0.3)
    return os.getpid()

if __name__ == "__main__":  # whoever runs these tests in the background may have had it ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
"""

WORKING = """
if __name__ == "__main__":
    with Staff(2, "json") as staff:
        print(*{pid for _, pid in staff.each(pid, range(2))}, flush=True)
        list(staff.each(time.sleep, (60, 60)))
"""

STARTING = """
if __name__ == "__main__":
    print("starting", flush=True)
    with Staff(8, "json") as staff:
        list(staff.each(time.sleep, [60] * 8))
"""

IGNORING = """
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Staff(2, "json") as staff:
        list(staff.each(pid, range(2)))
        print("started", flush=True)
        print(len(list(staff.each(pid, range(6)))), flush=True)
"""

LARGE_BRIEF = """
if __name__ == "__main__":
    try:
        with Staff(2, "no.such.module") as staff:
            staff.brief(print, bytes(8_000_000))
            list(staff.each(pid, range(2)))
    except ModuleNotFoundError as problem:
        print(problem)
"""

TOO_MANY_FILES = """
if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    try:
        Staff(60, "json")
    except StorageError as problem:
        print(problem)
"""


def listen(number: int) -> None:
    heard.append(number)


def tell(extra: int) -> tuple[int, list[int]]:
    time.sleep(0.05)
    return os.getpid(), [number + extra for number in heard]


def square(number: int) -> int:
    return number * number


def slow_square(number: int) -> int:
    time.sleep(0.01)
    return number * number


def die(number: int) -> int:
    if number >= 5:
        os._exit(3)
    time.sleep(0.01)
    return number


def object_to_quarrel_with(number: int) -> object:
    if number == 1:
        raise UsageError("one is too many")
    if number == 2:
        return lambda: None  # cannot be pickled
    raise UnpicklableError(number, "two arguments")


class UnpicklableError(Exception):
    def __init__(self, number: int, word: str) -> None:
        super().__init__(f"{word}, of which one is {number}")


def make_ready() -> None:
    heard.append(-1)


def script(body: str, folder: Path) -> subprocess.Popen[str]:
    path = folder / "script.py"
    path.write_text(START + body)
    return subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def no_children() -> bool:
    return not multiprocessing.active_children()


def test_each_worker_hears_the_brief_once() -> None:
    with Staff(2, __name__) as staff:
        staff.brief(listen, 7)
        with pytest.raises(UsageError, match="already"):
            staff.brief(listen, 8)
        told = [answer for _, answer in staff.each(tell, [1] * 12)]
        assert sorted(staff.each(square, range(5))) == [(n, n * n) for n in range(5)]
    assert {tuple(numbers) for _, numbers in told} == {(8,)}
    assert len({pid for pid, _ in told} - {os.getpid()}) == 2
    assert heard == []
    assert no_children()


def test_workers_make_themselves_ready_before_they_are_briefed() -> None:
    with Staff(1, f"{__name__}:make_ready") as staff:
        staff.brief(listen, 7)
        assert [answer[1] for _, answer in staff.each(tell, [0])] == [[-1, 7]]


def test_shared_work_is_done_once_and_delivered_while_this_process_is_busy() -> None:
    delivered, enough = [], threading.Event()

    def deliver(found: int) -> None:
        delivered.append(found)
        if len(delivered) == 10:
            enough.set()

    def own(number: int) -> int:
        assert enough.wait(60)  # the workers' results come in the meantime
        return number * number

    with Staff(2, __name__) as staff:
        staff.share(slow_square, range(40), deliver, own=own)
    assert sorted(delivered) == [n * n for n in range(40)]


def test_a_result_that_cannot_be_delivered_is_an_error() -> None:
    def deliver(found: int) -> None:
        if found == 9:
            raise StorageError("the disk is full")

    with pytest.raises(StorageError, match="full"), Staff(2, __name__) as staff:
        staff.share(slow_square, range(6), deliver, own=slow_square)
    assert no_children()


@pytest.mark.parametrize("work", [[], [1]])
def test_a_staff_without_work_ends(work: list[int]) -> None:
    with Staff(2, __name__) as staff:
        staff.brief(listen, 1)
        assert dict(staff.each(square, work)) == {n: n * n for n in work}
    assert no_children()


def test_an_error_of_the_parent_ends_its_staff() -> None:
    with pytest.raises(UsageError, match="something else"), Staff(2, __name__):
        raise UsageError("something else went wrong")
    assert no_children()


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_worker_that_dies_is_one_error_and_takes_the_others_with_it(size: int) -> None:
    came = []
    with pytest.raises(StorageError, match="died"), Staff(size, __name__) as staff:
        came += staff.each(die, range(2000))
    assert no_children()
    with pytest.raises(StorageError, match="died"), Staff(size, __name__) as staff:
        staff.share(die, range(4, 2000), came.append, own=slow_square)
    assert no_children()


@pytest.mark.parametrize(("number", "kind", "words"), [
    (1, UsageError, "one is too many"), (2, Exception, "pickle"), (3, RuntimeError, "UnpicklableError.*one is 3"),
])  # fmt: skip
def test_errors_of_tasks_arrive_as_they_are(number: int, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught, Staff(1, __name__) as staff:
        list(staff.each(object_to_quarrel_with, [number]))
    assert number == 3 or "object_to_quarrel_with" in caught.value.__notes__[0] or "dumps" in caught.value.__notes__[0]


def test_a_worker_that_cannot_get_ready_says_why() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'no'"), Staff(2, "no.such.module") as staff:
        list(staff.each(square, range(2)))


def test_a_brief_that_cannot_be_sent_is_an_error_at_once() -> None:
    with pytest.raises(Exception, match="pickle"), Staff(1, __name__) as staff:
        staff.brief(lambda: None)
    assert no_children()


@pytest.mark.parametrize("size", [0, -1, MOST_JOBS + 1])
def test_sizes(size: int) -> None:
    with pytest.raises(UsageError, match="worker processes"):
        Staff(size, __name__)


@pytest.mark.slow
@pytest.mark.parametrize("how", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_workers_leave_with_their_parent(how: signal.Signals, tmp_path: Path) -> None:
    with script(WORKING, tmp_path) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        if how == signal.SIGINT:
            os.killpg(parent.pid, how)  # as a terminal does
        else:
            parent.send_signal(how)
        _, errors = parent.communicate(timeout=30)
    assert errors.count("KeyboardInterrupt") == (how == signal.SIGINT)
    deadline = time.monotonic() + 30
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 0.03, 0.1, 0.4])
def test_an_interruption_while_workers_start_is_heard_once(after: float, tmp_path: Path) -> None:
    with script(STARTING, tmp_path) as parent:
        assert parent.stdout.readline() == "starting\n"
        time.sleep(after)
        os.killpg(parent.pid, signal.SIGINT)
        _, errors = parent.communicate(timeout=60)
    assert errors.count("KeyboardInterrupt") == 1


@pytest.mark.slow
def test_an_interruption_that_the_parent_ignores_reaches_no_worker(tmp_path: Path) -> None:
    with script(IGNORING, tmp_path) as parent:
        assert parent.stdout.readline() == "started\n"
        os.killpg(parent.pid, signal.SIGINT)
        output, errors = parent.communicate(timeout=60)
    assert (output, errors) == ("6\n", "")


@pytest.mark.parametrize(
    ("body", "words"), [(LARGE_BRIEF, "No module named 'no'"), (TOO_MANY_FILES, "cannot start 60")]
)
def test_a_start_that_fails_ends_in_an_error_and_not_in_waiting(body: str, words: str, tmp_path: Path) -> None:
    with script(body, tmp_path) as parent:
        output, errors = parent.communicate(timeout=60)
    assert output.count("\n") == 1
    assert words in output
    assert errors == ""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
