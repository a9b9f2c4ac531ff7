"""Pipes to a child process that is not trusted to read or to answer: whole messages, within a deadline."""

from __future__ import annotations

import os
import selectors
import time
from typing import IO


def send(pipe: IO[bytes], content: bytes, deadline: float) -> None:
    """Write all of `content` to an unbuffered pipe; `deadline` by the monotonic clock.

    Raises `BrokenPipeError` when nobody reads any more and `TimeoutError` when it is not all taken in time. Nothing is copied.
    """
    # A pipe that blocks takes a large write whole, however long its reader sleeps.
    os.set_blocking(pipe.fileno(), False)
    left = memoryview(content)
    while left:
        _wait(pipe, selectors.EVENT_WRITE, deadline)
        left = left[os.write(pipe.fileno(), left) :]


def receive(pipe: IO[bytes], count: int, deadline: float) -> bytes:
    """The next `count` bytes of an unbuffered pipe. Raises `EOFError` when it ends before, and `TimeoutError`."""
    data = bytearray()
    while len(data) < count:
        _wait(pipe, selectors.EVENT_READ, deadline)
        piece = os.read(pipe.fileno(), count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def _wait(pipe: IO[bytes], event: int, deadline: float) -> None:
    # Not `select.select`, which knows the first 1024 files of a process only.
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, event)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            raise TimeoutError
