"""A scene of its own for each module, and the process whose writes fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.faults import FailingProcess, compile_interceptor, missing_compiler
from tests.faults.scene import Scene, make_scene
from tests.tiny_model import build_tiny_bert

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def scene(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("scene")
    return make_scene(folder, model=tiny_model, other=build_tiny_bert(folder / "other", seed=7))


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailingProcess]:
    if reason := missing_compiler():
        pytest.skip(reason)
    with FailingProcess(compile_interceptor(tmp_path_factory.mktemp("library"))) as process:
        yield process
