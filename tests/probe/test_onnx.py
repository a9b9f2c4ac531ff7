"""ONNX suspects: hostile graphs end in one clear line, never in this process."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ticketguard.errors import DataError, StorageError, UsageError
from ticketguard.probe.adapters import Input
from ticketguard.probe.onnxmodel import OnnxModel
from ticketguard.triggers.plan import TriggerPlan

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
onnx = pytest.importorskip("onnx", reason="the extra servers is not installed")

PLAN = TriggerPlan(per_leaf=4, leaves=1, shape=(1, 2, 3), classes=tuple("abcdef"))
UNIT = Input(range="unit")


def always() -> bool:
    return True


def write(path: Path, nodes: list[object], shape: list[object], kind: str = "FLOAT", output: str = "FLOAT") -> Path:
    helper, types = onnx.helper, onnx.TensorProto
    source = helper.make_tensor_value_info("x", getattr(types, kind), shape)
    target = helper.make_tensor_value_info("y", getattr(types, output), None)
    graph = helper.make_graph(nodes, "g", [source], [target])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def flatten(**changes: object) -> list[object]:
    return [onnx.helper.make_node("Flatten", ["x"], ["y"], **changes)]


def test_scores_labels_and_pixels(tmp_path: Path) -> None:
    image = np.array([[[0, 10, 20], [255, 40, 50]]], dtype=np.uint8)
    model = OnnxModel(write(tmp_path / "a.onnx", flatten(), ["n", 1, 2, 3]), PLAN, UNIT)
    reply = model.ask(image, always)
    model.close()
    assert reply.status == "answered"
    np.testing.assert_allclose(reply.answer, image.ravel() / 255, rtol=1e-6)
    nodes = [*flatten()[:0], onnx.helper.make_node("Flatten", ["x"], ["f"])]
    nodes.append(onnx.helper.make_node("ArgMax", ["f"], ["y"], axis=1, keepdims=0))
    model = OnnxModel(write(tmp_path / "b.onnx", nodes, [1, 1, 2, 3], output="INT64"), PLAN, UNIT)
    assert model.ask(image, always).answer == 3
    assert model.ask(image, lambda: False).status == "over budget"
    model.close()
    nodes = [
        onnx.helper.make_node("Cast", ["x"], ["c"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Flatten", ["c"], ["y"]),
    ]
    model = OnnxModel(write(tmp_path / "c.onnx", nodes, ["n", 2, 3, 1], kind="UINT8"), PLAN, UNIT)
    assert (model.input.range, model.input.layout) == ("pixels", "HWC")
    assert model.ask(image, always).answer == tuple(image.ravel())
    model.close()


def test_files_that_are_no_models(tmp_path: Path) -> None:
    good = write(tmp_path / "good.onnx", flatten(), ["n", 1, 2, 3]).read_bytes()
    for name, content in {"empty": b"", "text": b"hello", "torn": good[: len(good) // 2]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: onnxruntime cannot load"):
            OnnxModel(tmp_path / name, PLAN, UNIT)
    with pytest.raises(StorageError, match="missing"):
        OnnxModel(tmp_path / "missing", PLAN, UNIT)


def test_inputs_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="set the size"):
        OnnxModel(write(tmp_path / "a.onnx", flatten(), ["n", 3, 224, 224]), PLAN, UNIT)


def test_weights_outside_the_file_stay_outside(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(np.ones(6, dtype=np.float32).tobytes())
    constant = onnx.helper.make_tensor(
        "w", onnx.TensorProto.FLOAT, [6], np.ones(6, dtype=np.float32).tobytes(), raw=True
    )
    constant.ClearField("raw_data")
    constant.data_location = onnx.TensorProto.EXTERNAL
    entry = constant.external_data.add()
    entry.key, entry.value = "location", str(tmp_path / "secret.bin")
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Add", ["f", "w"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", types.FLOAT, ["n", 1, 2, 3])],
        [helper.make_tensor_value_info("y", types.FLOAT, None)],
        [constant],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="cannot load"):
        OnnxModel(tmp_path / "a.onnx", PLAN, UNIT)


def test_a_graph_that_asks_for_far_too_much_memory_fails_alone(tmp_path: Path) -> None:
    helper = onnx.helper
    size = onnx.numpy_helper.from_array(np.array([1 << 20, 1 << 16], dtype=np.int64), "value")
    nodes = [
        helper.make_node("Constant", [], ["size"], value=size),
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Expand", ["top", "size"], ["y"]),
    ]
    model = OnnxModel(write(tmp_path / "a.onnx", nodes, ["n", 1, 2, 3]), PLAN, UNIT)
    image = np.zeros((1, 2, 3), dtype=np.uint8)
    assert model.ask(image, always).status == "failed"
    assert model.ask(image, always).status == "failed"
    model.close()


def test_a_dead_or_stalled_process_is_a_failure_of_the_query(tmp_path: Path) -> None:
    path, image = write(tmp_path / "a.onnx", flatten(), ["n", 1, 2, 3]), np.zeros((1, 2, 3), dtype=np.uint8)
    model = OnnxModel(path, PLAN, UNIT)
    os.kill(model._child.pid, signal.SIGKILL)
    assert model.ask(image, always).status == "failed"
    model.close()
    model = OnnxModel(path, PLAN, UNIT)
    model._timeout = 0.3
    os.kill(model._child.pid, signal.SIGSTOP)
    assert model.ask(image, always).detail == "the model took too long"
    # Its answer, still to come, would be taken for that to the next image.
    with suppress(ProcessLookupError):
        os.kill(model._child.pid, signal.SIGCONT)
    assert model.ask(image + np.uint8(255), always).detail == "the model's process has died"
    model.close()


@pytest.mark.slow
def test_an_answer_that_is_too_long_is_not_read_as_the_next_ones(tmp_path: Path) -> None:
    """16 MiB of JSON and more; what is left of it in the pipe must neither be read nor block the next query."""
    size = onnx.numpy_helper.from_array(np.array([3000, 3000], dtype=np.int64), "value")
    nodes = [
        onnx.helper.make_node("Constant", [], ["size"], value=size),
        onnx.helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        onnx.helper.make_node("Expand", ["top", "size"], ["y"]),
    ]
    model = OnnxModel(write(tmp_path / "a.onnx", nodes, ["n", 1, 2, 3]), PLAN, UNIT)
    image = np.zeros((1, 2, 3), dtype=np.uint8)
    assert model.ask(image, always).detail == "the model's process answered with too much"
    assert model.ask(image, always).detail == "the model's process has died"
    model.close()


def test_a_child_that_does_not_read_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "asleep.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("ticketguard.probe.onnxmodel.CHILD", "asleep")
    (tmp_path / "large").write_bytes(bytes(1 << 20))
    with pytest.raises(DataError, match="cannot load"):
        OnnxModel(tmp_path / "large", PLAN, UNIT, timeout=0.5)
