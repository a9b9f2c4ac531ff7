"""Tensor files: round trips, agreement with the safetensors library, widening, and reading no more than asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from safetensors.numpy import load_file as numpy_load
from safetensors.torch import load_file, save_file

from ticketguard.errors import FormatError, StorageError, UsageError
from ticketguard.storage.dtypes import widen
from ticketguard.storage.header import TensorInfo
from ticketguard.storage.suspects import others_in
from ticketguard.storage.tensors import Raw, bf16, in_memory, read_tensors, write_tensors

DTYPES = st.sampled_from(["?", "u1", "i1", "<u2", "<i2", "<f2", "<u4", "<i4", "<f4", "<u8", "<i8", "<f8", ">f4", ">i2"])
ARRAYS = DTYPES.flatmap(lambda code: hnp.arrays(code, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
NAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20).filter(str.isprintable)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ROUND_TRIPS = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ROUND_TRIPS
@given(
    tensors=st.dictionaries(NAMES, ARRAYS, max_size=5), metadata=st.dictionaries(st.text(max_size=8), JSON, max_size=3)
)
def test_what_is_written_is_read(
    tmp_path: Path, tensors: dict[str, NDArray[np.generic]], metadata: dict[str, object]
) -> None:
    path = tmp_path / "t.safetensors"
    write_tensors(path, tensors, metadata)
    file = read_tensors(path)
    assert list(file) == list(tensors)
    assert file.metadata == metadata
    for name, array in tensors.items():
        assert file.info(name).shape == array.shape
        assert file[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(file[name], array)
    again = tmp_path / "again.safetensors"
    write_tensors(again, file, metadata)
    assert again.read_bytes() == path.read_bytes()


def test_the_safetensors_library_reads_what_we_write(tmp_path: Path) -> None:
    # A byte tensor first would leave the rest unaligned if data followed the order of names.
    tensors = {"mask": np.ones(3, np.uint8), "w": np.arange(6.0).reshape(2, 3), "n": np.array(7), "e": np.zeros((0, 2))}
    path = tmp_path / "t.safetensors"
    write_tensors(path, tensors, {"k": {"a": 1}})
    for loaded in (numpy_load(path), load_file(path)):
        assert loaded.keys() == tensors.keys()
        for name, array in tensors.items():
            np.testing.assert_array_equal(np.asarray(loaded[name]), array)


def test_we_read_what_the_safetensors_library_writes(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    base = torch.randn(40, generator=generator)
    tensors = {
        str(dtype): base.to(dtype).reshape(5, 8)
        for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int8)
    }
    save_file(tensors, tmp_path / "t.safetensors", {"format": "pt"})
    file = read_tensors(tmp_path / "t.safetensors")
    assert file.metadata == {"format": "pt"}
    for name, tensor in tensors.items():
        expected = tensor.double().numpy()
        np.testing.assert_array_equal(file[name], expected)
        picked = np.array([[39, 0], [8, 8]])
        np.testing.assert_array_equal(file.gather(name, picked), expected.reshape(-1)[picked])
        assert file.gather(name, picked).dtype == (np.float64 if "64" in name or "int" in name else np.float32)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("F8_E4M3", torch.float8_e4m3fn), ("F8_E5M2", torch.float8_e5m2), ("BF16", torch.bfloat16)],
)
def test_widening_agrees_with_torch_on_every_bit_pattern(name: str, dtype: torch.dtype) -> None:
    patterns = np.arange(65536, dtype=np.uint16) if name == "BF16" else np.arange(256, dtype=np.uint8)
    expected = torch.from_numpy(patterns.copy()).view(dtype).float().numpy()
    np.testing.assert_array_equal(widen(patterns, name), expected)


def test_rounding_to_bf16_agrees_with_torch(tmp_path: Path) -> None:
    bits = np.random.default_rng(3).integers(0, 2**32, 50_000, dtype=np.uint32)
    ties = (np.arange(4096, dtype=np.uint32) << np.uint32(16)) | np.uint32(0x8000)
    values = np.concatenate([bits, ties]).view(np.float32)
    write_tensors(tmp_path / "t.safetensors", {"w": bf16(values), "scalar": bf16(np.float32(1.5))}, {})
    file = read_tensors(tmp_path / "t.safetensors")
    assert file.info("w").dtype == "BF16"
    assert file["scalar"].shape == ()
    np.testing.assert_array_equal(file["w"], torch.from_numpy(values).bfloat16().float().numpy())


def test_arrays_are_read_only_and_nan_is_data(tmp_path: Path) -> None:
    values = np.array([np.nan, np.inf, -0.0, 1.0], np.float32)
    write_tensors(tmp_path / "t.safetensors", {"w": values, "b": bf16(values), "m": values > 0}, {})
    file = read_tensors(tmp_path / "t.safetensors")
    np.testing.assert_array_equal(file["w"], values)
    for name in file:
        with pytest.raises(ValueError, match="read-only"):
            file[name][0] = 1
    assert bytes(file.raw("w")) == values.tobytes()


def test_a_boolean_is_any_byte_but_zero() -> None:
    file = in_memory({"m": Raw(info=TensorInfo(dtype="BOOL", shape=(4,)), data=bytes([0, 1, 2, 255]))})
    assert file["m"].tolist() == [False, True, True, True]
    assert file.gather("m", np.arange(4)).tolist() == [0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("index", [-1, 4, 2**40])
def test_gather_refuses_positions_outside(index: int) -> None:
    file = in_memory({"w": np.zeros((2, 2), np.float32)})
    with pytest.raises(FormatError, match="'w' has 4 values"):
        file.gather("w", np.array([0, index]))
    assert file.gather("w", np.zeros((0,), np.int64)).shape == (0,)


def test_memory_is_a_file_too() -> None:
    array = np.arange(12, dtype=np.float16).reshape(3, 4).T
    file = in_memory({"w": array})
    assert len(file) == 1
    assert "w" in file
    assert "v" not in file
    assert repr(file) == "TensorFile('<memory>', 1 tensors)"
    assert bytes(file.raw("w")) == array.tobytes(order="C")
    np.testing.assert_array_equal(file["w"], array)


def test_types_and_names_that_cannot_be_stored(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(UsageError, match="complex64"):
        write_tensors(path, {"w": np.zeros(2, np.complex64)}, {})
    with pytest.raises(UsageError, match="not printable"):
        write_tensors(path, {"a\n": np.zeros(2)}, {})
    with pytest.raises(UsageError, match="dimensions"):
        write_tensors(path, {"w": np.zeros((1,) * 9)}, {})
    with pytest.raises(FormatError, match="JSON"):
        write_tensors(path, {}, {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_metadata_that_is_not_strict_json_stays_a_string(tmp_path: Path) -> None:
    texts = {"a": "NaN", "b": '{"x":1,"x":2}', "c": "pt", "d": "[" * 100_000, "e": '{"x": 1}'}
    save_file({"w": torch.zeros(1)}, tmp_path / "t.safetensors", texts)
    assert read_tensors(tmp_path / "t.safetensors").metadata == {**texts, "e": {"x": 1}}


def test_shards_read_as_one_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", {"x": np.arange(3), "unlisted": np.zeros(1)}, {})
    write_tensors(tmp_path / "b.safetensors", {"y": bf16(np.ones(2))}, {})
    index = '{"metadata": {"total_size": 28}, "weight_map": {"y": "b.safetensors", "x": "a.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(index)
    for path in (tmp_path, tmp_path / "model.safetensors.index.json"):
        file = read_tensors(path)
        assert list(file) == ["y", "x"]
        assert file["x"].tolist() == [0, 1, 2]
        assert file.gather("y", np.array([1])).tolist() == [1.0]


def test_tensors_that_an_index_takes_from_nowhere_or_another_shard_are_known_by_name(tmp_path: Path) -> None:
    write_tensors(
        tmp_path / "a.safetensors", {"x": np.ones((2, 3)), "extra": np.ones((4, 5)), "b": np.ones(4)}, {"k": 1}
    )
    write_tensors(tmp_path / "b.safetensors", {"y": np.ones((2, 2)), "x": np.zeros((2, 3))}, {})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}')
    file = read_tensors(index)
    assert file["x"].tolist() == np.ones((2, 3)).tolist()
    assert others_in(file) == [("a.safetensors: extra", (4, 5)), ("b.safetensors: x", (2, 3))]
    assert file.metadata["k"] == 1
    index.write_text('{"weight_map": {"y": "b.safetensors", "x": "b.safetensors"}}')
    assert read_tensors(index).metadata == {}


def test_a_folder_with_two_models_is_refused(tmp_path: Path) -> None:
    """Loaders take one of them and we might take the other."""
    for name in ("model.safetensors", "a.safetensors"):
        write_tensors(tmp_path / name, {"x": np.ones(3)}, {})
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "a.safetensors"}}')
    with pytest.raises(FormatError, match=r"other weights .*name the file to read"):
        read_tensors(tmp_path)
    for name in ("model.safetensors", "model.safetensors.index.json"):
        assert list(read_tensors(tmp_path / name)) == ["x"]


@pytest.mark.parametrize("name", ["copy.PT", "model.Safetensors", "tf_model.h5", "a.msgpack", "m.gguf", "w.npz", "w.pkl",
                                  "optimizer.bin", "Optimizer.pt", "rng_state_x.pth", "my_training_args.bin"])  # fmt: skip
def test_a_folder_with_other_weights_is_refused(tmp_path: Path, name: str) -> None:
    write_tensors(tmp_path / "model.safetensors", {"x": np.ones(3)}, {})
    (tmp_path / name).touch()
    with pytest.raises(FormatError, match="other weights"):
        read_tensors(tmp_path)


def test_the_state_of_a_trainer_beside_the_model_is_no_model(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", {"x": np.ones(3)}, {})
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth", "rng_state_12.pth"):
        (tmp_path / name).touch()
    assert list(read_tensors(tmp_path)) == ["x"]


def test_a_folder_with_a_single_model(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="name the file to read"):
        read_tensors(tmp_path)
    write_tensors(tmp_path / "model.safetensors", {"x": np.arange(3)}, {})
    assert list(read_tensors(tmp_path)) == ["x"]


def test_a_mapped_file_survives_its_replacement(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"w": np.zeros(5000)}, {})
    old = read_tensors(path)
    write_tensors(path, {"w": old["w"] + 1}, {})
    assert old["w"].sum() == 0
    assert read_tensors(path)["w"].sum() == 5000


def test_gather_and_copy_stay_small(tmp_path: Path) -> None:
    """In a fresh process, gathering from a 200 MB bf16 file and copying it grow the heap by far less than its size."""
    path = tmp_path / "big.safetensors"
    with path.open("wb") as handle:
        header = b'{"w":{"dtype":"BF16","shape":[100000000],"data_offsets":[0,200000000]}}'
        handle.write(len(header).to_bytes(8, "little") + header)
        handle.truncate(8 + len(header) + 200_000_000)
    script = (
        "import resource, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from ticketguard.storage.tensors import read_tensors, write_tensors\n"
        "used = int(Path('/proc/self/statm').read_text().split()[5]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (used + (60 << 20),) * 2)\n"
        "file = read_tensors(Path(sys.argv[1]))\n"
        "assert file.gather('w', np.arange(0, 100_000_000, 1000)).sum() == 0\n"
        "write_tensors(Path(sys.argv[1] + '.copy'), file, {})\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=60)
    assert (tmp_path / "big.safetensors.copy").stat().st_size >= 200_000_000


def test_two_files_are_never_equal_by_accident() -> None:
    first, second = (in_memory({"w": np.zeros(2)}) for _ in range(2))
    assert first != second
    assert len({first, second, first}) == 2
