"""The false-positive bound as a statistic: P(p <= a) <= a for suspects of every make that never saw the secret."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest

from tests.readings import join, read
from tests.thinned import thinned
from ticketguard.claims.streams import Stream
from ticketguard.graph.cells import Layer, layer_of
from ticketguard.signatures import edge
from ticketguard.signatures.board import Board
from ticketguard.signatures.turns import TURNS, turned
from ticketguard.tails import log2_binomial_tail, log2_signed_sum_bound
from ticketguard.triggers.plan import TriggerPlan
from ticketguard.triggers.render import TARGETS_LABEL, draw_labels
from ticketguard.triggers.score import score
from ticketguard.verify.verifier import TURN_BITS

LAYERS = (layer_of("conv", (10, 8, 3, 3)), layer_of("linear", (12, 48)))
PAIRS = 60
GROUPS = 3
LEVELS = (0.1, 0.01, 0.001)
BINDER = hashlib.sha256(b"a registration").digest()
Generator = np.random.Generator
Suspect = Callable[[Generator, Layer], np.ndarray]


def dense(generator: Generator, layer: Layer) -> np.ndarray:
    return generator.standard_normal(layer.positions)


def sparse(generator: Generator, layer: Layer) -> np.ndarray:
    return dense(generator, layer) * (generator.random(layer.positions) < 0.2)


def biased(generator: Generator, layer: Layer) -> np.ndarray:
    """Early positions of a cell are kept far more often, and are larger."""
    place = (np.arange(layer.positions) % layer.fan_in % layer.cell) / layer.cell
    return dense(generator, layer) * (2 - place) * (generator.random(layer.positions) < 0.9 - 0.8 * place)


def constant_sign(generator: Generator, layer: Layer) -> np.ndarray:
    """All weights positive, of few distinct sizes."""
    return np.ceil(3 * generator.random(layer.positions)) * (generator.random(layer.positions) < 0.5)


def clumped(generator: Generator, layer: Layer) -> np.ndarray:
    """Runs of neighbouring positions are kept or pruned together."""
    runs = np.repeat(generator.random(-(-layer.positions // 5)) < 0.4, 5)[: layer.positions]
    return dense(generator, layer) * runs


def row_aligned(generator: Generator, layer: Layer) -> np.ndarray:
    """Every row keeps the same columns, and rows differ in scale by orders of magnitude."""
    columns = generator.random(layer.fan_in) < 0.3
    scale = np.exp(generator.normal(0, 3, layer.rows))
    return (generator.standard_normal((layer.rows, layer.fan_in)) * scale[:, None] * columns).ravel()


def of_all_scales(generator: Generator, layer: Layer) -> np.ndarray:
    """Weights from the smallest to the largest numbers there are: equal ones, ones whose squares vanish, a few huge ones."""
    weights = 10.0 ** generator.choice([-300, -162, -161, -8, 0, 0, 0, 0, 0, 0, 1.6], layer.positions)
    return weights * np.repeat(generator.choice([1.0, 1e-150, 1e150], layer.rows, p=[0.8, 0.1, 0.1]), layer.fan_in)


def vanishing_squares(generator: Generator, layer: Layer) -> np.ndarray:
    """Most cells are all ones, the others hold one weight of 2e-162, two also a 40: a few sizes of difference, ties else."""
    cells = np.ones((layer.positions // layer.cell, layer.cell))
    lone = generator.random(len(cells)) < 0.3
    cells[lone] = 0.0
    cells[lone, generator.integers(0, layer.cell, lone.sum())] = 2.3e-162
    large = generator.choice(np.flatnonzero(~lone), 2, replace=False)
    cells[large, layer.cell // 2] = 40.0
    return cells.ravel()


def own_unsigned_ticket(_: Generator, layer: Layer) -> np.ndarray:
    """The ticket that the owner signs, as it was before: one and the same for all keys."""
    return sparse(np.random.default_rng(layer.positions), layer)


SUSPECTS: dict[str, Suspect] = {
    "dense": dense,
    "sparse": sparse,
    "biased": biased,
    "constant-sign": constant_sign,
    "clumped": clumped,
    "row-aligned": row_aligned,
    "of all scales": of_all_scales,
    "vanishing squares": vanishing_squares,
    "own unsigned ticket": own_unsigned_ticket,
}


def stream(key: str, label: str) -> Stream:
    """A stream of a secret that no suspect has seen."""
    return Stream(label, BINDER, 1, hashlib.sha256(key.encode()).digest())


def carriers(key: str, layer: Layer) -> edge.Carriers:
    return edge.draw(layer, PAIRS, leaf=1, groups=GROUPS, stream=stream(key, "edge/" + layer.name))


def edge_p(key: str, weights: dict[str, np.ndarray]) -> tuple[float, ...]:
    """log2 p of the support test and of the magnitude tests of one suspect under one key."""
    readings = []
    for layer in LAYERS:
        drawn = carriers(key, layer)
        readings.append(read(drawn, weights[layer.name][drawn.first], weights[layer.name][drawn.second]))
    reading = join(readings)
    n, matches = reading.support()
    return (
        log2_binomial_tail(matches, n),
        *(log2_signed_sum_bound(*reading.magnitude(test)) for test in edge.PAIR_WEIGHTS),
    )


def assert_bound_holds(log2_p: np.ndarray, what: str) -> None:
    for level in LEVELS:
        share = float(np.mean(log2_p <= np.log2(level)))
        limit = level + 3 * sqrt(level * (1 - level) / len(log2_p))
        assert share <= limit, f"{what}: P(p <= {level}) is {share} in {len(log2_p)} draws, the limit {limit:.5f}"


def check_edge_code(kind: str, draws: int) -> np.ndarray:
    """Bounds for one make of suspect over `draws` fresh pairs of key and suspect; returns log2 p (draws, 3)."""
    generator = np.random.default_rng(list(kind.encode()))
    found = np.empty((draws, 3))
    for number in range(draws):
        weights = {layer.name: SUSPECTS[kind](generator, layer) for layer in LAYERS}
        found[number] = edge_p(f"{kind} {number}", weights)
    assert_bound_holds(found[:, 0], f"support, {kind}")
    for column, test in enumerate(edge.PAIR_WEIGHTS, start=1):
        assert_bound_holds(found[:, column], f"{test}, {kind}")
    return found


@pytest.mark.parametrize("kind", thinned(SUSPECTS, fast=["sparse", "of all scales", "own unsigned ticket"]))
def test_edge_code_is_at_chance_for_strangers(kind: str) -> None:
    found = check_edge_code(kind, 300)
    # A bound that is never approached would hold for a test that always answers 1.
    assert np.mean(found.min(axis=1) <= np.log2(0.3)) > 0.03


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(SUSPECTS))
def test_edge_code_is_at_chance_for_50000_strangers(kind: str) -> None:
    check_edge_code(kind, 5600)


class Plain:
    """A weight in memory."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def gather(self, positions: np.ndarray) -> np.ndarray:
        """Values at flat positions."""
        return self.values[positions]


def check_turned(kind: str, draws: int) -> None:
    """The bound for the best of all tests of turned kernels, each at its charge, those never made as well."""
    generator = np.random.default_rng(list(f"turned {kind}".encode()))
    layers, found = {layer.name: layer for layer in LAYERS}, np.empty(draws)
    for number in range(draws):
        weights = {layer.name: Plain(SUSPECTS[kind](generator, layer)) for layer in LAYERS}
        board = Board({1: {layer.name: carriers(f"turned {kind} {number}", layer) for layer in LAYERS}})
        readings = [board.read(turned(weights, layers, turn))[1] for turn in TURNS]
        tails = [log2_binomial_tail(matches, n) for n, matches in (reading.support() for reading in readings)]
        tails += [log2_signed_sum_bound(*reading.magnitude("squared-magnitude")) for reading in readings]
        found[number] = min(0.0, min(tails) + TURN_BITS)
    assert_bound_holds(found, f"turned, {kind}")
    # At their charge all 14 together weigh less than one test, so few come near; a bound that always says 1 never would.
    assert (found <= np.log2(0.3)).any()


@pytest.mark.parametrize("kind", thinned(["sparse", "own unsigned ticket"], fast=["sparse"]))
def test_turned_kernels_of_strangers_are_at_chance(kind: str) -> None:
    check_turned(kind, 200)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(SUSPECTS))
def test_turned_kernels_of_500_strangers_are_at_chance(kind: str) -> None:
    check_turned(kind, 500)


@pytest.mark.parametrize("kind", ["sparse", "own unsigned ticket", "biased"])
def test_the_same_kernels_see_the_owners_mark(kind: str) -> None:
    generator = np.random.default_rng(5)
    own, wrong = [], []
    for number in range(20):
        key = f"owner {number}"
        weights = {}
        for layer in LAYERS:
            values = SUSPECTS[kind](generator, layer)
            moved = edge.moves(carriers(key, layer), values != 0)
            values[moved.target], values[moved.source] = values[moved.source], 0.0
            weights[layer.name] = values
        own.append(edge_p(key, weights))
        wrong.append(edge_p(f"wrong key {number}", weights))
    assert np.max(np.array(own)[:, 0]) < np.log2(0.001)
    assert np.median(np.array(own)[:, 1]) < np.log2(0.001)
    assert np.min(wrong) > np.log2(1e-6)


PLAN = TriggerPlan(per_leaf=64, leaves=2, shape=(1, 2, 2), classes=tuple("0123456789"))
ANSWERS: dict[str, Callable[[Generator], np.ndarray]] = {
    "uniform": lambda generator: generator.integers(0, 10, 64),
    "constant": lambda generator: np.full(64, generator.integers(0, 10)),
    "biased to few classes": lambda generator: np.minimum(generator.geometric(0.5, 64) - 1, 9),
    "every class equally often": lambda generator: generator.permutation(np.arange(64) % 10),
    "refusing half": lambda generator: np.where(generator.random(64) < 0.5, -1, generator.integers(0, 10, 64)),
}


def check_triggers(kind: str, draws: int) -> None:
    generator = np.random.default_rng(list(kind.encode()))
    log2_p = np.empty(draws)
    for number in range(draws):
        labels = draw_labels(stream(f"{kind} {number}", TARGETS_LABEL), PLAN)
        n, matches, _ = score(ANSWERS[kind](generator), labels)
        log2_p[number] = log2_binomial_tail(matches, n, chances=10)
    assert_bound_holds(log2_p, f"triggers, {kind}")
    assert np.mean(log2_p <= np.log2(0.2)) > 0.05


@pytest.mark.parametrize("kind", list(ANSWERS))
def test_triggers_are_at_chance_for_strangers(kind: str) -> None:
    check_triggers(kind, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(ANSWERS))
def test_triggers_are_at_chance_for_50000_strangers(kind: str) -> None:
    check_triggers(kind, 10_000)
