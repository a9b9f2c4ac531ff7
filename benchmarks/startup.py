"""Start-up: `--help` against importing click, and a verdict on a 100 MB file against importing what any verifier needs.

Whole processes, interleaved, medians of one run. Bars: 4 and 3 times. Usage: python benchmarks/startup.py [--runs 9] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ticketguard import signing
from ticketguard.bundle import Bundle, write_registered
from ticketguard.claims import vault
from ticketguard.claims.keys import SecretKey
from ticketguard.masks import Mask
from ticketguard.storage.tensors import write_tensors
from ticketguard.tickets import Architecture, Ticket

LAYERS, SHAPE, DENSITY = 11, (512, 512, 3, 3), 0.05
# Key derivation is slow on purpose and no part of the comparison: the same file format, under one that costs nothing.
QUICK = "from ticketguard.claims import vault; vault.KDFS = {'argon2id': (1, lambda word, salt: bytes(32))}; "
RUN = "from ticketguard.commands import main; main({})"
PROGRAMS = {
    "import click": "import click",
    "ticketguard --help": RUN.format(["--help"]),
    "import numpy, scipy.special, Ed25519": (
        "import numpy, scipy.special; from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey"
    ),
}
BARS = {
    "--help": ("ticketguard --help", "import click", 4.0),
    "verify 100 MB": ("ticketguard verify", "import numpy, scipy.special, Ed25519", 3.0),
}


def prepare(folder: Path) -> tuple[Path, Path]:
    """A signed folder and a suspect of about 100 MB that matches it."""
    rng = np.random.default_rng(0)
    names = [f"layer{number}.weight" for number in range(LAYERS)]
    mask = Mask({name: rng.random(SHAPE, dtype=np.float32) < DENSITY for name in names})
    weights = {name: rng.standard_normal(SHAPE, dtype=np.float32) * mask[name] for name in names}
    ticket = Ticket(architecture=Architecture(), weights=weights, mask=mask)
    registered, embedded = signing.sign(ticket, SecretKey.generate(), owner="Benchmark")
    write_tensors(folder / "suspect.safetensors", dict(embedded.ticket.weights), {})
    vault.KDFS = {"argon2id": (1, lambda *_: bytes(32))}
    write_registered(Bundle(folder / "signed"), registered, "word")
    return folder / "suspect.safetensors", folder / "signed"


def measure(programs: dict[str, str], runs: int) -> dict[str, list[float]]:
    """Wall seconds of every program in a process of its own, one after the other in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    environment = {**os.environ, "TICKETGUARD_PASSPHRASE": "word"}
    for number in range(runs + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL, env=environment)
            # The first round fills the page cache.
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        suspect, signed = prepare(Path(name))
        size = suspect.stat().st_size
        verify = QUICK + RUN.format(["verify", str(suspect), "--signed", str(signed)])
        seconds = measure({**PROGRAMS, "ticketguard verify": verify}, options.runs)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: medians[one] / medians[other] for name, (one, other, _) in BARS.items()}
    if options.json:
        print(json.dumps({"bytes": size, "medians": medians, "ratios": ratios}, indent=1))
    else:
        print(
            f"{'process':40}{'median s':>10}{'min':>8}{'max':>8}   ({options.runs} runs, suspect of {size / 1e6:.0f} MB)"
        )
        for name, values in seconds.items():
            print(f"{name:40}{medians[name]:10.3f}{min(values):8.3f}{max(values):8.3f}")
        for name, (_, other, bar) in BARS.items():
            print(f"{name}: {ratios[name]:.2f} times {other!r}, the bar is {bar:g}")
    return 0 if all(ratios[name] <= bar for name, (_, _, bar) in BARS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
