"""PyTorch weight files (.pt, .pth): read by a child process that may use little memory, time and disk (DESIGN 9).

Such a file is a program for an unpickler. `torch.load(weights_only=True)` refuses the dangerous programs, but a 262 kB
file was seen to inflate to 268 MB and a 1.5 kB file to declare 40 GB; so a child process limits itself before it looks at
the file, converts the tensors to safetensors in a temporary folder, and this process reads only the strict format.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from ticketguard.errors import FormatError, StorageError
from ticketguard.storage.atomic import open_regular, reason
from ticketguard.storage.tensors import TensorFile, read_tensors

FILE_LIMIT = 64 << 30
CHILD = "ticketguard.storage.torchchild"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
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
        with tempfile.TemporaryDirectory(prefix="ticketguard-") as folder:
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
        code = reader.ask(json.dumps(request), time.monotonic() + timeout)
    except TimeoutError:
        return f"not done after {timeout:.0f} seconds"
    if code == 0:
        return None
    if code < 0:
        return f"stopped by signal {-code}, probably for using too much memory or time"
    return _last_line(complaint)


class _Reader:
    """The process that reads PyTorch files for this one: started with the first file, gone with this process or when idle."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()
        atexit.register(self.stop)

    def ask(self, request: str, deadline: float) -> int:
        """The exit code for one request; `TimeoutError` when there is none by `deadline`, and the process is stopped then."""
        with self._lock:
            # The second time only when a process that was there already, and may have gone for being idle, says nothing.
            for again in (True, False):
                process, new = self._running()
                try:
                    code = _answer(process, request.encode() + b"\n", deadline)
                except BaseException:
                    self.stop()
                    raise
                if code is not None:
                    return code
                self.stop()
                if new or not again:
                    break
        return 1

    def stop(self) -> None:
        """End the process, and the fork that may be at work; in a fork of this process that has none of its own, do nothing."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def _running(self) -> tuple[subprocess.Popen[bytes], bool]:
        """The process, and whether it is a new one."""
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process, False
        self.stop()
        self._owner = os.getpid()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            [sys.executable, "-P", "-W", "ignore", "-m", CHILD],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment(),
            start_new_session=True,
        )  # fmt: skip
        return self._process, True


# One for this process: what it reads comes one after the other.
reader = _Reader()


def _answer(process: subprocess.Popen[bytes], request: bytes, deadline: float) -> int | None:
    """The exit code that the process answers with; None when it went without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(request)
        process.stdin.flush()
    except BrokenPipeError:
        return None
    if not select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
        raise TimeoutError
    line = process.stdout.readline()
    return int(line) if line.endswith(b"\n") else None


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


def _last_line(complaint: Path) -> str:
    data = complaint.read_bytes()[-4096:] if complaint.exists() else b""
    lines = data.decode("utf-8", "replace").strip().splitlines()
    text = lines[-1] if lines else "the reading process failed without a word"
    return "".join(character if character.isprintable() else "?" for character in text)[:200].rstrip(". ")
