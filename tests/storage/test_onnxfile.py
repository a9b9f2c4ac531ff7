"""ONNX initializers, compared with the onnx package, and everything that a hostile file may hold."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.thinned import thinned
from ticketguard.errors import FormatError, StorageError
from ticketguard.storage.onnxfile import read_onnx
from ticketguard.storage.suspects import others_in, read_any
from ticketguard.storage.tensors import TensorFile

onnx = pytest.importorskip("onnx")


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append((value & 0x7F) | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name: bytes = b"w", dims: tuple[int, ...] = (2,), data: bytes = bytes(8), kind: int = 1) -> bytes:
    return b"".join(field(1, d) for d in dims) + field(2, kind) + field(8, name) + field(9, data)


def model(*graph: bytes) -> bytes:
    return field(1, 8) + field(7, b"".join(graph))


def save(path: Path, *, raw: bool) -> dict[str, np.ndarray]:
    """A model of every kind of weight, written by the onnx package."""
    rng = np.random.default_rng(0)
    arrays = {
        "conv.weight": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "half": rng.standard_normal((2, 3)).astype(np.float16),
        "double": rng.standard_normal((5,)),
        "quantized": rng.integers(-128, 128, (3, 4)).astype(np.int8),
        "counts": np.array([-1, 2**40], dtype=np.int64),
        "fc": rng.standard_normal((6, 2)).astype(np.float32),
        "gemm": rng.standard_normal((2, 6)).astype(np.float32),
        "turned": rng.standard_normal((6, 2)).astype(np.float32),
    }
    if raw:
        protos = [onnx.numpy_helper.from_array(a, n) for n, a in arrays.items()]
    else:
        kinds = {n: onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in arrays.items()}
        protos = [onnx.helper.make_tensor(n, kinds[n], a.shape, a.ravel()) for n, a in arrays.items()]
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "fc"], ["y"]),
        onnx.helper.make_node("Gemm", ["x", "gemm", "b"], ["z"], transB=1),
        onnx.helper.make_node("Gemm", ["x", "turned", "b"], ["u"]),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [], [], initializer=protos)
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    return arrays


@pytest.mark.parametrize("raw", [True, False])
def test_agrees_with_the_onnx_package_and_turns_matrices(tmp_path: Path, *, raw: bool) -> None:
    arrays = save(tmp_path / "m.onnx", raw=raw)
    found = read_any(tmp_path / "m.onnx")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        expected = array.T if name in {"fc", "turned"} else array
        np.testing.assert_array_equal(np.asarray(found[name], dtype=np.float64), expected.astype(np.float64))


W = np.arange(4, dtype=np.float32).reshape(2, 2)


def wired(path: Path, *nodes: object, outputs: tuple[str, ...] = ("y",), more: tuple[object, ...] = ()) -> TensorFile:
    """The model of `nodes` over an input `x` and the square matrix `w`, read."""
    shown = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
    first = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)]
    initializers = [onnx.numpy_helper.from_array(W, "w"), *more]
    graph = onnx.helper.make_graph(list(nodes), "g", first, shown, initializer=initializers)
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    return read_onnx(path)


def gemm(output: str = "y", **attributes: int) -> object:
    return onnx.helper.make_node("Gemm", ["x", "w"], [output], **attributes)


def matmul(output: str, matrix: str = "w") -> object:
    return onnx.helper.make_node("MatMul", ["x", matrix], [output])


def branches(*nodes: object, inner: str) -> object:
    """A node with two equal graphs inside that show the value `inner`."""
    output = [onnx.helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, None)]
    graph = onnx.helper.make_graph(
        list(nodes), "b", [], output, initializer=[onnx.numpy_helper.from_array(W, "hidden")]
    )
    return onnx.helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)


def test_nodes_that_no_output_depends_on_turn_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for dead in ([matmul("unused")], [matmul("a"), onnx.helper.make_node("Relu", ["a"], ["b"])]):
        found = wired(path, gemm(transB=1), *dead)
        assert list(found) == ["w"]
        assert found["w"].tolist() == W.tolist()
    found = wired(path, matmul("y"), gemm("unused", transB=1))
    assert list(found) == ["w"]
    assert found["w"].tolist() == W.T.tolist()


@pytest.mark.parametrize("outputs", [(), ("nowhere",)])
def test_without_an_output_that_is_made_all_nodes_count(tmp_path: Path, outputs: tuple[str, ...]) -> None:
    assert wired(tmp_path / "m.onnx", matmul("y"), outputs=outputs)["w"].tolist() == W.T.tolist()


@pytest.mark.parametrize(
    "other",
    [
        lambda: (gemm("a", transB=1), onnx.helper.make_node("Add", ["a", "b"], ["y"])),
        lambda: (
            onnx.helper.make_node("Identity", ["w"], ["v"]),
            onnx.helper.make_node("Gemm", ["x", "v"], ["a"], transB=1),
            onnx.helper.make_node("Add", ["a", "b"], ["y"]),
        ),
        lambda: (branches(gemm("inner", transB=1), onnx.helper.make_node("Add", ["inner", "b"], ["z"]), inner="z"),),
    ],
)
def test_a_matrix_that_is_read_both_ways_is_there_both_ways(tmp_path: Path, other: object) -> None:
    found = wired(tmp_path / "m.onnx", matmul("b"), *other())
    assert list(found) == ["w", "transposed.w"]
    assert found["w"].tolist() == W.tolist()
    assert found["transposed.w"].tolist() == W.T.tolist()


def test_a_matrix_read_both_ways_cannot_take_another_ones_name(tmp_path: Path) -> None:
    nodes = matmul("b"), gemm("a", transB=1), onnx.helper.make_node("Add", ["a", "b"], ["y"])
    with pytest.raises(FormatError, match="appears twice"):
        wired(tmp_path / "m.onnx", *nodes, more=(onnx.numpy_helper.from_array(W, "transposed.w"),))


def test_readers_inside_of_nodes_count_and_dead_ones_there_do_not(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert wired(path, branches(matmul("inner"), inner="inner"))["w"].tolist() == W.T.tolist()
    assert wired(path, branches(gemm("inner", transB=1), matmul("dead"), inner="inner"))["w"].tolist() == W.tolist()


def test_matrices_that_are_no_initializers_are_known_by_name(tmp_path: Path) -> None:
    constant = onnx.helper.make_node("Constant", [], ["k"], value=onnx.numpy_helper.from_array(W, "whatever"))
    small = onnx.helper.make_node("Constant", [], ["s"], value=onnx.numpy_helper.from_array(W[0]))
    text = onnx.helper.make_tensor("words", onnx.TensorProto.STRING, [2, 1], [b"a", b"b"])
    found = wired(tmp_path / "m.onnx", constant, small, branches(matmul("inner"), inner="inner"), more=(text,))
    assert list(found) == ["w"]
    assert sorted(others_in(found)) == [("hidden", (2, 2)), ("hidden", (2, 2)), ("k", (2, 2)), ("words", (2, 1))]
    assert others_in(wired(tmp_path / "m.onnx", matmul("y"))) == []


def sparse(name: str) -> object:
    values, indices = np.ones(3, np.float32), np.array([0, 4, 5])
    proto = [onnx.numpy_helper.from_array(array, n) for array, n in ((values, name), (indices, ""))]
    return onnx.helper.make_sparse_tensor(*proto, [2, 3])


def constants(name: str) -> list[object]:
    """Nodes that bring a matrix along in every way there is: one named `name`, the others `name` and a digit."""
    make, matrix = onnx.helper.make_node, onnx.numpy_helper.from_array(W)
    outputs = [onnx.helper.make_tensor_value_info("i", onnx.TensorProto.FLOAT, None)]
    inner = onnx.helper.make_graph([make("Constant", [], [name + "4"], value=matrix)], "i", [], outputs)
    inner.sparse_initializer.append(sparse(name + "5"))
    return [
        make("Constant", [], [name], value=matrix),
        make("Constant", [], [name + "1"], sparse_value=sparse("")),
        make("Own", [], [name + "2"], domain="own", many=[matrix]),
        make("Own", [], [name + "3"], domain="own", many=[sparse(""), sparse("")]),
        make("Own", [], ["y"], domain="own", many=[inner]),
    ]


def brought(name: str) -> list[tuple[str, tuple[int, int]]]:
    """What reading says of `constants`."""
    return [(name, (2, 2)), (name + "1", (2, 3)), (name + "2", (2, 2)), *[(name + "3", (2, 3))] * 2, (name + "4", (2, 2)),
            (name + "5", (2, 3))]  # fmt: skip


PLACES = {
    "the graph": lambda m: m.graph.node.extend(constants("c")),
    "a local function": lambda m: m.functions.append(
        onnx.helper.make_function("own", "F", ["x"], ["y"], constants("c"), [onnx.helper.make_opsetid("", 17)])
    ),
    "the training algorithm": lambda m: m.training_info.add().algorithm.node.extend(constants("c")),
    "the training's beginning": lambda m: m.training_info.add().initialization.node.extend(constants("c")),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_place_that_holds_matrices_is_looked_into(tmp_path: Path, place: str) -> None:
    path = tmp_path / "m.onnx"
    wired(path, matmul("y"))
    whole = onnx.load(path)
    PLACES[place](whole)
    onnx.save(whole, path)
    found = read_onnx(path)
    assert list(found) == ["w"]
    assert sorted(others_in(found)) == brought("c")


def test_sparse_initializers_and_defaults_of_functions_are_known_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    wired(path, matmul("y"))
    whole = onnx.load(path)
    whole.graph.sparse_initializer.append(sparse("s"))
    training = whole.training_info.add()
    training.initialization.initializer.append(onnx.numpy_helper.from_array(W, "t"))
    training.update_binding.add(key="a name", value="another")
    function = onnx.helper.make_function("own", "F", [], [], [], [onnx.helper.make_opsetid("", 17)])
    function.attribute_proto.append(onnx.helper.make_attribute("d", onnx.numpy_helper.from_array(W)))
    whole.functions.append(function)
    onnx.save(whole, path)
    assert sorted(others_in(read_onnx(path))) == [("d", (2, 2)), ("s", (2, 3)), ("t", (2, 2))]


def nested(depth: int) -> bytes:
    """A node with a graph inside, with a node with a graph inside ..."""
    node = field(2, b"y")
    for _ in range(depth):
        node = field(5, field(6, field(1, node))) + field(2, b"y")
    return field(1, node)


def test_a_file_without_the_suffix_is_known_by_its_content(tmp_path: Path) -> None:
    save(tmp_path / "weights.bin", raw=True)
    assert "fc" in read_any(tmp_path / "weights.bin")


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(model(field(5, tensor(data=b"\x80\x3f\x00\xc0", kind=16))))
    assert read_onnx(tmp_path / "m.onnx")["w"].tolist() == [1.0, -2.0]


GOOD = model(field(5, tensor()))
BAD = {
    "empty": b"",
    "no graph": field(1, 8),
    "two graphs": GOOD + field(7, b""),
    "truncated": GOOD[:-3],
    "unfinished number": b"\x80",
    "long number": b"\x80" * 12,
    "group wire type": b"\x0b",
    "length beyond the end": varint(7 << 3 | 2) + varint(1 << 60),
    "wrong number of values": model(field(5, tensor(dims=(3,)))),
    "negative dimension": model(field(5, tensor(dims=(2**64 - 2,)))),
    "huge dimensions": model(field(5, tensor(dims=(2**40, 2**40)))),
    "nine dimensions": model(field(5, tensor(dims=(1,) * 8 + (2,)))),
    "odd bytes": model(field(5, tensor(data=bytes(7)))),
    "name twice": model(field(5, tensor()), field(5, tensor())),
    "no name": model(field(5, tensor(name=b""))),
    "unprintable name": model(field(5, tensor(name=b"a\x1b[2J"))),
    "name not text": model(field(5, tensor(name=b"\xff\xfe"))),
    "long name": model(field(5, tensor(name=b"x" * 600))),
    "floats of an integer": model(field(5, field(1, 1) + field(2, 3) + field(8, b"w") + field(4, b"\x00\x00\xc0\x7f"))),
    "doubles of a float": model(field(5, field(1, 1) + field(2, 1) + field(8, b"w") + field(10, b"\xff" * 8))),
    "values one by one": model(field(5, tensor(data=b"") + b"\x25\x00\x00\x80\x3f" * 5000)),
    "too many wires": model(field(1, field(1, b"") * (1 << 19) + field(2, b"y"))),
    "long name of a wire": model(field(1, field(2, b"y" * 5000))),
    "graphs nested too deep": model(nested(20)),
    "graphs nested too deep in training": GOOD + field(20, field(2, nested(20))),
    "too many fields of a function": GOOD + field(25, field(5, b"") * (1 << 20)),
    "too many tensors in an attribute": model(field(1, field(5, field(10, b"") * (1 << 20)))),
    "external data": model(field(5, tensor() + field(14, 1))),
    "external entry": model(field(5, tensor() + field(13, field(1, b"location")))),
}


@pytest.mark.parametrize("name", thinned(BAD, fast=list(BAD)[::3]))
def test_malformed_files_are_one_line_errors(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(BAD[name])
    with pytest.raises(FormatError, match=r"m\.onnx") as caught:
        read_onnx(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        read_onnx(tmp_path / "none.onnx")


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_changed_byte_gives_tensors_or_a_format_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.onnx"
    path.write_bytes(GOOD[:at] + bytes([byte]) + GOOD[at + 1 :])
    with suppress(FormatError):
        assert all(array.size <= len(GOOD) for array in read_onnx(path).values())
