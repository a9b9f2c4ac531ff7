"""Reading CIFAR's Python layout without running anything: an unpickler that knows byte strings, lists, dictionaries and
numeric arrays, and refuses every other name in the file.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.data.files import damaged

NUMERIC = frozenset(kind + size for kind in "iu" for size in "1248") | {"b1", "f4", "f8"}


class _ArrayType:
    """Stands for `numpy.ndarray` in the file: passed to `_reconstruct`, never called."""


class _Dtype:
    """Stands for `numpy.dtype`: a numeric type and its byte order, filled in by the file's state tuple."""

    def __init__(self, name: object, *_: object) -> None:
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else name
        if text not in NUMERIC:
            raise pickle.UnpicklingError(f"arrays of type {text!r} are not allowed")
        self.order, self.name = "<", str(text)

    def __setstate__(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
        order = order.decode("ascii", "replace") if isinstance(order, bytes) else order
        self.order = ">" if order == ">" else "<"


class _Array:
    """Stands for an array under construction; the state tuple carries shape, type, order and bytes."""

    def __init__(self, *_: object) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("malformed array")
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or not isinstance(shape, tuple):
            raise pickle.UnpicklingError("malformed array")
        flat = np.frombuffer(data, dtype=np.dtype(dtype.order + dtype.name))
        self.value = flat.reshape(shape, order="F" if fortran else "C")


def _encode(text: object, encoding: object) -> bytes:
    # Python 3 writes byte strings of protocol 2 as _codecs.encode(text, "latin1").
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("malformed byte string")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _encode,
}


class _Restricted(pickle._Unpickler):
    # The pure Python unpickler: its memo is a dictionary, while the one in C allocates as many slots as a file's largest
    # memo number says, which six bytes can make 16 GB.

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which image data does not need")
        return ALLOWED[module, name]

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError(f"it refers to an external object {pid!r}")


def load_pickle(data: bytes, *, where: Path, source: str) -> dict[str, Any]:
    """The dictionary in a CIFAR batch file, keys as text, arrays as numpy arrays.

    Raises `DataError` for anything else, naming `where` and `source`; no code of the file's choosing runs.
    """
    try:
        content = _Restricted(io.BytesIO(data), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError, OverflowError,
            MemoryError, ImportError, AssertionError, struct.error) as error:  # fmt: skip
        raise damaged(where, f"not a readable batch: {error}", source=source) from error
    if not isinstance(content, dict):
        raise damaged(where, "not a dictionary", source=source)
    return {_text(key): value.value if isinstance(value, _Array) else value for key, value in content.items()}


def _text(key: object) -> str:
    return key.decode("ascii", "replace") if isinstance(key, bytes) else str(key)
