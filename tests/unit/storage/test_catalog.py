"""Generations are sealed, chained and published once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from moe_retrieval.errors import (
    NothingFoundError,
    StoreConflictError,
    StoreCorruptError,
    StoreVersionError,
)
from moe_retrieval.storage import catalog as catalog_module
from moe_retrieval.storage.catalog import CATALOG, Catalog, DomainEntry, Generation
from moe_retrieval.storage.places.folder import Folder

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = DomainEntry(
    table="d_cvd.g1", version=3, rows=5, documents=2, digest="d", fingerprint="f", expert="general"
)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(Folder(tmp_path))


def files(catalog: Catalog) -> Path:
    return catalog.place.local / CATALOG


def publish(catalog: Catalog, **domains: DomainEntry) -> Generation:
    return catalog.publish(domains, model={"name": "tiny"}, router="r1", created="2026-01-01T00:00:00+00:00")


def test_an_empty_catalog_has_no_latest_generation(catalog: Catalog) -> None:
    assert catalog.latest() is None


def test_what_was_published_comes_back_as_it_was(catalog: Catalog) -> None:
    made = publish(catalog, cvd=ENTRY)
    assert catalog.latest() == made
    assert (made.number, made.domains, made.model, made.router) == (1, {"cvd": ENTRY}, {"name": "tiny"}, "r1")


def test_generations_are_numbered_and_chained_by_their_seals(catalog: Catalog) -> None:
    made = [publish(catalog, cvd=ENTRY) for _ in range(3)]
    assert [one.number for one in catalog.history()] == [1, 2, 3]
    assert [one.previous for one in made] == ["", made[0].seal, made[1].seal]


def test_an_older_generation_can_still_be_read(catalog: Catalog) -> None:
    publish(catalog, cvd=ENTRY)
    publish(catalog)
    assert catalog.read(1).domains == {"cvd": ENTRY}
    with pytest.raises(NothingFoundError, match="generation 7"):
        catalog.read(7)


def test_a_generation_remembers_that_it_was_published_in_the_middle_of_a_run(catalog: Catalog) -> None:
    catalog.publish({}, model={}, created="2026-01-01T00:00:00+00:00", partial=True)
    assert catalog.read(1).partial is True


def test_every_changed_byte_of_a_generation_is_noticed_or_changes_nothing(catalog: Catalog) -> None:
    made = publish(catalog, cvd=ENTRY)
    path = files(catalog) / "gen-00000001.json"
    good = path.read_bytes()
    for place in range(0, len(good), 3):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        try:
            assert catalog.latest() == made
        except (StoreCorruptError, StoreVersionError):
            continue


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_torn_newest_generation_is_an_error_that_names_the_file(catalog: Catalog, keep: float) -> None:
    publish(catalog, cvd=ENTRY)
    path = files(catalog) / "gen-00000001.json"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(StoreCorruptError, match=r"gen-00000001\.json is damaged"):
        catalog.latest()


def test_an_empty_newest_generation_was_never_acknowledged_and_is_set_aside(catalog: Catalog) -> None:
    made = publish(catalog, cvd=ENTRY)
    (files(catalog) / "gen-00000002.json").write_bytes(b"")
    assert catalog.latest() == made
    assert (files(catalog) / "gen-00000002.json.damaged").exists()
    assert publish(catalog).number == 2


def test_a_generation_that_does_not_follow_from_the_one_before_breaks_the_history(catalog: Catalog) -> None:
    publish(catalog, cvd=ENTRY)
    publish(catalog, cvd=ENTRY)
    other = Catalog(Folder(catalog.place.local / "other"))
    files(other).mkdir(parents=True)
    publish(other, copd=ENTRY)
    (files(other) / "gen-00000001.json").replace(files(catalog) / "gen-00000001.json")
    with pytest.raises(StoreCorruptError, match="does not follow"):
        catalog.history()


def test_a_renamed_generation_is_not_taken_for_another(catalog: Catalog) -> None:
    publish(catalog, cvd=ENTRY)
    (files(catalog) / "gen-00000001.json").replace(files(catalog) / "gen-00000009.json")
    with pytest.raises(StoreCorruptError, match=r"gen-00000009\.json"):
        catalog.latest()


def test_a_generation_of_a_newer_format_is_refused(catalog: Catalog) -> None:
    publish(catalog, cvd=ENTRY)
    path = files(catalog) / "gen-00000001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": catalog_module.FORMAT + 1}))
    with pytest.raises(StoreVersionError, match="upgrade moeret"):
        catalog.latest()


def test_a_number_that_another_writer_took_is_a_conflict(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(catalog, cvd=ENTRY)
    monkeypatch.setattr(Catalog, "latest", lambda _: None)
    with pytest.raises(StoreConflictError, match="generation 1"):
        publish(catalog)


def test_files_of_other_names_are_left_alone(catalog: Catalog) -> None:
    files(catalog).mkdir()
    (files(catalog) / "gen-1.json").write_text("{}")
    (files(catalog) / ".gen-00000005.json.1.aa.tmp").write_text("{}")
    assert catalog.numbers() == []
