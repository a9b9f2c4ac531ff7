"""Tensor files: safetensors with a header check that comes before any trust in the data, mapped instead of loaded.

The check is stricter than the format: see `ticketguard.storage.header`. A file is mapped, so a
100 MB suspect costs only the pages that a test looks at.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import FormatError, StorageError
from ticketguard.storage.atomic import is_folder, is_there, listed, open_regular, reason, replacing
from ticketguard.storage.documents import read_json
from ticketguard.storage.dtypes import STORED, name_of, to_bf16, to_float, widen
from ticketguard.storage.header import HEADER_LIMIT, TENSOR_LIMIT, Header, TensorInfo, build_header, parse_header, shown

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
# Names of files with weights that somebody's loader may take, in a folder that is given as a model.
WEIGHTS_SUFFIXES = (
    ".safetensors",
    ".pt",
    ".pth",
    ".bin",
    ".ckpt",
    ".onnx",
    ".h5",
    ".msgpack",
    ".gguf",
    ".npz",
    ".pkl",
)
# What Hugging Face's Trainer writes beside a model: no loader takes a file of such a name for the model.
TRAINER_STATE = re.compile(r"(training_args\.bin|(optimizer|scheduler|scaler)\.pt|rng_state(_[0-9]+)?\.pth)")
INDEX_SUFFIX = ".safetensors.index.json"
# Metadata of what was read from a larger whole: names and shapes of the other tensors there, which were left out.
UNREAD = "ticketguard/unread"
Shapes: TypeAlias = list[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A tensor as a file holds it, for types that numpy lacks: little-endian C-order bytes `data` of type `info`."""

    info: TensorInfo
    data: bytes | memoryview


class TensorFile(Mapping[str, NDArray[Any]]):
    """Named tensors of one file, of several shards, or of memory; arrays are read-only and made when asked for.

    Iteration follows the order of the header. `metadata` maps each key of the file's metadata to its value, parsed when
    it is JSON and the plain string when it is not. `path` names the source in messages.
    """

    def __init__(self, raw: Mapping[str, Raw], metadata: Mapping[str, Any], path: Path) -> None:
        self._raw = dict(raw)
        self.metadata: dict[str, Any] = dict(metadata)
        self.path = path

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __contains__(self, name: object) -> bool:
        return name in self._raw

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The tensor as an array: BF16 and 8-bit floats widened to float32, other types as they are, read-only."""
        array = np.asarray(widen(self._stored(name), self._raw[name].info.dtype))
        array.flags.writeable = False
        return array

    def __repr__(self) -> str:
        return f"TensorFile({str(self.path)!r}, {len(self)} tensors)"

    # A mapping of arrays cannot be compared as a whole: two files are equal only when they are the same object.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def info(self, name: str) -> TensorInfo:
        """Type and shape of a tensor, without touching its data."""
        return self._raw[name].info

    def raw(self, name: str) -> bytes | memoryview:
        """Little-endian C-order bytes of a tensor, exactly as stored."""
        return self._raw[name].data

    def gather(self, name: str, flat_indices: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Values at C-order positions `flat_indices` (int64, any shape) as floats; only the pages they lie on are read.

        float64 stays, other floats become float32 exactly, integers and booleans become float64. Raises `FormatError`
        for a position outside the tensor.
        """
        flat = self._stored(name).reshape(-1)
        indices = np.asarray(flat_indices)
        if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= flat.size):
            raise FormatError(
                f"{self.path}: tensor {shown(name)} has {flat.size} values, a position outside was asked for"
            )
        return to_float(widen(flat[indices], self._raw[name].info.dtype))

    def _stored(self, name: str) -> NDArray[Any]:
        raw = self._raw[name]
        dtype = STORED[raw.info.dtype]
        if raw.info.size == 0:
            return np.zeros(raw.info.shape, dtype=dtype)
        return np.ndarray(raw.info.shape, dtype=dtype, buffer=raw.data)


class Computed(TensorFile):
    """Tensors that `make` computes each time they are asked for: a file is written from it with one of them in memory.

    `infos`: type and shape of what `make(name)` returns.
    """

    def __init__(self, infos: Mapping[str, TensorInfo], make: Callable[[str], NDArray[Any]]) -> None:
        super().__init__({name: Raw(info=info, data=b"") for name, info in infos.items()}, {}, Path("<computed>"))
        self.make = make

    def raw(self, name: str) -> bytes | memoryview:
        """Little-endian C-order bytes of a tensor."""
        return raw_of(self.make(name)).data

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The tensor, computed anew."""
        if name not in self:
            raise KeyError(name)
        return self.make(name)

    def gather(self, name: str, flat_indices: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Values at C-order positions as floats; the whole tensor is computed."""
        return to_float(np.asarray(self[name]).reshape(-1)[flat_indices])


def read_tensors(path: Path) -> TensorFile:
    """Open a safetensors file, an index of shards (`*.safetensors.index.json`), or a folder that holds a model.

    Tensors of shards that an index does not take from there are not read, but stand in the metadata `UNREAD`. Raises
    `StorageError` for what cannot be read, `FormatError` for what is no strict safetensors file, or a folder with more weights.
    """
    path = Path(path)
    if is_folder(path):
        path = model_in(path)
    return _read_shards(path) if path.name.endswith(INDEX_SUFFIX) else _read_single(path)


def model_in(folder: Path) -> Path:
    """The model file, or the index of shards, of a folder that holds one and nothing else that could be the model.

    Which of several is the model depends on the loader, and only one would be looked at: `FormatError`. `StorageError` when
    there is none under the usual name.
    """
    found = [name for name in (INDEX_NAME, SINGLE_NAME) if is_there(folder / name)]
    if not found:
        raise StorageError(f"{folder}: a folder without {SINGLE_NAME} or {INDEX_NAME}; name the file to read")
    model = folder / found[0]
    parts = {*_shards_of(model).values()} if model.name == INDEX_NAME else {SINGLE_NAME}
    others = [path.name for path in listed(folder) if _is_weights(path.name) and path.name not in parts]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise FormatError(
            f"{folder}: a folder with {model.name} and other weights ({shown(others[0])}{more}): name the file to read"
        )
    return model


def _is_weights(name: str) -> bool:
    return name.lower().endswith(WEIGHTS_SUFFIXES) and not TRAINER_STATE.fullmatch(name)


def in_memory(tensors: Mapping[str, NDArray[Any] | Raw], *, path: Path = Path("<memory>")) -> TensorFile:
    """Tensors of memory behind the interface of a file; raises `UsageError` for types a file could not hold."""
    return TensorFile({name: raw_of(value) for name, value in tensors.items()}, {}, path)


def parse_tensors(data: bytes | memoryview, *, path: Path = Path("<memory>")) -> TensorFile:
    """The tensors of a safetensors file whose bytes are here already; raises `FormatError` as `read_tensors` does."""
    view = memoryview(data)
    length = int.from_bytes(view[:8], "little") if len(view) >= 8 else 0
    if not 2 <= length <= min(HEADER_LIMIT, len(view) - 8):
        raise FormatError(f"{path}: not a safetensors file: its header length does not fit; is it complete?")
    content = view[8 + length :]
    header = parse_header(bytes(view[8 : 8 + length]), len(content), where=str(path))
    return TensorFile(_slices(header, content), header.metadata, path)


def tensor_bytes(tensors: Mapping[str, NDArray[Any] | Raw], metadata: Mapping[str, Any]) -> bytes:
    """The bytes of the file that `write_tensors` would write, for what must not lie on a disk."""
    header, order = build_header({name: _info(tensors, name) for name in tensors}, metadata, where="tensors")
    return b"".join([header, *(raw_of(tensors[name]).data for name in order)])


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any] | Raw], metadata: Mapping[str, Any]) -> None:
    """Write a safetensors file atomically; equal arguments give equal bytes, and names keep their order.

    Values are numpy arrays or `Raw` tensors; the tensors of a `TensorFile` are copied as stored. They are taken one at
    a time, so a mapping that makes arrays on demand never has two of them in memory. Metadata values are JSON-encoded.
    Raises `UsageError` for types the format cannot hold, `StorageError`.
    """
    header, order = build_header({name: _info(tensors, name) for name in tensors}, metadata, where=str(path))
    with replacing(path) as handle:
        handle.write(header)
        for name in order:
            # No name is bound to the bytes: they would outlive the making of the next tensor.
            handle.write(tensors.raw(name) if isinstance(tensors, TensorFile) else raw_of(tensors[name]).data)


def info_of(value: NDArray[Any] | Raw) -> TensorInfo:
    """Type and shape of a tensor as a file would hold it."""
    if isinstance(value, Raw):
        return value.info
    array = np.asarray(value)
    return TensorInfo(dtype=name_of(array.dtype), shape=array.shape)


def raw_of(value: NDArray[Any] | Raw) -> Raw:
    """A tensor as a file holds it; copies only what is not little-endian and C-ordered already."""
    if isinstance(value, Raw):
        return value
    array, info = np.asarray(value), info_of(value)
    if array.size == 0:
        return Raw(info=info, data=b"")
    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
    return Raw(info=info, data=flat.data.toreadonly())


def bf16(values: NDArray[Any]) -> Raw:
    """A tensor to be stored as BF16: float values rounded to nearest, ties to even."""
    bits = to_bf16(values)
    return Raw(info=TensorInfo(dtype="BF16", shape=np.shape(values)), data=bits.astype("<u2").tobytes())


def _info(tensors: Mapping[str, NDArray[Any] | Raw], name: str) -> TensorInfo:
    if isinstance(tensors, TensorFile):
        return tensors.info(name)
    return info_of(tensors[name])


def _read_single(path: Path) -> TensorFile:
    try:
        with open_regular(path) as handle:
            size = os.fstat(handle.fileno()).st_size
            data = memoryview(mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ) if size else b"")
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {reason(error)}") from error
    return parse_tensors(data, path=path)


def _slices(header: Header, data: memoryview) -> dict[str, Raw]:
    return {
        name: Raw(info=info, data=data[begin : begin + prod(info.shape) * STORED[info.dtype].itemsize])
        for name, (info, begin) in header.tensors.items()
    }


def _shards_of(index: Path) -> dict[str, str]:
    """The file name of each tensor's shard."""
    document = read_json(index, limit=HEADER_LIMIT)
    names = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(shard, str) for shard in names.values()):
        raise FormatError(f"{index}: not an index of shards: weight_map must map tensor names to file names")
    if len(names) > TENSOR_LIMIT:
        raise FormatError(f"{index}: more than {TENSOR_LIMIT} tensors")
    return names


def _read_shards(index: Path) -> TensorFile:
    names = _shards_of(index)
    shards = {shard: _read_single(index.parent / _plain(shard, index)) for shard in dict.fromkeys(names.values())}
    raw = {}
    for name, shard in names.items():
        if name not in shards[shard]:
            raise FormatError(f"{index}: tensor {shown(name)} is not in {shard}")
        raw[name] = Raw(info=shards[shard].info(name), data=shards[shard].raw(name))
    others = [
        (f"{shard}: {name}", info.shape)
        for shard, file in shards.items()
        for name in file
        if names.get(name) != shard and len((info := file.info(name)).shape) >= 2
    ]
    metadata = next(iter(shards.values())).metadata
    return TensorFile(raw, {**metadata, UNREAD: others} if others else metadata, index)


def _plain(shard: str, index: Path) -> str:
    """A shard's name, refused unless it is a plain name in the index's own folder."""
    if Path(shard).name != shard or "\\" in shard or not shard.isprintable() or not shard.endswith(".safetensors"):
        raise FormatError(f"{index}: shard {shown(shard)} is not a plain *.safetensors file name beside the index")
    return shard


__all__ = [
    "UNREAD",
    "Computed",
    "Raw",
    "Shapes",
    "TensorFile",
    "TensorInfo",
    "bf16",
    "in_memory",
    "info_of",
    "parse_tensors",
    "raw_of",
    "read_tensors",
    "tensor_bytes",
    "write_tensors",
]
