"""PyTorch weight files (.pt, .pth): read by a child process that may use little memory, time and disk.

Such a file is a program for an unpickler. `torch.load(weights_only=True)` refuses the dangerous programs, but a 262 kB
file was seen to inflate to 268 MB and a 1.5 kB file to declare 40 GB; so a child process limits itself before it looks at
the file, converts the tensors to safetensors in a temporary folder, and this process reads only the strict format.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from ticketguard.errors import FormatError, StorageError
from ticketguard.storage.atomic import open_regular, reason
from ticketguard.storage.hostile import visible
from ticketguard.storage.pipes import send
from ticketguard.storage.tensors import TensorFile, read_tensors

FILE_LIMIT = 64 << 30
CHILD = "ticketguard.storage.torchchild"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Seconds after which it is looked whether the process is still there.
LOOK = 1.0
ADVICE = "save the state_dict as safetensors instead"


def read_torch(path: Path, *, timeout: float | None = None, whole: bool = False) -> TensorFile:
    """The tensors of a .pt or .pth file under the names of its state dict; everything that is no tensor is dropped.

    A state dict may be wrapped, as in {"state_dict": ...}; tensors beside it are not read, but their names and shapes stand in
    the metadata `UNREAD`. With `whole` such wrappers stay in the names, beside whatever else the checkpoint holds. `timeout`
    is in seconds (default: 120, and 1 more for every 20 MB). torch is not imported here. Raises `FormatError` when the file
    is not plain weights or asks for more memory or time than its size explains, `StorageError` when it cannot be read.
    """
    path = Path(path)
    with open_regular(path) as handle:
        size = os.fstat(handle.fileno()).st_size
    if size > FILE_LIMIT:
        raise FormatError(f"{path}: larger than {FILE_LIMIT >> 30} GiB; {ADVICE}")
    try:
        with tempfile.TemporaryDirectory(prefix="ticketguard-", ignore_cleanup_errors=True) as folder:
            target = Path(folder) / "weights.safetensors"
            failure = _convert(path, target, timeout=timeout or 120 + size / 20e6, whole=whole)
            if failure is not None:
                raise FormatError(f"{path}: cannot be read as PyTorch weights: {failure}; {ADVICE}")
            # The mapping outlives the temporary file: its name goes away, its pages stay.
            converted = read_tensors(target)
    except OSError as error:
        raise StorageError(f"{path}: cannot be converted: {reason(error)}") from error
    converted.path = path
    return converted


def _convert(path: Path, target: Path, *, timeout: float, whole: bool) -> str | None:
    """Have the child convert the file; None when it wrote `target`, else the reason in a few words."""
    complaint = target.with_name("complaint.txt")
    request = {"source": os.path.abspath(path), "target": str(target), "complaint": str(complaint), "whole": whole}
    try:
        code = reader.ask(request, timeout)
    except TimeoutError:
        return f"not done after {timeout:.0f} seconds"
    except _GoneError as gone:
        raise StorageError(f"{path}: cannot be read: the process for PyTorch files ended: {gone}") from None
    if code == 0:
        return None
    if code < 0:
        return f"stopped by signal {-code}, probably for using too much memory or time"
    with complaint.open("rb") as handle:
        return _last_line(handle)


class _GoneError(Exception):
    """The process ended without an answer, and with these last words."""


@dataclass
class _Server:
    """The running process, its pipes, the file that it complains to, and what it wrote that is no whole line yet."""

    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    answers: IO[bytes]
    complaints: IO[bytes]
    pending: bytes = b""


class _Reader:
    """The process that reads PyTorch files for this one: started with the first file, gone with this process or when idle."""

    def __init__(self) -> None:
        self._forget()
        atexit.register(self.stop)
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Begin without a process. In a fork: that of the parent is not ours, and its lock may be held for ever."""
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def ask(self, request: Mapping[str, object], timeout: float) -> int:
        """The exit code for one request.

        Raises `TimeoutError` when there is none after `timeout` seconds, and the process is stopped then; `_GoneError`.
        """
        with self._lock:
            # Waiting for others is not this file's fault.
            deadline = time.monotonic() + timeout
            while True:
                server, new = self._running()
                try:
                    code = _answer(server, {**request, "id": secrets.token_hex(8)}, deadline)
                    said = None if code is not None else _last_line(server.complaints)
                except BaseException:
                    self.stop()
                    raise
                if code is not None:
                    return code
                self.stop()
                # One that was there already may have gone for being idle.
                if new:
                    raise _GoneError(said)

    def stop(self) -> None:
        """End the process, and the fork that may be at work."""
        server, self._server = self._server, None
        if server is not None:
            with suppress(ProcessLookupError):
                os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
            for handle in (server.requests, server.answers, server.complaints):
                handle.close()

    def _running(self) -> tuple[_Server, bool]:
        """The process, and whether it is a new one."""
        if self._server is not None and self._server.process.poll() is None:
            return self._server, False
        self.stop()
        complaints = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            [sys.executable, "-P", "-W", "ignore", "-m", CHILD],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, env=_environment(), bufsize=0,
            start_new_session=True,
        )  # fmt: skip
        requests, answers = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        self._server = _Server(process=process, requests=requests, answers=answers, complaints=complaints)
        return self._server, True


# One for this process: what it reads comes one after the other.
reader = _Reader()


def _answer(server: _Server, request: Mapping[str, object], deadline: float) -> int | None:
    """The exit code that the process answers with; None when it went without one. Lines that are no answer are not heard."""
    try:
        send(server.requests, json.dumps(request).encode() + b"\n", deadline)
    except BrokenPipeError:
        return None
    with selectors.DefaultSelector() as ready:
        ready.register(server.answers, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if ready.select(min(LOOK, max(0.0, deadline - time.monotonic()))):
                data = os.read(server.answers.fileno(), 1 << 16)
                if not data:
                    return None
                *lines, rest = (server.pending + data).split(b"\n")
                server.pending = rest[-(1 << 16) :]
                for line in lines:
                    code = _code_of(line, request["id"])
                    if code is not None:
                        return code
            elif server.process.poll() is not None:
                return None
    raise TimeoutError


def _code_of(line: bytes, identity: object) -> int | None:
    try:
        document = json.loads(line)
    except ValueError:
        return None
    code = document.get("code") if isinstance(document, dict) and document.get("id") == identity else None
    return code if isinstance(code, int) else None


def _environment() -> dict[str, str]:
    """The environment of the child: one thread and one heap, or the address space would fill with their reserves."""
    environment = dict(os.environ, MALLOC_ARENA_MAX="1", **dict.fromkeys(THREADS, "1"))
    # The accelerator is of no use here, and its driver reserves address space.
    environment["CUDA_VISIBLE_DEVICES"] = ""
    root = Path(__file__).resolve().parents[2]
    if root.name not in ("site-packages", "dist-packages"):
        # Running from a checkout; an installed package is found anyway and must not come before the standard library.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH", "")]))
    return environment


def _last_line(complaint: IO[bytes]) -> str:
    complaint.seek(0, os.SEEK_END)
    complaint.seek(max(0, complaint.tell() - 4096))
    lines = complaint.read().decode("utf-8", "replace").strip().splitlines()
    text = lines[-1] if lines else "the reading process failed without a word"
    return visible(text.rstrip(". "), most=200)
