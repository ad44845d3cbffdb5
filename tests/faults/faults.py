"""A process whose writes below a folder fail on command; it imports moeret once and runs many verbs."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Ending:
    """How a run ended. `calls`: how many writes were counted; `failed`: what failed first, empty for none."""

    code: int
    out: str
    err: str
    calls: int
    failed: str


def missing_compiler() -> str:
    """Why writes cannot be made to fail here; empty if they can."""
    if not sys.platform.startswith("linux"):
        return "calls are intercepted by the loader of Linux"
    return "" if shutil.which("gcc") else "needs gcc"


def compile_interceptor(folder: Path) -> Path:
    """The shared library made of failing_writes.c."""
    library = folder / "failing_writes.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "failing_writes.c"), "-ldl"]
    subprocess.run(command, check=True)
    return library


class FailingProcess:
    """Runs the program's verbs, one after the other, in a process whose writes can be made to fail."""

    def __init__(self, library: Path) -> None:
        environment = os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "tests.faults.faults", str(library)]
        self._process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdin=pipe, stdout=pipe, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(
        self,
        words: Sequence[str],
        *,
        below: Path,
        which: int = 0,
        code: int = 0,
        for_good: bool = False,
        log: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Ending:
        """One run of the program; the `which`-th write `below` a folder fails with the errno `code`, once or
        `for_good`; with 0 none does. `log`: a file that gets a line for every write.
        `settings`: variables of its environment, which stay for the runs after it.
        """
        order = {
            "words": list(words),
            "below": str(below),
            "which": which,
            "code": code,
            "for_good": for_good,
            "log": str(log or ""),
            "settings": dict(settings or {}),
        }
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, f"the process ended with {process.wait()} on {order}"
        return Ending(**json.loads(line))


def _serve(library: str) -> None:
    """Carry out orders from standard input, one a line, and answer each with a line."""
    interceptor = ctypes.CDLL(library)
    interceptor.first_failure.restype = ctypes.c_char_p
    interceptor.disarm.restype = ctypes.c_long
    interceptor.arm.argtypes = [ctypes.c_char_p, ctypes.c_long, *[ctypes.c_int] * 3]
    answers = sys.stdout
    for line in sys.stdin:
        answers.write(json.dumps(_carry_out(json.loads(line), interceptor)) + "\n")
        answers.flush()


def _carry_out(order: dict[str, Any], interceptor: Any) -> dict[str, Any]:
    from tests.program import run_moeret

    os.environ.update(order["settings"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if order["log"] else -1
    interceptor.arm(order["below"].encode(), order["which"], order["code"], order["for_good"], log)
    try:
        done = run_moeret(*order["words"])
    finally:
        calls = interceptor.disarm()
        if log >= 0:
            os.close(log)
    failed = interceptor.first_failure().decode()
    return {"code": done.code, "out": done.out, "err": done.err, "calls": calls, "failed": failed}


if __name__ == "__main__":
    _serve(sys.argv[1])
