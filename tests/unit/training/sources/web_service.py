"""A service of the web on 127.0.0.1, that answers what a test wrote, and a clock that only tests move."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request: `fields` of its query and form; a name that stands twice has its values in `all`."""

    method: str
    path: str
    fields: dict[str, str]
    all: tuple[tuple[str, str], ...]
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """`withheld`: bytes that are promised and never sent; the line is cut before them."""

    body: bytes | str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    withheld: int = 0


@dataclass
class Service:
    url: str
    asked: list[Asked]


@dataclass
class Clock:
    """Time passes where somebody sleeps, and nowhere else."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@contextmanager
def serving(answer: Callable[[Asked], Answer]) -> Iterator[Service]:
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            place = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            form = self.rfile.read(length).decode()
            said = (*parse_qsl(place.query), *parse_qsl(form))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked.append(Asked(self.command, place.path, dict(said), said, headers))
            given = answer(asked[-1])
            body = given.body.encode() if isinstance(given.body, str) else given.body
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in given.headers:
                self.send_header("Content-Length", str(len(body) + given.withheld))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_POST = do_HEAD = _respond  # noqa: N815 - the server's names

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: tests are silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # joined at the end: no socket outlives its test
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Service(f"http://127.0.0.1:{server.server_address[1]}", asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
