"""`moeret doctor` from the command line, on a folder and on a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moe_retrieval import Store
from tests.object_server import ObjectServer, moto_server, use
from tests.program import Run


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with moto_server() as running:
        running.make_bucket("clinic")
        yield running


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    for domain in ("cvd", "skin"):
        (tmp_path / "docs" / domain).mkdir(parents=True)
        for at in range(6):
            (tmp_path / "docs" / domain / f"{domain}{at}.txt").write_text(f"{domain} heart mole {at}")
    return tmp_path / "docs"


@pytest.fixture
def filled(moeret: Run, documents: Path) -> Run:
    assert moeret("index", str(documents), "-q").code == 0
    return moeret


def test_a_healthy_store_is_said_to_be(filled: Run) -> None:
    done = filled("doctor", "--scrub", "--sources")
    assert done.code == 0, done
    assert "moeret: nothing is wrong" in done.err
    assert "read, all as they were written" in done.out


def test_what_is_wrong_is_counted_and_ends_with_one(filled: Run, tmp_path: Path, documents: Path) -> None:
    next((tmp_path / "store" / "routers").iterdir()).unlink()
    (documents / "cvd" / "cvd1.txt").unlink()
    done = filled("doctor")
    assert done.code == 1
    assert "moeret: 1 failed, 1 warning" in done.err
    assert "next: moeret doctor --repair" in done.out


def test_a_repair_says_what_it_did_and_ends_well(filled: Run, tmp_path: Path) -> None:
    next((tmp_path / "store" / "routers").iterdir()).unlink()
    done = filled("doctor", "--repair")
    assert done.code == 0, done
    assert "repair: router: was fitted again" in done.out


def test_a_place_without_a_store_is_a_warning_with_a_next_step(moeret: Run) -> None:
    found = [one for one in moeret("doctor", "--json").records() if one["subject"] == "store"]
    assert [one["level"] for one in found] == ["warning"]
    assert "moeret index PATH" in found[0]["cure"]


def test_a_store_in_a_bucket_is_examined_and_repaired(
    server: ObjectServer, moeret: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, documents: Path
) -> None:
    use(server, monkeypatch)
    monkeypatch.setenv("MOERET_STORE", "s3://clinic/store")
    monkeypatch.setenv("MOERET_CACHE", str(tmp_path / "cache"))
    assert moeret("index", str(documents), "-q").code == 0
    done = moeret("doctor", "--scrub", "--json")
    assert [one for one in done.records() if one["level"] != "ok"] == []
    place = Store.open("s3://clinic/store", cache=tmp_path / "cache").place
    name = next(one for one in place.names("indexes") if one.endswith(".faiss"))
    place.replace(f"indexes/{name}", b"torn")
    broken = moeret("doctor", "--scrub", "--json")
    assert broken.code == 1
    assert any(name in one["message"] for one in broken.records())
    assert moeret("doctor", "--scrub", "--repair", "-q").code == 0
    assert moeret("doctor", "--scrub", "-q").code == 0
