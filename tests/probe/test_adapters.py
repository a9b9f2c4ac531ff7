from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from ticketguard.errors import UsageError
from ticketguard.probe.adapters import Input, input_of, pixels_for, prepare
from ticketguard.probe.client import Client, Response
from ticketguard.probe.endpoint import JsonEndpoint, mapping_from, pick, place, steps
from ticketguard.probe.oip import Tensor, fit
from ticketguard.triggers.plan import TriggerPlan

PLAN = TriggerPlan(
    per_leaf=4,
    leaves=1,
    shape=(3, 4, 6),
    classes=("a", "b"),
    preprocess={"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.5]},
)
GREY = TriggerPlan(per_leaf=4, leaves=1, shape=(1, 4, 6), classes=("a", "b"))
IMAGE = np.random.default_rng(0).integers(0, 256, (3, 4, 6), dtype=np.uint8)


def test_normalized_is_what_training_sees() -> None:
    found = prepare(IMAGE, Input(), PLAN)
    mean, std = np.array([[[0.5]], [[0.4]], [[0.3]]]), np.array([[[0.1]], [[0.2]], [[0.5]]])
    np.testing.assert_allclose(found, (IMAGE / 255 - mean) / std, rtol=1e-5)
    assert found.dtype == np.float32


def test_ranges_layouts_and_sizes() -> None:
    assert prepare(IMAGE, Input(range="pixels"), PLAN).dtype == np.uint8
    np.testing.assert_allclose(prepare(IMAGE, Input(range="unit"), PLAN), IMAGE / np.float32(255))
    np.testing.assert_array_equal(prepare(IMAGE, Input(range="pixels", layout="HWC"), PLAN), IMAGE.transpose(1, 2, 0))
    np.testing.assert_array_equal(prepare(IMAGE, Input(range="pixels", layout="flat"), PLAN), IMAGE.ravel())
    doubled = pixels_for(IMAGE, Input(size=(8, 12)))
    np.testing.assert_array_equal(doubled, IMAGE.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_array_equal(pixels_for(doubled, Input(size=(4, 6))), IMAGE)
    assert pixels_for(IMAGE[:1], Input(channels=3)).shape == (3, 4, 6)


def test_the_registered_input_comes_first_and_the_given_one_after() -> None:
    assert input_of(PLAN) == Input(range="normalized")
    assert input_of(GREY) == Input(range="unit")
    registered = replace(PLAN, preprocess={**PLAN.preprocess, "input": {"size": [8, 12], "range": "pixels"}})
    assert input_of(registered) == Input(range="pixels", size=(8, 12))
    assert input_of(registered, {"range": "unit"}) == Input(range="unit", size=(8, 12))
    assert Input(**input_of(registered).to_json() | {"size": (8, 12)}) == input_of(registered)


@pytest.mark.parametrize(
    "given",
    [
        {"range": "wide"},
        {"layout": "NCHW"},
        {"size": [0, 4]},
        {"size": [4]},
        {"size": 7},
        {"size": ["4", 4]},
        {"size": []},
        {"size": {}},
        {"size": ""},
        {"size": 0},
        {"size": False},
        {"size": [True, 4]},
        {"channels": 2},
        {"channels": 0},
        {"channels": 3.0},
        {"channels": True},
        {"channels": [3]},
        {"colour": 1},
        ["range"],
    ],
)
def test_malformed_inputs_are_refused(given: object) -> None:
    with pytest.raises(UsageError, match="service input"):
        input_of(PLAN, given)


def test_impossible_preparations_are_refused() -> None:
    with pytest.raises(UsageError, match="mean and std"):
        prepare(IMAGE[:1], Input(range="normalized"), GREY)
    with pytest.raises(UsageError, match="channels"):
        prepare(IMAGE, Input(channels=1), PLAN)


@pytest.mark.parametrize(
    ("datatype", "shape", "expected"),
    [
        ("FP32", (-1, 3, 4, 6), Input()),
        ("FP32", (-1, 4, 6, 3), Input(layout="HWC")),
        ("FP32", (-1, 72), Input(layout="flat")),
        ("UINT8", (-1, 4, 6, 3), Input(layout="HWC", range="pixels")),
        ("FP32", (-1, -1, -1, -1), Input()),
        ("FP32", (), Input()),
    ],
)
def test_metadata_decide_the_layout(datatype: str, shape: tuple[int, ...], expected: Input) -> None:
    assert fit(Input(), Tensor(name="x", datatype=datatype, shape=shape), PLAN) == expected


def test_a_size_that_does_not_fit_is_refused_with_advice() -> None:
    with pytest.raises(UsageError, match="set the size"):
        fit(Input(), Tensor(name="x", datatype="FP32", shape=(-1, 3, 224, 224)), PLAN)
    wide = fit(Input(size=(224, 224)), Tensor(name="x", datatype="FP32", shape=(-1, 3, 224, 224)), PLAN)
    assert wide.size == (224, 224)


def test_paths() -> None:
    assert steps("a.b[0][12].c") == ["a", "b", 0, 12, "c"]
    assert steps("[0].x") == [0, "x"]
    assert pick({"a": [{"b": 5}]}, steps("a[0].b")) == 5
    assert place({"k": 1}, steps("a[0].b"), 5) == {"k": 1, "a": [{"b": 5}]}
    assert place({"a": [{"c": 2}]}, steps("a[0].b"), 5) == {"a": [{"c": 2, "b": 5}]}
    for wrong in ("", ".a", "a..b", "a.", "a[x]", "a[", "a]", "a[0]b", "a." * 40 + "a", 7, None):
        with pytest.raises(UsageError, match="mapping"):
            steps(wrong)
    for document in ({"a": 1}, [], 3, {"a": [1]}):
        with pytest.raises((KeyError, IndexError, TypeError)):
            pick(document, steps("a[0].b"))


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"image": "png", "at": "x"},
        {"image": "gif", "at": "x", "label": "y"},
        {"image": "png", "at": "x", "label": "y", "scores": "z"},
        {"image": "png", "at": "x", "label": "y", "token": "z"},
        {"image": "png", "at": "x[", "label": "y"},
        {"image": "png", "at": "x", "label": 5},
        {"image": "png", "at": 5, "label": "y"},
        {"image": "png", "at": "x", "label": "y", "body": []},
    ],
)
def test_malformed_mappings_are_refused(document: object) -> None:
    with pytest.raises(UsageError, match="mapping"):
        mapping_from(document)


def test_fields_of_a_form_are_text_or_json() -> None:
    """A service that reads `true` or a list in a form field reads JSON, not Python."""

    class Recording:
        def request(self, method: str, url: str, take: object, **content: Any) -> Response:
            sent.append(content)
            return Response(ok=True, status=200, body=b'{"class": "a"}', attempts=1)

        def safe(self, url: str, text: str) -> str:
            return text

    sent: list[dict[str, Any]] = []
    body = {"task": "digits", "top": 1, "all": True, "crop": None, "size": [4, 6]}
    mapped = mapping_from({"image": "multipart", "at": "picture", "body": body, "label": "class"})
    service = JsonEndpoint(cast(Client, Recording()), "http://localhost/", GREY, Input(), mapped)
    assert service.ask(IMAGE[:1], lambda: True).answer == "a"
    assert sent[0]["data"] == {"task": "digits", "top": "1", "all": "true", "crop": "null", "size": "[4,6]"}
