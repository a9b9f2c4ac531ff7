"""The benchmark scripts still fit the package that they measure."""

import importlib
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ticketguard.masks import Mask
from ticketguard.models import build, fitted, prunable
from ticketguard.suite.plan import Cell
from ticketguard.suite.results import Result
from ticketguard.training import RECIPES, TrainState, save_state

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    # The benchmarks are scripts: they import one another from their own folder.
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_the_reproduction_signs_with_the_rewind_weights(script, tmp_path):
    ones = np.ones((2, 2), np.float32)
    state = TrainState(weights={"fc.weight": ones}, momentum={"fc.weight": 2 * ones})
    save_state(tmp_path / "rewind.safetensors", state, {})
    options = Namespace(out=tmp_path, found=tmp_path, recipe="short", epochs=0, train_epochs=0)
    rewind = script("reproduce").Reproduction(options).rewind
    assert list(rewind) == ["fc.weight"]
    assert np.array_equal(rewind["fc.weight"], ones)


def test_the_bare_step_runs(script):
    bench = script("bench_training")
    data = bench.images_for(None, 32)
    module = build(fitted("convnet", shape=data.shape, classes=10))
    mask = Mask({name: np.ones(module.get_parameter(name).shape, np.bool_) for name in prunable(module)})
    recipe = replace(RECIPES["short"], epochs=1, rewind_epoch=0, batch_size=16, warmup=0.5)
    assert bench.bare(module, data, recipe, torch.device("cpu"), mask) > 0


def test_controls_that_did_not_run_say_so(script):
    cell = Cell(attack="unrelated", strength=1.0, seed=3, epochs=1, images=None)
    skipped = Result(
        digest="00",
        cell=cell,
        label="unrelated",
        unit="",
        lossless=False,
        control=True,
        decision="NOT RUN",
        reason="no data",
    )
    ran = replace(skipped, decision="NO MATCH", reason="", accuracy=50.0, edge_bits=2.0, trigger_bits=None)
    *_, first, second = script("robustness_tables").controls([skipped, ran])
    assert first == "| `unrelated`, seed 3 | – | – | not run: no data |"
    assert second == "| `unrelated`, seed 3 | 50.0 | 2.0 | NO MATCH |"
