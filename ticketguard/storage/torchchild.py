"""The child process of `ticketguard.storage.torchfile`: for each file a fork that limits itself, loads weights and writes them.

Usage: `python -m ticketguard.storage.torchchild`. Requests come on standard input, a line of JSON each: `source`, `target` (the
safetensors file to write), `whole`, `complaint`, the file for what goes wrong, and `id`. The answer to each is a line of JSON
on standard output: the `id`, and as `code` the exit code of the fork. A fork that sees a file never sees a second one: whatever
goes wrong ends it with one line of complaint and exit code 1, for the input is hostile and any exception here is a refusal and
not a bug. Importing torch takes seconds, a fork milliseconds.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import torch

from ticketguard.errors import FormatError
from ticketguard.storage.atomic import open_regular
from ticketguard.storage.header import NAME_LIMIT, TENSOR_LIMIT, TensorInfo, shown
from ticketguard.storage.limits import limit_self
from ticketguard.storage.tensors import UNREAD, Raw, Shapes, write_tensors
from ticketguard.storage.wrappers import KEYS

# Address space beyond what the interpreter and torch have mapped, in bytes: a fixed part for the unpickler, and a multiple
# of the file for its storages and for copies of tensors that are not contiguous.
MEMORY_BASE = 192 << 20
MEMORY_PER_BYTE = 4
TOTAL_PER_BYTE = 2
TOTAL_BASE = 1 << 20
# The file that is written has a header beside the tensors.
FILE_BASE = 32 << 20
# The end of a name that a left-out tensor is known by: the header has to hold many of them.
NAME_SHOWN = 60
# Dictionaries inside dictionaries are looked into so far.
DEEPEST = 16
HOLDERS = (torch.Tensor, Mapping, list, tuple, set, frozenset)
# Seconds without a request after which this process goes: it holds as much memory as torch takes.
IDLE = 60.0
# More than the pipes and files that are open here.
MOST_HANDLES = 1024
# Given back before complaining: a process that has used up its address space could not even say so.
RESERVE = bytearray(1 << 20)
CPU_BASE = 60
CPU_BYTES_PER_SECOND = 20e6
NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}


def main(source: Path, target: Path, *, whole: bool = False) -> None:
    """Convert `source` to the safetensors file `target`, inside the limits that the size of `source` allows.

    With `whole`, wrappers keep their names and what lies beside them: a checkpoint, not just its state dict.
    """
    with open_regular(source) as handle:
        size = handle.seek(0, 2)
    limit_by_size(size)
    refuse_inflation(source, size)
    loaded = torch.load(source, map_location="cpu", weights_only=True)
    tensors = dict(named_tensors(loaded, unwrap=not whole))
    if not tensors:
        raise FormatError("it holds no tensors")
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if total > TOTAL_PER_BYTE * size + TOTAL_BASE:
        raise FormatError(f"a file of {size} bytes declares tensors of {total} bytes")
    others = [] if whole else left_out(loaded, tensors.values())
    metadata = {UNREAD: [[name, list(shape)] for name, shape in others]} if others else {}
    write_tensors(target, {name: raw(name, tensor) for name, tensor in tensors.items()}, metadata)


def limit_by_size(size: int) -> None:
    """Bound this process, for good, by the size of the input."""
    limit_self(
        memory=MEMORY_BASE + MEMORY_PER_BYTE * size,
        seconds=CPU_BASE + int(size / CPU_BYTES_PER_SECOND),
        file_bytes=FILE_BASE + TOTAL_PER_BYTE * size,
    )


def refuse_inflation(source: Path, size: int) -> None:
    """Refuse an archive that unpacks to more than itself: PyTorch stores its members uncompressed."""
    if not zipfile.is_zipfile(source):
        return
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise FormatError("its members are compressed, which PyTorch never does")
    if sum(member.file_size for member in members) > size:
        raise FormatError("its members are larger than the file")


def named_tensors(loaded: object, *, unwrap: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor under its dotted name, in order; wrappers such as {"state_dict": ...} do not show in them if `unwrap`."""
    if isinstance(loaded, torch.Tensor):
        loaded = {"tensor": loaded}
    # Not for ever: a mapping may hold itself.
    for _ in range(DEEPEST if unwrap else 0):
        if not isinstance(loaded, Mapping) or any(isinstance(value, torch.Tensor) for value in loaded.values()):
            break
        inner = next((loaded[key] for key in KEYS if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    seen: set[str] = set()
    stack: list[tuple[str, object, int]] = [("", loaded, 0)]
    while stack:
        name, value, depth = stack.pop()
        if isinstance(value, torch.Tensor):
            if name in seen or len(seen) >= TENSOR_LIMIT:
                raise FormatError(f"tensor {shown(name)} appears twice, or there are too many tensors")
            seen.add(name)
            yield name, value
        elif isinstance(value, Mapping) and depth <= DEEPEST and len(name) <= NAME_LIMIT:
            stack += [
                (f"{name}.{key}" if name else str(key), value[key], depth + 1)
                for key in reversed(value)
                if isinstance(key, str | int)
            ]


def left_out(loaded: object, read: Iterable[torch.Tensor]) -> Shapes:
    """Names and shapes of all other tensors with rows and columns, wherever they lie: beside a state dict, in lists."""
    # Objects by identity: a tensor that is read may lie in a second place, and a list in itself.
    seen = {id(tensor) for tensor in read}
    found: Shapes = []
    stack: list[tuple[str, object]] = [("", loaded)] if isinstance(loaded, HOLDERS) else []
    while stack:
        name, value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            if value.ndim >= 2:
                found.append((name, tuple(value.shape)))
            continue
        items = value.items() if isinstance(value, Mapping) else enumerate(value)  # type: ignore[arg-type]
        inner = [(key, item) for key, item in items if isinstance(item, HOLDERS)]
        stack += [(f"{name}.{key}"[-NAME_SHOWN:].lstrip("."), item) for key, item in reversed(inner)]
    return found


def raw(name: str, tensor: torch.Tensor) -> Raw:
    """A plain tensor as safetensors stores it; refuses sparse, quantized, complex and empty-handed (meta) tensors."""
    plain = tensor.detach()
    if plain.layout != torch.strided or plain.is_quantized or plain.device.type != "cpu" or plain.dtype not in NAMES:
        raise FormatError(f"tensor {shown(name)} is {plain.layout}, {plain.dtype} on {plain.device}: not plain numbers")
    info = TensorInfo(dtype=NAMES[plain.dtype], shape=tuple(plain.shape))
    if plain.numel() == 0:
        return Raw(info=info, data=b"")
    # A conjugated or negated view stores other numbers than it shows.
    flat = plain.resolve_conj().resolve_neg().contiguous().reshape(-1)
    # torch calls a single element contiguous whatever its stride, but then refuses to view it as bytes.
    flat = flat.as_strided((flat.numel(),), (1,))
    return Raw(info=info, data=flat.view(torch.uint8).numpy().data)


def complain(error: BaseException) -> None:
    """Print an exception as one line: what a `FormatError` says, else its type and the first sentence of its message."""
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, FormatError):
        text = lines[0]
    elif isinstance(error, pickle.UnpicklingError):
        # torch's own words advise to load the file all the same, in a way that may run code.
        text = "it holds other objects than plain weights, or is damaged"
    elif isinstance(error, MemoryError) or "allocate memory" in str(error):
        text = "it needs more memory than its size explains"
    else:
        text = f"{type(error).__name__}: {lines[0].split('. ')[0]}"
    sys.stderr.write(text + "\n")


def refuse(error: BaseException) -> NoReturn:
    """Complain and end at once: the clean-up of an interpreter without memory would complain after us, in other words."""
    RESERVE.clear()
    complain(error)
    sys.stderr.flush()
    os._exit(1)


def serve() -> None:
    """Answer requests until there are no more, or none for a while."""
    # Whoever started this process may have ignored the signal, and nobody could wait for a fork then.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    answers = os.dup(1)
    os.dup2(2, 1)
    while select.select([0], [], [], IDLE)[0]:
        line = read_line(0)
        if not line:
            return
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            convert(request)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        # A line of its own, whatever else was printed before it.
        os.write(answers, b"\n" + json.dumps({"id": request["id"], "code": code}).encode() + b"\n")


def read_line(handle: int) -> bytes:
    """The next line of a pipe, empty at its end. Nothing stands behind it: who asks waits for the answer."""
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(handle, 1 << 16)
        if not data:
            return b""
        line += data
    return line


def convert(request: Mapping[str, str]) -> NoReturn:
    """What a fork does, with nothing open but the file for its complaint: it could else answer for others."""
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        complaint = os.open(request["complaint"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number, handle in enumerate((nothing, nothing, complaint)):
            os.dup2(handle, number)
        os.closerange(3, MOST_HANDLES)
        main(Path(request["source"]), Path(request["target"]), whole=bool(request["whole"]))
    except BaseException as error:
        refuse(error)
    os._exit(0)


if __name__ == "__main__":
    serve()
