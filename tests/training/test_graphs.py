from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.training.test_loop import RECIPE, convnet, equal, some_mask, some_triggers
from ticketguard.training import Recipe, TrainState, fit, graphs
from ticketguard.training.graphs import WARM_UP, RecordedStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


class Waiting(nn.Module):
    """A network that waits for the device in every pass, which no graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images.flatten(1)) * float(images.mean().item() < 1e9)


class Dropping(nn.Module):
    """A network whose training draws random numbers on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Dropout(0.5), nn.Linear(32, 4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)


def trained(blobs, recipe: Recipe, module: nn.Module | None = None, **options) -> TrainState:
    return fit(convnet() if module is None else module, blobs, recipe, seed=5, device="cuda", threads=1, **options)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("augment", [False, True])
def test_recorded_steps_give_the_same_bits_as_plain_ones(blobs, monkeypatch, precision, augment):
    recipe = replace(RECIPE, precision=precision, augment=augment)
    options = {"mask": some_mask(), "triggers": some_triggers()}
    recorded = trained(blobs, recipe, **options)
    monkeypatch.setattr(graphs, "WARM_UP", 10**9)
    assert equal(trained(blobs, recipe, **options), recorded)


def test_a_resumed_run_records_anew_and_gives_the_same_bits(blobs):
    whole = trained(blobs, RECIPE, mask=some_mask())
    half = trained(blobs, RECIPE, mask=some_mask(), until_epoch=2)
    assert equal(trained(blobs, RECIPE, mask=some_mask(), state=half), whole)


def test_a_step_that_waits_for_the_device_runs_as_it_is(blobs, monkeypatch):
    torch.manual_seed(1)
    first = Waiting()
    second = Waiting()
    second.load_state_dict(first.state_dict())
    found = trained(blobs, RECIPE, first)
    monkeypatch.setattr(graphs, "WARM_UP", 10**9)
    assert equal(trained(blobs, RECIPE, second), found)


def test_a_step_that_draws_random_numbers_runs_as_it_is():
    torch.manual_seed(1)
    module = Dropping().cuda()
    recorded = RecordedStep(lambda images, labels: module(images).sum() + 0 * labels.sum())
    batch = torch.ones(8, 1, 8, 8, device="cuda"), torch.zeros(8, device="cuda")
    losses = {float(recorded(*batch)) for _ in range(WARM_UP + 5)}
    assert len(losses) == WARM_UP + 5
    assert recorded._graph is None


def test_a_batch_of_another_shape_runs_as_it_is():
    recorded = RecordedStep(lambda images, labels: images.sum() + labels.sum())
    for count in (4, 4, 4, 4, 4, 3, 4):
        images, labels = torch.ones(count, 2, device="cuda"), torch.full((count,), 2.0, device="cuda")
        assert float(recorded(images, labels)) == 4 * count
