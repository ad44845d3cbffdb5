"""What is shown while something takes its time: on standard error, and only where somebody watches."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from moeret_cli import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, ProgressColumn

LOADING = "loading the encoder"


@contextmanager
def phase(what: str) -> Iterator[None]:
    """A line that says what takes its time."""
    with _progress() as progress:
        if progress is not None:
            progress.add_task(what, total=None)
        yield


@contextmanager
def counting(first: str, second: str) -> Iterator[Callable[[int, int], None] | None]:
    """A line that counts two things while the total is unknown; None where nobody watches."""
    with _progress() as progress:
        if progress is None:
            yield None
            return
        task = progress.add_task(f"0 {first}, {LOADING}", total=None)

        def told(one: int, two: int) -> None:
            progress.update(task, completed=two, description=f"{one:,} {first}, {two:,} {second}")

        yield told


@contextmanager
def tally(what: str) -> Iterator[Callable[[int], None]]:
    """A count while the total is unknown."""
    with _progress() as progress:
        if progress is None:
            yield lambda _count: None
            return
        task = progress.add_task(f"0 {what}, {LOADING}", total=None)

        def add(count: int) -> None:
            progress.advance(task, count)
            progress.update(task, description=f"{int(progress.tasks[0].completed):,} {what}")

        yield add


@contextmanager
def bar(what: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """A count of a known total with its speed and the time left."""
    with _progress(counted=True) as progress:
        if progress is None:
            yield lambda _count: None
            return
        task = progress.add_task(what, total=total)

        def advance(count: int) -> None:
            progress.advance(task, count)
            if speed := progress.tasks[0].speed:
                progress.update(task, description=f"{what}, {speed:,.0f}/s")

        yield advance


@contextmanager
def steps(*, total: int) -> Iterator[Callable[[str, int], None]]:
    """A count of steps with the time left, whose description changes; it may begin anew."""
    with _progress(counted=True) as progress:
        if progress is None:
            yield lambda _what, _done: None
            return
        task = progress.add_task(LOADING, total=total)
        yield lambda what, done: progress.update(task, description=what, completed=done)


@contextmanager
def _progress(*, counted: bool = False) -> Iterator[Progress | None]:
    if render.quiet or not sys.stderr.isatty():
        yield None
        return
    from rich import progress as rich
    from rich.console import Console

    columns: list[ProgressColumn] = [rich.SpinnerColumn(), rich.TextColumn("{task.description}")]
    columns += [rich.MofNCompleteColumn(), rich.BarColumn()] if counted else []
    columns += [rich.TimeElapsedColumn()] + ([rich.TimeRemainingColumn()] if counted else [])
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield shown
