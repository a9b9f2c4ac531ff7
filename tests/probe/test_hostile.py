"""Services that mean harm, byte by byte: each costs one query its time-out at most, and never ends or hangs a probe."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.probe.test_http import connect
from tests.thinned import thinned
from ticketguard.claims.opening import Opening
from ticketguard.errors import DataError, UsageError
from ticketguard.probe.client import Client, Courtesy, _retry_after
from ticketguard.probe.run import probe, replay
from ticketguard.probe.session import Manners

pytest.importorskip("httpx", reason="the extra probe is not installed")

SECONDS = 0.4
IMPATIENT = Courtesy(timeout=SECONDS, retries=0, rate=0.0, backoff=0.0)
Answer = Callable[[socket.socket], None]


def metadata(**fields: object) -> bytes:
    tensor = {"name": "images", "datatype": "FP32", "shape": [-1, 1, 8, 8], **fields}
    return json.dumps({"inputs": [tensor], "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 10]}]}).encode()


def ok(body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), headers, body)


def output(data: str, datatype: str = "FP32") -> bytes:
    return ok(b'{"outputs":[{"name":"y","datatype":"%s","data":%s}]}' % (datatype.encode(), data.encode()))


@contextmanager
def raw(answer: bytes | Answer, described: bytes | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a service that sends exactly these bytes after each POST, and the requests it got."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.settimeout(20)
            while request := read_request(connection):
                requests.append(request)
                if request.startswith(b"GET"):
                    connection.sendall(ok(described or metadata()))
                elif isinstance(answer, bytes):
                    connection.sendall(answer)
                else:
                    answer(connection)
                    return

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
    finally:
        listener.close()


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(1 << 16)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    while len(body) < sum(lengths):
        body += connection.recv(1 << 16)
    return data


def drip(start: bytes, again: bytes = b"a", pause: float = 0.05) -> Answer:
    """`start`, then a little more for ever: no single read ever times out."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(again)
            time.sleep(pause)

    return answer


def cut(start: bytes) -> Answer:
    return lambda connection: connection.sendall(start)


HEAD = b"HTTP/1.1 200 OK\r\n"
SLOW = {
    "says nothing": lambda connection: time.sleep(100),
    "header, byte by byte": drip(HEAD + b"X-Long: "),
    "body, byte by byte": drip(HEAD + b"Content-Length: 100000\r\n\r\n"),
    "chunk size, byte by byte": drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;"),
    "interim answers for ever": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, pause=0.0),
}
BROKEN = {
    "length too long": cut(HEAD + b"Content-Length: 100\r\n\r\n{}"),
    "length too short": HEAD + b"Content-Length: 2\r\n\r\n{}and more",
    "length negative": HEAD + b"Content-Length: -2\r\n\r\n{}",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "a header of 1 MiB": HEAD + b"X: " + b"a" * (1 << 20) + b"\r\n\r\n",
    "chunk of 256 TiB": HEAD + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFF\r\n" + b"a" * (2 << 20),
    "chunk size no number": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "compressed transfer": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "status 999": b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "redirect to nowhere": b"HTTP/1.1 302 F\r\nLocation: http://[::1/\xff\r\nContent-Length: 0\r\n\r\n",
    "redirect to a port": b"HTTP/1.1 302 F\r\nLocation: http:99999999\r\nContent-Length: 0\r\n\r\n",
    "cookies": ok(b"{}", b"Set-Cookie: \xff=\xe9; max-age=" + b"9" * 40 + b"; expires=Thu, 99 Foo 99999\r\n" * 200),
    "a wide array of texts": output(json.dumps(["a" * 500_000] + [""] * 100_000), "BYTES"),
    "a wide array of scores": output(json.dumps(["1" + " " * 500_000] + ["1"] * 50_000)),
    "lists in lists, texts": output("[" * 900 + "]" * 900, "BYTES"),
    "lists in lists, scores": output("[" * 900 + "]" * 900),
    "half a surrogate pair": output('["\\ud800"]', "BYTES"),
    "numbers of 4,000 digits": output(f"[{','.join(['9' * 4000] * 10)}]", "INT64"),
    "a type that is none": output("[1]", '"}{"'),
    "not a number": output("[NaN, 1, 1, 1, 1, 1, 1, 1, 1, 1]"),
    "beyond floats": output("[1e999, 1, 1, 1, 1, 1, 1, 1, 1, 1]"),
    "not a number, as text": output('["nan", "1", "1", "1", "1", "1", "1", "1", "1", "1"]'),
    "scores of three classes": output("[1, 2, 3]"),
    "one boolean": output("[true]"),
}


# Two rounds of three workers, each at its time-out of 0.4 s; without one the slow answers go on for minutes.
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", thinned([*SLOW, *BROKEN], fast=[*SLOW, *list(BROKEN)[::3]]))
def test_hostile_answers_are_failures_of_a_query(tmp_path: Path, opening: Opening, name: str) -> None:
    with raw((SLOW | BROKEN)[name]) as (url, requests):
        predictor = connect("oip", url, opening, IMPATIENT)
        try:
            transcript = probe(
                opening, predictor, tmp_path / "t", manners=Manners(budget=8, workers=3, give_up=4), leaf=0
            )
        finally:
            predictor.close()
    assert replay(opening, tmp_path / "t").decision == "INCONCLUSIVE"
    assert all(item.label is None for item in transcript.answers.values())
    assert "in a row" in str(transcript.ended)
    assert len(requests) <= 9  # The budget, and the metadata.


@pytest.mark.parametrize(
    "described",
    [
        b'"x"',
        b"[]",
        b'{"inputs": "ab"}',
        b'{"inputs": [[]]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": 7}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": {"a": 1}}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64]}], "outputs": 7}',
        metadata(name="\ud800"),
        metadata(name="a\x1b[2J"),
        metadata(datatype=[]),
        metadata(shape=[-1, 1, 8, 10**4000]),
        metadata(shape=[-1, 1, 8, 8.0]),
    ],
)
def test_hostile_metadata_is_one_line(opening: Opening, described: bytes) -> None:
    with raw(b"", described) as (url, _), pytest.raises((DataError, UsageError)) as caught:
        connect("oip", url, opening, IMPATIENT)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_answers_that_change_are_erasures(tmp_path: Path, opening: Opening) -> None:
    """Ten scores, drawn anew for each request: no image keeps its answer, so nothing is left to judge."""
    generator = np.random.default_rng(0)

    def answer(connection: socket.socket) -> None:
        connection.sendall(output(str(generator.random(10).tolist())))

    with raw(answer) as (url, _):
        predictor = connect("oip", url, opening, IMPATIENT)
        try:
            manners = Manners(workers=1, early=False)
            probe(opening, predictor, tmp_path / "t", manners=manners, leaf=0, decoys=0, repeats=4)
        finally:
            predictor.close()
    verdict = replay(opening, tmp_path / "t")
    assert verdict.evidence[0].erasures >= 60
    assert verdict.decision == "INCONCLUSIVE"


def test_certificates_are_verified(tmp_path: Path, opening: Opening) -> None:
    """A server with a certificate of its own making gets no request, and so neither images nor tokens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "own.pem"))
    failures: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection = listener.accept()[0]
        connection.settimeout(10)
        try:
            context.wrap_socket(connection, server_side=True).recv(1)
        except OSError as problem:
            failures.append(str(problem))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    with pytest.raises(DataError, match="no answer"):
        connect("oip", f"https://localhost:{port}", opening, Courtesy(timeout=10, retries=0))
    thread.join(timeout=10)
    listener.close()
    assert "UNKNOWN_CA" in failures[0].upper().replace(" ", "_")


def self_signed(path: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, today = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HTTP_PROXY", "foo://tok-1:tok-2@host"), ("SSL_CERT_FILE", "/missing/tok-1.pem")],
)
def test_an_environment_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match="environment") as caught:
        Client(IMPATIENT)
    assert "tok-" not in str(caught.value)


def test_a_header_name_that_is_none_is_one_line() -> None:
    with pytest.raises(UsageError, match="header"):
        Client(IMPATIENT, headers={"\u00e9": "x"})


@settings(deadline=None, max_examples=30)
@given(
    st.text(max_size=30)
    | st.builds(
        "{}, {} {} {} {}:{}:{} {}".format,
        st.sampled_from(["Fri", "Xyz", ""]),
        st.integers(-9, 99),
        st.sampled_from(["Jan", "Dec", "Foo"]),
        st.integers(-1, 99_999),
        *[st.integers(-1, 99)] * 3,
        st.sampled_from(["GMT", "-2359", "+9999", "+99999999999", "x", ""]),
    )
)
@example("Fri, 0 Jan -1 0:0:0 +99999999999")
@example("Mon, 1 Jan 0001 0:0:0 +2359")
def test_any_retry_after_is_a_pause(value: str) -> None:
    assert _retry_after(value, datetime(2030, 1, 1, tzinfo=UTC)) >= 0
