from __future__ import annotations

from dataclasses import replace

import pytest

from ticketguard.errors import UsageError
from ticketguard.training import RECIPES, Recipe


def test_paper_recipe_is_the_papers():
    recipe = RECIPES["paper"]
    assert (recipe.epochs, recipe.batch_size, recipe.momentum, recipe.rewind_epoch) == (182, 128, 0.9, 3)
    assert [recipe.rate(epoch) for epoch in (0, 90.99, 91, 135, 136, 181)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )


def test_cosine_rises_through_warmup_and_falls_to_zero():
    recipe = Recipe(epochs=10, lr=0.4, schedule="cosine", warmup=2)
    rates = [recipe.rate(epoch / 4) for epoch in range(41)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.4)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0)


def test_constant_schedule():
    assert Recipe(epochs=3, schedule="constant", lr=0.3).rate(2.5) == 0.3


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_json(name):
    assert (
        Recipe(**{**RECIPES[name].to_json(), "milestones": tuple(RECIPES[name].to_json()["milestones"])})
        == RECIPES[name]
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0}, {"batch_size": 1}, {"lr": 0.0}, {"lr": float("nan")}, {"momentum": 1.0}, {"weight_decay": -1e-4},
        {"momentum": 0.0, "nesterov": True}, {"schedule": "sometimes"}, {"precision": "fp8"}, {"rewind_epoch": 5},
        {"label_smoothing": 1.0}, {"warmup": -1.0}, {"triggers_per_batch": 0}, {"evaluate_every": 0},
        {"warmup": 1e9}, {"warmup": float("nan")}, {"gamma": float("nan")}, {"gamma": -0.1}, {"gamma": float("inf")},
        {"milestones": (4, 2)}, {"milestones": (-1, 2)}, {"milestones": (float("nan"),)},
    ],
)  # fmt: skip
def test_impossible_recipes_are_refused(wrong):
    with pytest.raises(UsageError, match="recipe: "):
        Recipe(**{"epochs": 5, **wrong})


def test_a_record_of_a_plain_recipe_reads_as_it_did_before_there_was_compiling():
    plain = RECIPES["digits"].to_json()
    assert "compiled" not in plain
    assert replace(RECIPES["digits"], compiled=True).to_json() == {**plain, "compiled": True}
