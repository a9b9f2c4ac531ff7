"""ONNX models on disk, run by onnxruntime in a child process with limits: the graph is the suspect's."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ticketguard.errors import DataError, FormatError, StorageError, UsageError
from ticketguard.probe.adapters import Input, prepare
from ticketguard.probe.oip import Tensor, fit
from ticketguard.probe.onnxchild import head
from ticketguard.probe.predictor import Image, Reply, Take, reply_of
from ticketguard.storage.atomic import read_bytes
from ticketguard.storage.documents import parse_json
from ticketguard.storage.pipes import receive, send
from ticketguard.triggers.plan import TriggerPlan

MODEL_LIMIT = 1 << 31
FRAME_LIMIT = 1 << 24
CHILD = "ticketguard.probe.onnxchild"


class OnnxModel:
    """An ONNX file as a `Predictor`. Its first output holds labels or scores. `timeout`: seconds for one answer.

    Raises `UsageError` when onnxruntime is missing or the model's input does not fit, `DataError` when it cannot be
    loaded.
    """

    def __init__(self, path: Path, plan: TriggerPlan, wanted: Input, *, timeout: float = 60.0) -> None:
        self.description = f"ONNX model {path.name}"
        self._plan, self._timeout, self._lock = plan, timeout, Lock()
        model = read_bytes(path, limit=MODEL_LIMIT)
        self._folder = tempfile.TemporaryDirectory(prefix="ticketguard-")
        self._child = _start(self._folder.name)
        with ExitStack() as stack:
            stack.callback(self.close)
            self.input = fit(wanted, self._load(model, path), plan)
            stack.pop_all()

    def _load(self, model: bytes, path: Path) -> Tensor:
        try:
            metadata: Any = parse_json(self._exchange(model), where=str(path))
        except DataError as problem:
            raise DataError(f"{path}: onnxruntime cannot load it as a model with one numeric input") from problem
        if "error" in metadata:
            raise UsageError("ONNX models need onnxruntime: pip install 'ticketguard[onnx]'")
        return Tensor(name=metadata["name"], datatype=metadata["datatype"], shape=tuple(metadata["shape"]))

    def ask(self, image: Image, take: Take) -> Reply:
        """Run the graph on a batch of one; a child that dies or stalls is a failure of every later query as well."""
        if not take():
            return Reply(status="over budget", attempts=0)
        buffer = io.BytesIO()
        np.save(buffer, prepare(image, self.input, self._plan)[None], allow_pickle=False)
        try:
            with self._lock:
                answer = self._exchange(buffer.getvalue())
            document: Any = parse_json(answer, where="answer")
            result = np.array(document["data"], dtype=np.int64 if document["kind"] in "iub" else np.float64)
        except DataError as problem:
            return Reply(status="failed", detail=str(problem))
        except (KeyError, TypeError, ValueError, OverflowError, FormatError):
            return Reply(status="malformed", detail="the graph gave no numbers")
        return reply_of(result, hashlib.sha256(answer).hexdigest())

    def close(self) -> None:
        """Stop the child."""
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    # What was still to be written goes to nobody.
                    continue
        self._child.kill()
        self._child.wait()
        self._folder.cleanup()

    def _exchange(self, frame: bytes) -> bytes:
        """Send one frame and read one: 8 bytes of length, then the content. A child that fails once is stopped."""
        try:
            return self._try_exchange(frame)
        except DataError:
            # An answer that comes too late would be read as the answer to the next image.
            self._child.kill()
            self._child.wait()
            raise

    def _try_exchange(self, frame: bytes) -> bytes:
        stdin, stdout = self._child.stdin, self._child.stdout
        if stdin is None or stdout is None:
            raise DataError("the model's process has no pipes")
        deadline = time.monotonic() + self._timeout
        try:
            send(stdin, head(frame), deadline)
            send(stdin, frame, deadline)
            (length,) = struct.unpack(">Q", receive(stdout, 8, deadline))
            if length > FRAME_LIMIT:
                raise DataError("the model's process answered with too much")
            return receive(stdout, length, deadline)
        except TimeoutError as problem:
            raise DataError("the model took too long") from problem
        except (EOFError, ValueError, OSError) as problem:
            raise DataError("the model's process has died") from problem


def _start(folder: str) -> subprocess.Popen[bytes]:
    environment = {key: os.environ[key] for key in ("PATH", "LANG", "LD_LIBRARY_PATH") if key in os.environ}
    environment |= {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "HOME": folder, "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            [sys.executable, "-W", "ignore", "-m", CHILD],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder, env=environment,
            bufsize=0,
        )  # fmt: skip
    except OSError as problem:
        raise StorageError("no child process could be started to run the model") from problem
