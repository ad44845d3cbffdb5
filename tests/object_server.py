"""Object stores for tests, on 127.0.0.1: moto's server, and one that answers as it is told to.

moto checks the conditions of a write as S3 does, but then writes without looking again; a lock makes of
the two one step, as they are in S3. It is no store to keep anything in: what these tests show
is the logic of commits, leases and copies, not what a provider's disks survive.
"""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import os
import re
import subprocess
import sys
import threading
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "not-to-be-shown"  # noqa: S105 - nobody's

# The server ends with its standard input: no test run leaves one behind.
_PROGRAM = """
import logging, sys, threading
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer
lock, put_object = threading.Lock(), S3Response.put_object

def put_one_after_the_other(self):
    with lock:
        return put_object(self)

S3Response.put_object = put_one_after_the_other
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class ObjectServer:
    """A running server."""

    endpoint: str

    def make_bucket(self, name: str) -> str:
        """A new bucket; its URL."""
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")  # noqa: S310
        with urllib.request.urlopen(request):  # noqa: S310
            return f"s3://{name}"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a program that uses it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }


def prefix_for(request: pytest.FixtureRequest) -> str:
    """A prefix of a bucket that no other test uses."""
    return re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)


@contextlib.contextmanager
def moto_server() -> Iterator[ObjectServer]:
    """moto's server in a process of its own, for the block; the test is skipped where moto is missing."""
    for package in ("moto", "flask", "obstore"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install -e '.[dev]'")
    command = [sys.executable, "-c", _PROGRAM]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield ObjectServer(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


def use(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process the environment of a program that uses the server, and no other."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)


@contextlib.contextmanager
def refusing_server(status: int, code: str) -> Iterator[ObjectServer]:
    """A server that refuses every request in the words of S3, the key of the asker among them."""
    body = f"<Error><Code>{code}</Code><AWSAccessKeyId>somebody</AWSAccessKeyId></Error>".encode()

    class Refusing(_Quiet):
        def answer(self) -> None:
            self.reply(status, body)

    with _serving(Refusing) as server:
        yield server


@contextlib.contextmanager
def careless_server() -> Iterator[ObjectServer]:
    """A server that takes every write, whatever its condition."""
    objects: dict[str, bytes] = {}

    class Careless(_Quiet):
        def answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.command == "PUT":
                objects[self.path] = data
                self.reply(200, b"")
            elif self.path in objects:
                self.reply(200, objects[self.path])
            else:
                self.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")

    with _serving(Careless) as server:
        yield server


class _Quiet(http.server.BaseHTTPRequestHandler):
    """Every method of HTTP is one method here, and nothing is logged."""

    def answer(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - what http.server looks for

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e1"')
        self.send_header("Last-Modified", "Wed, 25 Nov 2026 12:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        return


@contextlib.contextmanager
def _serving(handler: type[_Quiet]) -> Iterator[ObjectServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield ObjectServer(f"http://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()
            thread.join()
