"""A service on loopback with faults: Open Inference Protocol and a JSON endpoint over one table of answers."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

from ticketguard.triggers.plan import image_digest

MEAN, STD = 0.3, 0.4


class FaultyService:
    """Counts requests; `fault(number)` may say how request `number` goes wrong, None for an honest answer."""

    def __init__(self, answers: dict[str, str], fault: Callable[[int], str | None] = lambda number: None) -> None:
        self.answers, self.fault = answers, fault
        self.requests, self.lock = 0, threading.Lock()
        self.seen: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.extra: dict[str, str] = {}

    def label(self, image: np.ndarray) -> str:
        digest = image_digest(image)
        with self.lock:
            self.seen.append(digest)
        return self.answers.get(digest, str(int(digest[:2], 16) % 10))


def handler_of(service: FaultyService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            """Quiet."""

        def send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {**headers, **service.extra}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            shape = [-1, 1, 8, 8]
            inputs = [{"name": "images", "datatype": "FP32", "shape": shape}]
            outputs = [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}]
            self.send(200, json.dumps({"name": "m", "inputs": inputs, "outputs": outputs}).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with service.lock:
                number = service.requests
                service.requests += 1
                service.headers.append(dict(self.headers))
                service.times.append(time.monotonic())
            kind = service.fault(number)
            if kind is None or kind == "flip" or kind == "stall":
                if kind == "stall":
                    time.sleep(1.0)
                answer = self.answer(body)
                self.send(200, json.dumps(self.flipped(answer) if kind == "flip" else answer).encode())
            else:
                FAULTS[kind](self)

        def answer(self, body: bytes) -> Any:
            if self.path.startswith("/v2"):
                tensor = json.loads(body)["inputs"][0]
                array = np.array(tensor["data"], dtype=np.float64).reshape(tensor["shape"])[0]
                image = np.rint((array * STD + MEAN) * 255).astype(np.uint8)
                scores = np.eye(10)[int(service.label(image))]
                return {"outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, 10], "data": scores.tolist()}]}
            picture = base64.b64decode(json.loads(body)["instances"][0]["b64"])
            image = np.asarray(Image.open(io.BytesIO(picture)))[None]
            return {"predictions": [{"label": service.label(image)}]}

        def flipped(self, answer: Any) -> Any:
            if "outputs" in answer:
                answer["outputs"][0]["data"] = np.roll(answer["outputs"][0]["data"], 1).tolist()
            else:
                answer["predictions"][0]["label"] = "0"
            return answer

    return Handler


def drop(handler: Any) -> None:
    """Cut the connection in place of an answer."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


FAULTS: dict[str, Callable[[Any], None]] = {
    "refuse": lambda handler: handler.send(403, b"{}"),
    "too many": lambda handler: handler.send(429, b"", Retry_After="0"),
    "wait": lambda handler: handler.send(429, b"", Retry_After="1"),
    "go away": lambda handler: handler.send(503, b"", Retry_After="86400"),
    "unavailable": lambda handler: handler.send(503, b"later"),
    "drop": drop,
    "garbage": lambda handler: handler.send(200, b"\x00\xff not json"),
    "nonsense": lambda handler: handler.send(200, b'{"outputs": 7, "predictions": {}}'),
    "deep": lambda handler: handler.send(200, b"[" * 100_000),
    "huge": lambda handler: handler.send(200, b"[" + b"1," * (1 << 20) + b"1]"),
    "compressed": lambda handler: handler.send(200, b"\x1f\x8b", Content_Encoding="gzip"),
    "redirect": lambda handler: handler.send(307, b"", Location="http://127.0.0.2:9/elsewhere"),
    "nan": lambda handler: handler.send(200, b'{"outputs":[{"name":"scores","datatype":"FP32","data":[NaN]}]}'),
}


@contextmanager
def serving(service: FaultyService) -> Any:
    """The base URL of `service`, while it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(service))
    server.daemon_threads = True
    server.handle_error = lambda *args: None  # Clients that go away are part of the test.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
