"""A polite HTTP client: limits on time, size, rate and redirects, retries that wait as they are told, no secret in
any text.
"""

from __future__ import annotations

import email.utils
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from random import Random
from typing import Any
from urllib.parse import urlsplit

from ticketguard.errors import DataError, UsageError
from ticketguard.probe.line import Line
from ticketguard.probe.predictor import Reply, Status, Take
from ticketguard.probe.secrecy import Secrets
from ticketguard.storage.hostile import visible

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
USER_AGENT = "ticketguard-probe"


@dataclass(frozen=True, kw_only=True)
class Courtesy:
    """Limits of a probe, checked for every kind of endpoint; a model file that runs here heeds the time-out alone.

    `timeout`: seconds for one request, from connecting to the last byte; `retries` after the first attempt; `rate`:
    most requests a second, 0 for no limit; `patience`: the longest `Retry-After` that is waited for, in seconds;
    `backoff`: first pause without one, doubled each time; `response_bytes`: the largest body that is read.
    """

    timeout: float = 30.0
    retries: int = 3
    rate: float = 10.0
    patience: float = 120.0
    backoff: float = 0.5
    response_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        if not 0 < self.timeout <= 3600 or not 0 <= self.retries <= 20 or not 0 <= self.rate <= 10_000:
            raise UsageError("probe: time-out up to 3600 s, up to 20 retries, rate up to 10000 a second")
        if self.patience < 0 or self.backoff < 0 or self.response_bytes < 1:
            raise UsageError("probe: patience, backoff and response size are not negative")


@dataclass(frozen=True, kw_only=True)
class Response:
    """What came of a request. `status`: HTTP status, None when there was none; `body`: the bytes, empty unless `ok`;
    `attempts`: requests sent; `detail`: a few words on a failure; `reached`: False when no attempt got a connection.
    """

    ok: bool
    status: int | None
    body: bytes
    attempts: int
    detail: str = ""
    reached: bool = True


def headers_from(environment: Mapping[str, str], *, token: str | None, headers: Mapping[str, str]) -> dict[str, str]:
    """Request headers whose secret parts come from the environment: `token` names the variable of a bearer token,
    `headers` maps header names to variables. Raises `UsageError` when a variable is not set or holds a line break.
    """
    found = {}
    for header, variable in {**({"Authorization": token} if token else {}), **headers}.items():
        value = environment.get(variable, "")
        if not value or not value.isprintable() or not value.isascii():
            raise UsageError(
                f"the environment variable {variable} for the {header} header is not set, or not plain text"
            )
        found[header] = f"Bearer {value}" if token and header == "Authorization" and variable == token else value
    return found


def shown(url: str) -> str:
    """A URL for people: without user, password, query and fragment, where secrets hide."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def checked_url(url: str) -> str:
    """The URL when it is http(s) with a host and without a user name in it; else `UsageError`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise UsageError("the endpoint is not a URL") from problem
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        # As it was typed, less what `shown` leaves out.
        typed = url.partition("?")[0].partition("#")[0].rpartition("@")[2]
        raise UsageError(f"the endpoint {typed[:200]!r} is not an http or https URL, nor the name of an .onnx file")
    if parts.username is not None or parts.password is not None:
        raise UsageError("the endpoint holds a user name or password: give a header from the environment instead")
    return url


class Client:
    """Sends requests to one origin. Safe to use from several threads; `close` it when done."""

    def __init__(
        self,
        courtesy: Courtesy,
        *,
        headers: Mapping[str, str] | None = None,
        random: Random | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            import httpx
        except ImportError as problem:
            raise UsageError("probing a service needs httpx: pip install 'ticketguard[probe]'") from problem
        # Their debug logs hold whole URLs and the headers that a service sends, echoed tokens among them.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.courtesy = courtesy
        self._random = random or Random()  # noqa: S311 - spreads retries, hides nothing
        self._sleep, self._clock = sleep, clock
        self._lock = threading.Lock()
        self._free_at = self._held_until = -inf
        # A service that asks for more patience than there is gets no further request.
        self._sent_away = ""
        # No decompression: a small body must not become a large one after its size was checked.
        fixed = {"user-agent": USER_AGENT, "accept-encoding": "identity", **(headers or {})}
        self._headers = dict(headers or {})
        self._transport_errors = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, httpx.CookieConflict)
        # Raised while connecting, before any of a request is sent.
        self._connect_errors = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
        self._own, self._lines = threading.local(), list[Line]()
        try:
            self._options = {
                "headers": fixed,
                "timeout": courtesy.timeout,
                "follow_redirects": False,
                "verify": httpx.create_ssl_context(),
                "limits": httpx.Limits(max_connections=1),
            }
            self._line()
        except (OSError, ValueError, ImportError) as problem:
            # The problem's own words may quote a proxy's password.
            raise UsageError(
                "probe: the name of a header, or the proxies or certificates in the environment, cannot be used"
            ) from problem

    def close(self) -> None:
        """Close all connections."""
        for line in self._lines:
            line.http.close()

    def _line(self) -> Line:
        """The calling thread's own connection."""
        line: Line | None = getattr(self._own, "line", None)
        if line is None:
            import httpx

            line = self._own.line = Line(httpx.Client(**self._options))
            self._lines.append(line)
        return line

    def request(self, method: str, url: str, take: Take, **content: Any) -> Response:
        """One request with retries; `content` is httpx's json, data or files. Never raises for what a server does."""
        attempts, detail, status, reached = 0, "the query budget is spent", None, False
        for turn in range(self.courtesy.retries + 1):
            self._wait_for_turn()
            if self._sent_away:
                detail = self._sent_away
                break
            if not take():
                break
            attempts += 1
            status, body, detail, pause = self._once(method, url, content)
            reached = reached or not self._line().unconnected
            if not detail:
                return Response(ok=True, status=status, body=body, attempts=attempts)
            if pause is None or turn == self.courtesy.retries:
                break
            self._hold(max(pause, self.courtesy.backoff * 2**turn * self._random.uniform(0.5, 1.0)))
        return Response(ok=False, status=status, body=b"", attempts=attempts, detail=detail, reached=reached)

    def safe(self, url: str, text: str) -> str:
        """The start of what a service answered, made safe to show; nothing of it where it repeats a secret of the request."""
        return Secrets(url, self._headers).shown(text)

    def _once(self, method: str, url: str, content: Mapping[str, Any]) -> tuple[int | None, bytes, str, float | None]:
        """Status, body, complaint ("" when all is well) and the pause before a retry (None: do not)."""
        try:
            status, headers, body = self._exchange(method, url, content)
        except _BeyondLimitError as problem:
            return None, b"", str(problem), None
        except self._transport_errors as problem:
            line = self._line()
            line.unconnected = isinstance(problem, self._connect_errors)
            return None, b"", f"no answer ({'took too long' if line.over else _cause(problem)})", 0.0
        if status in RETRIED:
            pause = _retry_after(headers.get("retry-after"), datetime.now(UTC))
            if pause <= self.courtesy.patience:
                return status, b"", f"HTTP {status}", pause
            self._sent_away = f"HTTP {status}, asking to wait {pause:.0f} seconds"
            return status, b"", self._sent_away, None
        if 300 <= status < 400:
            # Wherever it leads, images and headers are only sent to the address that was given.
            return status, b"", f"HTTP {status}: redirects are not followed, give the final address", None
        return status, body, "" if 200 <= status < 300 else f"HTTP {status}", None

    def _exchange(self, method: str, url: str, content: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """One request and its whole body, within the limits of size and of time."""
        line = self._line()
        with line.within(self.courtesy.timeout), line.stream(method, url, content) as response:
            if response.headers.get("content-encoding", "identity") not in ("", "identity"):
                raise _BeyondLimitError("the body is compressed, which was not asked for")
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > self.courtesy.response_bytes:
                    raise _BeyondLimitError(f"a body of more than {self.courtesy.response_bytes} bytes")
            return int(response.status_code), response.headers, bytes(body)

    def _wait_for_turn(self) -> None:
        """Wait until the rate limit and every pause that the service asked for allow one more request.

        Turns are given in the order of asking: a query that others overtake holds up the test of all that came after it.
        """
        turn = -inf
        while True:
            with self._lock:
                now = self._clock()
                if turn < self._held_until or turn == -inf:
                    turn = max(now, self._free_at)
                    self._free_at = turn + (1 / self.courtesy.rate if self.courtesy.rate else 0.0)
            if turn <= now:
                return
            self._sleep(min(turn - now, 1.0))

    def _hold(self, pause: float) -> None:
        """Send nothing for a while, from any thread: a service that asks one to wait means all."""
        with self._lock:
            self._held_until = max(self._held_until, self._clock() + pause)
            self._free_at = max(self._free_at, self._held_until)


def _cause(problem: BaseException) -> str:
    """Why there was no answer, in the words of the system: those of a transport error itself may quote the request."""
    below: BaseException | None = problem
    while below is not None:
        if isinstance(below, ssl.SSLCertVerificationError):
            return f"its certificate does not hold: {visible(below.verify_message, most=120)}"
        if isinstance(below, ssl.SSLError):
            return f"TLS: {visible(str(below.reason), most=60)}"
        if isinstance(below, socket.gaierror):
            return str(below.strerror).lower()
        if isinstance(below, OSError) and below.errno is not None:
            return os.strerror(below.errno).lower()
        below = below.__cause__ or below.__context__
    return type(problem).__name__


class _BeyondLimitError(Exception):
    """An answer beyond a limit: it is not worth a retry."""


def _retry_after(value: str | None, now: datetime) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 when it says nothing readable."""
    if value is None:
        return 0.0
    if value.strip().isascii() and value.strip().isdigit() and len(value) < 12:
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())
    except (TypeError, ValueError, OverflowError):  # a time zone, or a year, that no clock has
        return 0.0


def failure(response: Response) -> Reply:
    """The reply to a query whose request came to nothing: refused by the service, or lost on the way."""
    kind: Status = "failed" if response.status is None else "refused"
    return Reply(status=kind, attempts=response.attempts, detail=response.detail, reached=response.reached)


def require_ok(response: Response, what: str) -> bytes:
    """The body, or a `DataError` that says what failed."""
    if not response.ok:
        raise DataError(f"{what}: {response.detail}")
    return response.body
