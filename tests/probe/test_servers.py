"""Real servers on loopback: MLServer (Open Inference Protocol) and uvicorn with FastAPI (plain JSON)."""

from __future__ import annotations

import json
import os
import shlex
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
from ticketguard.api import Signed, sign, verify
from ticketguard.claims.keys import SecretKey, save_secret
from ticketguard.claims.opening import Opening
from ticketguard.masks import keep_largest
from ticketguard.probe.adapters import Input, input_of
from ticketguard.probe.client import Client, Courtesy
from ticketguard.probe.endpoint import JsonEndpoint, mapping_from
from ticketguard.probe.oip import OpenInference
from ticketguard.probe.predictor import Predictor
from ticketguard.probe.run import probe, replay
from ticketguard.probe.session import Manners
from ticketguard.tickets import Ticket
from ticketguard.triggers.plan import plan_of

pytestmark = pytest.mark.slow()
pytest.importorskip("httpx", reason="the extra probe is not installed")
SERVICES = Path(__file__).parent / "services"
CHECKOUT = Path(__file__).parents[2]
START_SECONDS = 120
COURTESY = Courtesy(timeout=20.0, rate=0.0)
JSON = {"image": "png", "at": "instances[0].b64", "label": "predictions[0].label"}
UPLOAD = {"image": "multipart", "at": "picture", "body": {"task": "digits"}, "label": "class"}


@pytest.fixture(scope="module")
def signing() -> Signed:
    """A signed sparse convnet for the digits, its mask one-shot: what matters here is who answers, not how it was found."""
    pytest.importorskip("sklearn", reason="the extra demo is not installed")
    return sign(sparse_convnet(seed=0), SecretKey.from_seed(SEED), owner="Example Lab", master=MASTER, nonce=bytes(32))


def sparse_convnet(seed: int) -> Ticket:
    """A fifth of a fresh convnet's prunable weights, the largest ones."""
    import torch

    from ticketguard.data import load
    from ticketguard.models import build, fitted, prunable
    from ticketguard.training import weights_of

    digits = load("digits")
    architecture = fitted("convnet", shape=digits.shape, classes=len(digits.classes))
    torch.manual_seed(seed)
    module = build(architecture)
    weights, names = weights_of(module), prunable(module)
    scores = {name: np.abs(weights[name]) for name in names}
    mask = keep_largest(scores, sum(score.size for score in scores.values()) // 5)
    sparse = {
        name: np.where(mask[name], array, np.float32(0)) if name in mask else array for name, array in weights.items()
    }
    return Ticket(architecture=architecture, weights=sparse, mask=mask, provenance=digits.task())


@pytest.fixture(scope="module")
def signed(signing: Signed) -> Opening:
    """What opens the registration of the signed convnet."""
    return signing.opening


@pytest.fixture(scope="module")
def models(signing: Signed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """State dicts of the signed model, trained on the digits with its triggers, and of an independent one."""
    import torch

    from ticketguard.api import train
    from ticketguard.data import load
    from ticketguard.training import RECIPES

    digits, recipe = load("digits"), replace(RECIPES["digits"], epochs=10)
    marked = train(signing.ticket, digits, recipe=recipe, opening=signing.opening, threads=1)
    independent = train(sparse_convnet(seed=1), digits, recipe=recipe, seed=1, threads=1)
    assert verify(marked.weights, signed=signing).decision == "MATCH"
    assert min(model.provenance["training"]["accuracy"] for model in (marked, independent)) > 95
    folder = tmp_path_factory.mktemp("models")
    files = {}
    for name, model in {"marked": marked, "independent": independent}.items():
        files[name] = folder / f"{name}.pt"
        torch.save({key: torch.from_numpy(np.array(array)) for key, array in model.weights.items()}, files[name])
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


def write_onnx(state: Path, path: Path) -> None:
    """The convnet of a state dict as an ONNX file."""
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason="the extras onnx and servers are not installed")
    import onnx
    import torch
    from onnx import TensorProto, helper, numpy_helper

    weights = {name: tensor.numpy() for name, tensor in torch.load(state, weights_only=True).items()}
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
    onnx.save(model, path)


@pytest.mark.parametrize(("which", "decision"), [("marked", "MATCH"), ("independent", "NO MATCH")])
def test_onnx_file(tmp_path: Path, signed: Opening, models: dict[str, Path], which: str, decision: str) -> None:
    write_onnx(models[which], tmp_path / "model.onnx")
    from ticketguard.probe.onnxmodel import OnnxModel

    plan = plan_of(signed.registration)
    predictor = OnnxModel(tmp_path / "model.onnx", plan, input_of(plan))
    assert verdict_of(predictor, signed, tmp_path / "t.jsonl") == decision


def test_commands_of_the_page(
    tmp_path: Path, signing: Signed, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/probing.md as printed, but for the host: MLServer, the JSON service and an ONNX file all serve the signed model."""
    page = (CHECKOUT / "docs" / "probing.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("ticketguard ")]
    mapping = next(line for line in page.splitlines() if line.startswith('{"image": "png"'))
    assert len(lines) == 5
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TICKETGUARD_PASSPHRASE", "a passphrase")
    monkeypatch.setenv("SERVICE_TOKEN", "tok-123456")
    signing.write(tmp_path / "signed", "a passphrase")
    save_secret(tmp_path / "owner.key", SecretKey.from_seed(SEED), "a passphrase")
    (tmp_path / "mapping.json").write_text(mapping)
    write_onnx(models["marked"], tmp_path / "suspect.onnx")
    plan = plan_of(signing.registered.registration)
    moments = f"{plan.preprocess['mean'][0]},{plan.preprocess['std'][0]}"
    folders = [tmp_path / "mlserver", tmp_path / "uvicorn"]
    for folder in folders:
        folder.mkdir()
    with mlserver(models["marked"], folders[0]) as model, uvicorn(models["marked"], folders[1], moments) as base:
        for line in lines:
            typed = line.replace("https://host/v2/models/digits", model).replace("https://host", base)
            command = [sys.executable, str(CHECKOUT / "cli.py"), *shlex.split(typed)[1:]]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            assert "MATCH" in done.stdout or line.startswith("ticketguard probe "), line
