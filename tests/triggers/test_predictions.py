from __future__ import annotations

import json
from math import factorial, log2
from pathlib import Path

import numpy as np
import pytest

from ticketguard.errors import DataError, FormatError, TicketguardError
from ticketguard.triggers.plan import TriggerPlan
from ticketguard.triggers.predictions import read_predictions

ANIMALS = TriggerPlan(per_leaf=3, leaves=2, shape=(1, 4, 4), classes=("ant", "bee", "cat"))
DIGITS = TriggerPlan(per_leaf=3, leaves=2, shape=(1, 4, 4), classes=("2", "1", "0"))


def write(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("plan", "name", "content", "expected"),
    [
        (ANIMALS, "a.csv", "index,label\n0,ant\n5,cat\n2,bee\n", [0, -1, 1, -1, -1, 2]),
        (ANIMALS, "a.csv", "\ufeffIndex, Label\r\n0, 2 \r\n\r\n1,\r\n2,ant\r\n", [2, -1, 0, -1, -1, -1]),
        (ANIMALS, "a.csv", 'index,label\n0,"bee"\n', [1, -1, -1, -1, -1, -1]),
        (DIGITS, "a.csv", "index,label\n0,2\n1,0\n", [0, 2, -1, -1, -1, -1]),
        (ANIMALS, "a.npy", np.array([0, 1, 2, -1, 1, 0]), [0, 1, 2, -1, 1, 0]),
        (ANIMALS, "a.npy", np.array([0, 1, 2, 2, 1, 0], dtype=np.uint8), [0, 1, 2, 2, 1, 0]),
        (DIGITS, "a.npy", np.array([0, 1, 2, 2, 1, 0]), [0, 1, 2, 2, 1, 0]),
        (ANIMALS, "a.npy", np.eye(6, 3, dtype=np.float16), [0, 1, 2, 0, 0, 0]),
        (ANIMALS, "a.npy", np.array([[np.nan, 1, 0]] + [[0, 1, np.inf]] * 5), [-1, 2, 2, 2, 2, 2]),
        (ANIMALS, "a.npy", np.full((6, 3), np.finfo(np.longdouble).max), [0] * 6),
        (ANIMALS, "a.npy", np.full((6, 3), 0x7F800001, np.uint32).view(np.float32), [-1] * 6),
        (ANIMALS, "a.json", ["ant", 1, None, -1, "cat", 0], [0, 1, -1, -1, 2, 0]),
        (ANIMALS, "a.json", [[0, 0, 1]] * 5 + [[0, None, 1]], [2, 2, 2, 2, 2, -1]),
    ],
)
def test_answers_are_read(tmp_path: Path, plan: TriggerPlan, name: str, content: object, expected: list[int]) -> None:
    labels = read_predictions(write(tmp_path, name, content), plan).labels
    assert labels.dtype == np.int64
    assert labels.tolist() == expected


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.csv", "", "empty table"),
        ("a.csv", "index,label\n", "no predictions"),
        ("a.csv", "file,label\n0,ant\n", "first line"),
        ("a.csv", "index,label\n0,dog\n", "unknown class name"),
        ("a.csv", "index,label\n0,3\n", "out of range"),
        ("a.csv", "index,label\n0,-1\n", "out of range"),
        ("a.csv", "index,label\n0,1.0\n", "unknown class name"),
        ("a.csv", "index,label\n6,ant\n", "an index must"),
        ("a.csv", "index,label\n-1,ant\n", "an index must"),
        ("a.csv", "index,label\n0,ant\n0,ant\n", "not occur twice"),
        ("a.csv", "index,label\n0,ant,1\n", "3 fields"),
        ("a.csv", "index,label\n\u0662,ant\n", "an index must"),
        ("a.csv", "index,label\n" + "9" * 5000 + ",ant\n", "an index must"),
        ("a.csv", b"\xff\xfe\x00", "UTF-8"),
        ("a.csv", 'index,label\n0,"ant\n', "comma-separated"),
        ("a.npy", np.zeros(5, np.int64), "5 predictions"),
        ("a.npy", np.zeros((6, 4)), "shape"),
        ("a.npy", np.zeros((6, 3, 1)), "scores"),
        ("a.npy", np.zeros((6, 3), dtype=complex), "not numbers"),
        ("a.npy", np.zeros(6), "integer labels"),
        ("a.npy", np.array(5), "0 predictions"),
        ("a.npy", np.full(6, 3), "out of range"),
        ("a.npy", np.full(6, -2), "out of range"),
        ("a.npy", np.array(["ant"] * 6), "not numbers"),
        ("a.json", "[1, 2", "JSON"),
        ("a.json", {"0": "ant"}, "list"),
        ("a.json", [], "0 predictions"),
        ("a.json", [True] * 6, "unknown class name"),
        ("a.json", [1.0] * 6, "unknown class name"),
        ("a.json", [[0, 1]] * 6, "3 numbers"),
        ("a.json", [[0, 1, "2"]] * 6, "3 numbers"),
        ("a.json", [[0, 1, 2]] * 5 + ["ant"], "3 numbers"),
        ("a.txt", "ant", ".csv, .npy or .json"),
    ],
)
def test_bad_files_give_one_line_that_names_the_file(tmp_path: Path, name: str, content: object, word: str) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(TicketguardError, match=word) as caught:
        read_predictions(path, ANIMALS)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickles_and_garbage_in_npy_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}] * 6, dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", labels=np.zeros(6))
    (tmp_path / "b.npz").rename(tmp_path / "b.npy")
    (tmp_path / "c.npy").write_bytes(b"\x93NUMPY\x01\x00 broken")
    for name in ("a.npy", "b.npy", "c.npy"):
        with pytest.raises(FormatError, match=name):
            read_predictions(tmp_path / name, ANIMALS)


def test_a_label_map_is_applied_and_priced_by_the_services_vocabulary(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "index,label\n0,Formica\n1,Apis\n2,Canis\n3,Felis\n")
    names = {"Formica": "ant", "Apis": "bee", "Felis": "cat"}
    mapped = read_predictions(path, ANIMALS, label_map=names)
    assert mapped.labels.tolist() == [0, 1, -1, 2, -1, -1]
    assert mapped.charge_bits == pytest.approx(log2(factorial(4)), abs=1e-5)
    assert read_predictions(write(tmp_path, "b.csv", "index,label\n0,ant\n"), ANIMALS).charge_bits == 0.0


@pytest.mark.parametrize(
    "names",
    [{}, {"a": "ant", "b": "ant", "c": "cat"}, {"a": "ant", "b": "bee"}, {"a": "dog"}, {"a": 1, "b": "bee", "c": None}],
)
def test_a_map_must_be_one_to_one(tmp_path: Path, names: dict[str, str]) -> None:
    path = write(tmp_path, "a.csv", "index,label\n0,a\n")
    with pytest.raises(DataError, match="exactly once"):
        read_predictions(path, ANIMALS, label_map=names)


def test_a_json_file_may_be_as_large_as_the_others(tmp_path: Path) -> None:
    answers = json.dumps(["ant"] * 6) + " " * (17 << 20)
    assert read_predictions(write(tmp_path, "a.json", answers), ANIMALS).labels.tolist() == [0] * 6
