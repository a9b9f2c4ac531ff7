"""One connection to a service, and the deadline of what is asked over it.

A time-out for each read is no limit: a service that sends one byte of a header now and then, or interim responses for
ever, never lets a read time out. So the socket is shut down from another thread when the time for a request is over.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

# httpcore's trace events that hand over the stream of a new connection, whatever proxy it goes through.
CONNECTED = ("connect_tcp.complete", "start_tls.complete")


class Line:
    """An httpx client of at most one connection, used by one thread. `over`: the last request ran out of time;
    `unconnected`: it got no connection.
    """

    def __init__(self, http: Any) -> None:
        self.http = http
        self.over = self.unconnected = False
        self._stream: Any = None
        self._lock = threading.Lock()

    def stream(self, method: str, url: str, content: Mapping[str, Any]) -> Any:
        """Httpx's context manager for one request, whose body is read piece by piece."""
        return self.http.stream(method, url, extensions={"trace": self._trace}, **content)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Cut the connection when the block takes longer: `over` then says why reading from it failed."""
        self.over = self.unconnected = False
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(CONNECTED):
            with self._lock:
                self._stream = info["return_value"]
                over = self.over
            if over:
                self._cut()

    def _cut(self) -> None:
        with self._lock:
            self.over = True
            stream = self._stream
        if stream is not None:
            # Of the plain socket: TLS would first forget its keys, under the hands of the thread that reads.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(stream.get_extra_info("socket"), socket.SHUT_RDWR)
