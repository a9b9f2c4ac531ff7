from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from ticketguard.errors import UsageError
from ticketguard.finding import find
from ticketguard.tickets import read_ticket
from ticketguard.training import distributed

SCRIPT = """
import importlib.util, sys
from dataclasses import replace
from pathlib import Path
spec = importlib.util.spec_from_file_location("tiny_search", sys.argv[1])
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)
from ticketguard.finding import find
config = tiny.config(recipe=replace(tiny.config().recipe, precision="fp32"))
find(config, tiny.dataset(), Path(sys.argv[2]), threads=1, on_progress=lambda progress: print(progress.stage, flush=True))
"""


def torchrun(tiny, script, directory, port):
    return subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port),
            str(script), tiny.__file__, str(directory),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_find_the_ticket_of_one(tiny, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = torchrun(tiny, script, tmp_path / "two", 29_713)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["0", "0", "0", "1", "1", "2", "2"], "rank 0 alone reports"
    one = find(tiny.config(recipe=replace(tiny.config().recipe, precision="fp32")), tiny.dataset(), threads=1)
    two = read_ticket(tmp_path / "two" / "model.safetensors")
    for name, bits in one.model.mask.items():
        np.testing.assert_array_equal(two.mask[name], bits)
    for name, array in one.model.weights.items():
        np.testing.assert_allclose(two.weights[name], array, rtol=1e-3, atol=1e-5)
    assert two.provenance["machine"]["processes"] == 2

    (tmp_path / "two" / "rounds.json").unlink()  # as after a kill in the last round: both ranks resume
    again = torchrun(tiny, script, tmp_path / "two", 29_714)
    assert again.returncode == 0, again.stderr[-3000:]
    resumed = read_ticket(tmp_path / "two" / "model.safetensors")
    assert all(resumed.weights[name].tobytes() == two.weights[name].tobytes() for name in two.weights)


def test_one_process_needs_no_group():
    with distributed.group():
        assert not distributed.active()
    assert (distributed.rank(), distributed.world()) == (0, 1)
    images, labels = torch.zeros(3, 1), torch.zeros(3)
    assert distributed.share(images, labels)[0] is images
    assert distributed.mean(torch.tensor(2.0)) == 2
    distributed.require_agreement("a", "the mask")
    distributed.barrier()


def test_shares_are_equal_and_disjoint(monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 2)
    images, labels = torch.arange(6).view(6, 1), torch.arange(6)
    parts = []
    for number in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        parts += distributed.share(images, labels)[1].tolist()
    assert sorted(parts) == list(range(6))
    with pytest.raises(UsageError, match="cannot be shared equally by 2"):
        distributed.share(images[:5], labels[:5])
