from __future__ import annotations

import pytest

from ticketguard.finding import Round, find
from ticketguard.finding.schedule import kept_after, next_rate, specification
from ticketguard.training import Recipe

SIZE = 1000


def history(*steps):
    """Rounds from (rate, accepted) pairs after a dense model."""
    kept, rounds = SIZE, [Round(rate=0.0, kept=SIZE, size=SIZE, accuracy=90.0, winning=True, accepted=True)]
    for rate, accepted in steps:
        left = kept_after(kept, rate)
        rounds.append(Round(rate=rate, kept=left, size=SIZE, accuracy=90.0, winning=accepted, accepted=accepted))
        kept = left if accepted else kept
    return tuple(rounds)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], 0.2),
        ([(0.2, True)], 0.2),
        ([(0.2, True), (0.2, False)], 0.1),
        ([(0.2, False)], 0.1),
        ([(0.2, False), (0.1, True)], 0.1),
        ([(0.2, False), (0.1, False), (0.05, False)], 0.01),
        ([(0.2, False), (0.1, False), (0.05, False), (0.01, True)], 0.01),
        ([(0.2, False), (0.1, False), (0.05, False), (0.01, False)], None),
    ],
)
def test_rates_fall_only_after_an_undone_round(tiny, steps, expected):
    assert next_rate(tiny.config(extreme=True), history(*steps)) == expected


def test_searches_end(tiny):
    assert next_rate(tiny.config(extreme=True, max_rounds=2), history((0.2, True), (0.2, True))) is None
    rounds = history()
    while (rate := next_rate(tiny.config(extreme=True, max_rounds=1000), rounds)) is not None:
        rounds = history(*((entry.rate, True) for entry in rounds[1:]), (rate, True))
    assert rounds[-1].kept == 1


def test_plain_searches_run_their_rounds(tiny):
    assert next_rate(tiny.config(rounds=2), history((0.5, True))) == 0.5
    assert next_rate(tiny.config(rounds=2), history((0.5, True), (0.5, True))) is None
    assert next_rate(tiny.config(rounds=0), history()) is None


def test_counts_are_exact_and_always_fall():
    assert kept_after(1000, 0.2) == 800
    assert kept_after(10, 0.01) == 9
    assert kept_after(2, 0.99) == 1


def test_specification_counts_accepted_rounds():
    assert (
        specification(history((0.2, True), (0.2, True), (0.2, False), (0.1, True), (0.05, False))) == "0.2 x 2, 0.1 x 1"
    )
    assert specification(history()) == ""


@pytest.mark.slow
def test_an_extreme_ticket_matches_and_breaks_when_pruned_further(tiny, tmp_path):
    # Long enough that the first round wins by points, whatever a processor's rounding makes of the training.
    recipe = Recipe(epochs=16, batch_size=16, lr=0.1, schedule="cosine", rewind_epoch=1)
    config = tiny.config(extreme=True, rates=(0.5, 0.3), max_rounds=12, tolerance=5.0, recipe=recipe, seed=0)
    result = find(config, tiny.dataset(), tmp_path, threads=1)
    assert result.rounds[1].accepted, "this search must meet a round that it keeps"
    dense = result.rounds[0].accuracy
    for entry in result.rounds[1:]:
        assert entry.accepted == entry.winning == (entry.accuracy >= dense - 5)
    assert result.winning
    assert result.dense_accuracy > 70
    assert result.ticket.provenance["finder"] == "imp-extreme"
    assert result.ticket.mask.kept == [entry.kept for entry in result.rounds if entry.accepted][-1]
    undone = [entry.rate for entry in result.rounds if not entry.accepted]
    assert undone == [0.5, 0.3][: len(undone)]
    assert undone, "this search must meet a round that it undoes"
    stages = sorted(path.name for path in (tmp_path / "stages").iterdir())
    best = max(index for index, entry in enumerate(result.rounds) if entry.accepted)
    assert stages == sorted({"00.safetensors", f"{best:02d}.safetensors"})


def test_a_ticket_that_cannot_be_pruned_is_the_dense_network(tiny):
    result = find(tiny.config(extreme=True, rates=(0.99,), max_rounds=1, tolerance=0.0), tiny.dataset(), threads=1)
    assert not result.rounds[1].accepted
    assert result.ticket.mask.density == 1.0
    assert result.ticket.mask.kept == 256
    assert not result.winning
    assert result.specification == ""
