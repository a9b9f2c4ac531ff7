"""Tickets: values that cannot be inconsistent, files that come back equal, files of strangers."""

from dataclasses import replace

import numpy as np
import pytest

from ticketguard.errors import FormatError, TicketguardError
from ticketguard.masks import Mask
from ticketguard.storage.tensors import read_tensors, write_tensors
from ticketguard.tickets import (
    Architecture,
    Model,
    Task,
    Ticket,
    read_ticket,
    task_of,
    ticket_from_tensors,
    trained,
    write_ticket,
)

INPUT = {"shape": [3, 8, 8], "mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}


@pytest.fixture
def ticket():
    rng = np.random.default_rng(0)
    mask = Mask({"b.weight": rng.random((4, 6)) < 0.5, "a.weight": rng.random((2, 3, 3, 3)) < 0.5})
    weights = {name: np.where(bits, rng.normal(size=bits.shape), 0).astype(np.float32) for name, bits in mask.items()}
    return Ticket(
        architecture=Architecture(name="mlp", arguments={"width": 6}),
        weights={**weights, "b.bias": np.arange(4.0, dtype=np.float32), "bn.num_batches_tracked": np.array(7)},
        mask=mask,
        provenance={"finder": "imp", "seed": 3, "input": INPUT, "classes": ["a", "b"]},
    )


def assert_equal(one, two):
    assert (type(one), one.kind, one.architecture, one.provenance) == (
        type(two),
        two.kind,
        two.architecture,
        two.provenance,
    )
    assert list(one.mask) == list(two.mask)
    assert set(one.weights) == set(two.weights)
    for name in one.weights:
        assert np.array_equal(one.weights[name], two.weights[name])
        assert np.asarray(one.weights[name]).dtype == np.asarray(two.weights[name]).dtype
    for name in one.mask:
        assert np.array_equal(one.mask[name], two.mask[name])


def test_written_ticket_comes_back_equal(ticket, tmp_path):
    write_ticket(tmp_path / "t.safetensors", ticket)
    assert_equal(read_ticket(tmp_path / "t.safetensors"), ticket)


def test_written_model_comes_back_as_a_model(ticket, tmp_path):
    model = trained(ticket, ticket.weights, {"accuracy": 99.5})
    write_ticket(tmp_path / "m.safetensors", model)
    found = read_ticket(tmp_path / "m.safetensors")
    assert_equal(found, model)
    assert isinstance(found, Model)
    assert found.provenance["accuracy"] == 99.5
    assert found.provenance["seed"] == 3


def test_equal_tickets_give_equal_bytes(ticket, tmp_path):
    for name in ("one", "two"):
        write_ticket(tmp_path / name, ticket)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_file_holds_masks_as_bytes_and_exact_zeros(ticket, tmp_path):
    write_ticket(tmp_path / "t.safetensors", ticket)
    file = read_tensors(tmp_path / "t.safetensors")
    assert file.info("b.weight_mask").dtype == "U8"
    assert np.array_equal(np.asarray(file["b.weight"]) != 0, file["b.weight_mask"] == 1)
    assert file.metadata["ticketguard"]["sparsity"] == pytest.approx(ticket.mask.sparsity, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w, m: (w, {**m, "c.weight": m["b.weight"]}), "c.weight: no parameter"),
        (lambda w, m: (w, {**m, "b.weight": m["b.weight"].T.copy()}), "b.weight: shape"),
        (lambda w, m: ({**w, "b.weight": np.ones((4, 6))}, m), "b.weight: a pruned position is not exactly zero"),
        (lambda w, m: ({**w, "b.weight": np.full((4, 6), np.nan)}, m), "b.weight: a pruned position"),
    ],
)
def test_inconsistent_tickets_cannot_exist(ticket, change, says):
    weights, mask = change(dict(ticket.weights), dict(ticket.mask))
    with pytest.raises(FormatError, match=says):
        Ticket(architecture=Architecture(), weights=weights, mask=Mask(mask))


def test_foreign_state_dict_with_masks_is_a_ticket_of_unknown_architecture(ticket):
    tensors = {
        "fc.weight_orig": np.ones((2, 2), np.float32),
        "fc.weight_mask": np.array([[1, 0], [0, 1]], np.float32),
        "fc.bias": np.zeros(2, np.float32),
        "attention_mask": np.ones(3, np.uint8),
    }
    found = ticket_from_tensors(tensors, None, where="foreign")
    assert found.architecture.name is None
    assert found.weights["fc.weight"].tolist() == [[1, 0], [0, 1]]
    assert list(found.mask) == ["fc.weight"]
    # A tensor that is only called a mask masks nothing.
    assert set(found.weights) == {"fc.weight", "fc.bias", "attention_mask"}


MALFORMED = {
    "metadata of a later version": {"format": 2},
    "format is text": {"format": "1"},
    "masks of other names": {"format": 1, "masked": ["b"]},
    "masked is a number": {"format": 1, "masked": 3},
    "masked is text": {"format": 1, "masked": "a_"},
    "masked holds a number": {"format": 1, "masked": [1]},
    "masked twice": {"format": 1, "masked": ["a", "a"]},
    "architecture is a list": {"format": 1, "architecture": [1]},
    "architecture is a number": {"format": 1, "architecture": {"name": 3}},
    "arguments are a list": {"format": 1, "architecture": {"name": "mlp", "arguments": [1]}},
    "provenance is text": {"format": 1, "provenance": "found it"},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_metadata_is_refused(name, tmp_path):
    path = tmp_path / "t.safetensors"
    tensors = {"a": np.zeros(2, np.float32), "a_mask": np.zeros(2, np.uint8)}
    write_tensors(path, tensors, {"ticketguard": MALFORMED[name]})
    with pytest.raises(TicketguardError, match=r"t\.safetensors"):
        read_ticket(path)


def test_metadata_that_is_no_object_is_a_foreign_file():
    found = ticket_from_tensors({"a": np.zeros(2)}, [1, 2], where="x")
    assert found.architecture.name is None


def test_mask_of_another_shape_is_refused():
    with pytest.raises(FormatError, match="mask of a has shape"):
        ticket_from_tensors({"a": np.zeros(4), "a_mask": np.zeros((2, 2))}, None, where="x")


def test_mask_of_a_parameter_that_goes_by_another_name_is_refused():
    tensors = {name: np.zeros((2, 2), np.float32) for name in ("a_orig", "a_mask", "a_orig_mask")}
    with pytest.raises(FormatError, match="here: a_orig_mask is the mask of no parameter"):
        ticket_from_tensors(tensors, None, where="here")


def test_task_is_what_the_provenance_says(ticket):
    assert task_of(ticket) == Task(shape=(3, 8, 8), classes=("a", "b"), mean=(0.5,) * 3, std=(1, 1, 1))


def test_no_input_is_no_task_and_no_classes_are_none(ticket):
    assert task_of(ticket_from_tensors({}, None, where="x")) is None
    without = {"format": 1, "provenance": {"input": INPUT}}
    assert task_of(ticket_from_tensors({}, without, where="x")).classes == ()


@pytest.mark.parametrize(
    "provenance",
    [
        {"input": "8x8"},
        {"input": {**INPUT, "shape": [3, 8]}},
        {"input": {**INPUT, "shape": [3, 8, -8]}},
        {"input": {**INPUT, "shape": [3, 1 << 20, 1 << 20]}},
        {"input": {**INPUT, "shape": [True, 8, 8]}},
        {"input": {**INPUT, "shape": None}},
        {"input": {**INPUT, "mean": 3}},
        {"input": {**INPUT, "std": ["1"]}},
        {"input": {**INPUT, "std": [1, 1, 10**400]}},
        {"input": {**INPUT, "mean": [0.5, float("nan"), 0.5]}},
        {"input": {**INPUT, "mean": [0.5, float("inf"), 0.5]}},
        {"input": INPUT, "classes": "ab"},
        {"input": INPUT, "classes": [1, 2]},
    ],
)
def test_malformed_tasks_are_refused(provenance):
    found = ticket_from_tensors({}, {"format": 1, "provenance": provenance}, where="x")
    with pytest.raises(FormatError, match="provenance"):
        task_of(found)


def test_a_ticket_is_one_line_and_equal_to_itself(ticket):
    assert ticket == ticket
    assert len({ticket, replace(ticket)}) == 2
    assert repr(ticket).startswith("Ticket(")
    assert len(repr(ticket)) < 200
    assert "\n" not in repr(ticket)
