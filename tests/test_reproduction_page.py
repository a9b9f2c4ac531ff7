"""The reproduction page quotes what ran and nothing else."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def page(monkeypatch):
    # The benchmarks are scripts: they import one another from their own folder.
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("reproduce_page")


ABOUT = {"command": "python x.py", "machine": "m", "date": "2026-01-01", "find": "f", "train": "t", "recipe": "r"}


def clean(variant, seed, accuracy, **more):
    step = {
        "kind": "attack",
        "attack": "clean",
        "strength": 0.0,
        "variant": variant,
        "seed": seed,
        "accuracy": accuracy,
    }
    return {"id": f"{variant}/{seed}", **step, **more}


def written(page, tmp_path, steps):
    page.write_page(tmp_path / "page.md", steps, ABOUT)
    return (tmp_path / "page.md").read_text()


def test_nothing_ran(page, tmp_path):
    text = written(page, tmp_path, [])
    assert "python x.py" in text
    assert "## Table" not in text


def test_means_spread_and_costs_are_those_of_the_steps(page, tmp_path):
    steps = [clean("unsigned", 0, 80.0), clean("unsigned", 1, 82.0), clean("edge", 0, 79.5, bits=500.0)]
    text = written(page, tmp_path, steps)
    assert "| unsigned | 81.00 ± 1.41 (2) | 0 | - | - |" in text
    assert "| edge | 79.50 (1) | +0.50 (1) | - | 500 (1) |" in text
    assert "| qr | not run | not run | 0.29 | - |" in text
    assert "## Table 5" not in text


def test_misread_codes_are_told_from_unreadable_ones(page, tmp_path):
    steps = [
        {**clean("qr", seed, 70.0, text=text, wrong=0.1), "attack": "fake2", "strength": 0.01}
        for seed, text in enumerate(["0123456789ab", None, "garbage"])
    ]
    text = written(page, tmp_path, steps)
    assert "| 1 % | 70.00 ± 0.00 (3) | 1 of 3, 1 misread | not run | not run | 10.0 % | 90.23, decodes |" in text


def test_every_reading_has_its_own_column(page, tmp_path):
    step = {**clean("qr", 0, 70.0, text=None, wrong=0.1), "attack": "fake2", "strength": 0.01}
    text = written(page, tmp_path, [{**step, "defended": None, "thick": "0123456789ab"}])
    assert "| 1 % | 70.00 (1) | 0 of 1 | 0 of 1 | 1 of 1 | 10.0 % | 90.23, decodes |" in text


def test_the_smallest_key_that_costs_a_point(page, tmp_path):
    steps = [clean("unsigned", 0, 80.0)]
    for share, locked in ((0.01, 79.9), (0.05, 78.9), (0.2, 60.0)):
        steps.append({"id": f"v1/{share}", "kind": "v1", "score": "omp", "share": share, "seed": 0, "locked": locked})
    text = written(page, tmp_path, steps)
    assert "| locked, omp | 79.90 (1) | 78.90 (1) | 60.00 (1) | 5 %: +1.10 (1) |" in text
    assert "| forged key (fake1, omp lock) | not run | not run | not run | not run |" in text
