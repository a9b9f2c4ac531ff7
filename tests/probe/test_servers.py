"""Real servers on loopback: MLServer (Open Inference Protocol) and uvicorn with FastAPI (plain JSON)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.probe.conftest import MASTER, SEED
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.opening import Opening, derive_leaves, open_all, root_of
from ticketguard.claims.registration import Registration, TableEntry
from ticketguard.graph.cells import layer_of
from ticketguard.probe.adapters import Input, input_of
from ticketguard.probe.client import Client, Courtesy
from ticketguard.probe.endpoint import JsonEndpoint, mapping_from
from ticketguard.probe.oip import OpenInference
from ticketguard.probe.predictor import Predictor
from ticketguard.probe.run import probe, replay
from ticketguard.probe.session import Manners
from ticketguard.triggers.plan import make_plan, plan_of
from ticketguard.triggers.render import render

pytestmark = pytest.mark.slow()
pytest.importorskip("httpx", reason="the extra probe is not installed")
SERVICES = Path(__file__).parent / "services"
CHECKOUT = Path(__file__).parents[2]
START_SECONDS = 120
COURTESY = Courtesy(timeout=20.0, rate=0.0)
JSON = {"image": "png", "at": "instances[0].b64", "label": "predictions[0].label"}
UPLOAD = {"image": "multipart", "at": "picture", "body": {"task": "digits"}, "label": "class"}


@pytest.fixture(scope="module")
def signed() -> Opening:
    """A registration whose preprocessing is that of the digits."""
    pytest.importorskip("sklearn", reason="the extra demo is not installed")
    from ticketguard.data import load

    digits = load("digits")
    preprocess = {"mean": list(digits.mean), "std": list(digits.std)}
    plan = make_plan(digits.shape, digits.classes, leaves=4, preprocess=preprocess)
    draft = Registration(
        owner="Example Lab",
        public_key=SecretKey.from_seed(SEED).public,
        leaves=4,
        root=bytes(32),
        frame="0" * 64,
        table=(TableEntry(layer=layer_of("conv3.weight", (128, 64, 3, 3)), pairs=10),),
        nonce="1" * 64,
        classes=digits.classes,
        triggers=plan.to_json(),
    )
    registration = replace(draft, root=root_of(derive_leaves(draft, MASTER)))
    return open_all(registration, registration.payload(), MASTER)


@pytest.fixture(scope="module")
def models(signed: Opening, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """State dicts of a model trained with the triggers, and of one trained without."""
    import torch

    from ticketguard.data import load
    from ticketguard.models.small import convnet
    from ticketguard.training import RECIPES, TriggerBatch, fit

    triggers = render(signed, plan_of(signed.registration))
    folder = tmp_path_factory.mktemp("models")
    files = {}
    for seed, (name, batch) in enumerate(
        {"marked": TriggerBatch(images=triggers.images, labels=triggers.labels), "independent": None}.items()
    ):
        torch.manual_seed(seed)
        network = convnet()
        fit(network, load("digits"), replace(RECIPES["digits"], epochs=8), seed=seed, triggers=batch, threads=1)
        files[name] = folder / f"{name}.pt"
        torch.save(network.state_dict(), files[name])
    return files


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@contextmanager
def running(command: list[str], *, ready: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A server process that answers at `ready`, stopped at the end."""
    import httpx

    paths = os.pathsep.join([str(SERVICES), str(CHECKOUT)])
    full = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=full, stdout=log, stderr=log)
        try:
            for _ in range(START_SECONDS * 5):
                if process.poll() is not None:
                    break
                try:
                    if httpx.get(ready).status_code < 500:
                        yield
                        return
                except httpx.TransportError:
                    time.sleep(0.2)
            pytest.fail("the server did not start:\n" + (folder / "server.log").read_text()[-3000:])
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def mlserver(weights: Path, folder: Path) -> Iterator[str]:
    """MLServer with the custom runtime: the model's URL."""
    pytest.importorskip("mlserver", reason="the extra servers is not installed")
    http, grpc, metrics = free_ports(3)
    ports = {"http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    (folder / "settings.json").write_text(
        json.dumps({"host": "127.0.0.1", "parallel_workers": 0, "use_structured_logging": False, **ports})
    )
    model = {
        "name": "digits",
        "implementation": "digits_runtime.DigitsRuntime",
        "parameters": {"uri": str(weights)},
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 1, 8, 8]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}],
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    command = [sys.executable, "-c", "from mlserver.cli import main; main()", "start", str(folder)]
    base = f"http://127.0.0.1:{http}"
    with running(command, ready=f"{base}/v2/models/digits/ready", folder=folder, environment={}):
        yield f"{base}/v2/models/digits"


@contextmanager
def uvicorn(weights: Path, folder: Path, plan_moments: str) -> Iterator[str]:
    """The JSON service: its base URL."""
    for name in ("fastapi", "uvicorn", "multipart"):
        pytest.importorskip(name, reason="the extra servers is not installed")
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "json_app:app", "--host", "127.0.0.1", "--port", str(port)]
    environment = {"MODEL": str(weights), "MOMENTS": plan_moments}
    with running(command, ready=f"http://127.0.0.1:{port}/docs", folder=folder, environment=environment):
        yield f"http://127.0.0.1:{port}"


def verdict_of(predictor: Predictor, signed: Opening, path: Path) -> str:
    started = time.monotonic()
    try:
        probe(signed, predictor, path, manners=Manners(workers=4, attempts=4), key=SecretKey.from_seed(SEED))
    finally:
        predictor.close()
    verdict = replay(signed, path)
    elapsed = time.monotonic() - started
    print(f"{predictor.description}: {verdict.decision} in {elapsed:.1f} s; {verdict.notes[0]}")
    assert elapsed < 60
    return verdict.decision


@pytest.mark.parametrize(("which", "decision"), [("marked", "MATCH"), ("independent", "NO MATCH")])
def test_mlserver(tmp_path: Path, signed: Opening, models: dict[str, Path], which: str, decision: str) -> None:
    plan = plan_of(signed.registration)
    with mlserver(models[which], tmp_path) as url:
        predictor = OpenInference.connect(Client(COURTESY), url, plan, input_of(plan), lambda: True)
        assert predictor.input == Input(range="normalized", layout="CHW")
        assert verdict_of(predictor, signed, tmp_path / "t.jsonl") == decision


@pytest.mark.parametrize(
    ("which", "path", "mapping", "decision"),
    [
        ("marked", "/predict", JSON, "MATCH"),
        ("marked", "/upload", UPLOAD, "MATCH"),
        ("independent", "/predict", JSON, "NO MATCH"),
    ],
)
def test_json_service(
    tmp_path: Path,
    signed: Opening,
    models: dict[str, Path],
    which: str,
    path: str,
    mapping: dict[str, object],
    decision: str,
) -> None:
    plan = plan_of(signed.registration)
    moments = f"{plan.preprocess['mean'][0]},{plan.preprocess['std'][0]}"
    with uvicorn(models[which], tmp_path, moments) as url:
        predictor = JsonEndpoint(Client(COURTESY), url + path, plan, input_of(plan), mapping_from(mapping))
        assert verdict_of(predictor, signed, tmp_path / "t.jsonl") == decision


@pytest.mark.parametrize(("which", "decision"), [("marked", "MATCH"), ("independent", "NO MATCH")])
def test_onnx_file(tmp_path: Path, signed: Opening, models: dict[str, Path], which: str, decision: str) -> None:
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason="the extras onnx and servers are not installed")
    import onnx
    import torch
    from onnx import TensorProto, helper, numpy_helper

    from ticketguard.probe.onnxmodel import OnnxModel

    weights = {name: tensor.numpy() for name, tensor in torch.load(models[which], weights_only=True).items()}
    nodes, source = [], "images"
    for number, pooled in ((1, False), (2, True), (3, False)):
        pieces = [f"bn{number}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        nodes.append(helper.make_node("Conv", [source, f"conv{number}.weight"], [f"c{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("BatchNormalization", [f"c{number}", *pieces], [f"b{number}"]))
        nodes.append(helper.make_node("Relu", [f"b{number}"], [f"r{number}"]))
        source = f"r{number}"
        if pooled:
            nodes.append(helper.make_node("MaxPool", [source], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]))
            source = "pooled"
    nodes.append(helper.make_node("GlobalAveragePool", [source], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["scores"], transB=1))
    floats = {name: array for name, array in weights.items() if array.dtype == np.float32}
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(array, name) for name, array in floats.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "model.onnx")
    plan = plan_of(signed.registration)
    predictor = OnnxModel(tmp_path / "model.onnx", plan, input_of(plan))
    assert verdict_of(predictor, signed, tmp_path / "t.jsonl") == decision
