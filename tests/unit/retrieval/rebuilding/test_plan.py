"""The fingerprint matrix on real stores: which change makes which tables stale, and that a reindex embeds
exactly these again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_retrieval import Document, Moeret
from moe_retrieval.errors import ModelMismatchError, UsageError
from moe_retrieval.model import extend, surgery
from moe_retrieval.retrieval.rebuilding.plan import Change, Part
from moe_retrieval.settings import Settings
from moe_retrieval.storage.catalog import DomainEntry
from moe_retrieval.types import Durability, Precision
from tests.tiny_model import build_tiny_bert, different

ALL = {"cvd", "skin", "lung"}
DOCUMENTS = [
    Document(f"{domain}{at}", f"{domain} patient risk heart skin lung {at}", domain=domain)
    for domain in sorted(ALL)
    for at in range(6)
]


def model_folder(folder: Path, like: Path, change: Callable[[Any], object] = lambda _model: None) -> Path:
    """A model whose cvd and skin have experts and token rows of their own, and lung has none; with a
    change.
    """
    model = different(surgery.upcycle(like), "cvd", "skin")
    for name in ("cvd", "skin"):
        surgery.assign(model, name, name)
    first = extend.first_token_of(like / "tokenizer.json")
    extend.set_routing(model, "domain_token", first_token=first)
    change(model)
    return surgery.save(model, folder, like=like)


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("base") / "model", tiny_model)


@pytest.fixture(scope="module")
def written(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three domains under the base model."""
    store = tmp_path_factory.mktemp("written") / "store"
    opened(store, base).index_documents(DOCUMENTS)
    return store


@pytest.fixture
def store(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "store"))


def opened(store: Path, model: Path | str, **settings: Any) -> Moeret:
    values = {"precision": Precision.FP32, "durability": Durability.PROCESS, **settings}
    return Moeret.open(store, settings=Settings(model=str(model), **values))


def entries(moeret: Moeret) -> dict[str, DomainEntry]:
    live = moeret.store.catalog.latest()
    assert live is not None
    return dict(live.domains)


def parts(moeret: Moeret) -> dict[str, set[Part]]:
    return {plan.domain: {one.part for one in plan.changes} for plan in moeret.reindexer().plan()}


def assert_only_these_are_embedded_again(moeret: Moeret, stale: set[str]) -> None:
    """The stale tables hold the vectors of the new encoder; the others keep table, version and digest."""
    before = entries(moeret)
    report = moeret.reindex()
    after = entries(moeret)
    assert report.encoded == 6 * len(stale)
    assert {name for name in ALL if after[name] != before[name]} == stale
    assert all(after[name].table != before[name].table for name in stale)
    assert moeret.reindexer().plan() == ()
    encoder = moeret.encoder()
    for domain in sorted(stale):
        view = moeret.store.view(after[domain])
        texts = [text for batch in view.batches(("content",)) for text in batch["content"].to_pylist()]
        fresh = encoder.encode_document(texts, domain=domain)
        np.testing.assert_allclose(view.vectors(), fresh, atol=1e-5)
    assert moeret.query("heart risk", k=20).hits


def weight(number: int) -> Callable[[Any], object]:
    def change(model: Any) -> None:
        model.encoder.layer[0].experts[number].intermediate.dense.weight.data[0] += 0.5

    return change


def trunk(model: Any) -> None:
    model.encoder.layer[0].attention.self.query.weight.data[0] += 0.5


def token_row(model: Any) -> None:
    model.input_rows[1].token.data += 0.5


def words(model: Any) -> None:
    extend.add_words(model, "cvd", {"skin lung": [6, 7]})


@pytest.mark.parametrize(
    ("change", "stale", "part"),
    [
        (weight(1), {"cvd"}, Part.EXPERT),
        (weight(2), {"skin"}, Part.EXPERT),
        (weight(0), {"lung"}, Part.EXPERT),
        (token_row, {"cvd"}, Part.TOKEN_ROW),
        (words, {"cvd"}, Part.WORDS),
    ],
    ids=["expert of cvd", "expert of skin", "general", "token row", "added words"],
)
def test_what_belongs_to_one_expert_makes_its_domains_stale(
    store: Path,
    tiny_model: Path,
    tmp_path: Path,
    change: Callable[[Any], object],
    stale: set[str],
    part: Part,
) -> None:
    changed = opened(store, model_folder(tmp_path / "changed", tiny_model, change))
    found = parts(changed)
    assert set(found) == stale
    assert all(part in own for own in found.values())
    assert_only_these_are_embedded_again(changed, stale)


def test_a_changed_trunk_makes_every_domain_stale(store: Path, tiny_model: Path, tmp_path: Path) -> None:
    changed = opened(store, model_folder(tmp_path / "changed", tiny_model, trunk))
    assert parts(changed) == {domain: {Part.TRUNK} for domain in ALL}
    assert_only_these_are_embedded_again(changed, ALL)


def other_case(folder: Path) -> None:
    path = folder / "tokenizer.json"
    said = json.loads(path.read_text("utf-8"))
    said["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(said), "utf-8")


def other_pooling(folder: Path) -> None:
    said = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said), "utf-8")


@pytest.mark.parametrize(("change", "part"), [(other_case, Part.TOKENIZER), (other_pooling, Part.POOLING)])
def test_a_changed_file_of_the_model_makes_every_domain_stale(
    store: Path, base: Path, tmp_path: Path, change: Callable[[Path], None], part: Part
) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "changed"))
    change(folder)
    changed = opened(store, folder)
    assert parts(changed) == {domain: {part} for domain in ALL}
    assert_only_these_are_embedded_again(changed, ALL)


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ({"max_length": 16}, Part.MAX_LENGTH),
        ({"query_prompt": "query: "}, Part.QUERY_PROMPT),
        ({"document_prompt": "heart: "}, Part.DOCUMENT_PROMPT),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_changed_setting_of_the_encoder_makes_every_domain_stale(
    store: Path, base: Path, setting: dict[str, Any], part: Part
) -> None:
    changed = opened(store, base, **setting)
    assert parts(changed) == {domain: {part} for domain in ALL}
    assert_only_these_are_embedded_again(changed, ALL)


def test_precision_alone_makes_nothing_stale(store: Path, base: Path) -> None:
    assert opened(store, base, precision=Precision.BF16).reindexer().plan() == ()


def test_another_chunker_is_a_plan_to_cut_anew_and_leaves_nothing_stale(store: Path, base: Path) -> None:
    plans = opened(store, base, chunk_tokens=20).reindexer().plan()
    assert [(plan.domain, plan.stale, plan.rechunk) for plan in plans] == [
        (domain, False, "semchunk/20/5/1") for domain in sorted(ALL)
    ]
    assert plans[0].changes == (Change(Part.CHUNKING, "semchunk/30/7/1", "semchunk/20/5/1"),)


def test_a_registered_expert_is_named_with_the_one_it_replaces(
    store: Path, base: Path, tmp_path: Path
) -> None:
    model = different(surgery.load(base), "lung")
    pack = tmp_path / "packs" / surgery.export_expert(model, "lung", tmp_path / "packs")
    moeret = opened(store, base)
    moeret.register_expert("lung", pack)
    (plan,) = moeret.reindexer().plan()
    assert plan.domain == "lung"
    assert Change(Part.EXPERT, "general", pack.name) in plan.changes
    assert_only_these_are_embedded_again(moeret, {"lung"})


# --- another model of the same width


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bert(tmp_path_factory.mktemp("foreign") / "foreign", seed=3)


def test_a_foreign_model_of_the_same_width_is_refused_by_name(store: Path, foreign: Path) -> None:
    stranger = opened(store, foreign)
    with pytest.raises(ModelMismatchError, match=r"was written with model '.*model', not '.*foreign'"):
        stranger.query("heart")
    with pytest.raises(ModelMismatchError, match=r"was written with model '.*model', not '.*foreign'"):
        stranger.index_documents(DOCUMENTS)


def test_a_foreign_model_given_to_reindex_moves_the_whole_store(store: Path, foreign: Path) -> None:
    moved = opened(store, foreign)
    with pytest.raises(UsageError, match="leaves every domain stale, also lung, skin"):
        moved.reindexer().plan(domains=["cvd"])
    assert all({Part.TRUNK, Part.EXPERT} <= found for found in parts(moved).values())
    assert_only_these_are_embedded_again(moved, ALL)
    assert {entry.expert for entry in entries(moved).values()} == {"general"}


def test_a_model_of_another_width_moves_the_whole_store(store: Path, tmp_path: Path) -> None:
    moved = opened(store, build_tiny_bert(tmp_path / "narrow", dim=16))
    assert all(Part.DIM in found for found in parts(moved).values())
    assert_only_these_are_embedded_again(moved, ALL)
