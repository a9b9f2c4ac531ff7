"""Scaling of time and peak memory: signing and verifying against parameters, a scan against suspects, a suite against cells.

    python benchmarks/bench_scaling.py             # 1e5 to 1e8 parameters, 1 to 300 suspects, 10 to 1,000 cells
    python benchmarks/bench_scaling.py --large     # also 1e9: needs 13 GB of disk in --folder

Synthetic tickets of 16 equal 3 x 3 convolutions, float32, random masks at 10 %. Every step runs in a process of its own, with
the library's calls that the commands make, key derivation aside. "own" memory is the peak of memory that is not file pages
(RssAnon, sampled every 2 ms) beyond what the process had after its imports; "resident" is the operating system's peak
(ru_maxrss), mapped pages of files included. Signing streams: bar, own memory under twice the largest layer. "test" is one
suspect of many, after the carriers were drawn: gathers and tests only, processor time; it must not depend on the size from
1e7 to 1e9 within a factor of 2.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ticketguard import signing
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.opening import open_all
from ticketguard.claims.registration import parse
from ticketguard.storage.tensors import Computed, TensorInfo, read_tensors, write_tensors
from ticketguard.tickets import open_ticket, write_ticket
from ticketguard.verify.scan import scan
from ticketguard.verify.verifier import Examiner

LAYERS, DENSITY = 16, 0.1
SIZES = (10**5, 10**6, 10**7, 10**8)
LARGE = 10**9
SUSPECTS = (1, 10, 100, 300)
CELLS = (10, 100, 1000)
MASTER = bytes(range(32))
PART = 1 << 22
PASSPHRASE = "demo"


def shape_of(parameters: int) -> tuple[int, int, int, int]:
    """One of the equal layers."""
    side = max(4, round(math.sqrt(parameters / LAYERS / 9)))
    return side, side, 3, 3


def make(path: Path, parameters: int) -> None:
    """A synthetic ticket, written layer by layer."""
    shape = shape_of(parameters)
    infos = {f"{n}.weight": TensorInfo(dtype="F32", shape=shape) for n in range(LAYERS)}
    infos |= {f"{n}.weight_mask": TensorInfo(dtype="U8", shape=shape) for n in range(LAYERS)}

    def tensor(name: str) -> np.ndarray:
        rng = np.random.default_rng(int(name.split(".")[0]))
        weights = np.zeros(math.prod(shape), np.float32)
        for start in range(0, len(weights), PART):
            part = weights[start : start + PART]
            part[:] = np.where(
                rng.random(len(part), np.float32) < DENSITY, rng.standard_normal(len(part), np.float32), 0
            )
        return (weights != 0).astype(np.uint8).reshape(shape) if name.endswith("_mask") else weights.reshape(shape)

    write_tensors(path, Computed(infos, tensor), {})


def own() -> int:
    """Bytes of this process that are not file pages."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def watched(work: Callable[[], Any]) -> dict[str, float]:
    """Run `work`: seconds on the clock and of the processor, own bytes at the peak, resident bytes at the peak."""
    before, peak, done = own(), [0], threading.Event()

    def sample() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], own())

    thread = threading.Thread(target=sample)
    thread.start()
    begin = time.perf_counter(), time.process_time()
    extra = work() or {}
    taken = time.perf_counter() - begin[0], time.process_time() - begin[1]
    done.set()
    thread.join()
    top = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"clock": taken[0], "processor": taken[1], "own": max(0, peak[0] - before), "resident": top, **extra}


def sign(folder: Path) -> None:
    """Sign `ticket` in the folder as the command does: from the file, to a file."""
    ticket = open_ticket(read_tensors(folder / "ticket"), where="ticket")
    key = SecretKey.from_seed(bytes(32))
    registered, embedded = signing.sign(ticket, key, owner="Benchmark", master=MASTER, nonce=MASTER)
    write_ticket(folder / "signed", embedded.ticket)
    (folder / "payload").write_bytes(registered.payload)


def examiner_in(folder: Path) -> Examiner:
    """The examiner of what `sign` left in the folder."""
    payload = (folder / "payload").read_bytes()
    return Examiner(open_all(parse(payload), payload, MASTER))


def verify(folder: Path) -> dict[str, float]:
    """Verify the signed file: carriers drawn, then five times the test alone; its median processor seconds as `test`."""
    examiner, times = examiner_in(folder), []
    for _ in range(6):
        begin = time.process_time()
        verdict = examiner.verify(read_tensors(folder / "signed"), align="never")
        times.append(time.process_time() - begin)
    if verdict.decision != "MATCH":
        raise SystemExit("the signed ticket does not match")
    return {"test": statistics.median(times[1:])}


def many(folder: Path, count: int) -> None:
    """Scan so many hard links of the signed file."""
    paths = [folder / f"suspect{number}.safetensors" for number in range(count)]
    for path in paths:
        os.link(folder / "signed", path)
    scan(examiner_in(folder), paths, align="never")
    for path in paths:
        path.unlink()


def cells(folder: Path, count: int, engine: str) -> None:
    """A suite of so many random prunings of the demo's model, each with a seed of its own."""
    from ticketguard.data import load
    from ticketguard.suite import EngineOptions, Entry, Plan, run_suite

    plan = Plan(name="scaling", entries=(Entry(attack="prune-random", strengths=(0.3,)),), seeds=tuple(range(count)))
    run_suite(
        folder / "demo" / "signed", load("digits"), plan, folder / f"{engine}-{count}", passphrase=PASSPHRASE, engine=engine,
        options=EngineOptions(jobs=2),
    )  # fmt: skip


def child(*arguments: str) -> dict[str, float]:
    """One step, done by this script in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--step", *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def step(what: str, folder: Path, number: int) -> None:
    """What a process of its own does."""
    work: dict[str, Callable[[], Any]] = {
        "make": lambda: make(folder / "ticket", number),
        "sign": lambda: sign(folder),
        "verify": lambda: verify(folder),
        "scan": lambda: many(folder, number),
        "serial": lambda: cells(folder, number, what),
        "processes": lambda: cells(folder, number, what),
    }
    print(json.dumps(watched(work[what])))


def parameters_table(folder: Path | None, large: bool) -> None:
    """Sign and verify tickets of growing size."""
    columns = ("parameters", "largest layer, MB", "sign s", "own MB", "of the largest layer", "resident MB")
    print("| " + " | ".join([*columns, "verify s", "own MB", "test ms"]) + " |\n" + "| --- " * 9 + "|")
    for size in [*SIZES, *([LARGE] if large else [])]:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            child("make", name, str(size))
            signed, verified = child("sign", name, "0"), child("verify", name, "0")
        layer = math.prod(shape_of(size)) * 4
        print(
            f"| {LAYERS * layer // 4:,} | {layer / 1e6:,.1f} | {signed['clock']:.2f} | {signed['own'] / 1e6:,.0f} "
            f"| {signed['own'] / layer:.2f} | {signed['resident'] / 1e6:,.0f} | {verified['clock']:.2f} "
            f"| {verified['own'] / 1e6:,.0f} | {1000 * verified['test']:.1f} |",
            flush=True,
        )


def suspects_table(folder: Path | None, _: bool) -> None:
    """Scans of growing length against a ticket of 270,000 parameters, about ResNet-20's."""
    print("\n| suspects | scan s | processor ms a suspect | own MB | resident MB |\n" + "| --- " * 5 + "|")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        child("make", name, "270000")
        child("sign", name, "0")
        for count in SUSPECTS:
            found = child("scan", name, str(count))
            each = 1000 * found["processor"] / count
            print(
                f"| {count} | {found['clock']:.2f} | {each:.1f} | {found['own'] / 1e6:.0f} | {found['resident'] / 1e6:.0f} |",
                flush=True,
            )


def cells_table(folder: Path | None, _: bool) -> None:
    """Suites of growing length on the demo's model, in one process and in two; imports included."""
    print("\n| cells | serial s | ms a cell | own MB | resident MB | two processes s | own MB of the first |")
    print("| --- " * 7 + "|")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        environment = {**os.environ, "TICKETGUARD_PASSPHRASE": PASSPHRASE}
        command = [sys.executable, "-m", "ticketguard", "demo", "--out", f"{name}/demo"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        for count in CELLS:
            one, two = child("serial", name, str(count)), child("processes", name, str(count))
            print(
                f"| {count:,} | {one['clock']:.2f} | {1000 * one['clock'] / count:.1f} | {one['own'] / 1e6:.0f} "
                f"| {one['resident'] / 1e6:.0f} | {two['clock']:.2f} | {two['own'] / 1e6:.0f} |",
                flush=True,
            )


TABLES = {"parameters": parameters_table, "suspects": suspects_table, "cells": cells_table}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="1e9 parameters too")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--folder", type=Path, default=None, help="where the files go; deleted afterwards")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step is not None:
        step(options.step[0], Path(options.step[1]), int(options.step[2]))
        return
    for name in options.only:
        TABLES[name](options.folder, options.large)


if __name__ == "__main__":
    main()
