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


def test_costs_compare_runs_of_one_seed_and_carry_their_spread(page, tmp_path):
    steps = [clean("unsigned", seed, 80.0 + seed) for seed in range(3)]
    steps += [clean("edge", seed, 79.0 + 2 * seed, bits=500.0) for seed in range(2)]
    assert "| edge | 80.00 ± 1.41 (2) | +0.50 ± 0.71 (2) |" in written(page, tmp_path, steps)


def test_every_reading_has_its_column_and_misread_codes_are_told_from_unreadable_ones(page, tmp_path):
    texts = [("0123456789ab",) * 3, (None, "0123456789ab", "0123456789ab"), ("garbage", None, "0123456789ab")]
    steps = [
        {
            **clean("qr", seed, 70.0, text=text, defended=defended, thick=thick, wrong=0.1),
            "attack": "fake2",
            "strength": 0.01,
        }
        for seed, (text, defended, thick) in enumerate(texts)
    ]
    row = "| 1 % | 70.00 ± 0.00 (3) | 1 of 3, 1 misread | 2 of 3 | 3 of 3 | 10.0 % | 90.23, decodes |"
    assert row in written(page, tmp_path, steps)


def test_a_reading_that_did_not_run_says_so(page, tmp_path):
    step = {**clean("qr", 0, 70.0, text=None, wrong=0.1), "attack": "fake2", "strength": 0.02}
    assert "| 2 % | 70.00 (1) | 0 of 1 | not run | not run | 10.0 % | 86.64, lost |" in written(page, tmp_path, [step])


def test_fake3_tells_whose_code_is_read(page, tmp_path):
    steps = [clean("qr", seed, 70.0, text="0123456789ab", wrong=0.0) for seed in range(2)]
    steps += [
        {**clean("qr", seed, 69.0 - seed, text=text, wrong=0.4), "attack": "fake3", "strength": 1.0}
        for seed, text in enumerate(["ffff", None])
    ]
    row = "| ours, qr | 70.00 ± 0.00 (2) | 68.50 ± 0.71 (2) | +1.50 ± 0.71 (2) | owner's 0, insider's 1 of 2 | - |"
    assert row in written(page, tmp_path, steps)


def test_the_smallest_key_that_costs_a_point(page, tmp_path):
    steps = [clean("unsigned", 0, 80.0)]
    for share, locked in ((0.01, 79.9), (0.05, 78.9), (0.2, 60.0)):
        steps.append({"id": f"v1/{share}", "kind": "v1", "score": "omp", "share": share, "seed": 0, "locked": locked})
    text = written(page, tmp_path, steps)
    assert "| locked, omp | 79.90 (1) | 78.90 (1) | 60.00 (1) | 5 %: +1.10 (1) |" in text
    assert "| forged key (fake1, omp lock) | not run | not run | not run | not run |" in text


@pytest.mark.slow
def test_pictures_are_drawn_from_the_steps_and_are_the_same_twice(page, tmp_path):
    pytest.importorskip("matplotlib")
    steps = [clean("unsigned", 0, 80.0)]
    # One loss far below the others: the panels cut it off and say where it lies.
    for share, locked in ((0.05, 79.0), (0.2, 20.0)):
        steps.append({"id": f"v1/{share}", "kind": "v1", "score": "omp", "share": share, "seed": 0, "locked": locked})
    steps.append({**clean("unsigned", 0, 70.0), "attack": "prune-magnitude", "strength": 0.2})
    assert "![V1: retrained accuracy" in written(page, tmp_path, steps)
    assert not (tmp_path / "figure-added.svg").exists()
    first = (tmp_path / "figure-v1.svg").read_text()
    assert "↓ 20" in first
    assert (tmp_path / "figure-pruning.svg").exists()
    written(page, tmp_path, steps)
    assert (tmp_path / "figure-v1.svg").read_text() == first
