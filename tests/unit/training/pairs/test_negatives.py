"""Hard negatives: near texts of the same domain, none that belongs to the pair after all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_retrieval import Document, Encoder, Indexer, Moeret, Store
from moe_retrieval.corpus.pairs import Pair, Split
from moe_retrieval.errors import StaleDomainError, UnknownDomainError, UsageError
from moe_retrieval.model.surgery import export_expert, upcycle
from moe_retrieval.settings import Settings
from moe_retrieval.storage.catalog import Generation
from moe_retrieval.training.pairs import false_negatives, negatives
from moe_retrieval.training.pairs.negatives import MinedPairs, MiningOptions, mine_from_pool, mine_negatives
from tests.tiny_model import WORDS, build_tiny_bert, different

LENIENT = MiningOptions(margin=1.0, duplicate=1.0)
"""Only the filters by name are at work, and the positive's own score."""

Mine = Callable[..., MinedPairs]

ASPIRIN = Pair("aspirin risk", "aspirin stroke risk", "cvd", a_id="a0", b_id="c0")
HEART = [
    Document("c0", "aspirin stroke risk"),
    *(
        Document(f"c{at}", f"aspirin {one} {other}")
        for at, (one, other) in enumerate(zip(WORDS[5:17], WORDS[9:21], strict=True), start=1)
    ),
]
SKIN = [Document("s0", "aspirin risk"), Document("s1", "skin sun light")]


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> Encoder:
    return Encoder.load(tiny_model)


@pytest.fixture(scope="module")
def store(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two domains of one-chunk documents."""
    store = Store.open(tmp_path_factory.mktemp("negatives") / "store", create=True, durable=False)
    indexer = Indexer(store, encoder=encoder)
    indexer.index(HEART, domain="cvd")
    indexer.index(SKIN, domain="skin")
    return store


def latest(store: Store) -> Generation:
    live = store.catalog.latest()
    assert live is not None
    return live


@pytest.fixture(scope="module")
def generation(store: Store) -> Generation:
    return latest(store)


@pytest.fixture
def mined(store: Store, generation: Generation, encoder: Encoder) -> Mine:
    """Mines from the store; what a call names comes before what all share."""

    def run(*pairs: Pair, per_pair: int = 20, options: MiningOptions = LENIENT, skip: int = 0) -> MinedPairs:
        return mine_negatives(
            pairs,
            store=store,
            generation=generation,
            encoder=encoder,
            per_pair=per_pair,
            skip=skip,
            options=options,
        )

    return run


def by_cosine(encoder: Encoder, pair: Pair, texts: list[str], *, domain: str) -> list[tuple[str, float]]:
    """Texts and their cosines to the pair's `a`, the nearest first: the slow, plain way."""
    query = encoder.encode_query([pair.a], domain=domain)[0]
    scores = encoder.encode_document(texts, domain=domain) @ query
    return sorted(zip(texts, scores.tolist(), strict=True), key=lambda one: -one[1])


def below_the_positive(encoder: Encoder, pair: Pair, texts: list[str], *, margin: float = 1.0) -> list[str]:
    """What may be taken as far as scores say."""
    ranked = by_cosine(encoder, pair, [*texts, pair.b], domain=pair.domain)
    limit = margin * dict(ranked)[pair.b]
    return [text for text, score in ranked if score <= limit and text != pair.b]


OTHERS = [document.text for document in HEART[1:]]


def test_the_nearest_text_that_does_not_belong_is_the_first_negative(mined: Mine, encoder: Encoder) -> None:
    planted = below_the_positive(encoder, ASPIRIN, OTHERS)[0]
    assert mined(ASPIRIN, per_pair=1).pairs[0].negatives == (planted,)


def test_negatives_come_in_the_order_of_an_exact_search(mined: Mine, encoder: Encoder) -> None:
    expected = below_the_positive(encoder, ASPIRIN, OTHERS)
    assert len(expected) > 3
    assert list(mined(ASPIRIN).pairs[0].negatives) == expected


def test_a_text_that_scores_above_the_margin_is_a_false_negative(mined: Mine, encoder: Encoder) -> None:
    expected = below_the_positive(encoder, ASPIRIN, OTHERS, margin=0.9)
    found = mined(ASPIRIN, options=MiningOptions(margin=0.9, duplicate=1.0))
    assert list(found.pairs[0].negatives) == expected
    assert found.dropped[false_negatives.ABOVE] == len(OTHERS) - len(expected) > 0


@pytest.mark.parametrize("positive", [0.8, 0.0, -0.2])
def test_a_margin_never_lets_a_text_pass_the_positive(positive: float) -> None:
    assert false_negatives.score_limit(positive, margin=0.95) <= positive


@pytest.mark.parametrize(
    "link",
    [
        Pair("aspirin risk", "another name", "cvd", a_id="a0", b_id="{id}"),
        Pair("another name", "aspirin risk", "cvd", a_id="{id}"),
        Pair("another name", "{text}", "cvd", a_id="a0"),
        Pair("aspirin stroke risk", "{text}", "cvd"),
        Pair("Aspirin  RISK.", "({text})", "cvd"),
    ],
    ids=["id", "the other way round", "by text", "of the positive", "punctuation"],
)
def test_a_planted_false_negative_that_a_pair_links_is_not_taken(mined: Mine, link: Pair) -> None:
    tempting = mined(ASPIRIN).pairs[0].negatives[0]
    home = next(document.id for document in HEART if document.text == tempting)
    told = {name: getattr(link, name).format(id=home, text=tempting) for name in ("a", "b", "a_id", "b_id")}
    found = mined(ASPIRIN, replace(link, **told))
    assert tempting not in found.pairs[0].negatives
    assert found.dropped[false_negatives.LINKED] >= 1


def test_a_text_two_pairs_away_belongs_too_unless_one_step_is_asked_for(mined: Mine) -> None:
    tempting = mined(ASPIRIN).pairs[0].negatives[0]
    links = (Pair("some article", ASPIRIN.b, "cvd"), Pair("some article", tempting, "cvd"))
    assert tempting not in mined(ASPIRIN, *links).pairs[0].negatives
    assert tempting in mined(ASPIRIN, *links, options=replace(LENIENT, steps=1)).pairs[0].negatives


def test_documents_known_not_to_belong_may_be_taken(mined: Mine) -> None:
    tempting = mined(ASPIRIN).pairs[0].negatives[0]
    found = mined(ASPIRIN, replace(ASPIRIN, b=tempting, b_id="", label=0))
    assert found.pairs[0].negatives[0] == tempting
    assert found.pairs[1].negatives == ()


def test_the_pairs_own_documents_are_not_taken_under_any_of_their_names(mined: Mine) -> None:
    own = mined(ASPIRIN).pairs[0].negatives[:2]
    ids = {document.text: document.id for document in HEART}
    found = mined(ASPIRIN, replace(ASPIRIN, a=own[0], b="x", label=0), replace(ASPIRIN, b_id=ids[own[1]]))
    assert not {own[0], own[1]} & {*found.pairs[0].negatives}


def test_a_near_duplicate_of_the_positive_is_not_taken(mined: Mine, encoder: Encoder) -> None:
    vectors = encoder.encode_document([ASPIRIN.b, *OTHERS])
    cosines = dict(zip(OTHERS, (vectors[1:] @ vectors[0]).tolist(), strict=True))
    bound = float(np.median([*cosines.values()]))
    found = mined(ASPIRIN, options=MiningOptions(margin=1.0, duplicate=bound))
    assert found.pairs[0].negatives
    assert all(cosines[text] <= bound for text in found.pairs[0].negatives)
    assert found.dropped[false_negatives.DUPLICATE] >= 1


def test_a_text_of_another_split_is_not_taken(mined: Mine) -> None:
    tempting = mined(ASPIRIN).pairs[0].negatives[0]
    training = replace(ASPIRIN, split=Split.TRAIN)
    held_out = Pair(tempting, "something else", "cvd", label=0, split=Split.VALIDATION)
    assert tempting not in mined(training, held_out).pairs[0].negatives
    assert tempting in mined(training, replace(held_out, split=Split.TRAIN)).pairs[0].negatives


def test_excluded_documents_are_not_taken_by_id_or_text(mined: Mine) -> None:
    first, second = mined(ASPIRIN).pairs[0].negatives[:2]
    home = next(document.id for document in HEART if document.text == first)
    found = mined(ASPIRIN, options=replace(LENIENT, excluded=frozenset({home, second.upper()})))
    assert not {first, second} & {*found.pairs[0].negatives}
    assert found.dropped[false_negatives.EXCLUDED] == 2


def test_negatives_are_of_the_pairs_own_domain(mined: Mine) -> None:
    found = mined(ASPIRIN, replace(ASPIRIN, domain="skin", a="light", b="risk", a_id="", b_id=""))
    assert {*found.pairs[0].negatives} <= {*OTHERS}
    assert {*found.pairs[1].negatives} <= {document.text for document in SKIN}


def test_a_pair_with_fewer_negatives_than_asked_is_kept_and_counted(mined: Mine) -> None:
    found = mined(ASPIRIN, per_pair=40)
    assert 0 < len(found.pairs[0].negatives) < 40
    assert (found.short, found.mined) == (1, len(found.pairs[0].negatives))
    assert found.to_dict() == {
        "pairs": 1,
        "mined": found.mined,
        "short": 1,
        "dropped": dict(found.dropped),
    }


def test_the_first_texts_can_be_skipped(mined: Mine, encoder: Encoder) -> None:
    ranked = [text for text, _ in by_cosine(encoder, ASPIRIN, [*OTHERS, ASPIRIN.b], domain="cvd")]
    skip = ranked.index(ASPIRIN.b) + 3
    assert list(mined(ASPIRIN, skip=skip).pairs[0].negatives) == ranked[skip:]


def test_negatives_that_a_pair_has_stay_and_count(mined: Mine) -> None:
    had = mined(ASPIRIN).pairs[0].negatives[:2]
    found = mined(replace(ASPIRIN, negatives=had), per_pair=3).pairs[0].negatives
    assert found[:2] == had
    assert len({*found}) == len(found) == 3


def test_one_chunk_is_taken_of_a_document(tmp_path: Path, encoder: Encoder) -> None:
    store = Store.open(tmp_path / "store", create=True, durable=False)
    long = ". ".join(" ".join(WORDS[at : at + 8]) for at in range(4, 24)) + "."
    Indexer(store, encoder=encoder).index([Document("long", long), HEART[0]], domain="cvd")
    found = mine_negatives([ASPIRIN], store=store, generation=latest(store), encoder=encoder, options=LENIENT)
    assert latest(store).domains["cvd"].rows > 3
    assert len(found.pairs[0].negatives) == 1
    assert found.dropped[false_negatives.AGAIN] >= 1


def test_the_same_run_twice_gives_the_same_pairs_whatever_the_windows(
    mined: Mine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [replace(ASPIRIN, a=f"{word} risk", a_id="") for word in WORDS[5:18]]
    once = mined(*pairs, per_pair=3)
    assert mined(*pairs, per_pair=3) == once
    monkeypatch.setattr(negatives, "_WINDOW", 4)
    assert mined(*pairs, per_pair=3) == once


def test_progress_counts_the_positive_pairs(store: Store, generation: Generation, encoder: Encoder) -> None:
    heard: list[int] = []
    pairs = [ASPIRIN, replace(ASPIRIN, label=0), replace(ASPIRIN, a="fever", domain="skin")]
    mine_negatives(pairs, store=store, generation=generation, encoder=encoder, progress=heard.append)
    assert sum(heard) == 2


def test_the_domains_own_expert_finds_them(tiny_model: Path, tmp_path: Path) -> None:
    model = different(upcycle(tiny_model), "cvd")
    pack = tmp_path / "packs" / export_expert(model, "cvd", tmp_path / "packs")
    moeret = Moeret.open(tmp_path / "store", settings=Settings(model=str(tiny_model)))
    moeret.register_expert("cvd", pack)
    moeret.index_documents(HEART, domain="cvd")
    encoder = moeret.encoder()
    found = mine_negatives(
        [ASPIRIN], store=moeret.store, generation=latest(moeret.store), encoder=encoder, options=LENIENT
    )
    assert encoder.expert_of("cvd") == pack.name
    assert list(found.pairs[0].negatives) == below_the_positive(encoder, ASPIRIN, OTHERS)[:4]


def test_a_domain_without_documents_gives_no_negatives(tmp_path: Path, encoder: Encoder) -> None:
    store = Store.open(tmp_path / "store", create=True, durable=False)
    indexer = Indexer(store, encoder=encoder)
    indexer.index([Document("only", "heart")], domain="cvd")
    indexer.index([Document("only", "heart")], domain="skin")
    found = mine_negatives([ASPIRIN], store=store, generation=latest(store), encoder=encoder)
    assert latest(store).domains["cvd"].rows == 0
    assert (found.pairs, found.short) == ((ASPIRIN,), 1)


# --- from the pairs' own texts


def as_pool() -> list[Pair]:
    return [Pair(f"question {document.id}", document.text, "cvd", b_id=document.id) for document in HEART[1:]]


def test_the_pool_gives_what_a_store_of_the_same_texts_gives(mined: Mine, encoder: Encoder) -> None:
    pairs = [ASPIRIN, *as_pool()]
    found = mine_from_pool(pairs, encoder=encoder, per_pair=20, options=LENIENT)
    assert found.pairs[0].negatives == mined(*pairs).pairs[0].negatives
    assert len(found.pairs[0].negatives) > 3


def test_the_pool_of_another_domain_is_not_searched(encoder: Encoder) -> None:
    elsewhere = [replace(pair, domain="skin") for pair in as_pool()]
    found = mine_from_pool([ASPIRIN, *elsewhere], encoder=encoder, options=LENIENT)
    assert found.pairs[0].negatives == ()


def test_texts_said_to_be_unrelated_are_in_the_pool_too(encoder: Encoder) -> None:
    unrelated = [replace(ASPIRIN, b=text, b_id="", label=0) for text in OTHERS]
    found = mine_from_pool([ASPIRIN, *unrelated], encoder=encoder, per_pair=2, options=LENIENT)
    assert len(found.pairs[0].negatives) == 2


def test_equal_scores_at_the_cut_are_told_apart_by_place(encoder: Encoder) -> None:
    from moe_retrieval.training.pairs.neighbours import PoolNeighbours

    vectors = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], np.float32)
    pool = PoolNeighbours(["a", "b", "c", "d"], [frozenset(name) for name in "abcd"], vectors)
    assert pool.search(vectors[:1], k=2)[0].keys.tolist() == [0, 2]


# --- bad input


def test_a_domain_that_the_store_lacks_is_named(mined: Mine) -> None:
    with pytest.raises(UnknownDomainError, match="'skinn'; did you mean 'skin'"):
        mined(ASPIRIN, replace(ASPIRIN, domain="skinn"))


def test_a_pair_without_a_domain_is_refused(mined: Mine) -> None:
    with pytest.raises(UsageError, match="names no domain"):
        mined(replace(ASPIRIN, domain=""))


def test_a_table_of_another_encoder_is_refused(store: Store, generation: Generation, tmp_path: Path) -> None:
    other = Encoder.load(build_tiny_bert(tmp_path / "other", seed=3))
    with pytest.raises(StaleDomainError, match="moeret reindex --domain cvd"):
        mine_negatives([ASPIRIN], store=store, generation=generation, encoder=other)


@pytest.mark.parametrize("pairs", [(), (replace(ASPIRIN, label=0),)], ids=["none", "unrelated only"])
def test_without_positive_pairs_there_is_nothing_to_mine_for(
    encoder: Encoder, pairs: tuple[Pair, ...]
) -> None:
    with pytest.raises(UsageError, match="no pair is labelled 1"):
        mine_from_pool(pairs, encoder=encoder)


@pytest.mark.parametrize(("per_pair", "depth", "skip"), [(0, 50, 0), (4, 0, 0), (4, 50, 50), (4, 50, -1)])
def test_numbers_that_mean_nothing_are_refused(
    encoder: Encoder, per_pair: int, depth: int, skip: int
) -> None:
    with pytest.raises(UsageError, match=f"nearest {depth} texts without the first {skip}"):
        mine_from_pool([ASPIRIN], encoder=encoder, per_pair=per_pair, depth=depth, skip=skip)


@pytest.mark.parametrize(
    "options", [MiningOptions(margin=0), MiningOptions(duplicate=1.5), MiningOptions(steps=0)]
)
def test_bounds_outside_of_0_to_1_are_refused(encoder: Encoder, options: MiningOptions) -> None:
    with pytest.raises(UsageError, match="above 0, up to 1; there is at least one step"):
        mine_from_pool([ASPIRIN], encoder=encoder, options=options)
