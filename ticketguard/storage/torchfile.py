"""PyTorch weight files (.pt, .pth): read by a child process that may use little memory, time and disk (DESIGN 9).

Such a file is a program for an unpickler. `torch.load(weights_only=True)` refuses the dangerous programs, but a 262 kB
file was seen to inflate to 268 MB and a 1.5 kB file to declare 40 GB; so the child limits itself before it looks at the
file, converts the tensors to safetensors in a temporary folder, and this process reads only the strict format.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ticketguard.errors import FormatError, StorageError
from ticketguard.storage.atomic import open_regular, reason
from ticketguard.storage.tensors import TensorFile, read_tensors

FILE_LIMIT = 64 << 30
CHILD = "ticketguard.storage.torchchild"
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
    """Run the child; None when it wrote `target`, else the reason in a few words."""
    complaint = target.with_name("complaint.txt")
    command = [
        sys.executable,
        "-P",
        "-W",
        "ignore",
        "-m",
        CHILD,
        os.path.abspath(path),
        str(target),
        *["whole"] * whole,
    ]
    with complaint.open("wb") as stderr:
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter and module, no shell
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, env=_environment(),
                timeout=timeout, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"not done after {timeout:.0f} seconds"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"stopped by signal {-done.returncode}, probably for using too much memory or time"
    return _last_line(complaint)


def _environment() -> dict[str, str]:
    """The environment of the child: one thread and one heap, or the address space would fill with their reserves."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", MALLOC_ARENA_MAX="1")
    # The accelerator is of no use here, and its driver reserves address space.
    environment["CUDA_VISIBLE_DEVICES"] = ""
    root = Path(__file__).resolve().parents[2]
    if root.name not in ("site-packages", "dist-packages"):
        # Running from a checkout; an installed package is found anyway and must not come before the standard library.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH", "")]))
    return environment


def _last_line(complaint: Path) -> str:
    with complaint.open("rb") as handle:
        handle.seek(max(0, os.fstat(handle.fileno()).st_size - 4096))
        lines = handle.read().decode("utf-8", "replace").strip().splitlines()
    text = lines[-1] if lines else "the reading process failed without a word"
    return "".join(character if character.isprintable() else "?" for character in text)[:200].rstrip(". ")
