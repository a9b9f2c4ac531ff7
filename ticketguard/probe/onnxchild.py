"""The child process that runs a suspect's ONNX graph: limits itself, then answers frames on its standard streams.

A frame is eight bytes of big-endian length and content. First frame in: the model; out: JSON on its input. Then .npy in, JSON
of the first output out: its numbers, and the kind of their type.
"""

from __future__ import annotations

import io
import json
import os
import struct
import sys
from typing import IO, Any

import numpy as np

from ticketguard.storage.limits import limit_self

MEMORY_BASE = 4 << 30
MEMORY_PER_BYTE = 8
SECONDS = 3600
DATATYPES = {
    "tensor(float)": ("FP32", np.float32),
    "tensor(double)": ("FP64", np.float64),
    "tensor(float16)": ("FP16", np.float16),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
}


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next frame; None at the end."""
    length = stream.read(8)
    return stream.read(struct.unpack(">Q", length)[0]) if len(length) == 8 else None


def head(content: bytes) -> bytes:
    """What comes before the content of a frame."""
    return struct.pack(">Q", len(content))


def write_frame(stream: IO[bytes], content: bytes) -> None:
    """Send one frame."""
    stream.write(head(content))
    stream.write(content)
    stream.flush()


def load(model: bytes) -> tuple[Any, dict[str, Any]]:
    """The onnxruntime session and what its input is. From bytes: external data files are then out of reach."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    shape = [size if isinstance(size, int) and size > 0 else -1 for size in source.shape]
    return session, {"name": source.name, "datatype": DATATYPES[source.type][0], "shape": shape, "type": source.type}


def main() -> None:
    """Serve until the input ends."""
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # Whatever the runtime prints must not look like a frame.
    os.dup2(2, 1)
    model = read_frame(source)
    if model is None:
        return
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        write_frame(target, json.dumps({"error": "no onnxruntime"}).encode())
        return
    limit_self(memory=MEMORY_BASE + MEMORY_PER_BYTE * len(model), seconds=SECONDS, file_bytes=0)
    # Whatever goes wrong from here on, in loading or in running, ends this process: the parent sees that and says so.
    session, metadata = load(model)
    write_frame(target, json.dumps(metadata).encode())
    dtype = DATATYPES[metadata["type"]][1]
    while (frame := read_frame(source)) is not None:
        array = np.load(io.BytesIO(frame), allow_pickle=False).astype(dtype)
        result = np.asarray(session.run(None, {metadata["name"]: array})[0])
        write_frame(target, json.dumps({"kind": result.dtype.kind, "data": result.reshape(-1).tolist()}).encode())


if __name__ == "__main__":
    main()
