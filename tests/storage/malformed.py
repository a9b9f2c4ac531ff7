"""Malformed files, made in code: every way in which a stranger's file may be wrong, for readers and commands alike.

`WEIGHTS` holds suspects (tensor files), `DOCUMENTS` JSON, JSON lines, CSV and NPY files. A case says what to write, which of
the files to hand over, and a pattern that the one-line message must match.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Maker = Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class Malformed:
    """A file, or a folder of files, that must be refused with a message matching `says`; `main` is handed over."""

    files: Mapping[str, Maker]
    main: str
    says: str

    def write(self, folder: Path) -> Path:
        for name, make in self.files.items():
            (folder / name).write_bytes(make())
        return folder / self.main


def framed(header: bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def valid() -> bytes:
    return framed(json.dumps({"w": entry()}).encode(), bytes(8))


def tensors(header: Mapping[str, Any], data: int = 8) -> bytes:
    return framed(json.dumps(header).encode(), bytes(data))


def one(*, says: str, make: Maker, name: str = "suspect.safetensors") -> Malformed:
    return Malformed(files={name: make}, main=name, says=says)


def with_entry(says: str, data: int = 8, **fields: Any) -> Malformed:
    return one(says=says, make=lambda: tensors({"w": entry(**fields)}, data))


def named(name: str) -> Malformed:
    return one(says="empty, too long or not printable", make=lambda: tensors({name: entry()}))


def index(weight_map: Any, *, says: str) -> Malformed:
    return Malformed(
        files={
            "model.safetensors.index.json": lambda: json.dumps({"weight_map": weight_map}).encode(),
            "a.safetensors": valid,
        },
        main="model.safetensors.index.json",
        says=says,
    )


def torch_bytes(value: Any, **options: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(value(torch), stream, **options)
    return stream.getvalue()


def saved(value: Callable[[Any], Any], *, says: str, **options: Any) -> Malformed:
    return one(name="suspect.pt", says=says, make=lambda: torch_bytes(value, **options))


def repacked(change: Callable[[zipfile.ZipFile, str, bytes], None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of torch.save(32 MB of zeros), member by member through `change`."""
    stream = io.BytesIO()
    original = zipfile.ZipFile(io.BytesIO(torch_bytes(lambda torch: {"w": torch.zeros(8 << 20)})))
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name in original.namelist():
            change(archive, name, original.read(name))
    return stream.getvalue()


def swap_pickle(content: bytes) -> Callable[[zipfile.ZipFile, str, bytes], None]:
    return lambda archive, name, data: archive.writestr(
        name, content if name.endswith("data.pkl") else data if len(data) < 99 else b""
    )


class Ambush:
    """Unpickling this would print; nothing may ever do it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this pickle ran code",)


def legacy_40_gb() -> bytes:
    """A file of PyTorch before 1.6 whose storage declares ten thousand million floats."""
    data = torch_bytes(lambda torch: {"w": torch.zeros(77777)}, _use_new_zipfile_serialization=False)
    patched = data.replace(b"J" + struct.pack("<I", 77777), b"\x8a\x05" + struct.pack("<q", 10**10)[:5])
    return patched[:1500]


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, w=np.zeros(3, dtype=np.float32))
    return stream.getvalue()


SAFETENSORS = {
    "empty": one(make=lambda: b"", says="header length"),
    "seven bytes": one(make=lambda: b"\x02" + bytes(6), says="header length"),
    "truncated data": one(make=lambda: valid()[:-1], says="7 bytes of data where the header describes 8"),
    "truncated header": one(make=lambda: valid()[:20], says="header length"),
    "trailing bytes": one(make=lambda: valid() + b"x", says="9 bytes of data"),
    "huge header length": one(make=lambda: framed(b"{}", length=2**63), says="header length"),
    "header over 16 MiB": one(make=lambda: framed(b"{" + b" " * (16 << 20) + b"}"), says="header length"),
    "header length zero": one(make=lambda: framed(b"", bytes(8)), says="header length"),
    "wrong magic": one(make=lambda: b"GGUF" + bytes(60), says="header length|not a JSON object"),
    "header is a list": one(make=lambda: framed(b"[]"), says="not a JSON object"),
    "header is not JSON": one(make=lambda: framed(b"{'w': 1}"), says="not JSON"),
    "header is not UTF-8": one(make=lambda: framed(b'{"\xff": 1}'), says="not UTF-8"),
    "header has two values": one(make=lambda: framed(b"{}{}"), says="not JSON"),
    "header begins with a space": one(make=lambda: framed(b" {}"), says="not a JSON object"),
    "duplicate tensor": one(
        make=lambda: framed(f'{{"w":{json.dumps(entry())},"w":{json.dumps(entry())}}}'.encode(), bytes(8)), says="twice"
    ),
    "duplicate metadata": one(make=lambda: framed(b'{"__metadata__":{"a":"1","a":"2"}}'), says="twice"),
    "duplicate shape": one(
        make=lambda: framed(b'{"w":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        says="twice",
    ),
    "nested without end": one(make=lambda: framed(b'{"w":' + b"[" * 100_000), says="nested too deeply|not JSON"),
    "NaN in the header": one(make=lambda: framed(b'{"w":NaN}'), says="NaN"),
    "metadata is a list": one(make=lambda: tensors({"__metadata__": []}, 0), says="__metadata__ must map"),
    "metadata holds numbers": one(make=lambda: tensors({"__metadata__": {"a": 1}}, 0), says="__metadata__ must map"),
    "65,537 tensors": one(
        make=lambda: tensors({f"t{i}": entry("U8", [0], [0, 0]) for i in range(65_537)}, 0), says="65537 tensors"
    ),
    "nine dimensions": with_entry("more than 8 dimensions", shape=[1] * 8 + [2]),
    "name with a line end": named("a\nb"),
    "name with an escape": named("\x1b[31mred"),
    "name that reverses text": named("a\u202eb"),
    "name empty": named(""),
    "name too long": named("w" * 513),
    "entry is a list": one(make=lambda: tensors({"w": []}), says="dtype, shape and data_offsets"),
    "entry lacks its shape": one(
        make=lambda: tensors({"w": {"dtype": "F32", "data_offsets": [0, 8]}}), says="dtype, shape and data_offsets"
    ),
    "entry has more": one(make=lambda: tensors({"w": {**entry(), "x": 1}}), says="nothing else"),
    "unknown type": with_entry("type 'F33'", dtype="F33"),
    "complex": with_entry("type 'C64'", dtype="C64", shape=[1]),
    "type is a list": with_entry("type .*not one", dtype=[1]),
    "negative extent": with_entry("impossible shape", shape=[-1, -2]),
    "fractional extent": with_entry("impossible shape", shape=[2.0]),
    "boolean extent": with_entry("impossible shape", shape=[True, 2]),
    "shape is a string": with_entry("impossible shape", shape="2"),
    "shape overflows": with_entry("impossible shape", shape=[2**32, 2**32, 4]),
    "zero hides an overflow": with_entry("impossible shape", shape=[0, 2**62, 2**62], offsets=[0, 0], data=0),
    "offsets disagree": with_entry("data_offsets do not agree", shape=[3]),
    "offsets reversed": with_entry("data_offsets do not agree", offsets=[8, 0]),
    "offsets are three": with_entry("data_offsets do not agree", offsets=[0, 4, 8]),
    "offsets negative": with_entry("data_offsets do not agree", offsets=[-8, 0]),
    "offsets beyond the end": with_entry("leaves a gap", offsets=[8, 16]),
    "gap at the start": with_entry("leaves a gap", offsets=[4, 12], data=12),
    "overlap": one(
        make=lambda: tensors({"a": entry(), "b": entry(offsets=[4, 12])}, 12), says="overlaps another or leaves a gap"
    ),
    "the same bytes twice": one(make=lambda: tensors({"a": entry(), "b": entry()}), says="overlaps another"),
    "type size disagrees": with_entry("data_offsets do not agree", dtype="BF16"),
}

SHARDED = {
    "shard in another folder": index({"w": "../a.safetensors"}, says="not a plain"),
    "shard by absolute path": index({"w": "/etc/passwd.safetensors"}, says="not a plain"),
    "shard behind a backslash": index({"w": "..\\a.safetensors"}, says="not a plain"),
    "shard is the folder": index({"w": ".."}, says="not a plain"),
    "shard with a zero byte": index({"w": "a\0.safetensors"}, says="not a plain"),
    "shard is a pickle": index({"w": "a.bin"}, says="not a plain"),
    "shard missing": index({"w": "b.safetensors"}, says="no such file"),
    "tensor missing": index({"v": "a.safetensors"}, says="'v' is not in a.safetensors"),
    "map is a list": index(["w"], says="not an index"),
    "map is empty": index({}, says="not an index"),
    "map to numbers": index({"w": 1}, says="not an index"),
    "index is not JSON": one(name="model.safetensors.index.json", make=lambda: b"{", says="not JSON"),
}

TORCH = {
    "code in a pickle": saved(lambda torch: {"w": Ambush()}, says="other objects than plain weights"),
    "bare pickle with code": one(
        name="suspect.pt", make=lambda: pickle.dumps({"w": Ambush()}, protocol=2), says="PyTorch weights"
    ),
    "whole module": saved(lambda torch: torch.nn.Linear(2, 2), says="other objects than plain weights"),
    "no tensors": saved(lambda torch: {"epoch": 3}, says="no tensors"),
    "declares 40 GB": saved(lambda torch: {"w": torch.zeros(1).expand(10**10)}, says="declares tensors of 40000000000"),
    "declares 40 GB, old form": one(name="suspect.pth", make=legacy_40_gb, says="more memory than its size explains"),
    "inflates a thousandfold": one(
        name="suspect.pt",
        make=lambda: repacked(lambda archive, name, data: archive.writestr(name, data), zipfile.ZIP_DEFLATED),
        says="compressed",
    ),
    "a million lists": one(
        name="suspect.pt",
        make=lambda: repacked(swap_pickle(b"\x80\x02(" + b"}" * 8_000_000 + b"l.")),
        says="more memory than its size explains",
    ),
    "sparse tensor": saved(lambda torch: {"w": torch.eye(3).to_sparse()}, says="not plain numbers"),
    "tensor without data": saved(lambda torch: {"w": torch.empty(3, device="meta")}, says="not plain numbers"),
    "complex tensor": saved(lambda torch: {"w": torch.zeros(3, dtype=torch.complex64)}, says="not plain numbers"),
    "two tensors of one name": saved(
        lambda torch: {"a.b": torch.zeros(1), "a": {"b": torch.zeros(1)}}, says="appears twice"
    ),
    "name with a line end, torch": saved(lambda torch: {"a\nb": torch.zeros(1)}, says="not printable"),
    "truncated archive": one(
        name="suspect.pt",
        make=lambda: torch_bytes(lambda torch: {"w": torch.zeros(99)})[:-64],
        says="PyTorch weights",
    ),
    "an npz": one(name="suspect.pt", make=npz, says="PyTorch weights"),
    "text": one(name="suspect.pt", make=lambda: b"hello, world\n", says="neither"),
    "nothing": one(name="suspect.pth", make=lambda: b"", says="neither"),
}

WEIGHTS = SAFETENSORS | SHARDED | TORCH


def npy(header: str, data: bytes = b"", *, magic: bytes = b"\x93NUMPY\x01\x00") -> bytes:
    text = header.encode("latin1") + b"\n"
    return magic + struct.pack("<H", len(text)) + text + data


def npy_of(descr: str, shape: str, data: int = 0) -> Maker:
    return lambda: npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}", bytes(data))


def pickled_npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Ambush()], dtype=object), allow_pickle=True)
    return stream.getvalue()


def document(name: str, content: bytes, says: str) -> Malformed:
    return one(name=name, make=lambda: content, says=says)


DOCUMENTS = {
    "json: duplicate keys": document("d.json", b'{"a": 1, "a": 1}', "'a' appears twice"),
    "json: NaN": document("d.json", b"[NaN]", "NaN"),
    "json: infinity": document("d.json", b"[-Infinity]", "Infinity"),
    "json: 1e999": document("d.json", b"[1e999]", "out of range"),
    "json: truncated": document("d.json", b'{"a": ', "not JSON"),
    "json: empty": document("d.json", b"", "not JSON"),
    "json: not UTF-8": document("d.json", b'"\xe9"', "not UTF-8"),
    "json: two values": document("d.json", b"1 2", "not JSON"),
    "json: 65 levels": document("d.json", b"[" * 65 + b"]" * 65, "nested more than 64"),
    "json: 100,000 levels": document("d.json", b"[" * 100_000, "nested too deeply"),
    "json: 5,000 digits": document("d.json", b"1" * 5_000, "not acceptable|out of range"),
    "json: over 16 MiB": document("d.json", b" " * ((16 << 20) + 1), "larger than"),
    "jsonl: second line": document("d.jsonl", b"{}\n{\n{}\n", "line 2: not JSON"),
    "jsonl: blank line": document("d.jsonl", b"{}\n\n{}\n", "line 2: not JSON"),
    "csv: empty": document("d.csv", b"\n\n", "empty table"),
    "csv: ragged": document("d.csv", b"index,label\n0,1\n2\n", "line 3 has 1 fields"),
    "csv: open quote": document("d.csv", b'index,label\n0,"1\n', "comma-separated"),
    "csv: not UTF-8": document("d.csv", b"index,\xff\n", "not UTF-8"),
    "csv: a field of 200 kB": document("d.csv", b"a" * 200_000, "comma-separated"),
    "npy: empty": document("d.npy", b"", "not an .npy"),
    "npy: wrong magic": document("d.npy", b"PK\x03\x04" + bytes(100), "not an .npy"),
    "npy: unknown version": one(
        name="d.npy", make=lambda: npy("{}", magic=b"\x93NUMPY\x09\x00"), says="version|not an .npy"
    ),
    "npy: header is code": one(name="d.npy", make=lambda: npy("__import__('os')"), says="not an .npy"),
    "npy: header unfinished": one(name="d.npy", make=lambda: npy("{'descr': '<f4', ("), says="not an .npy"),
    "npy: declares 40 GB": one(name="d.npy", make=npy_of("'<f4'", f"({10**10},)"), says="0 bytes"),
    "npy: negative shape": one(name="d.npy", make=npy_of("'<f4'", "(-1, -2)", 8), says="do not make an array"),
    "npy: zero hides an overflow": one(
        name="d.npy", make=npy_of("'<f4'", f"(0, {2**62}, {2**62})"), says="do not make"
    ),
    "npy: extent of 5,000 digits": one(name="d.npy", make=npy_of("'<f4'", f"(0x{'f' * 4500},)", 8), says="do not make"),
    "npy: boolean extent": one(name="d.npy", make=npy_of("'<f4'", "(True,)", 4), says="do not make"),
    "npy: a hundred dimensions": one(name="d.npy", make=npy_of("'<f4'", f"({'1,' * 100})", 4), says="do not make"),
    "npy: empty type": one(name="d.npy", make=npy_of("()", "(1,)", 8), says="not an .npy"),
    "npy: type with an escape": one(name="d.npy", make=npy_of("'\x1b[2J,2'", "(1,)", 8), says="x1b"),
    "npy: half a type": one(name="d.npy", make=npy_of("('<f4',)", "(1,)", 8), says="not an .npy"),
    "npy: pickled objects": one(name="d.npy", make=pickled_npy, says="not numbers"),
    "npy: records": one(name="d.npy", make=npy_of("[('a', '<f4')]", "(1,)", 4), says="not numbers"),
    "npy: text": one(name="d.npy", make=npy_of("'<U4'", "(1,)", 16), says="not numbers"),
    "npy: truncated": one(name="d.npy", make=npy_of("'<i8'", "(3,)", 23), says="23 bytes"),
}
