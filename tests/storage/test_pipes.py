"""Messages to a process that may be slow, asleep or gone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import IO

import pytest

from ticketguard.storage.pipes import receive, send

MUCH = bytes(range(256)) * 4096


@pytest.fixture
def ends() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    source, target = os.pipe()
    with os.fdopen(source, "rb", buffering=0) as reading, os.fdopen(target, "wb", buffering=0) as writing:
        yield reading, writing


def soon() -> float:
    return time.monotonic() + 0.2


def test_more_than_a_pipe_holds_arrives_whole(ends: tuple[IO[bytes], IO[bytes]]) -> None:
    reading, writing = ends
    late = time.monotonic() + 60
    sender = threading.Thread(target=send, args=(writing, MUCH, late))
    sender.start()
    assert receive(reading, len(MUCH), late) == MUCH
    sender.join()


def test_nobody_waits_for_ever(ends: tuple[IO[bytes], IO[bytes]]) -> None:
    reading, writing = ends
    with pytest.raises(TimeoutError):
        receive(reading, 1, soon())
    with pytest.raises(TimeoutError):
        send(writing, MUCH, soon())


def test_ends_that_are_closed(ends: tuple[IO[bytes], IO[bytes]]) -> None:
    reading, writing = ends
    send(writing, b"abc", soon())
    writing.close()
    with pytest.raises(EOFError):
        receive(reading, 4, soon())
    source, target = os.pipe()
    os.close(source)
    with os.fdopen(target, "wb", buffering=0) as alone, pytest.raises(BrokenPipeError):
        send(alone, b"abc", soon())
