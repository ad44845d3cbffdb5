"""Records of biomedical XML as elements, streamed; and the words in them."""

from __future__ import annotations

from html.entities import entitydefs
from typing import TYPE_CHECKING

from moe_retrieval.corpus.assembly import one_line
from moe_retrieval.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO
    from xml.etree.ElementTree import Element

    from moe_retrieval.corpus.sources import Limits, SourceFile

_BLOCK = 1 << 20  # bytes fed at once: expat scans a long token again with every block
_DEEPEST = 200  # open elements; JATS in the wild stays under 40
_ROOTS = {"article": 0, "pmc-articleset": 1, "PubmedArticle": 0, "PubmedArticleSet": 1}
_RECORDS = frozenset({"article", "PubmedArticle", "PubmedBookArticle"})
INLINE = frozenset(
    {"a", "abbrev", "b", "bold", "email", "ext-link", "fixed-case", "i", "inline-formula", "inline-graphic"}
    | {"italic", "monospace", "named-content", "overline", "roman", "sans-serif", "sc", "strike"}
    | {
        "styled-content",
        "sub",
        "sup",
        "u",
        "underline",
        "uri",
        "xref",
        "math",
        "mi",
        "mn",
        "mo",
        "mrow",
        "msub",
        "msup",
    }
)
UNREAD = frozenset(
    {
        "ref-list",
        "tex-math",
        "annotation",
        "graphic",
        "media",
        "permissions",
        "object-id",
        "fn-group",
        "label",
    }
)


class _Meter:
    """Feeds the parser large blocks, and stops it when one record takes more bytes than a record may."""

    def __init__(self, stream: BinaryIO, *, most: int) -> None:
        self._stream = stream
        self._most = most
        self._since = 0

    def read(self, _: int = -1) -> bytes:
        block = self._stream.read(_BLOCK)
        self._since += len(block)
        if self._since > self._most + _BLOCK:
            raise RejectedError(f"a record larger than {self._most:,} bytes")
        return block

    def record_ends(self) -> None:
        self._since = 0


def elements(file: SourceFile, limits: Limits) -> Iterator[tuple[Element, bool]]:
    """Each record's element, whole, and whether it is the root; it is emptied when the next is asked for."""
    from defusedxml.ElementTree import XMLParser, iterparse

    parser = XMLParser(forbid_dtd=False, forbid_entities=True, forbid_external=True)
    parser.entity.update(entitydefs)  # those of HTML and JATS, which only the document type would declare
    meter = _Meter(file.stream, most=limits.record_bytes)
    path: list[str] = []
    root: Element | None = None
    count = 0
    for event, element in iterparse(meter, events=("start", "end"), parser=parser):
        if event == "start":
            element.tag = _local(element.tag)
            if root is None:
                root = _checked_root(element, file, limits)
            path.append(element.tag)
            count += 1
            _check_shape(len(path), count, limits)
            continue
        path.pop()
        if element.tag in _RECORDS and len(path) == _ROOTS[(path or [element.tag])[0]]:
            yield element, not path
            element.clear()
            if root is not None:
                root.clear()
            meter.record_ends()
            count = 0


def _checked_root(element: Element, file: SourceFile, limits: Limits) -> Element:
    if element.tag not in _ROOTS:
        raise RejectedError(
            f"XML of an unknown kind: <{element.tag[:40]}>, not <article> or <PubmedArticleSet>"
        )
    if _ROOTS[element.tag] == 0:
        limits.check_file(file.size)
    return element


def _check_shape(depth: int, count: int, limits: Limits) -> None:
    if depth > _DEEPEST:
        raise RejectedError(f"nested deeper than {_DEEPEST} elements")
    if count > limits.elements:
        raise RejectedError(f"a record of more than {limits.elements:,} elements")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def inline(element: Element) -> str:
    """All words of an element in one line; a child that is no inline markup stands apart."""
    return one_line("".join(_texts(element)))


def _texts(element: Element) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if child.tag not in UNREAD:
            gap = "" if child.tag in INLINE else " "
            yield gap
            yield from _texts(child)
            yield gap
        yield child.tail or ""


def first(element: Element, *paths: str) -> Element:
    """The first of several elements that is there; else the element itself."""
    found = (element.find(path) for path in paths)
    return next((part for part in found if part is not None), element)


def words(element: Element, path: str) -> str:
    found = element.find(path)
    return inline(found) if found is not None else ""
