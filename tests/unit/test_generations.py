"""Going back to an older generation, listing them all, and giving a domain another name."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from moe_retrieval import Document, Moeret
from moe_retrieval.errors import (
    MoeretError,
    NothingFoundError,
    StoreBusyError,
    StoreError,
    UnknownDomainError,
    UsageError,
)
from moe_retrieval.generations import Rollback, history, roll_back
from moe_retrieval.model import surgery
from moe_retrieval.renaming import Renaming, rename_domain
from moe_retrieval.retrieval.pinned import EncoderChoice
from moe_retrieval.settings import Settings
from moe_retrieval.storage.catalog import Generation
from moe_retrieval.storage.maintenance.gc import collect
from moe_retrieval.storage.maintenance.readers import Readers
from moe_retrieval.storage.tables.table_files import manifests
from moe_retrieval.types import Precision
from tests.tiny_model import build_tiny_bert, different

HEART = [Document(f"h{n}", f"heart attack blood pressure {n}") for n in range(6)]
MORE = [Document(f"m{n}", f"stroke aspirin dose {n}") for n in range(3)]
SKIN = [Document(f"s{n}", f"skin sun light {n}") for n in range(4)]


@pytest.fixture(scope="module")
def pack(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An expert for cvd."""
    folder = tmp_path_factory.mktemp("packs")
    model = different(surgery.upcycle(tiny_model), "cvd")
    return folder / surgery.export_expert(model, "cvd", folder)


@pytest.fixture
def moeret(tiny_model: Path, tmp_path: Path) -> Moeret:
    return opened(tmp_path / "store", tiny_model)


@pytest.fixture(scope="module")
def three(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose generations hold 1: cvd; 2: cvd and skin; 3: more of cvd."""
    folder = tmp_path_factory.mktemp("three") / "store"
    with opened(folder, tiny_model) as moeret:
        moeret.index_documents(HEART, domain="cvd")
        moeret.index_documents(SKIN, domain="skin")
        moeret.index_documents(MORE, domain="cvd")
    return folder


@pytest.fixture
def filled(three: Path, tiny_model: Path, tmp_path: Path) -> Moeret:
    """A copy of that store."""
    return opened(Path(shutil.copytree(three, tmp_path / "store")), tiny_model)


def opened(store: Path, model: Path) -> Moeret:
    settings = Settings(model=str(model), precision=Precision.FP32, durability="process")
    return Moeret.open(store, settings=settings)


def back(moeret: Moeret, to: int | None = None, *, dry_run: bool = False) -> Rollback:
    return roll_back(moeret.store, choice(moeret), to=to, dry_run=dry_run)


def rename(moeret: Moeret, old: str, new: str, *, dry_run: bool = False) -> Renaming:
    return rename_domain(moeret.store, choice(moeret), old, new=new, dry_run=dry_run)


def choice(moeret: Moeret) -> EncoderChoice:
    return EncoderChoice(model=moeret.settings.model, precision=Precision.FP32)


def live(moeret: Moeret) -> Generation:
    found = moeret.store.catalog.latest()
    assert found is not None
    return found


def rows(moeret: Moeret) -> dict[str, int]:
    return {name: entry.rows for name, entry in live(moeret).domains.items()}


def documents(moeret: Moeret, text: str, domain: str) -> set[str]:
    return {hit.doc_id for hit in moeret.query(text, domains=[domain], k=50).hits}


# --- history -----------------------------------------------------------------------------------------------


def test_history_lists_generations_newest_last_with_what_made_them(filled: Moeret) -> None:
    found = history(filled.store)
    assert [past.number for past in found] == [1, 2, 3]
    assert [past.live for past in found] == [False, False, True]
    assert [past.domains for past in found] == [{"cvd": 6}, {"cvd": 6, "skin": 4}, {"cvd": 9, "skin": 4}]
    assert {past.note for past in found} == {"index"}
    assert {past.obstacle for past in found} == {""}
    assert found[0].to_dict()["possible"] is True


def test_history_says_which_generations_cannot_be_gone_back_to(filled: Moeret) -> None:
    store = filled.store
    version = store.catalog.read(1).domains["cvd"].version
    (name,) = [name for number, name in manifests(store.place, "d_cvd.g1") if number == version]
    store.place.remove(name)
    store.place.replace("catalog/gen-00000001.json", b"{")
    one, two, three = history(store)
    assert "gen-00000001.json is damaged" in one.obstacle
    assert two.obstacle == f"version {version} of table d_cvd.g1 of domain cvd is gone"
    assert three.obstacle == ""


def test_before_the_first_generation_history_is_empty(moeret: Moeret) -> None:
    moeret.index_documents([])
    assert history(moeret.store) == ()
    with pytest.raises(NothingFoundError, match="holds no documents"):
        back(moeret)


# --- rollback ----------------------------------------------------------------------------------------------


def test_a_rollback_publishes_the_older_content_as_a_new_generation(filled: Moeret) -> None:
    assert documents(filled, "stroke aspirin", "cvd") >= {"m0", "m1", "m2"}
    done = back(filled, 2)
    assert done == Rollback(before=3, target=2, generation=4, domains={"cvd": 6, "skin": 4}, dry_run=False)
    assert live(filled).note == "rollback to 2"
    assert live(filled).domains == filled.store.catalog.read(2).domains
    assert documents(filled, "stroke aspirin", "cvd") == {document.id for document in HEART}


def test_without_a_number_it_goes_to_the_newest_that_holds_anything_else(filled: Moeret) -> None:
    back(filled, 2)  # generation 4 holds what 2 does
    filled.describe("cvd", "of the heart")  # 5
    filled.describe("cvd", "")  # 6 holds what 4 does
    assert back(filled).target == 5


def test_a_second_rollback_takes_the_first_one_back(filled: Moeret) -> None:
    assert back(filled).target == 2
    assert rows(filled) == {"cvd": 6, "skin": 4}
    assert back(filled).target == 3
    assert rows(filled) == {"cvd": 9, "skin": 4}


def test_without_a_number_generations_from_the_middle_of_a_run_are_passed_over(filled: Moeret) -> None:
    newest, store = live(filled), filled.store
    domains = {"skin": newest.domains["skin"]}
    store.catalog.publish(domains, model=newest.model, router="", created=newest.created, partial=True)
    store.catalog.publish(newest.domains, model=newest.model, router="", created=newest.created)
    assert back(filled).target == 2


def test_a_damaged_generation_that_is_older_than_the_one_looked_for_does_not_matter(filled: Moeret) -> None:
    filled.store.place.replace("catalog/gen-00000001.json", b"{")
    assert back(filled).target == 2
    filled.store.place.replace("catalog/gen-00000003.json", b"{")
    with pytest.raises(StoreError, match=r"gen-00000003\.json is damaged"):
        back(filled)


def test_rolled_back_documents_do_not_come_back_and_are_indexed_again_when_given_again(
    filled: Moeret,
) -> None:
    back(filled, 2)
    report = filled.index_documents([Document("new", "lung cough smoking")], domain="cvd")
    assert (report.encoded, rows(filled)["cvd"]) == (1, 7)
    assert documents(filled, "stroke aspirin", "cvd") == {*(one.id for one in HEART), "new"}
    again = filled.index_documents(MORE, domain="cvd")
    assert again.encoded == 3
    assert documents(filled, "stroke aspirin", "cvd") >= {"m0", "m1", "m2"}


def test_rows_of_a_killed_run_do_not_survive_a_rollback_and_back(filled: Moeret) -> None:
    """They were written upon a version that was live then; under another one they are no progress."""
    table = filled.store.table(live(filled).domains["cvd"].table)
    batch = next(iter(filled.store.view(live(filled).domains["skin"]).batches()))
    table.write(batch)  # not published
    back(filled, 2)
    back(filled)
    filled.index_documents([Document("new", "lung cough smoking")], domain="cvd")
    assert rows(filled)["cvd"] == 10


def test_what_was_rolled_back_is_not_taken_for_progress_after_a_description_changed(filled: Moeret) -> None:
    back(filled, 2)
    filled.describe("cvd", "of the heart")
    filled.index_documents([Document("new", "lung cough smoking")], domain="cvd")
    assert rows(filled)["cvd"] == 7


def test_a_dry_run_checks_and_changes_nothing(filled: Moeret) -> None:
    done = back(filled, 1, dry_run=True)
    assert (done.target, done.generation, done.dry_run) == (1, 3, True)
    assert filled.store.catalog.numbers() == [1, 2, 3]


def test_a_reindex_can_be_taken_back_with_the_expert_it_brought(filled: Moeret, pack: Path) -> None:
    filled.register_expert("cvd", pack)
    filled.reindex()
    assert live(filled).domains["cvd"].expert == pack.name
    before = filled.encoder().encode_query(["heart"], domain="cvd")
    back(filled)
    assert live(filled).domains["cvd"].expert == "general"
    after = filled.encoder().encode_query(["heart"], domain="cvd")
    assert not np.allclose(before, after)
    assert documents(filled, "heart", "cvd") >= {"h0"}
    back(filled)
    assert live(filled).domains["cvd"].expert == pack.name
    assert np.allclose(filled.encoder().encode_query(["heart"], domain="cvd"), before)


def test_another_model_can_be_taken_back(tiny_model: Path, tmp_path: Path) -> None:
    other = build_tiny_bert(tmp_path / "other", seed=5)
    moeret = opened(tmp_path / "store", tiny_model)
    moeret.index_documents(HEART, domain="cvd")
    moved = opened(tmp_path / "store", other)
    moved.reindex()
    assert back(moved).target == 1
    assert documents(opened(tmp_path / "store", tiny_model), "heart", "cvd") >= {"h0"}


def test_it_is_refused_by_name_what_is_gone(filled: Moeret, pack: Path) -> None:
    filled.register_expert("cvd", pack)
    filled.reindex()
    back(filled, 3)
    shutil.rmtree(filled.store.experts_dir / pack.name)
    with pytest.raises(StoreError, match=f"cannot go back to generation 4: .*{pack.name[:12]}"):
        back(filled, 4)
    (filled.store.routers_dir / f"{filled.store.catalog.read(2).router}.safetensors").unlink()
    with pytest.raises(StoreError, match="cannot go back to generation 2: the router"):
        back(filled, 2)
    collect(filled.store, keep=1)
    with pytest.raises(NothingFoundError, match="there is no generation 1"):
        back(filled, 1)
    with pytest.raises(NothingFoundError, match="no older generation holds anything else"):
        back(filled)


def test_a_model_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    gone = build_tiny_bert(tmp_path / "gone", seed=6)
    other = build_tiny_bert(tmp_path / "other", seed=5)
    opened(tmp_path / "store", gone).index_documents(HEART, domain="cvd")
    moved = opened(tmp_path / "store", other)
    moved.reindex()
    shutil.rmtree(gone)
    with pytest.raises(StoreError, match=r"cannot go back to generation 1: .*gone"):
        back(moved, 1)


def test_rows_that_are_not_those_that_were_published_are_refused(filled: Moeret) -> None:
    """The manifest of another version, of as many rows, stands in for damage that opens."""
    store, newest = filled.store, live(filled)
    entry = newest.domains["cvd"]
    other = Document("h0", "lung cough smoking")
    filled.index_documents([other], domain="cvd")
    changed = live(filled).domains["cvd"]
    assert changed.rows == entry.rows
    names = dict(manifests(store.place, entry.table))
    store.place.replace(names[entry.version], store.place.read(names[changed.version]))
    with pytest.raises(StoreError, match=r"generation 3: (the rows of domain 'cvd'|could not open)"):
        back(filled, 3)
    assert live(filled).number == 4


def test_going_back_to_what_is_live_is_refused(filled: Moeret) -> None:
    with pytest.raises(UsageError, match="generation 3 holds what is live"):
        back(filled, 3)
    with pytest.raises(NothingFoundError, match="there is no generation 9"):
        back(filled, 9)


def test_while_another_process_writes_it_is_refused(filled: Moeret) -> None:
    with filled.store.lease(), pytest.raises(StoreBusyError):
        back(filled)


# --- rename ------------------------------------------------------------------------------------------------


def test_a_renamed_domain_keeps_its_rows_and_its_route(filled: Moeret) -> None:
    before = live(filled).domains["cvd"]
    done = rename(filled, "cvd", "heart")
    assert (done.documents, done.generation) == (9, 4)
    assert live(filled).domains["heart"] == before
    assert live(filled).note == "rename cvd to heart"
    answer = filled.query("heart attack blood pressure")
    assert answer.routes[0].domain == "heart"
    assert {hit.domain for hit in filled.query("stroke aspirin", domains=["heart"]).hits} == {"heart"}


def test_the_old_name_is_unknown_then_and_the_next_step_names_the_new_one(filled: Moeret) -> None:
    rename(filled, "cvd", "cvd-2")
    with pytest.raises(UnknownDomainError) as caught:
        filled.query("heart", domains=["cvd"])
    assert caught.value.hint == "did you mean 'cvd-2'?"


def test_queries_that_run_while_a_domain_is_renamed_or_removed_end_on_what_they_began_with(
    filled: Moeret,
) -> None:
    begun = filled.retriever.snapshot()
    rename(filled, "cvd", "heart")
    filled.remove_domain("skin")
    collect(filled.store, keep=1)
    for domain in ("cvd", "skin"):
        vectors = begun.encoder.encode_query(["heart attack"], domain=domain)
        assert begun.index(domain).search(vectors, k=2)[0].keys.size == 2
    assert filled.query("heart").generation == 5
    with pytest.raises(UnknownDomainError):
        filled.query("heart", domains=["skin"])


def test_a_generation_is_let_go_when_the_last_query_on_it_has_ended(filled: Moeret) -> None:
    readers = Readers(filled.store.place)
    begun = filled.retriever.snapshot()
    rename(filled, "cvd", "heart")
    filled.query("heart")
    assert [reading.generation for reading in readers.live(clear=False)] == [3, 4]
    del begun
    assert [reading.generation for reading in readers.live(clear=False)] == [4]
    filled.close()
    assert readers.live(clear=False) == []


def test_threads_that_query_never_fail_while_a_domain_changes_its_name(filled: Moeret) -> None:
    failures: list[str] = []
    answers: list[set[str]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                answers.append({hit.domain for hit in filled.query("heart attack blood", k=20).hits})
            except MoeretError as error:
                failures.append(error.message)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for old, new in (("cvd", "heart"), ("heart", "cvd"), ("cvd", "heart")):
        rename(filled, old, new)
        collect(filled.store, keep=1)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert answers
    assert not [one for one in answers if {"cvd", "heart"} <= one], "a mix of two generations"


def test_indexing_goes_on_under_the_new_name(filled: Moeret) -> None:
    rename(filled, "cvd", "heart")
    report = filled.index_documents([*HEART, Document("new", "lung cough smoking")], domain="heart")
    assert (report.unchanged, report.encoded) == (6, 1)
    assert rows(filled) == {"heart": 10, "skin": 4}


def test_rows_that_were_rolled_back_do_not_come_back_under_a_new_name(filled: Moeret) -> None:
    back(filled, 2)
    rename(filled, "cvd", "heart")
    filled.index_documents([Document("new", "lung cough smoking")], domain="heart")
    assert rows(filled)["heart"] == 7


def test_an_expert_of_the_store_and_one_that_waits_move_along(
    moeret: Moeret, pack: Path, tiny_model: Path, tmp_path: Path
) -> None:
    moeret.register_expert("cvd", pack)
    moeret.index_documents(HEART, domain="cvd")
    model = different(surgery.upcycle(tiny_model), "other", "cvd")
    waiting = tmp_path / surgery.export_expert(model, "cvd", tmp_path)
    moeret.register_expert("cvd", waiting)
    rename(moeret, "cvd", "heart")
    (status,) = moeret.status().domains
    assert (status.domain, status.expert, status.candidate) == ("heart", pack.name, waiting.name)
    moeret.reindex()
    assert live(moeret).domains["heart"].expert == waiting.name
    assert moeret.status().waiting == {}


def test_an_expert_in_the_folder_of_the_model_is_refused_with_what_to_do(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = different(surgery.upcycle(tiny_model), "cvd")
    model.config.domains = {"cvd": "cvd"}
    folder = surgery.save(model, tmp_path / "model", like=tiny_model)
    moeret = opened(tmp_path / "store", folder)
    moeret.index_documents(HEART, domain="cvd")
    moeret.index_documents(SKIN, domain="skin")
    with pytest.raises(UsageError, match=r"has weights for cvd in its own folder") as caught:
        rename(moeret, "cvd", "heart")
    assert "moeret model export-expert" in caught.value.hint
    moeret.remove_domain("cvd")
    with pytest.raises(UsageError, match=r"has weights for cvd in its own folder"):
        rename(moeret, "skin", "cvd")
    assert rename(moeret, "skin", "derma").generation == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cvd", "skin", "there is a domain 'skin' already"),
        ("cvd", "cvd", "domain 'cvd' has that name; give another one"),
        ("cvd", "Heart Attack", "'Heart Attack' cannot name a domain; did you mean 'heart-attack'"),
        ("cvd", "!", "'!' cannot name a domain"),
        ("cvt", "heart", "unknown domain 'cvt'; did you mean 'cvd'"),
        ("CVD", "heart", "unknown domain 'CVD'; did you mean 'cvd'"),
    ],
)
def test_what_cannot_be_renamed_is_refused(filled: Moeret, old: str, new: str, message: str) -> None:
    with pytest.raises((UsageError, UnknownDomainError)) as caught:
        rename(filled, old, new)
    assert message in str(caught.value)
    assert filled.store.catalog.numbers() == [1, 2, 3]


def test_a_name_for_which_an_expert_waits_is_refused(filled: Moeret, pack: Path) -> None:
    filled.register_expert("heart", pack)
    with pytest.raises(UsageError, match="a trained expert waits for a domain 'heart'"):
        rename(filled, "cvd", "heart")


def test_a_dry_run_of_a_renaming_changes_nothing(filled: Moeret) -> None:
    assert rename(filled, "cvd", "heart", dry_run=True).generation == 3
    assert rows(filled) == {"cvd": 9, "skin": 4}


def test_a_renaming_can_be_rolled_back(filled: Moeret) -> None:
    rename(filled, "cvd", "heart")
    back(filled)
    assert rows(filled) == {"cvd": 9, "skin": 4}
    assert filled.query("heart attack blood").routes[0].domain == "cvd"
