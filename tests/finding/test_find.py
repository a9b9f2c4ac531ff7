from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ticketguard.errors import FormatError, UsageError
from ticketguard.finding import find, rate_for, rundir
from ticketguard.storage.atomic import running
from ticketguard.tickets import Model, read_ticket
from ticketguard.training import Recipe, load_state


def same(left, right):
    return list(left) == list(right) and all(left[name].tobytes() == right[name].tobytes() for name in left)


def test_a_search_ends_with_exact_counts_and_readable_files(tiny, tmp_path):
    seen = []
    result = find(tiny.config(), tiny.dataset(), tmp_path, threads=1, on_progress=seen.append)
    assert [entry.kept for entry in result.rounds] == [256, 128, 64]
    assert result.ticket.mask.kept == 64
    with running(tmp_path), pytest.raises(UsageError, match="another process works in"):
        find(tiny.config(), tiny.dataset(), tmp_path, threads=1)
    assert list(result.ticket.mask) == ["fc2.weight"]
    assert [(p.stage, p.stages, p.report.epoch) for p in seen] == [
        (0, 3, 1), (0, 3, 2), (0, 3, 3), (1, 3, 2), (1, 3, 3), (2, 3, 2), (2, 3, 3)
    ]  # fmt: skip
    ticket, model, dense = (read_ticket(tmp_path / f"{name}.safetensors") for name in ("ticket", "model", "dense"))
    assert same(ticket.weights, result.ticket.weights)
    assert isinstance(model, Model)
    assert model.provenance["training"]["accuracy"] == result.ticket_accuracy == result.rounds[-1].accuracy
    assert dense.provenance["training"]["accuracy"] == result.dense_accuracy
    for name, bits in ticket.mask.items():
        np.testing.assert_array_equal(ticket.weights[name] != 0, bits)
        np.testing.assert_array_equal(model.weights[name] != 0, bits)
        assert (dense.weights[name] != 0).all()
    assert ticket.provenance["dataset_digest"] == tiny.dataset().digest
    assert ticket.provenance["rewind_epoch"] == 1
    assert ticket.provenance["specification"] == "0.5 x 2"
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["epoch"]) for row in rows] == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 2), (2, 3)]


def test_the_ticket_holds_the_rewind_weights_and_the_largest_survive(tiny, tmp_path):
    result = find(tiny.config(rounds=1), tiny.dataset(), tmp_path, threads=1)
    rewind, _ = load_state(tmp_path / "rewind.safetensors")
    assert rewind.epoch == 1
    bits = result.ticket.mask["fc2.weight"]
    np.testing.assert_array_equal(result.ticket.weights["fc2.weight"][bits], rewind.weights["fc2.weight"][bits])
    np.testing.assert_array_equal(result.ticket.weights["fc1.weight"], rewind.weights["fc1.weight"])
    sizes = np.abs(result.dense.weights["fc2.weight"])
    assert sizes[bits].min() >= sizes[~bits].max()


def test_equal_searches_give_equal_bits_and_seeds_matter(tiny):
    first = find(tiny.config(), tiny.dataset(), threads=1)
    assert same(first.model.weights, find(tiny.config(), tiny.dataset(), threads=1).model.weights)
    other = find(tiny.config(seed=2), tiny.dataset(), threads=1)
    assert not same(dict(first.ticket.mask), dict(other.ticket.mask))


def test_a_finished_search_is_not_run_again(tiny, tmp_path):
    first = find(tiny.config(), tiny.dataset(), tmp_path, threads=1)
    again = []
    second = find(tiny.config(), tiny.dataset(), str(tmp_path), threads=1, on_progress=again.append)
    assert not again
    assert same(first.model.weights, second.model.weights)


def test_rewinding_to_initialization(tiny, tmp_path):
    recipe = replace(tiny.config().recipe, rewind_epoch=0)
    find(tiny.config(recipe=recipe), tiny.dataset(), tmp_path, threads=1)
    assert load_state(tmp_path / "rewind.safetensors")[0].epoch == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 3}, "search.seed: 1 there, 3 asked for"),
        ({"rate": 0.4}, "search.rate"),
        ({"recipe": Recipe(epochs=4, batch_size=32)}, "search.recipe.epochs"),
    ],
)
def test_another_configuration_is_refused(tiny, tmp_path, changes, named):
    find(tiny.config(rounds=0), tiny.dataset(), tmp_path, threads=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=named):
        find(tiny.config(rounds=0, **changes), tiny.dataset(), tmp_path, threads=1)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_other_data_and_other_threads_are_refused(tiny, tmp_path):
    find(tiny.config(rounds=0), tiny.dataset(), tmp_path, threads=1)
    with pytest.raises(UsageError, match=r"dataset\.digest"):
        find(tiny.config(rounds=0), tiny.dataset().subset(50), tmp_path, threads=1)
    with pytest.raises(UsageError, match=r"machine\.threads: 1 there, 2 asked for"):
        find(tiny.config(rounds=0), tiny.dataset(), tmp_path, threads=2)


def test_layers_can_be_chosen(tiny):
    result = find(tiny.config(rounds=1, layers=("fc3.weight", "fc1.weight")), tiny.dataset(), threads=1)
    assert list(result.ticket.mask) == ["fc1.weight", "fc3.weight"]
    result = find(tiny.config(rounds=1, first=True, classifier=True), tiny.dataset(), threads=1)
    assert result.ticket.mask.size == 3 * 0 + 256 + 256 + 64
    with pytest.raises(UsageError, match=r"no parameter fc9\.weight"):
        find(tiny.config(layers=("fc9.weight",)), tiny.dataset(), threads=1)


def test_metrics_grow_by_a_line_and_lose_what_no_checkpoint_vouches_for(tiny, tmp_path, monkeypatch):
    rewritten, write = [], rundir.write_bytes
    monkeypatch.setattr(rundir, "write_bytes", lambda path, data: rewritten.append(path.name) or write(path, data))
    find(tiny.config(rounds=1), tiny.dataset(), tmp_path, threads=1)
    file = tmp_path / "metrics.jsonl"
    whole = file.read_text().splitlines()
    assert rewritten == []
    # As if it had died after a line of the second round, and in the middle of the next.
    (tmp_path / "rounds.json").unlink()
    (tmp_path / "checkpoint.safetensors").unlink()
    file.write_text("\n".join([*whole[:4], whole[4][:10]]))
    find(tiny.config(rounds=1), tiny.dataset(), tmp_path, threads=1)
    rows = [(row["stage"], row["epoch"]) for row in map(json.loads, file.read_text().splitlines())]
    assert rows == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)]
    assert rewritten == ["metrics.jsonl"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("run.json", "[]"), ("rounds.json", '[{"rate": 1}]'), ("rounds.json", "7"), ("metrics.jsonl", '{"a": 1}\n')],
)
def test_damaged_run_files_are_refused(tiny, tmp_path, name, content):
    find(tiny.config(rounds=1), tiny.dataset(), tmp_path, threads=1)
    if name == "metrics.jsonl":
        (tmp_path / "rounds.json").unlink()
        (tmp_path / "checkpoint.safetensors").unlink()
    (tmp_path / name).write_text(content)
    with pytest.raises(FormatError, match=name):
        find(tiny.config(rounds=1), tiny.dataset(), tmp_path, threads=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0.0},
        {"rate": 1.0},
        {"rounds": -1},
        {"rates": (0.1, 0.2)},
        {"tolerance": -1.0},
        {"seed": -1},
        {"max_rounds": 0},
    ],
)
def test_impossible_configurations_are_refused(tiny, wrong):
    with pytest.raises(UsageError):
        tiny.config(**wrong)


def test_rate_for_a_density():
    assert (1 - rate_for(0.2, 3)) ** 3 == pytest.approx(0.2)
    for density, rounds in ((0, 3), (1, 3), (0.5, 0)):
        with pytest.raises(UsageError, match="cannot reach"):
            rate_for(density, rounds)
