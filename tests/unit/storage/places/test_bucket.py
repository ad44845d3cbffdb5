"""A store in a bucket: its files by conditional writes, and local copies that are what was shared."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from moe_retrieval.errors import (
    MissingExtraError,
    SettingsError,
    StoreConflictError,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    UsageError,
)
from moe_retrieval.storage.places.aws_environment import aws_environment
from moe_retrieval.storage.places.bucket import Bucket
from moe_retrieval.storage.store import Store
from moe_retrieval.storage.tables.table import Table
from tests.object_server import SECRET, ObjectServer, moto_server, prefix_for, refusing_server, use
from tests.unit.storage.storage_builders import batch_of, filled, published, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with moto_server() as running:
        running.make_bucket("shelf")
        yield running


@pytest.fixture
def url(server: ObjectServer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A prefix of a bucket that no other test uses."""
    use(server, monkeypatch)
    return f"s3://shelf/{prefix_for(request)}/deep"


@pytest.fixture
def bucket(url: str, tmp_path: Path) -> Bucket:
    return Bucket.open(url, cache=tmp_path / "cache")


def test_what_is_written_is_read_until_it_is_deleted(bucket: Bucket) -> None:
    bucket.replace("catalog/note", b"one")
    bucket.replace("catalog/note", b"two")
    assert bucket.read("catalog/note") == b"two"
    assert bucket.size("catalog/note") == 3
    assert bucket.sha256("catalog/note").startswith("3fc4ccfe7458")
    bucket.remove("catalog/note")
    bucket.remove("catalog/note")
    with pytest.raises(FileNotFoundError):
        bucket.read("catalog/note")
    with pytest.raises(FileNotFoundError):
        bucket.size("catalog/note")


def test_names_are_those_of_one_folder(bucket: Bucket) -> None:
    for name in ("store.json", "lock", "catalog/gen-2", "catalog/gen-1", "catalog/more/gen-3", "catalogue/x"):
        bucket.replace(name, b"1")
    assert bucket.names("") == ["catalog", "catalogue", "lock", "store.json"]
    assert bucket.names("catalog") == ["gen-1", "gen-2", "more"]
    assert bucket.names("nothing") == []


def test_a_folder_goes_with_all_in_it_and_nothing_else(bucket: Bucket) -> None:
    for name in ("tables/a/1", "tables/a/b/2", "tables/ab/3"):
        bucket.replace(name, b"1")
    bucket.remove_tree("tables/a")
    bucket.remove_tree("tables/a")
    assert bucket.names("tables") == ["ab"]


def test_a_damaged_file_is_set_aside(bucket: Bucket) -> None:
    bucket.replace("catalog/gen-1.json", b"half")
    bucket.set_aside("catalog/gen-1.json")
    assert bucket.names("catalog") == ["gen-1.json.damaged"]
    assert bucket.read("catalog/gen-1.json.damaged") == b"half"


def test_only_the_first_creates_an_object(bucket: Bucket) -> None:
    assert bucket.put_if_absent("catalog/gen-1", b"mine")
    assert not bucket.put_if_absent("catalog/gen-1", b"mine")
    assert not bucket.put_if_absent("catalog/gen-1", b"theirs")
    assert bucket.read("catalog/gen-1") == b"mine"


def test_of_eight_that_create_an_object_at_once_one_does(url: str, tmp_path: Path) -> None:
    buckets = [Bucket.open(url, cache=tmp_path) for _ in range(8)]
    for race in range(10):
        won: list[int] = []
        start = threading.Barrier(8)

        def create(mine: int, name: str, start: threading.Barrier, won: list[int]) -> None:
            start.wait()
            if buckets[mine].put_if_absent(name, b"%d" % mine):
                won.append(mine)

        threads = [threading.Thread(target=create, args=(at, f"race/{race}", start, won)) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert buckets[0].read(f"race/{race}") == b"%d" % won[0]


def test_two_that_publish_after_one_generation_do_not_both(url: str, tmp_path: Path) -> None:
    first, second = (Store.open(url, create=True, cache=tmp_path / str(at)) for at in range(2))
    first.catalog.publish({}, model={}, created="2026-01-01T00:00:00+00:00", after=0)
    with pytest.raises(StoreConflictError):
        second.catalog.publish({}, model={}, created="2026-01-02T00:00:00+00:00", after=0)
    assert [one.created[:10] for one in first.catalog.history()] == ["2026-01-01"]


def test_who_lost_the_lease_writes_nothing_more(url: str, tmp_path: Path) -> None:
    Store.open(url, create=True, cache=tmp_path)
    prefix = url.removeprefix("s3://shelf/")
    environment = aws_environment()
    place = Bucket("shelf", prefix, local=tmp_path / "here", environment=environment, lease_seconds=0.5)
    store, thief = Store(place), Bucket.open(url, cache=tmp_path)
    table = filled(store, {"a": "heart attack"})
    writes = (
        lambda: store.catalog.publish({}, model={}, created="2026-01-01T00:00:00+00:00"),
        lambda: table.write(batch_of(rows_of("b", ["skin"]))),
        lambda: store.create_table("skin", dim=8, fingerprint="space"),
        lambda: place.replace("progress/t", b"1"),
        lambda: place.remove("store.json"),
        lambda: place.share("indexes/none"),
    )
    with store.lease():
        thief.replace("lock", b'{"pid": 7, "host": "elsewhere", "since": "now", "token": "t", "seconds": 60}')
        time.sleep(0.5)
        for write in writes:
            with pytest.raises(StoreConflictError, match="process 7 on elsewhere"):
                write()
    assert store.catalog.latest() is None
    assert thief.names("tables") == ["d_cvd.g1.lance"]
    assert table.rows == 1


def test_what_one_machine_shares_another_fetches(url: str, tmp_path: Path) -> None:
    here, there = (Bucket.open(url, cache=tmp_path / name) for name in ("here", "there"))
    expert = here.local / "experts" / "abc"
    (expert / "inside").mkdir(parents=True)
    for name in ("card.json", "inside/weights", ".half.tmp"):
        (expert / name).write_bytes(name.encode())
    here.share("experts/abc")
    found = there.fetch("experts/abc")
    assert found == there.local / "experts" / "abc"
    assert sorted(path.name for path in found.rglob("*") if path.is_file()) == ["card.json", "weights"]
    assert (found / "inside" / "weights").read_bytes() == b"inside/weights"
    assert there.fetch("experts/abc/card.json").read_bytes() == b"card.json"


def test_a_large_file_is_shared_in_parts_and_fetched_whole(url: str, tmp_path: Path) -> None:
    here, there = (Bucket.open(url, cache=tmp_path / name) for name in ("here", "there"))
    data = bytes(range(256)) * 50_000
    (here.local / "indexes").mkdir(parents=True)
    (here.local / "indexes" / "big.faiss").write_bytes(data)
    here.share("indexes/big.faiss")
    assert there.fetch("indexes/big.faiss").read_bytes() == data


def test_what_nobody_shared_is_not_there(bucket: Bucket) -> None:
    assert not bucket.fetch("routers/none.safetensors").exists()


def test_a_flipped_bit_in_a_local_copy_is_fetched_again(bucket: Bucket) -> None:
    path = bucket.local / "indexes" / "one.faiss"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"the bytes of an index")
    bucket.share("indexes/one.faiss")
    path.write_bytes(b"the bytes of an jndex")
    assert bucket.fetch("indexes/one.faiss").read_bytes() == b"the bytes of an index"
    assert list(path.parent.iterdir()) == [path]


def test_a_shared_file_that_was_damaged_in_the_bucket_is_refused(url: str, tmp_path: Path) -> None:
    here, there = (Bucket.open(url, cache=tmp_path / name) for name in ("here", "there"))
    (here.local / "routers").mkdir(parents=True)
    (here.local / "routers" / "r").write_bytes(b"router")
    here.share("routers/r")
    here._objects._small.put("routers/r", b"rooter", attributes={"moeret-sha256": "0" * 64})
    with pytest.raises(StoreError, match="routers/r is damaged"):
        there.fetch("routers/r")
    assert not (there.local / "routers" / "r").exists()


def test_the_local_copy_of_what_is_deleted_goes_too(bucket: Bucket) -> None:
    path = bucket.local / "indexes" / "one.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}")
    bucket.share("indexes/one.json")
    bucket.remove("indexes/one.json")
    assert not path.exists()


def test_tables_are_written_and_read_at_a_version(url: str, tmp_path: Path) -> None:
    store = Store.open(url, create=True, cache=tmp_path / "here")
    table = filled(store, {"a": "heart attack", "b": "skin mole"})
    entry = published(store, table)
    view = Store.open(url, cache=tmp_path / "there").view(entry)
    assert view.rows == 2
    assert view.digest() == entry.digest
    assert len(view.search_text("heart", k=5).keys) == 1


def test_two_endpoints_and_two_prefixes_have_their_own_local_copies(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Bucket.open(url, cache=tmp_path), Bucket.open(url + "er", cache=tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://objects.example")
    third = Bucket.open(url, cache=tmp_path)
    assert len({first.local, second.local, third.local}) == 3
    assert all(one.local.is_relative_to(tmp_path / "stores") for one in (first, second, third))


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///a",
        "s3://a/../b",
        "s3://a//b",
        "s3://a/b?c=d",
        "s3://a/b%20c",
        "s3://a b",
        "s3://a/./b",
    ],
)
def test_a_url_that_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="names no place"):
        Bucket.open(url)


def test_a_missing_bucket_is_named(server: ObjectServer, url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no such bucket.*s3://nowhere/x at http://127"):
        Store.open("s3://nowhere/x", create=True, cache=tmp_path)


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (403, "AccessDenied", StoreReadOnlyError, "access was denied, AccessDenied"),
        (403, "SignatureDoesNotMatch", StoreReadOnlyError, "the credentials were refused, Signature"),
        (403, "InvalidAccessKeyId", StoreReadOnlyError, "the credentials were refused, InvalidAccessKeyId"),
        (400, "AuthorizationHeaderMalformed", StoreError, "another region.*set AWS_REGION"),
        (301, "PermanentRedirect", StoreError, "another region.*set AWS_REGION"),
        (403, "RequestTimeTooSkewed", StoreError, "the clock of this machine is wrong"),
        (507, "XMinioStorageFull", StoreError, "the object store is full"),
        (400, "Whatever", StoreError, "the server refused, Whatever"),
    ],
)
def test_a_refusal_is_a_sentence_without_secrets(
    status: int,
    code: str,
    kind: type[StoreError],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with refusing_server(status, code) as refusing:
        use(refusing, monkeypatch)
        bucket = Bucket.open("s3://shelf/x", cache=tmp_path)
        with pytest.raises(kind, match=words) as refused:
            bucket.names("")
    told = f"{refused.value} {refused.value.__cause__}"
    assert SECRET not in told
    assert "somebody" not in told


def test_what_the_table_engine_is_refused_is_told_alike(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing_server(403, "AccessDenied") as refusing:
        use(refusing, monkeypatch)
        place = Bucket.open(url, cache=tmp_path)
        with pytest.raises(
            StoreReadOnlyError, match="could not open table t: access was denied, AccessDenied"
        ):
            Table(place, name="t")


def test_a_missing_table_is_no_refusal(bucket: Bucket) -> None:
    with pytest.raises(StoreCorruptError):
        Table(bucket, name="t")


def test_a_server_out_of_reach_is_said_within_seconds(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://name:password@127.0.0.1:9")
    with pytest.raises(StoreError, match=r"did not answer.*check AWS_ENDPOINT_URL") as refused:
        Bucket.open(url, cache=tmp_path).read("x")
    assert "password" not in str(refused.value)


def test_no_credentials_are_said_to_be_missing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that machines of Amazon are given keys at is one where nobody answers."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreReadOnlyError, match=r"no credentials were found.*AWS_PROFILE"):
        Bucket.open(url, cache=tmp_path).read("x")


def test_the_keys_of_a_profile_are_used(
    server: ObjectServer, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    files = tmp_path / "credentials"
    files.write_text(f"[work]\naws_access_key_id = k\naws_secret_access_key = {SECRET}\n", "utf8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(files))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_PROFILE", "work")
    bucket = Bucket.open(url, cache=tmp_path)
    bucket.replace("a", b"1")
    assert bucket.names("") == ["a"]
    monkeypatch.setenv("AWS_PROFILE", "play")
    with pytest.raises(SettingsError, match="'play' holds no access key"):
        Bucket.open(url, cache=tmp_path)


def test_without_obstore_the_extra_is_named(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)
    with pytest.raises(MissingExtraError, match=r"moeret\[s3\]"):
        Bucket.open(url, cache=tmp_path)
