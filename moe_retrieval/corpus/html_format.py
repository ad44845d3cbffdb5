"""HTML pages: the words a reader sees, without navigation, as paragraphs under headings."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from moe_retrieval.corpus.assembly import Assembly, HeadingPath, one_line
from moe_retrieval.corpus.cleaning import decode, marked
from moe_retrieval.errors import RejectedError
from moe_retrieval.types import Document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_retrieval.corpus.sources import Limits, SourceFile

_DROPPED = frozenset(
    {"head", "script", "style", "nav", "footer", "header", "aside", "noscript", "template"}
    | {"iframe", "svg", "select", "button"}
)
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_BLOCKS = frozenset(
    {"address", "article", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt", "fieldset"}
    | {"figcaption", "figure", "form", "hr", "html", "main", "ol", "p", "pre", "section", "summary", "table"}
    | {"tbody", "tfoot", "thead", "ul", *_HEADINGS}
)  # fmt: skip
_LINES = frozenset({"li", "tr", "br", "dt", "dd"})
_CELLS = frozenset({"td", "th"})
# These close themselves, or are closed by the next of their kind: they cannot pile up.
_FLAT = frozenset(
    b"p li td tr th dt dd option br img hr meta link input col area base embed source track wbr".split()
)
_TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\n\r\f]+")
_HEAD = 1_024  # bytes in which the HTML standard looks for the encoding


def read_html(file: SourceFile, limits: Limits) -> Iterator[Document]:
    """Title from `<title>` or the first `<h1>`; headings begin sections; scripts and navigation go."""
    from selectolax.lexbor import LexborHTMLParser

    limits.check_file(file.size)
    data = file.stream.read(limits.file_bytes + 1)
    _check_nesting(data, limits)
    root = LexborHTMLParser(_decoded(data)).root
    title = _title(root)
    page = _Page({title} | _only_heading(root))
    page.read(root)
    yield Document(file.name, page.assembly.text, file.source, title, sections=page.assembly.sections)


def _decoded(data: bytes) -> str:
    """By byte order mark, as UTF-8, by what the page declares, else as `decode` guesses."""
    if marked(data) is None and (found := _CHARSET.search(data[:_HEAD])):
        try:
            name = codecs.lookup(found[1].decode("ascii", errors="replace")).name
            if name not in ("utf-8", "ascii", "iso8859-1"):  # for the last, browsers and we read cp1252
                return data.decode(name)
        except (LookupError, ValueError):
            pass  # an unknown or wrong declaration, or no encoding of text at all
    return decode(data)


def _check_nesting(data: bytes, limits: Limits) -> None:
    """A million open elements would keep the parser busy for hours, so they are counted before it starts."""
    opened: Counter[bytes] = Counter()
    depth = 0
    for slash, tag in _TAG.findall(data):
        name = tag.lower()
        if name in _FLAT:
            continue
        if not slash:
            opened[name] += 1
            depth += 1
        elif opened[name]:
            opened[name] -= 1
            depth -= 1
        if depth > limits.nesting:
            raise RejectedError(f"nested deeper than {limits.nesting:,} elements")


def _title(root: Any) -> str:
    found = root.css_first("head > title") or root.css_first("h1")
    return one_line(found.text()) if found is not None else ""


def _only_heading(root: Any) -> set[str]:
    """The one `<h1>` of a page stands for the page, whatever its `<title>` says."""
    found = root.css("h1")
    return {one_line(found[0].text())} if len(found) == 1 else set()


class _Page:
    """Walks the tree once, without recursion, and collects blocks."""

    def __init__(self, titles: set[str]) -> None:
        self.assembly = Assembly()
        self._titles = titles
        self._path = HeadingPath()
        self._block: list[str] = []
        self._preformatted = 0

    def read(self, root: Any) -> None:
        stack: list[tuple[Any, bool]] = [(root, False)]
        while stack:
            node, leaving = stack.pop()
            if leaving:
                self._leave(node)
            elif self._enter(node):
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(_children(node)))
        self._flush()

    def _enter(self, node: Any) -> bool:
        """Take the node in; whether its children are to be read."""
        tag = node.tag
        if tag == "-text":
            text = node.text_content or ""
            self._block.append(text if self._preformatted else _SPACE.sub(" ", text))
            return False
        if (tag.startswith("-") and tag != "-document") or tag in _DROPPED:
            return False
        self._separate(tag)
        self._preformatted += tag == "pre"
        if tag in _HEADINGS:
            self._begin(_HEADINGS[tag], one_line(node.text()))
        return True

    def _leave(self, node: Any) -> None:
        if node.tag not in _CELLS:
            self._separate(node.tag)
        self._preformatted -= node.tag == "pre"

    def _separate(self, tag: str) -> None:
        if tag in _LINES:
            self._block.append("\n")
        elif tag in _CELLS:
            self._block.append("\t")
        elif tag in _BLOCKS:
            self._flush()

    def _begin(self, level: int, heading: str) -> None:
        if not heading:
            return
        if heading in self._titles:
            self._path.clear()
            self.assembly.begin()
        else:
            self.assembly.begin(self._path.enter(level, heading))

    def _flush(self) -> None:
        if self._preformatted:
            block = "".join(self._block).strip("\n")
        else:
            lines = (re.sub(r" *\t[ \t]*", "\t", re.sub(" {2,}", " ", line)).strip()
                     for line in "".join(self._block).split("\n"))  # fmt: skip
            block = "\n".join(line for line in lines if line)
        self.assembly.add(block)
        self._block = []


def _children(node: Any) -> list[Any]:
    found, child = [], node.first_child
    while child is not None:
        found.append(child)
        child = child.next
    return found
