"""Damaged files of every kind that a stranger hands over: they are read, or refused by one line of a project error, and
the memory that takes is bounded by their size.
"""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.malformed import torch_bytes
from tests.storage.mutations import altered, edited, json_bytes
from ticketguard.errors import TicketguardError
from ticketguard.storage.documents import read_csv, read_json, read_jsonl, read_npy
from ticketguard.storage.onnxfile import read_onnx
from ticketguard.storage.suspects import read_any
from ticketguard.triggers.plan import TriggerPlan
from ticketguard.triggers.predictions import read_predictions

PLAN = TriggerPlan(per_leaf=3, leaves=2, shape=(1, 4, 4), classes=("ant", "bee", "cat"))
LABEL_MAP = {"Formica": "ant", "Apis": "bee", "Felis": "cat"}
# What reading may take beyond a multiple of the file: buffers, and what a first call leaves in caches.
MEMORY_BASE, MEMORY_FACTOR = 8 << 20, 200
FEW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(FEW, max_examples=600)

HEADER = {
    "__metadata__": {"format": "pt", "ticketguard": '{"version": 1}'},
    "conv.weight": {"dtype": "F32", "shape": [2, 1, 3], "data_offsets": [0, 24]},
    "half": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    "mask": {"dtype": "BOOL", "shape": [2, 2], "data_offsets": [32, 36]},
    "byte": {"dtype": "F8_E4M3", "shape": [], "data_offsets": [36, 37]},
}
DATA = bytes(range(37))
INDEX = {"metadata": {"total_size": 37}, "weight_map": {"conv.weight": "a.safetensors", "half": "a.safetensors"}}
ANSWERS = [["ant", 1, None, -1, "cat", 0], [[0.5, 0.25, 0.25]] * 5 + [[1, None, 0]]]


def safetensors(header: Any) -> bytes:
    text = json_bytes(header)
    return struct.pack("<Q", len(text)) + text + DATA


def npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def onnx_model() -> bytes:
    """Two initializers, one packed and one raw, a MatMul and a Gemm, by hand: the tests of the format have the onnx package."""

    def field(number: int, content: bytes | int) -> bytes:
        if isinstance(content, int):
            return bytes([number << 3, content])
        return bytes([number << 3 | 2, len(content)]) + content

    raw = field(1, 2) + field(1, 3) + field(2, 1) + field(8, b"w") + field(9, bytes(range(24)))
    packed = field(1, b"\x02\x02") + field(2, 3) + field(8, b"v") + field(5, b"\x01\x02\x03\x7f")
    floats = field(1, 2) + field(2, 1) + field(8, b"u") + field(4, bytes(8))
    product = field(1, b"x") + field(1, b"w") + field(2, b"y") + field(4, b"MatMul")
    gemm = field(1, b"y") + field(1, b"v") + field(4, b"Gemm") + field(5, field(1, b"transB") + field(3, 1))
    graph = b"".join([field(1, product), field(1, gemm), field(5, raw), field(5, packed), field(5, floats)])
    return field(1, 8) + field(7, graph)


def values(path: Path) -> object:
    """Every tensor of a suspect in full, and values out of its middle."""
    file = read_any(path)
    return [(file[name].sum(), file.gather(name, np.arange(min(2, file[name].size)))) for name in file]


def onnx_values(path: Path) -> object:
    return [array.sum() for array in read_onnx(path).values()]


def mapped(path: Path) -> object:
    return read_predictions(path, PLAN, label_map=LABEL_MAP)


def plain(path: Path) -> object:
    return read_predictions(path, PLAN)


CSV = b'index,label\n0,ant\n1,"bee"\n2,2\n3,\n5,Formica\n'
CASES: dict[str, tuple[str, Callable[[Path], object], st.SearchStrategy[bytes]]] = {
    "safetensors, bytes": ("m.safetensors", values, edited(safetensors(HEADER))),
    "safetensors, header": ("m.safetensors", values, altered(HEADER).map(safetensors)),
    "sharded, bytes": ("m.safetensors.index.json", values, edited(json_bytes(INDEX))),
    "sharded, values": ("m.safetensors.index.json", values, altered(INDEX).map(json_bytes)),
    "onnx": ("m.onnx", onnx_values, edited(onnx_model())),
    "npy": ("a.npy", read_npy, edited(npy(np.arange(6)))),
    "npy of two dimensions": ("a.npy", read_npy, edited(npy(np.eye(6, 3, dtype=np.float16, order="F")))),
    "json": ("a.json", read_json, edited(json_bytes(INDEX))),
    "json lines": ("a.jsonl", read_jsonl, edited(json_bytes(INDEX) + b"\n" + json_bytes(HEADER) + b"\n")),
    "csv": ("a.csv", read_csv, edited(CSV)),
    "predictions, csv": ("a.csv", plain, edited(CSV)),
    "predictions, csv with a map": ("a.csv", mapped, edited(CSV)),
    "predictions, npy": ("a.npy", plain, edited(npy(np.array([0, 1, 2, -1, 1, 0])))),
    "predictions, npy of scores": ("a.npy", plain, edited(npy(np.eye(6, 3, dtype=">f8")))),
    "predictions, json": ("a.json", plain, st.sampled_from(ANSWERS).flatmap(altered).map(json_bytes)),
    "predictions, json with a map": ("a.json", mapped, altered(ANSWERS[0]).map(json_bytes)),
}


def survives(path: Path, read: Callable[[Path], object], content: bytes) -> None:
    """Read a file: a value, or one printable line; never more memory than its size explains."""
    path.write_bytes(content)
    said = ""
    tracemalloc.start()
    try:
        read(path)
    except TicketguardError as problem:
        said = str(problem)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert said.isprintable()
    assert len(said) < 400 + len(str(path))
    assert peak < MEMORY_BASE + MEMORY_FACTOR * len(content)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "a.safetensors").write_bytes(safetensors(HEADER))
    return tmp_path


@pytest.mark.parametrize("name", CASES)
@FEW
@given(data=st.data())
def test_damaged_files_are_read_or_refused(place: Path, name: str, data: st.DataObject) -> None:
    file, read, contents = CASES[name]
    survives(place / file, read, data.draw(contents))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@MANY
@given(data=st.data())
def test_many_damaged_files_are_read_or_refused(place: Path, name: str, data: st.DataObject) -> None:
    file, read, contents = CASES[name]
    survives(place / file, read, data.draw(contents))


@pytest.mark.slow
@settings(FEW, max_examples=10)
@given(content=st.deferred(lambda: edited(torch_bytes(lambda torch: {"w": torch.arange(6.0), "step": 3}))))
def test_damaged_torch_files_are_read_or_refused(place: Path, content: bytes) -> None:
    """Few: each starts a process."""
    survives(place / "m.pt", values, content)


def test_the_undamaged_files_are_read(place: Path) -> None:
    """Else the edits above would all be edits of files that are refused anyway."""
    stored = np.frombuffer(DATA, np.uint8)
    conv = stored[:24].view("<f4").reshape(2, 1, 3)
    # The upper half of a float32.
    half = (stored[24:32].view("<u2").astype("<u4") << 16).view("<f4")
    tensors = {"conv.weight": conv, "half": half}
    whole = {**tensors, "mask": stored[32:36].reshape(2, 2) != 0, "byte": np.float32(0.1875)}
    matrix = stored[:24].view("<f4").reshape(2, 3)
    graph = {"w": matrix.T, "v": np.array([[1, 2], [3, 127]], np.int8), "u": np.zeros(2, np.float32)}
    suspects = {
        "m.safetensors": (safetensors(HEADER), whole),
        "m.safetensors.index.json": (json_bytes(INDEX), tensors),
        "m.onnx": (onnx_model(), graph),
    }
    for name, (content, expected) in suspects.items():
        (place / name).write_bytes(content)
        found = read_any(place / name)
        assert list(found) == list(expected)
        for key, array in expected.items():
            assert np.array_equal(found[key], array)
    answers = {
        "a.npy": (npy(np.array([0, 1, 2, -1, 1, 0])), [0, 1, 2, -1, 1, 0]),
        "b.npy": (npy(np.eye(6, 3, dtype=">f8")), [0, 1, 2, 0, 0, 0]),
        "b.csv": (CSV.replace(b"Formica", b"cat"), [0, 1, 2, -1, -1, 2]),
        "a.json": (json_bytes(ANSWERS[0]), [0, 1, -1, -1, 2, 0]),
        "b.json": (json_bytes(ANSWERS[1]), [0, 0, 0, 0, 0, -1]),
    }
    for name, (content, labels) in answers.items():
        (place / name).write_bytes(content)
        assert read_predictions(place / name, PLAN).labels.tolist() == labels
    (place / "a.csv").write_bytes(CSV)
    rows = [["index", "label"], ["0", "ant"], ["1", "bee"], ["2", "2"], ["3", ""], ["5", "Formica"]]
    assert read_csv(place / "a.csv") == rows
    assert json.loads(json_bytes(HEADER)) == HEADER
