"""The loop around a language model that the documentation shows, pasted and run: with a model and without."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.program import ROOT, Done

PAGES = [
    page for page in ("README.md", "docs/context.md") if "chat/completions" in (ROOT / page).read_text("utf8")
]


class Model(BaseHTTPRequestHandler):
    """Speaks the chat completions of OpenAI, as far as an answer goes."""

    asked: list[dict[str, Any]] = []  # noqa: RUF012 - of all requests of the class

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({"path": self.path, "key": self.headers["Authorization"], **body})
        message = {"role": "assistant", "content": "Where the blood lacks oxygen at rest [1]."}
        reply = json.dumps({"object": "chat.completion", "choices": [{"index": 0, "message": message}]})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(reply.encode())

    def log_message(self, *_words: object) -> None:
        """Nothing to standard error."""


@pytest.fixture
def server() -> Iterator[str]:
    Model.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/v1"
        running.shutdown()


def run(page: str, store: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The loop of a page as it stands, in a folder with a store."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf8"), re.DOTALL)
    (loop,) = [block for block in blocks if "chat/completions" in block]
    (folder / ".moeret").symlink_to(store)
    known = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return subprocess.run(
        [sys.executable, "-c", loop],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=known | environment,
    )


def test_a_page_shows_the_loop() -> None:
    assert "docs/context.md" in PAGES


@pytest.mark.parametrize("page", PAGES)
def test_without_a_model_the_prompt_is_printed(
    page: str, sample_store: tuple[Path, Done], tmp_path: Path
) -> None:
    done = run(page, sample_store[0], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Answer the question from the sources")
    assert "Question: When is home oxygen worth it in COPD?" in done.stdout
    assert re.search(r"\n\[1\] .* holds\n", done.stdout)


@pytest.mark.parametrize("page", PAGES)
def test_with_a_model_its_answer_is_printed_and_what_it_cites_is_verified(
    page: str, sample_store: tuple[Path, Done], tmp_path: Path, server: str
) -> None:
    done = run(
        page, sample_store[0], tmp_path, OPENAI_BASE_URL=server, OPENAI_MODEL="a-model", OPENAI_API_KEY="key"
    )
    assert done.returncode == 0, done.stderr
    answer, *cited = done.stdout.splitlines()
    assert answer == "Where the blood lacks oxygen at rest [1]."
    assert [line[:4] for line in cited] == ["[1] "]
    (asked,) = Model.asked
    assert (asked["path"], asked["model"], asked["key"]) == ("/v1/chat/completions", "a-model", "Bearer key")
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
