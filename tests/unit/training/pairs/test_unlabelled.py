"""Pairs that documents make by themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_retrieval.corpus.pairs import Pair
from moe_retrieval.errors import UsageError
from moe_retrieval.training.pairs.unlabelled import LONGEST, PER_DOCUMENT, UnlabelledKind, document_pairs
from moe_retrieval.types import Document, Rejected, Section, Skipped

SENTENCES = (
    "Willow bark has been chewed against fever for a very long time.",
    "A chemist boiled it down to a white powder (approx. a spoon of it).",
    "Smith et al. found that the powder upsets the stomach of many.",
    "Its acetylated form is kinder, and is sold to this day!",
)
LEAFLET = Document("leaflet", " ".join(SENTENCES), title="From willow bark to a pill", domain="drugs")
CHAPTERS = ("How the bark was found", "What the powder did", "Why it is still taken", "What comes after it")


def book(chapters: int) -> Document:
    """One section per chapter; each says another thing."""
    text, sections = "", []
    for number in range(chapters):
        start = len(text)
        text += f"Chapter {number}\n{CHAPTERS[number % 4]} and what the sailors of ship {number} said.\n\n"
        sections.append(Section(start, len(text), f"Chapter {number}"))
    return Document("book", text, sections=tuple(sections))


def made(*documents: Document | Rejected | Skipped, kind: str = "", seed: int = 0) -> list[Pair]:
    return list(document_pairs(documents, seed=seed, kinds=(kind,) if kind else tuple(UnlabelledKind)))


def test_the_title_goes_with_the_beginning_of_the_text() -> None:
    assert made(LEAFLET, kind="title-body") == [
        Pair(
            a=LEAFLET.title,
            b=LEAFLET.text,
            domain="drugs",
            kind="title-body",
            a_id="leaflet",
            b_id="leaflet",
        )
    ]


@pytest.mark.parametrize(
    "top",
    [
        "From willow bark to a pill\n",
        "# From Willow Bark to a Pill\n\n",
        "From willow bark to a pill.\n=====\n",
    ],
)
def test_a_text_that_begins_with_its_title_is_taken_from_below_it(top: str) -> None:
    (pair,) = made(replace(LEAFLET, text=top + LEAFLET.text), kind="title-body")
    assert pair.b == LEAFLET.text


def test_a_sentence_that_begins_like_the_title_stays_whole() -> None:
    text = f"{LEAFLET.title} it was a long way, which many people of many countries went together."
    (pair,) = made(replace(LEAFLET, text=text), kind="title-body")
    assert pair.b == text


def test_sections_go_with_the_ones_that_follow_them() -> None:
    pairs = made(book(3), kind="neighbours")
    assert [(pair.a[:9], pair.b[:9]) for pair in pairs] == [
        ("Chapter 0", "Chapter 1"),
        ("Chapter 1", "Chapter 2"),
    ]
    assert "\n" not in pairs[0].a


def test_without_sections_paragraphs_are_neighbours() -> None:
    one, two = " ".join(SENTENCES[:2]), " ".join(SENTENCES[2:])
    (pair,) = made(Document("d", f"{one}\n \n{two}"), kind="neighbours")
    assert (pair.a, pair.b) == (one, two)


def test_a_sentence_is_taken_out_of_its_paragraph() -> None:
    (pair,) = made(LEAFLET, kind="sentence-rest")
    assert pair.a in SENTENCES
    assert pair.b == " ".join(one for one in SENTENCES if one != pair.a)


def test_another_seed_takes_another_sentence() -> None:
    assert {made(LEAFLET, kind="sentence-rest", seed=seed)[0].a for seed in range(30)} == set(SENTENCES)


def test_a_sentence_that_is_said_twice_is_not_taken_out_once() -> None:
    text = " ".join([SENTENCES[0]] * 4)
    assert made(Document("d", text), kind="sentence-rest") == []


def test_sentences_of_languages_without_blanks_are_found() -> None:
    text = "阿司匹林最早是从柳树皮中提取出来的一种白色粉末，已有很长的历史。" + "".join(
        f"第{number}位医生在他的笔记中写下了病人服药之后的感受和体温的变化情况。" for number in range(3)
    )
    (pair,) = made(Document("d", text), kind="sentence-rest")
    assert pair.a.endswith("。")
    assert pair.a not in pair.b


def test_a_long_document_makes_a_few_pairs_of_each_kind_in_its_order() -> None:
    pairs = made(book(40), kind="neighbours")
    assert len(pairs) == PER_DOCUMENT
    numbers = [int(pair.a.split()[1]) for pair in pairs]
    assert numbers == sorted(numbers)
    assert numbers != [int(pair.a.split()[1]) for pair in made(book(40), kind="neighbours", seed=1)]


def test_long_sides_end_with_a_whole_word() -> None:
    words = [f"word{number}" for number in range(900)]
    (pair,) = made(Document("d", " ".join(words), title="Many words"), kind="title-body")
    taken = pair.b.split()
    assert taken == words[: len(taken)]
    assert LONGEST - 10 < len(pair.b) <= LONGEST


@pytest.mark.parametrize(
    "document",
    [
        Document("d", "Too short."),
        Document("d", "A title of its own", title="A title of its own"),
        Document("d", "Short. Words. Only.\n\nHere. And there.", title="A title of its own"),
        Document("d", "x" * 500, title="Short"),
    ],
    ids=["a line", "nothing but the title", "small paragraphs", "a title of one short word"],
)
def test_a_document_too_short_makes_nothing(document: Document) -> None:
    assert made(document) == []


def test_what_is_no_document_is_passed_over() -> None:
    assert made(Rejected("x", "broken"), Skipped("y", "hidden")) == []


def test_both_sides_name_the_document_and_its_date() -> None:
    dated = replace(LEAFLET, metadata={"year": 1999, "journal": "Barks"})
    for pair in made(dated):
        assert (pair.a_id, pair.b_id, pair.date, pair.domain) == ("leaflet", "leaflet", "1999", "drugs")


def test_pairs_do_not_depend_on_the_other_documents_or_their_order() -> None:
    alone = {pair for document in (LEAFLET, book(40)) for pair in made(document, seed=7)}
    assert set(made(book(40), LEAFLET, seed=7)) == alone


def test_a_kind_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no kind of pair is called 'title'; did you mean 'title-body'\?"):
        document_pairs([], seed=0, kinds=("title",))


@settings(deadline=None, max_examples=150)
@given(
    st.text(st.sampled_from('ab A.!?。"\n#=\u2028x1'), max_size=400),
    st.text(st.sampled_from("aA b.#"), max_size=20),
    st.integers(0, 3),
)
def test_no_side_is_ever_empty_equal_or_too_long(text: str, title: str, seed: int) -> None:
    document = Document(
        "d", text, title=title, sections=(Section(0, len(text) // 2), Section(len(text) // 2, len(text)))
    )
    for pair in made(document, seed=seed):
        assert pair.a.strip()
        assert pair.b.strip()
        assert pair.a.casefold() != pair.b.casefold()
        assert max(len(pair.a), len(pair.b)) <= LONGEST
