"""The child processes of the crash tests: writers that are killed, readers that are not."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.flows.crash_experts import Models
from tests.program import ROOT

PATIENCE = 240.0
"""Seconds that a child may take for anything before the test gives up."""


class Program:
    """A child process that answers commands, one line each."""

    def __init__(self, module: str, *words: str) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", f"tests.flows.{module}", *words]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, bufsize=0
        )
        self._read = b""

    def say(self, command: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")

    def answer(self, *, within: float) -> dict[str, Any] | None:
        """The next line; None if there is none in time. A program that ended by itself is an error."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + within
        while b"\n" not in self._read:
            if not select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return None
            part = os.read(self.process.stdout.fileno(), 1 << 16)
            assert part, f"the program ended with exit code {self.process.wait()}"
            self._read += part
        line, _, self._read = self._read.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> None:
        """Close its standard input, which is the sign to end."""
        self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, f"the program ended with exit code {self.process.returncode}"


class Writers:
    """Writers, one of them warmed up in advance: a kill does not cost the time of starting the next."""

    def __init__(self, start: Callable[[], Program]) -> None:
        self._start = start
        self._spare = start()

    def take(self) -> Program:
        chosen, self._spare = self._spare, self._start()
        try:
            chosen.answer(within=PATIENCE)
        except AssertionError as error:  # no finding about a store: not to be taken for one
            chosen.kill()
            raise RuntimeError("the writer does not start") from error
        return chosen

    def close(self) -> None:
        self._spare.kill()


class Reader:
    """A process that queries a store all the time, and the answers it got."""

    def __init__(self, store: Path, models: Models, file: Path, *, seed: int) -> None:
        self.file = file
        words = (str(one) for one in (store, models.base, models.graphs, file, seed))
        self.program = Program("crash_reader", *words)
        self._offset = 0

    def answers(self) -> list[dict[str, Any]]:
        """Those since the last call."""
        if not self.file.exists():
            return []
        with self.file.open("rb") as stream:
            stream.seek(self._offset)
            whole = stream.read().rpartition(b"\n")[0]
        self._offset += len(whole) + 1 if whole else 0
        return [json.loads(line) for line in whole.splitlines()]
