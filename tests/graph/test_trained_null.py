"""The null hypothesis after alignment, for tickets that were really found: other seeds of the recipe, and own kin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.graph.test_alignment_null import Ticket, Weights, is_fair, key, permuted, reading
from ticketguard.data import load
from ticketguard.finding import FindConfig, FindResult, find_many
from ticketguard.graph.alignment import align
from ticketguard.graph.cells import cell_counts, layer_of
from ticketguard.models import build, fitted
from ticketguard.tickets import Model
from ticketguard.tickets import Ticket as Found
from ticketguard.tracing import symmetry_of
from ticketguard.training import RECIPES

DRAWS = 5000
SEEDS = (0, 1, 2, 3, 4, 5)


def searched(folder: Path, *, rounds: int, seeds: tuple[int, ...]) -> dict[int, FindResult]:
    """Tickets of the digits convnet that keep a quarter of the weights, by seed."""
    data = load("digits")
    config = FindConfig(
        architecture=fitted("convnet", shape=data.shape, classes=10),
        recipe=replace(RECIPES["digits"], epochs=3),
        rounds=rounds,
        rate=1 - 0.25 ** (1 / rounds),
        seed=0,
    )
    return dict(find_many(config, seeds, data, folder, jobs=2, threads=1))


def as_suspect(owner: Ticket, found: Found | Model) -> Ticket:
    return replace(
        owner, weights={layer.name: np.asarray(found.weights[layer.name], np.float64) for layer in owner.layers}
    )


def aligned(owner: Ticket, suspect: Ticket, rng: np.random.Generator) -> Weights:
    counts = {layer.name: cell_counts(layer, owner.mask[layer.name]) for layer in owner.layers}
    stored = permuted(suspect, rng)
    return align(counts, owner.layers, owner.symmetry, stored).apply(stored)


@pytest.mark.slow
def test_evidence_after_alignment_of_tickets_really_found_is_that_of_fair_coins(tmp_path: Path) -> None:
    """5,000 fresh keys for each kind: other seeds' tickets and models, the owner's unsigned ones, and those of other rounds."""
    found = searched(tmp_path / "one round", rounds=1, seeds=SEEDS)
    kin = searched(tmp_path / "two rounds", rounds=2, seeds=(0,))[0]
    own = found[0]
    module = build(own.ticket.architecture)
    layers = [layer_of(name, np.shape(own.ticket.weights[name])) for name in own.ticket.mask]
    layers = [layer for layer in layers if layer.cell >= 2]
    owner = Ticket(
        symmetry=symmetry_of(module, torch.zeros(1, 1, 8, 8)),
        layers=layers,
        weights={layer.name: np.asarray(own.ticket.weights[layer.name], np.float64) for layer in layers},
    )
    kinds: dict[str, list[Found | Model]] = {
        "other tickets": [found[seed].ticket for seed in SEEDS[1:]],
        "other models": [found[seed].model for seed in SEEDS[1:]],
        "the unsigned ticket and its model": [own.ticket, own.model],
        "another ticket of the same dense model": [kin.ticket, kin.model],
    }
    rng = np.random.default_rng(7)
    everything = []
    for number, (kind, members) in enumerate(kinds.items()):
        weights = [aligned(owner, as_suspect(owner, member), rng) for member in members]
        keys = range(number * DRAWS, (number + 1) * DRAWS)
        readings = [reading(key(layers, value), weights[value % len(weights)]) for value in keys]
        assert is_fair(readings), kind
        everything += readings
    assert is_fair(everything)
