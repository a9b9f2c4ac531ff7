"""A built wheel holds everything it needs: installed elsewhere, it runs the demo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_wheel_runs_the_demo_outside_the_checkout(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True, capture_output=True
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    where = subprocess.run(
        [sys.executable, "-c", "import ticketguard; print(ticketguard.__file__)"],
        cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "ticketguard", "demo", "--out", "demo", "--json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["suspect"]: row for row in json.loads(done.stdout)["rows"]}
    assert len(rows) >= 9
    assert all(set(row) == {"suspect", "accuracy", "verdict", "bits"} for row in rows.values())
    for name in ("owner's model", "owner's model, asked only"):
        assert rows[name]["verdict"] == "MATCH"
    copies = [row for name, row in rows.items() if "copy" in name]
    assert len(copies) == 3
    assert all(row["verdict"] == "MATCH" for row in copies)
    assert rows["independent model"]["verdict"] == "NO MATCH"
    assert rows["owner's model, wrong key"]["verdict"] == "NO MATCH"
