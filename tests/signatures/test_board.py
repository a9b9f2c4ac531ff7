"""Reading by a board equals reading one by one, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.readings import join, read
from ticketguard.graph.cells import layer_of
from ticketguard.signatures import board
from ticketguard.signatures.board import Board
from ticketguard.signatures.edge import Reading, draw
from ticketguard.verify.aligned import InPlace

LAYERS = {name: layer_of(name, shape) for name, shape in {"a": (8, 6, 3, 3), "b": (16, 40), "c": (4, 3, 3, 3)}.items()}


class Fixed:
    """A source of words from a seeded generator: enough for carriers that nobody judges by."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def words(self, count: int) -> np.ndarray:
        return np.random.default_rng(self.seed).integers(0, 2**64, count, dtype=np.uint64)


@pytest.fixture
def carriers():
    return {
        leaf: {
            name: draw(layer, 30 * (1 + leaf), leaf=leaf, groups=4, stream=Fixed(10 * leaf + number))
            for number, (name, layer) in enumerate(LAYERS.items())
        }
        for leaf in range(3)
    }


@pytest.mark.parametrize("present", [("a", "b", "c"), ("b",), ("c", "a"), ()])
def test_a_board_reads_what_its_carriers_read(carriers, present) -> None:
    generator = np.random.default_rng(5)
    weights = {
        name: generator.normal(size=LAYERS[name].shape) * (generator.random(LAYERS[name].shape) < 0.4)
        for name in present
    }
    for array in weights.values():
        array.reshape(-1)[:7] = [np.nan, np.inf, 1e300, -1e300, 1e-300, 0, 0]
    with np.errstate(all="raise", under="ignore"):
        found = Board(carriers).read({name: InPlace(array) for name, array in weights.items()})
        for leaf, layers in carriers.items():
            one_by_one = join(
                [
                    read(
                        layers[name],
                        weights[name].ravel()[layers[name].first],
                        weights[name].ravel()[layers[name].second],
                    )
                    for name in LAYERS
                    if name in weights
                ]
            )
            for name in Reading.__annotations__:
                np.testing.assert_array_equal(getattr(found[leaf], name), getattr(one_by_one, name))


def test_a_suspect_without_some_layers_is_laid_out_once(carriers, monkeypatch) -> None:
    laid, layout = [], board._layout
    monkeypatch.setattr(board, "_layout", lambda given: laid.append(given) or layout(given))
    made = Board(carriers)
    for names in [("a",), ("a",), ("b",), ("a",)]:
        made.read({name: InPlace(np.ones(LAYERS[name].shape)) for name in names})
    # The whole and each of the two.
    assert len(laid) == 3
