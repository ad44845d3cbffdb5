"""Pairs from documents alone: title and body, neighbouring sections, a sentence and what stands around it."""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from moe_retrieval.corpus.assembly import one_line
from moe_retrieval.corpus.pairs import Pair
from moe_retrieval.errors import UsageError, did_you_mean
from moe_retrieval.hashing import hash63
from moe_retrieval.types import Document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from moe_retrieval.types import Rejected, Skipped

    Sides = tuple[str, str]

LONGEST = 1_200  # characters of a side: about what a model of 256 tokens reads
FEWEST_IN_A_TITLE = 8  # characters, as below: words are not told apart by blanks in every language
FEWEST_IN_A_SENTENCE = 25
FEWEST_IN_A_TEXT = 60
FEWEST_SENTENCES = 3  # of a paragraph that one is taken out of
PER_DOCUMENT = 4  # pairs of one kind: a book must not drown the leaflets

_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(  # behind its mark and a closing quote, before a word that is not in lower case
    r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+(?=[\"'(\[]?[^\Wa-z_])"
    r"|(?<=[\u3002\uff01\uff1f])"  # the marks of Chinese and Japanese
)
_NO_END = re.compile(
    r"\b(?:al|approx|cf|dr|e\.g|etc|figs?|i\.e|mrs?|no|prof|refs?|vs|[a-z])\.$", re.IGNORECASE
)
_HASHES = re.compile(r"^#{1,6}\s+")
_DATE = re.compile(r"\d{4}(?:-\d{2}(?:-\d{2})?)?")
_DATE_FIELDS = ("date", "publication_date", "published", "year")


class UnlabelledKind(StrEnum):
    """What of a document stands on the two sides."""

    TITLE_BODY = "title-body"
    NEIGHBOURS = "neighbours"
    SENTENCE_REST = "sentence-rest"


def document_pairs(
    documents: Iterable[Document | Rejected | Skipped],
    *,
    seed: int,
    kinds: Sequence[str] = tuple(UnlabelledKind),
) -> Iterator[Pair]:
    """Pairs that every document makes by itself, at most 4 of a kind; a document too short makes none.

    `title-body`: the title, the beginning of the text. `neighbours`: two sections that follow each other, or
    two paragraphs where there are no sections. `sentence-rest`: a sentence, the rest of its paragraph without
    it (inverse cloze, Lee et al., ACL 2019). Both ids name the document, so that no split parts it. What
    `seed` chooses in a document depends on that document alone, not on the others or their order.

    Raises:
        UsageError: there is no such kind.
    """
    known = {str(kind) for kind in UnlabelledKind}
    for kind in kinds:
        if kind not in known:
            raise UsageError(f"no kind of pair is called {kind!r}", hint=did_you_mean(kind, sorted(known)))
    chosen = [kind for kind in UnlabelledKind if kind in kinds]
    return (
        pair
        for document in documents
        if isinstance(document, Document)
        for kind in chosen
        for pair in _pairs(document, kind, seed)
    )


def _pairs(document: Document, kind: UnlabelledKind, seed: int) -> Iterator[Pair]:
    sides = [(a, b) for a, b in _MAKERS[kind](document, seed) if a and b and a.casefold() != b.casefold()]
    for a, b in _drawn(sides, PER_DOCUMENT, said=f"{seed}\0{kind}\0{document.id}"):
        yield Pair(
            a=a,
            b=b,
            domain=document.domain or "",
            kind=str(kind),
            a_id=document.id,
            b_id=document.id,
            date=_date(document),
        )


def _drawn(sides: Sequence[Sides], most: int, *, said: str) -> list[Sides]:
    """At most `most`, in their order, by the hashes of their places: no generator carries over a state."""
    if len(sides) <= most:
        return list(sides)
    order = sorted(range(len(sides)), key=lambda place: hash63(f"{said}\0{place}".encode()))
    return [sides[place] for place in sorted(order[:most])]


def _date(document: Document) -> str:
    values = (str(document.metadata.get(name) or "") for name in _DATE_FIELDS)
    found = (_DATE.match(value) for value in values)
    return next((date[0] for date in found if date), "")


# --- the kinds --------------------------------------------------------------------------------------------


def _title_and_body(document: Document, _: int) -> Iterator[Sides]:
    title, body = one_line(document.title), one_line(_after_title(document))
    if len(title) >= FEWEST_IN_A_TITLE and len(body) >= FEWEST_IN_A_TEXT:
        yield title, _beginning(body)


def _after_title(document: Document) -> str:
    """The text below its own title: a side that repeats the other teaches to compare letters."""
    first, _, rest = document.text.lstrip().partition("\n")
    same = _bare(_HASHES.sub("", first)) == _bare(document.title)
    return rest.lstrip("=-\n ") if same else document.text  # "====": the line below a title in Markdown


def _bare(line: str) -> str:
    return one_line(line).rstrip(" .:#").casefold()


def _neighbours(document: Document, _: int) -> Iterator[Sides]:
    parts = _sections(document) or _paragraphs(document.text)
    for one, next_one in pairwise(parts):
        if min(len(one), len(next_one)) >= FEWEST_IN_A_TEXT:
            yield _beginning(one), _beginning(next_one)


def _sentence_and_rest(document: Document, seed: int) -> Iterator[Sides]:
    for number, paragraph in enumerate(_paragraphs(document.text)):
        sentences = _sentences(paragraph)
        usable = [place for place, one in enumerate(sentences) if len(one) >= FEWEST_IN_A_SENTENCE]
        if len(sentences) < FEWEST_SENTENCES or not usable:
            continue
        place = usable[hash63(f"{seed}\0{document.id}\0{number}".encode()) % len(usable)]
        rest = " ".join(sentences[:place] + sentences[place + 1 :])
        if len(rest) >= FEWEST_IN_A_TEXT and sentences[place].casefold() not in rest.casefold():
            yield _beginning(sentences[place]), _beginning(rest)


_MAKERS: dict[UnlabelledKind, Callable[[Document, int], Iterator[Sides]]] = {
    UnlabelledKind.TITLE_BODY: _title_and_body,
    UnlabelledKind.NEIGHBOURS: _neighbours,
    UnlabelledKind.SENTENCE_REST: _sentence_and_rest,
}


# --- parts of a text --------------------------------------------------------------------------------------


def _sections(document: Document) -> list[str]:
    spans = (document.text[part.start : part.end] for part in document.sections)
    texts = [text for text in map(one_line, spans) if text]
    return texts if len(texts) > 1 else []


def _paragraphs(text: str) -> list[str]:
    return [paragraph for paragraph in map(one_line, _PARAGRAPH.split(text)) if paragraph]


def _sentences(paragraph: str) -> list[str]:
    """Sentences by punctuation; an abbreviation or an initial ends none."""
    found: list[str] = []
    for part in (part.strip() for part in _SENTENCE.split(paragraph)):
        if found and _NO_END.search(found[-1]):
            found[-1] = f"{found[-1]} {part}"
        elif part:
            found.append(part)
    return found


def _beginning(text: str) -> str:
    """The text up to the last blank before the limit; where there is none, to the limit."""
    if len(text) <= LONGEST:
        return text
    return text[: max(text.rfind(" ", 0, LONGEST + 1), 0) or LONGEST]
