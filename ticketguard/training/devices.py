"""Where and how arithmetic runs: device, threads, precision, and switches that make equal runs give equal bits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ticketguard.errors import UsageError

TINY_PIXELS = 16 * 16


def resolve_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is the first CUDA device if there is one, else the CPU. Raises `UsageError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}: try cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {name}: this machine or this PyTorch has no CUDA")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name}: only cpu and cuda are supported")
    return device


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The dtype that convolutions and matrix products run in: bfloat16 where it was asked for, or is native for "auto".

    On CPUs bf16 pays only with avx512_bf16 or AMX instructions: emulated, it is slower than fp32.
    """
    if precision == "fp32":
        return torch.float32
    if precision == "bf16" or native_bf16(device):
        return torch.bfloat16
    return torch.float32


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(probe()) for probe in probes if probe is not None)


def compiled(module: nn.Module, device: torch.device) -> Callable[..., Any]:
    """The module's forward and backward passes as `torch.compile` makes them, at the first call, which takes a minute or so.

    Raises `UsageError` where that cannot work, for want of a C++ compiler.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise UsageError(f"compiled training needs a C++ compiler on this machine: {compiler} is not there")
    found: Callable[..., Any] = torch.compile(module)
    return found


def default_threads(shape: tuple[int, int, int]) -> int:
    """CPU threads for training on images (C, H, W) when nobody asked for a number: PyTorch's, but one for tiny images.

    A step on 8 x 8 images is over in milliseconds. On a busy machine, threads that wait for each other made such a run over
    thirty times slower than one thread did. One thread also gives the same bits whatever the core count.
    """
    _, height, width = shape
    return 1 if height * width <= TINY_PIXELS else torch.get_num_threads()


@contextmanager
def settings(*, threads: int | None, seed: int) -> Iterator[None]:
    """Within the block: that many CPU threads, deterministic convolution kernels, torch's generator at `seed`.

    Everything global is put back afterwards. Sums are taken in an order that depends on the thread count, so equal bits
    need equal thread counts.
    """
    before = torch.get_num_threads()
    if threads is not None:
        if threads < 1:
            raise UsageError(f"threads must be at least 1, not {threads}")
        torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(), torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)
