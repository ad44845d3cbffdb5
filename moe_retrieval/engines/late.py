"""An engine that the first text loads, or that is loaded before it, beside other work."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_retrieval.engines.engine import Engine


class LateEngine:
    """Loads an engine once, whichever thread asks first; the others wait for it."""

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._engine: Engine | None = None
        self._begun: set[str] = set()

    def get(self, load: Callable[[], Engine]) -> Engine:
        """The engine; where an earlier `load` failed, it is tried again."""
        with self._loading:
            if self._engine is None:
                self._engine = load()
            return self._engine

    def prepare(self, expert: str, load: Callable[[], Engine]) -> None:
        """Begin to load the engine and what the expert's first text needs; comes back at once.

        What goes wrong is said by that text, for which it is tried again. The end of the process waits for
        the thread: a library that is torn down while it compiles may crash.
        """
        if expert in self._begun:
            return
        self._begun.add(expert)
        aside = ThreadPoolExecutor(1, thread_name_prefix="moeret-engine")
        aside.submit(lambda: self.get(load).prepare(expert))
        aside.shutdown(wait=False)
