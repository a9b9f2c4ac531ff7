"""Facts about the machine that a report was made on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("ticketguard", "torch", "numpy", "scipy")


def machine_facts() -> dict[str, str]:
    """Processor, cores, system and versions, by name; what cannot be found out is left out."""
    facts = {package: installed(package) for package in PACKAGES} | {"Python": platform.python_version()}
    facts["system"] = f"{platform.system()} {platform.release()}, {platform.machine()}"
    facts["processor"] = _processor()
    facts["cores"] = str(os.cpu_count() or "")
    return {name: value for name, value in facts.items() if value}


def installed(package: str) -> str:
    """The version of an installed package; empty when it is not installed (this one, when run from a checkout)."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    """The processor's name; Linux does not tell it through `platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
