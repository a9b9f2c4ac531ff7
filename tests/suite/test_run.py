"""Running suites: what cells measure, and that nothing depends on the engine or on interruptions."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ticketguard.attacks.registry import ATTACKS
from ticketguard.bundle import Bundle
from ticketguard.errors import FormatError, UsageError
from ticketguard.evidence import Verdict
from ticketguard.storage.atomic import running
from ticketguard.suite import EngineOptions, SuiteResult, engines, preset, read_suite, run_bench, run_suite
from ticketguard.suite.bench import recipe_of
from ticketguard.suite.results import CELLS_FILE, RESULTS_FILE, read_cells
from ticketguard.tickets import read_ticket, write_ticket
from ticketguard.training.devices import resolve_device, resolve_precision

# The command's tests run a suite too, in less time.
pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from pathlib import Path
from ticketguard.suite import EngineOptions, read_plan, run_bench
import pickle

if __name__ == "__main__":
    bench = pickle.loads(Path(sys.argv[1]).read_bytes())
    run_bench(bench, read_plan(Path(sys.argv[2])), Path(sys.argv[3]), engine=sys.argv[4], options=EngineOptions(jobs=2))
"""


@pytest.fixture(scope="module")
def suite(bench, plan, tmp_path_factory) -> tuple[SuiteResult, Path]:
    out = tmp_path_factory.mktemp("suite")
    return run_bench(bench, plan, out), out


def test_cells_measure(suite, bench) -> None:
    results = {item.label: item for item in suite[0].results}
    assert list(results) == [
        "prune-magnitude@0.3", "prune-magnitude@0.97", "rename@1", "finetune@0.01", "input-flip@1", "unsigned@1", "fake3@1",
    ] or list(results)[:6] == [
        "prune-magnitude@0.3", "prune-magnitude@0.97", "rename@1", "finetune@0.01", "input-flip@1", "unsigned@1",
    ]  # fmt: skip
    renamed = results["rename@1"]
    assert renamed.decision == "MATCH"
    assert renamed.accuracy == bench.accuracy == suite[0].accuracy
    assert renamed.lossless
    assert renamed.edge_bits > 500
    assert renamed.bar_bits == 126
    verdict = Verdict.from_json(renamed.verdict)
    assert verdict.decision == "MATCH"
    assert max(item.bits for item in verdict.evidence if item.test != "triggers") == renamed.edge_bits
    assert (results["finetune@0.01"].epochs, results["finetune@0.01"].images) == (1, 64)
    hidden = results["input-flip@1"]
    assert hidden.hidden
    assert hidden.edge_bits is None
    assert hidden.trigger_bits is not None
    control = results["unsigned@1"]
    assert control.control
    assert control.edge_bits < 20
    assert suite[0].false_matches == ()


def test_an_attack_that_does_not_apply_is_a_row_too(suite) -> None:
    last = suite[0].results[-1]
    assert last.decision == "NOT RUN"
    assert "QR" in last.reason
    assert last.accuracy is None
    assert "fake3" not in {price.attack for price in suite[0].prices}


def test_prices(suite) -> None:
    prices = {price.attack: price for price in suite[0].prices}
    assert "unsigned" not in prices
    assert not prices["rename"].removed
    pruned = prices["prune-magnitude"]
    assert [point.strength for point in pruned.curve] == [0.3, 0.97]
    assert pruned.removed
    assert pruned.strength == 0.97
    assert pruned.points == pytest.approx(suite[0].accuracy - pruned.curve[1].accuracy)


def test_files_and_round_trip(suite, plan) -> None:
    result, out = suite
    assert read_suite(out) == result
    assert SuiteResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    lines = [json.loads(line) for line in (out / RESULTS_FILE).read_text().splitlines()]
    assert len(lines) == len(plan.cells())
    assert not any("timing" in key or "seconds" in key for line in lines for key in line)
    with pytest.raises(FormatError):
        SuiteResult.from_json({"format": 1})
    with pytest.raises(FormatError):
        SuiteResult.from_json({**result.to_json(), "results": [{}]})


def test_finished_cells_are_skipped(suite, bench, plan, monkeypatch) -> None:
    result, out = suite
    monkeypatch.setattr("ticketguard.suite.engines.run_cell", None)
    before = (out / RESULTS_FILE).read_bytes()
    seen = []
    assert run_bench(bench, plan, out, on_progress=seen.append) == result
    assert (out / RESULTS_FILE).read_bytes() == before
    assert [(item.done, item.total) for item in seen] == [(7, 7)]
    other = replace(bench, threads=2)
    assert other.digest != bench.digest


def test_what_the_unsigned_ticket_adds_is_all_that_runs(suite, bench, plan, tmp_path: Path, monkeypatch) -> None:
    """Forgotten and given later, it comes to what it would have come to at once; another one is another suite."""
    before = run_bench(replace(bench, unsigned=None), plan, tmp_path)
    assert [item.cell.attack for item in before.results if item.decision == "NOT RUN"] == ["unsigned", "fake3"]
    ran = []
    real = engines.run_cell
    monkeypatch.setattr(engines, "run_cell", lambda bench, cell: ran.append(cell.attack) or real(bench, cell))
    for _ in range(2):
        after = run_bench(bench, plan, tmp_path)
        assert after.results == suite[0].results
        assert after.subject == bench.digest != before.subject
    assert ran == ["unsigned"]
    assert (tmp_path / RESULTS_FILE).read_bytes() == (suite[1] / RESULTS_FILE).read_bytes()
    held = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other = tmp_path.parent / "other.safetensors"
    write_ticket(other, replace(read_ticket(bench.unsigned), provenance={}))
    for unsigned, words in ((None, "none here"), (other, "sha256 [0-9a-f]{16} here")):
        with pytest.raises(UsageError, match=f"unsigned ticket: sha256 [0-9a-f]{{16}} there, {words}"):
            run_bench(replace(bench, unsigned=unsigned), plan, tmp_path)
    fewer = replace(plan, entries=plan.entries[1:])
    without = tmp_path / "without"
    run_bench(replace(bench, unsigned=None), plan, without)
    with pytest.raises(UsageError, match="2 of its results are not in this plan"):
        run_bench(bench, fewer, without)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == held


@pytest.mark.parametrize("name", ATTACKS)
def test_who_reads_the_unsigned_ticket_says_so(name: str) -> None:
    sources = [inspect.getsource(base) for base in ATTACKS[name].__mro__ if base.__module__.startswith("ticketguard.")]
    assert ATTACKS[name].unsigned_matters == any("victim.unsigned" in source for source in sources)


def test_a_suite_of_an_earlier_version_knows_no_settings(suite, bench, plan, tmp_path: Path) -> None:
    document = suite[0].to_json()
    # Where the processor computes in bfloat16 that is said too.
    assert document["settings"]["threads and device"] in ("1, cpu", "1, cpu, bf16")
    del document["settings"]
    assert SuiteResult.from_json(document).results == suite[0].results
    (tmp_path / "suite.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="model, data or settings"):
        run_bench(replace(bench, threads=2), plan, tmp_path)
    with pytest.raises(FormatError):
        SuiteResult.from_json({**document, "settings": "ab"})


def test_the_folder_may_be_text(suite, tiny_signed, bench, plan) -> None:
    folder, passphrase, unsigned = str(suite[1]), tiny_signed.passphrase, str(bench.unsigned)
    again = run_suite(tiny_signed.bundle, bench.dataset, plan, folder, passphrase=passphrase, unsigned=unsigned)
    assert again.results == suite[0].results


def test_what_auto_means_and_the_precision_are_part_of_a_bench(bench, monkeypatch) -> None:
    # Another instance: digests are kept.
    auto = replace(bench, device="auto")
    assert (auto.digest == bench.digest) == (resolve_device("auto").type == "cpu")
    native = resolve_precision("auto", torch.device("cpu")) == torch.bfloat16
    monkeypatch.setattr("ticketguard.training.devices.native_bf16", lambda device: not native)
    assert recipe_of(bench.model).precision != "auto" or replace(bench).digest != bench.digest


def test_the_ticket_is_read_once_for_all_cells(bench, plan, monkeypatch) -> None:
    fresh, reads = replace(bench), []
    read = Bundle.read_ticket
    monkeypatch.setattr(Bundle, "read_ticket", lambda folder: reads.append(folder) or read(folder))
    for cell in plan.cells()[:3]:
        fresh.victim(cell)
    assert len(reads) == 1


def test_a_damaged_line_is_refused_and_a_cut_one_repeated(suite, bench, plan, tmp_path: Path) -> None:
    text = (suite[1] / CELLS_FILE).read_bytes()
    (tmp_path / CELLS_FILE).write_bytes(text[:-20])
    assert len(read_cells(tmp_path)) == 6
    again = run_bench(bench, plan, tmp_path)
    assert again.results == suite[0].results
    assert (tmp_path / RESULTS_FILE).read_bytes() == (suite[1] / RESULTS_FILE).read_bytes()
    (tmp_path / CELLS_FILE).write_text('{"result": 1}\n')
    with pytest.raises(FormatError, match="suite result"):
        run_bench(bench, plan, tmp_path)


def test_bad_requests(tiny_signed, bench, plan, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="engine"):
        run_bench(bench, plan, engine="abacus")
    with running(tmp_path), pytest.raises(UsageError, match="another process works in"):
        run_bench(bench, plan, tmp_path)
    with pytest.raises(UsageError):
        EngineOptions(jobs=0)
    other = replace(tiny_signed.data, classes=("e", "f", "g", "h"))
    with pytest.raises(UsageError, match="classes"):
        run_suite(tiny_signed.bundle, other, preset("quick"), passphrase=tiny_signed.passphrase)


def _start(bench, plan_file: Path, out: Path, engine: str, folder: Path) -> subprocess.Popen:
    (folder / "bench.pickle").write_bytes(pickle.dumps(bench))
    (folder / "script.py").write_text(SCRIPT)
    arguments = [sys.executable, "script.py", "bench.pickle", str(plan_file), str(out), engine]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(arguments, cwd=folder, env=environment)


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    attacks = ["rename", "bf16", "prune-random", "add-on", "finetune", "quantize", "weight-noise"]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"epochs": 1, "attacks": attacks}))
    return path


def test_killed_and_resumed_gives_the_same_file(bench, plan_file: Path, tmp_path: Path) -> None:
    from ticketguard.suite import read_plan

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_bench(bench, read_plan(plan_file), whole)
    child = _start(bench, plan_file, killed, "serial", tmp_path)
    wanted = int(np.random.default_rng().integers(1, 6))
    until = time.monotonic() + 60
    while time.monotonic() < until and child.poll() is None:
        if (killed / CELLS_FILE).exists() and (killed / CELLS_FILE).read_bytes().count(b"\n") >= wanted:
            break
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert len(read_cells(killed)) >= 1
    run_bench(bench, read_plan(plan_file), killed)
    assert (killed / RESULTS_FILE).read_bytes() == (whole / RESULTS_FILE).read_bytes()


@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_engines_agree(engine: str, bench, plan_file: Path, tmp_path: Path) -> None:
    from ticketguard.suite import read_plan

    if engine == "ray":
        pytest.importorskip("ray", reason="the extra `ray` is not installed")
    run_bench(bench, read_plan(plan_file), tmp_path / "serial")
    child = _start(bench, plan_file, tmp_path / engine, engine, tmp_path)
    assert child.wait(timeout=280) == 0
    assert (tmp_path / engine / RESULTS_FILE).read_bytes() == (tmp_path / "serial" / RESULTS_FILE).read_bytes()
