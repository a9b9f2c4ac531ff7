from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from ticketguard.errors import StorageError
from ticketguard.finding import find, rundir
from ticketguard.finding.config import Round
from ticketguard.finding.rundir import RunDirectory
from ticketguard.masks import Mask
from ticketguard.tickets import Architecture, Model, read_ticket


def results(directory):
    """The bits of all three result files, training times aside."""
    return {
        (name, key): array.tobytes()
        for name in ("ticket", "model", "dense")
        for value in [read_ticket(directory / f"{name}.safetensors")]
        for key, array in [*value.weights.items(), *(("mask " + key, bits) for key, bits in value.mask.items())]
    }


def epochs(directory):
    rows = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    return [(row["stage"], row["epoch"], row["loss"]) for row in rows]


class Killed(BaseException):
    """Stands for SIGKILL at one moment: nothing in the library catches it."""


WRITES = ((os, "replace", os.replace), (rundir, "append_jsonl", rundir.append_jsonl))


class DiesAt:
    """Dies at the `count`-th write, of a file that is replaced or a line that is added, before or after it has appeared."""

    def __init__(self, count, *, after):
        self.left, self.after = count, after

    def watch(self, monkeypatch):
        for module, name, write in WRITES:
            monkeypatch.setattr(module, name, partial(self, write))

    def __call__(self, write, *arguments, **options):
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Killed
        write(*arguments, **options)
        if self.left == 0:
            raise Killed


@pytest.mark.parametrize("after", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("extreme", [pytest.param(False, marks=pytest.mark.slow), True])
def test_dying_at_any_write_changes_nothing(tiny, tmp_path, monkeypatch, after, extreme):
    changes = {"extreme": extreme, "rates": (0.9, 0.5), "max_rounds": 4}
    whole = tmp_path / "whole"
    counter = DiesAt(1 << 30, after=False)
    counter.watch(monkeypatch)
    find(tiny.config(**changes), tiny.dataset(), whole, threads=1)
    writes = (1 << 30) - counter.left
    assert writes > 20
    expected = results(whole)
    for moment in random.Random(3).sample(range(1, writes + 1), 6):
        broken = tmp_path / f"{moment}"
        DiesAt(moment, after=after).watch(monkeypatch)
        with pytest.raises(Killed):
            find(tiny.config(**changes), tiny.dataset(), broken, threads=1)
        counter.watch(monkeypatch)
        find(tiny.config(**changes), tiny.dataset(), broken, threads=1)
        assert results(broken) == expected, f"killed at write {moment} of {writes}"
        assert epochs(broken) == epochs(whole)
        assert (broken / "rounds.json").read_bytes() == (whole / "rounds.json").read_bytes()


@pytest.mark.slow
def test_sigkill_at_random_moments(tiny, tmp_path):
    def start(directory):
        return subprocess.Popen(
            [sys.executable, tiny.__file__, str(directory)],
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    find(tiny.config(rounds=20, rate=0.2), tiny.dataset(), tmp_path / "whole", threads=1)
    moments, kills = random.Random(1), 0
    while True:
        search = start(tmp_path / "killed")
        if kills < 2:
            for _ in range(moments.randint(1, 4)):
                search.stdout.readline()
            time.sleep(moments.uniform(0, 0.02))
            search.send_signal(signal.SIGKILL)
        search.communicate(timeout=200)
        if search.returncode == 0:
            break
        assert search.returncode == -signal.SIGKILL
        kills += 1
    assert kills == 2
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


def test_a_network_that_cannot_be_forgotten_is_an_error_of_one_line(tmp_path):
    run = RunDirectory(path=tmp_path)
    run.claim({})
    rounds = tuple(Round(rate=0.0, kept=1, size=1, accuracy=1.0, winning=True, accepted=True) for _ in range(2))
    model = Model(architecture=Architecture(), weights={}, mask=Mask({}))
    run.finish_stage(rounds[:1], model, keep=frozenset({0}))
    run.finish_stage(rounds, model, keep=frozenset({1}))
    assert len(list((tmp_path / "stages").iterdir())) == 1
    run._stage(0).mkdir()
    with pytest.raises(StorageError, match="cannot be removed"):
        run.finish_stage(rounds, model, keep=frozenset({1}))
