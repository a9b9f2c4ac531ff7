"""Documents: round trips, appending that survives interruption, tables and arrays."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ticketguard.errors import FormatError, StorageError
from ticketguard.storage.documents import (
    append_jsonl,
    parse_json,
    read_csv,
    read_json,
    read_jsonl,
    read_npy,
    write_csv,
    write_json,
)

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@QUICK
@given(values=st.lists(VALUES, max_size=4))
def test_json_reads_what_it_writes(tmp_path: Path, values: list[object]) -> None:
    write_json(tmp_path / "d.json", values)
    assert read_json(tmp_path / "d.json") == values
    (tmp_path / "d.jsonl").write_bytes(b"")
    for value in values:
        append_jsonl(tmp_path / "d.jsonl", value)
    assert read_jsonl(tmp_path / "d.jsonl") == values


@pytest.mark.parametrize("torn", [b"", b'{"b": ', b"x" * 200_000])
def test_a_torn_last_line_is_dropped_and_never_damages_the_next(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "d.jsonl"
    append_jsonl(path, {"a": 1})
    path.write_bytes(path.read_bytes() + torn)
    assert read_jsonl(path) == [{"a": 1}]
    append_jsonl(path, {"b": 2})
    assert read_jsonl(path) == [{"a": 1}, {"b": 2}]
    path.write_bytes(torn)
    append_jsonl(path, 3)
    assert read_jsonl(path) == [3]


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"x", {"a": float("inf")}])
def test_what_json_cannot_hold_is_refused_before_writing(tmp_path: Path, value: object) -> None:
    for write in (write_json, append_jsonl):
        with pytest.raises(FormatError, match="cannot be written as JSON"):
            write(tmp_path / "d", value)
    assert list(tmp_path.iterdir()) == []


def test_depth_up_to_the_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_bytes(b"[" * 63 + b'{"a":1}' + b"]" * 63)
    assert isinstance(read_json(tmp_path / "d.json"), list)
    assert parse_json(b" 1 ", where="x") == 1


def test_appending_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        append_jsonl(tmp_path / "gone" / "d.jsonl", 1)


def test_tables(tmp_path: Path) -> None:
    rows = [["index", "label"], ["0", 'comma, "quote"\nand line'], ["1", "é"]]
    write_csv(tmp_path / "d.csv", rows)
    assert read_csv(tmp_path / "d.csv") == rows
    (tmp_path / "d.csv").write_bytes(b"\xef\xbb\xbfindex,label\r\n\r\n0,7\r\n")
    assert read_csv(tmp_path / "d.csv") == [["index", "label"], ["0", "7"]]
    (tmp_path / "d.csv").write_text("index,label\n\n\n0,7\n1,2,3\n")
    with pytest.raises(FormatError, match="line 5 has 3 fields, the first has 2"):
        read_csv(tmp_path / "d.csv")


@QUICK
@given(
    array=st.sampled_from(["?", "u1", "<i8", ">i4", "<f4", "<f2"]).flatmap(
        lambda code: hnp.arrays(code, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
    ),
    fortran=st.booleans(),
)
def test_npy_agrees_with_numpy(tmp_path: Path, array: NDArray[np.generic], fortran: bool) -> None:
    stream = io.BytesIO()
    np.save(stream, np.asfortranarray(array) if fortran else array)
    (tmp_path / "d.npy").write_bytes(stream.getvalue())
    read = read_npy(tmp_path / "d.npy")
    assert read.dtype == array.dtype
    assert not read.flags.writeable
    np.testing.assert_array_equal(read, np.load(tmp_path / "d.npy"))


def test_an_npy_file_is_held_once(tmp_path: Path) -> None:
    array = np.zeros(1 << 22, dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    tracemalloc.start()
    read_npy(tmp_path / "a.npy")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * array.nbytes
