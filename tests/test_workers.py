"""Worker processes: they are briefed once each, end with their parent's wish, and one that dies is an error of one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ticketguard.errors import StorageError, UsageError
from ticketguard.workers import MOST_JOBS, Staff

heard: list[int] = []

SCRIPT = """
import os, time
from ticketguard.workers import Staff

if __name__ == "__main__":
    with Staff(2, "json") as staff:
        staff.brief(time.sleep, 0)
        pids = set()
        while len(pids) < 2:
            pids.add(staff.submit(os.getpid).result())
        print(*pids, flush=True)
        time.sleep(60)
"""


def listen(number: int) -> None:
    heard.append(number)


def tell(extra: int = 0) -> tuple[int, list[int]]:
    return os.getpid(), [number + extra for number in heard]


def square(number: int) -> int:
    return number * number


def die() -> None:
    os._exit(3)


def ask(staff: Staff, task: Callable[[], object]) -> object:
    with staff:
        staff.brief(listen, 1)
        return staff.submit(task).result()


def make_ready() -> None:
    heard.append(-1)


def test_each_worker_hears_the_brief_once() -> None:
    with Staff(2, __name__) as staff:
        staff.brief(listen, 7)
        with pytest.raises(UsageError, match="already"):
            staff.brief(listen, 8)
        told = [staff.submit(tell, extra=1).result() for _ in range(8)]
        assert list(staff.map(square, range(5), chunk=2)) == [0, 1, 4, 9, 16]
    assert {tuple(numbers) for _, numbers in told} == {(8,)}
    assert os.getpid() not in {pid for pid, _ in told}
    assert heard == []


def test_workers_make_themselves_ready_before_they_are_briefed() -> None:
    with Staff(1, f"{__name__}:make_ready") as staff:
        staff.brief(listen, 7)
        assert staff.submit(tell).result()[1] == [-1, 7]


def test_a_staff_without_work_ends() -> None:
    with pytest.raises(UsageError, match="something else"), Staff(2, __name__):
        raise UsageError("something else went wrong")


def test_a_worker_that_dies() -> None:
    with pytest.raises(StorageError, match="died"):
        ask(Staff(1, __name__), die)


def test_a_brief_that_nobody_reads_does_not_hold_the_parent() -> None:
    with pytest.raises(StorageError, match="died"):
        ask(Staff(1, "no.such.module"), os.getpid)


@pytest.mark.parametrize("size", [0, -1, MOST_JOBS + 1])
def test_sizes(size: int) -> None:
    with pytest.raises(UsageError, match="worker processes"):
        Staff(size, __name__)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_leave_with_their_parent(how: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as parent:  # fmt: skip
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


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
