"""Symmetry values: round trip, and every way in which a stranger's document may be wrong."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketguard.errors import FormatError
from ticketguard.graph.groups import Axis, Group, Norm, Segment, Symmetry, expand, fixed_axis, length
from ticketguard.graph.layout import gather, rearranged, slots, take, widen

WIDE = (
    Segment(group=1, start=0, count=2),
    Segment(group=0, start=0, count=3),
    Segment(group=1, start=2, count=1),
    Segment(group=None, count=2),
)
SAMPLE = Symmetry(
    groups=(Group(size=3, scalable=True), Group(size=3)),
    axes={
        "a.weight": ((Segment(group=0, start=0, count=3),), fixed_axis(2)),
        "b.weight": (WIDE, (Segment(group=0, start=0, count=3, repeat=4),)),
        "dw.weight": ((Segment(group=0, start=0, count=3, repeat=2),), None),
    },
    norms={"a.weight": Norm(mean="m", variance="v", scale="g", shift=None, epsilon=1e-5)},
    biases={"a.weight": "a.bias"},
    leave_out=("b.weight",),
    notes=("a note",),
)


def test_round_trip_through_json_text() -> None:
    assert Symmetry.from_json(json.loads(json.dumps(SAMPLE.to_json()))) == SAMPLE
    assert Symmetry.from_json(Symmetry().to_json()) == Symmetry()


def edited(path: list[Any], value: object) -> dict[str, Any]:
    document = copy.deepcopy(json.loads(json.dumps(SAMPLE.to_json())))
    target: Any = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return document


BAD = {
    "not an object": [],
    "missing field": {"groups": []},
    "extra field": {**SAMPLE.to_json(), "more": 1},
    "groups not a list": edited(["groups"], {}),
    "empty group": edited(["groups", 0, "size"], 0),
    "negative size": edited(["groups", 0, "size"], -1),
    "boolean size": edited(["groups", 0, "size"], True),
    "huge size": edited(["groups", 0, "size"], 1 << 40),
    "scalable as number": edited(["groups", 0, "scalable"], 1),
    "float in a segment": edited(["axes", 0, "axes", 0, 0, 2], 3.0),
    "unknown group": edited(["axes", 0, "axes", 0, 0, 0], 7),
    "segment too long": edited(["axes", 0, "axes", 0, 0, 2], 4),
    "segment too short": edited(["axes", 0, "axes", 0, 0, 2], 2),
    "uneven cover": edited(["axes", 1, "axes", 0, 2, 1], 0),
    "no repeat": edited(["axes", 0, "axes", 0, 0, 3], 0),
    "fixed with a start": edited(["axes", 0, "axes", 1, 0, 1], 1),
    "five numbers": edited(["axes", 0, "axes", 0, 0], [0, 0, 3, 1, 1]),
    "empty axis": edited(["axes", 0, "axes", 0], []),
    "no axes": edited(["axes", 0, "axes"], []),
    "huge axis": edited(["axes", 0, "axes", 0, 0, 3], 1 << 22),
    "too many channels": {**SAMPLE.to_json(), "groups": [{"size": 1 << 21, "scalable": False}] * 3, "axes": []},
    "duplicate parameter": edited(["axes", 1, "name"], "a.weight"),
    "unprintable name": edited(["axes", 0, "name"], "a\n"),
    "empty name": edited(["axes", 0, "name"], ""),
    "epsilon as text": edited(["norms", 0, "epsilon"], "small"),
    "epsilon not a number": edited(["norms", 0, "epsilon"], float("nan")),
    "note too long": edited(["notes", 0], "x" * 600),
}


@pytest.mark.parametrize("document", BAD.values(), ids=BAD.keys())
def test_malformed_documents_are_refused(document: object) -> None:
    with pytest.raises(FormatError, match="symmetry"):
        Symmetry.from_json(document)


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_arbitrary_json_is_refused(document: object) -> None:
    with pytest.raises(FormatError):
        Symmetry.from_json(document)


def test_expand_and_slots_agree() -> None:
    owners, channels = expand(WIDE)
    assert owners.tolist() == [1, 1, 0, 0, 0, 1, -1, -1]
    assert channels.tolist() == [0, 1, 0, 1, 2, 2, 0, 0]
    assert slots(WIDE, 1).tolist() == [[0], [1], [5]]
    assert slots((Segment(group=0, start=0, count=2, repeat=3),), 0).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert length(WIDE) == 8


def test_gather_follows_the_choice_and_marks_missing_channels() -> None:
    assert gather(WIDE, WIDE, {1: np.array([2, 0, 1])}).tolist() == [5, 0, 2, 3, 4, 1, 6, 7]
    assert gather(WIDE, WIDE, {0: np.array([1, -1, 0])}).tolist() == [0, 1, 3, -1, 2, 5, 6, 7]
    wider = widen(WIDE, SAMPLE.groups, [5, 3])
    assert [segment.count for segment in wider] == [2, 5, 1, 2]
    assert gather(WIDE, wider, {0: np.array([4, 0, 2])}).tolist() == [0, 1, 6, 2, 4, 7, 8, 9]


def test_take_gives_zeros_for_missing_channels() -> None:
    array = np.arange(6.0).reshape(3, 2)
    assert take(array, 0, np.array([2, -1])).tolist() == [[4.0, 5.0], [0.0, 0.0]]


@given(st.permutations(list(range(3))), st.permutations(list(range(3))))
def test_rearranging_back_gives_the_weights_again(first: list[int], second: list[int]) -> None:
    weights = {"b.weight": np.arange(96.0).reshape(8, 12), "other": np.arange(3.0)}
    choice = {0: np.array(first), 1: np.array(second)}
    back = {group: np.argsort(order) for group, order in choice.items()}
    moved = rearranged(weights, SAMPLE, choice)
    again = rearranged(moved, SAMPLE, back)
    assert all(np.array_equal(again[name], weights[name]) for name in weights)


def test_an_inconsistent_value_cannot_be_built() -> None:
    bad: Axis = (Segment(group=0, start=0, count=2),)
    with pytest.raises(FormatError, match="evenly"):
        Symmetry(groups=(Group(size=3),), axes={"w": (bad,)})
