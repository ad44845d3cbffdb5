"""What a scrub rests on: sealed notes, checksums of small files in every generation, and what it forgets."""

from __future__ import annotations

import errno
import hashlib
from typing import TYPE_CHECKING

import pytest
from storage_builders import filled, published

from moe_retrieval import hashing
from moe_retrieval.errors import StoreCorruptError
from moe_retrieval.hashing import file_sha256, verified_sha256
from moe_retrieval.storage import candidate_notes
from moe_retrieval.storage.maintenance.scrub import scrub
from moe_retrieval.storage.places.small_files import small_sums
from moe_retrieval.storage.seal import sealed, unsealed
from moe_retrieval.storage.tables import sums

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.storage.store import Store

EXPERT = "ab" * 32


@pytest.fixture
def expert(store: Store) -> Path:
    """Folder of an expert in the store."""
    folder = store.experts_dir / EXPERT
    folder.mkdir()
    (folder / "expert.safetensors").write_bytes(b"weights")
    (folder / "card.json").write_bytes(b"{}")
    return folder


# --- seals


def test_sealed_text_comes_back() -> None:
    assert unsealed(sealed("two\nlines")) == "two\nlines"


def test_no_bit_of_sealed_text_may_differ() -> None:
    data = sealed("12")
    for at in range(8 * len(data)):
        broken = bytearray(data)
        broken[at // 8] ^= 1 << at % 8
        with pytest.raises(ValueError, match=r"checksum|codec"):
            unsealed(bytes(broken))


# --- notes of experts that wait


def test_a_note_vouches_for_the_files_beside_the_weights(store: Store, expert: Path) -> None:
    candidate_notes.register(store.place, "cvd", EXPERT)
    found = candidate_notes.note(store.place, "cvd")
    assert (found.expert, found.checked) == (EXPERT, True)
    assert found.files == {f"experts/{EXPERT}/card.json": hashlib.sha256(b"{}").hexdigest()}


def test_a_note_of_the_first_format_is_read(store: Store) -> None:
    store.place.replace(f"{candidate_notes.CANDIDATES}/cvd", EXPERT.encode())
    assert candidate_notes.registered(store.place) == {"cvd": EXPERT}
    assert not candidate_notes.note(store.place, "cvd").checked


def test_a_damaged_note_is_named(store: Store) -> None:
    store.place.replace(f"{candidate_notes.CANDIDATES}/cvd", EXPERT[:-1].encode())
    with pytest.raises(StoreCorruptError, match="experts/candidates/cvd is damaged"):
        candidate_notes.registered(store.place)


# --- small files


def test_small_files_of_an_expert_are_hashed_once(store: Store, expert: Path) -> None:
    first = small_sums(store.place, [EXPERT], known={})
    assert set(first) == {"store.json", "secret", f"experts/{EXPERT}/card.json"}
    (expert / "card.json").write_bytes(b"{?")
    assert small_sums(store.place, [EXPERT], known=first) == first


def test_an_expert_that_the_store_does_not_hold_has_no_files(store: Store) -> None:
    assert set(small_sums(store.place, [EXPERT], known={})) == {"store.json", "secret"}


def test_every_generation_records_them(store: Store) -> None:
    published(store, filled(store, {"a": "oak"}))
    live = store.catalog.latest()
    assert live is not None
    assert live.files["secret"] == hashlib.sha256(store.secret).hexdigest()


# --- the scrub


def test_a_scrub_counts_what_it_reads(store: Store) -> None:
    entry = published(store, filled(store, {"a": "oak"}))
    sizes: list[int] = []
    report = scrub(store, progress=sizes.append)
    assert (report.generations, report.damages, report.unchecked) == (1, (), {})
    assert report.files == len(sizes) == len(sums.read(store.place, entry.sums).files) + 2
    assert report.bytes == sum(sizes)


def test_a_scrub_looks_at_the_generations_it_is_told(store: Store) -> None:
    published(store, filled(store, {"a": "oak"}))
    old = next(store.path.glob("tables/*/data/*.lance"))
    published(store, filled(store, {"a": "ash"}))
    old.unlink()
    assert [one.live for one in scrub(store).damages] == [False]
    assert scrub(store, numbers=[2]).damages == ()


def test_the_remembered_hash_of_a_damaged_file_is_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits that rot change no times: what is remembered of the file would still be believed."""
    monkeypatch.setattr(hashing, "_SETTLED", -1.0)
    entry = published(store, filled(store, {"a": "oak"}))
    path = store.path / next(name for name in sums.read(store.place, entry.sums).files if "/data/" in name)
    before, data = file_sha256(path), path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    hashing.remembered(path, "sha256", lambda: before)
    assert verified_sha256(path) == before
    assert [one.name for one in scrub(store).damages] == [str(path.relative_to(store.path))]
    assert verified_sha256(path) == file_sha256(path) != before


def test_a_file_that_cannot_be_read_is_a_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> str:
        raise OSError(errno.EIO, "Input/output error")

    published(store, filled(store, {"a": "oak"}))
    monkeypatch.setattr(store.place, "sha256", broken)
    assert {one.problem for one in scrub(store).damages} == {"cannot be read: Input/output error"}
