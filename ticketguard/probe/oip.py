"""The Open Inference Protocol, version 2 (REST), which KServe, Triton, MLServer, OpenVINO Model Server and TorchServe
speak.

See https://github.com/kserve/open-inference-protocol. Input and output are read from the model's metadata; tensors
travel as JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ticketguard.errors import DataError, FormatError, UsageError
from ticketguard.probe.adapters import Input, Layout, prepare
from ticketguard.probe.client import Client, failure, require_ok, shown
from ticketguard.probe.predictor import Image, Reply, Take, reply_of
from ticketguard.storage.documents import parse_json
from ticketguard.triggers.plan import TriggerPlan

FLOATS = ("FP16", "FP32", "FP64", "BF16")
INTEGERS = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One input or output as the metadata names it; -1 in `shape` is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class OpenInference:
    """A model behind `.../v2/models/<name>` (or `/versions/<v>` of it). Build it with `connect`."""

    def __init__(
        self, client: Client, url: str, plan: TriggerPlan, wanted: Input, source: Tensor, output: str | None
    ) -> None:
        self.description = shown(url)
        self.input = wanted
        self._client, self._url, self._plan, self._source, self._output = client, url, plan, source, output

    @staticmethod
    def connect(
        client: Client, url: str, plan: TriggerPlan, wanted: Input, take: Take, *, output: str | None = None
    ) -> OpenInference:
        """Read the model's metadata and fit `wanted` to it: pixels for UINT8, the axes that its shape shows.

        Raises `DataError` when the service does not answer as the protocol says, `UsageError` when no input fits; the
        client is closed then.
        """
        with ExitStack() as stack:
            stack.callback(client.close)
            connected = OpenInference._connect(client, url, plan, wanted, take, output)
            stack.pop_all()
        return connected

    @staticmethod
    def _connect(
        client: Client, url: str, plan: TriggerPlan, wanted: Input, take: Take, output: str | None
    ) -> OpenInference:
        base = url.rstrip("/").removesuffix("/infer")
        if "/v2/models/" not in base:
            raise UsageError(
                f"{shown(base)[:200]}: an Open Inference Protocol endpoint ends in /v2/models/<model>; any other JSON service "
                "needs --mapping FILE (docs/probing.md)"
            )
        body = require_ok(client.request("GET", base, take), f"metadata of {shown(base)}")
        try:
            metadata: Any = parse_json(body, where=f"metadata of {shown(base)}")
            inputs = [_tensor(item) for item in metadata["inputs"]]
            outputs = [_tensor(item).name for item in metadata.get("outputs") or []]
        except (KeyError, TypeError, FormatError) as problem:
            raise DataError(f"metadata of {shown(base)}: not those of a version 2 model with inputs") from problem
        if len(inputs) != 1 or inputs[0].datatype not in (*FLOATS, *INTEGERS):
            raise UsageError(f"{shown(base)}: a model with exactly one numeric input is needed, found {len(inputs)}")
        if output is not None and output not in outputs:
            raise UsageError(f"{shown(base)}: it has no output of the chosen name, but {len(outputs)} others")
        fitted = fit(wanted, inputs[0], plan)
        return OpenInference(client, base, plan, fitted, inputs[0], output or (outputs[0] if outputs else None))

    def ask(self, image: Image, take: Take) -> Reply:
        """One inference request with a batch of one."""
        array = prepare(image, self.input, self._plan)
        tensor = {
            "name": self._source.name,
            "shape": [1, *array.shape],
            "datatype": self._source.datatype,
            "data": array.ravel().tolist(),
        }
        response = self._client.request("POST", self._url + "/infer", take, json={"inputs": [tensor]})
        if not response.ok:
            return failure(response)
        digest = hashlib.sha256(response.body).hexdigest()
        try:
            reply = reply_of(self._result(response.body), digest, attempts=response.attempts, shown=self._safe)
        except (KeyError, TypeError, ValueError, OverflowError, FormatError):
            return Reply(
                status="malformed",
                attempts=response.attempts,
                response=digest,
                detail="a malformed answer: no such output with data",
                said=self._safe(response.body.decode("utf-8", "replace")),
            )
        return reply

    def _safe(self, text: str) -> str:
        return self._client.safe(self._url, text)

    def _result(self, body: bytes) -> np.ndarray[Any, Any]:
        """The chosen output as an array; raises one of what `ask` catches."""
        answer: Any = parse_json(body, where="answer")
        outputs: dict[str, Mapping[str, Any]] = {item["name"]: item for item in answer["outputs"]}
        chosen = outputs[self._output] if self._output is not None else next(iter(outputs.values()), {})
        data, datatype = chosen["data"], chosen["datatype"]
        if datatype == "BYTES":
            return np.array([_one_text(data)])
        return np.array(data, dtype=np.int64 if datatype in INTEGERS else np.float64).reshape(-1)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _one_text(data: object) -> str:
    """The text of a tensor that holds one: an array of many is as wide as its longest, without bound."""
    while isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, str):
        raise ValueError("not one text")
    return data


def _tensor(item: Mapping[str, Any]) -> Tensor:
    name, datatype, shape = item["name"], item["datatype"], item.get("shape") or []
    # A name goes back in every request, where half a surrogate pair cannot be encoded.
    if not isinstance(name, str) or not name.isprintable() or not isinstance(datatype, str):
        raise TypeError("a tensor's name and datatype")
    if not all(type(size) is int and abs(size) < 1 << 48 for size in shape):
        raise TypeError("a tensor's shape")
    return Tensor(name=name, datatype=datatype, shape=tuple(shape))


def fit(wanted: Input, source: Tensor, plan: TriggerPlan) -> Input:
    """`wanted` with what the metadata decides: integers take pixels, and the shape (without its batch) shows the
    layout.
    """
    channels = wanted.channels or plan.shape[0]
    height, width = wanted.size or plan.shape[1:]
    if source.datatype in INTEGERS:
        wanted = replace(wanted, range="pixels")
    layouts: dict[Layout, tuple[int, ...]] = {
        "CHW": (channels, height, width),
        "HWC": (height, width, channels),
        "flat": (channels * height * width,),
    }
    if len(source.shape) in (2, 4):
        # A layout that was asked for is tried first; of two that fit, CHW is the rule.
        for layout in sorted(layouts, key=lambda name: name != wanted.layout):
            if _agrees(source.shape[1:], layouts[layout]):
                return replace(wanted, layout=layout)
        raise UsageError(
            f"the service takes images of shape {list(source.shape[1:])}, the triggers have {list(layouts['CHW'])}: "
            "set the size and channels of the service's input"
        )
    return wanted


def _agrees(shape: tuple[int, ...], sizes: tuple[int, ...]) -> bool:
    return len(shape) == len(sizes) and all(a in (-1, b) for a, b in zip(shape, sizes, strict=True))
