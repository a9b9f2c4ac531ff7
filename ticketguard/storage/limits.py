"""Limits that a child process sets itself before it looks at a hostile file."""

from __future__ import annotations

import resource
from pathlib import Path


def limit_self(*, memory: int, seconds: int, file_bytes: int) -> None:
    """Bound address space, processor time, size of written files and dumps of this process, for good.

    `memory`: bytes beyond what is mapped already, which differs with the libraries that are loaded. A lower limit that was set
    from outside stays.
    """
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for what, bound in (
        (resource.RLIMIT_AS, mapped + memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(what, (bound, bound))
