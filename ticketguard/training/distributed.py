"""Several processes on one training run (torchrun): data parallel, with the same bits on every rank after each epoch.

The global batch is the recipe's; each rank computes a share of it, and gradients are averaged, so a run on n processes follows
the run on one up to the order of floating-point sums. Batch norm sees its rank's share only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ticketguard.errors import TicketguardError, UsageError


def active() -> bool:
    """Whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world() -> int:
    """Number of processes; 1 when there is no group."""
    return dist.get_world_size() if active() else 1


def rank() -> int:
    """Number of this process; 0 writes the files and reports progress."""
    return dist.get_rank() if active() else 0


def barrier() -> None:
    """Wait until every process is here."""
    if active():
        dist.barrier()


@contextmanager
def first() -> Iterator[bool]:
    """A block that gets True on rank 0, which alone writes files; all ranks leave it together."""
    yield rank() == 0
    barrier()


@contextmanager
def group() -> Iterator[None]:
    """Join the process group that torchrun announces in the environment, for the block; nothing without torchrun."""
    announced = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" in os.environ
    if not announced or not dist.is_available() or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """The module wrapped so that backward averages gradients over ranks; the module itself for one process."""
    if not active():
        return module
    return DistributedDataParallel(module, device_ids=[device.index or 0] if device.type == "cuda" else None)


def share(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """A rank's part of a global batch: every `world()`-th row. Raises `UsageError` when it cannot be shared equally."""
    count = world()
    if len(labels) % count:
        raise UsageError(f"a batch of {len(labels)} images and triggers cannot be shared equally by {count} processes")
    return (images[rank() :: count], labels[rank() :: count]) if count > 1 else (images, labels)


@torch.no_grad()
def same_everywhere(tensors: list[Tensor]) -> None:
    """Overwrite tensors in place by rank 0's, so that all ranks go on from the same bits."""
    if active():
        for tensor in tensors:
            dense = tensor.contiguous()  # a broadcast needs plain memory order
            dist.broadcast(dense, src=0)
            tensor.copy_(dense)


@torch.no_grad()
def mean(value: Tensor) -> Tensor:
    """Mean of a scalar tensor over ranks."""
    if active():
        dist.all_reduce(value)
        value /= world()
    return value


def require_agreement(digest: str, what: str) -> None:
    """Raise unless every rank holds the same digest: a rank with another mask would train another ticket."""
    if active():
        digests: list[str | None] = [None] * world()
        dist.all_gather_object(digests, digest)
        if len(set(digests)) != 1:
            raise TicketguardError(
                f"{what} differs between processes: {', '.join(str(entry)[:12] for entry in digests)}"
            )
