"""Plain text and Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from moe_retrieval.corpus.assembly import HeadingPath, one_line, spans_to_sections
from moe_retrieval.corpus.cleaning import clean, decode
from moe_retrieval.corpus.records import metadata_of, typed
from moe_retrieval.types import Document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_retrieval.corpus.sources import Limits, SourceFile
    from moe_retrieval.types import Section

LONGEST_TITLE = 150
_MOST_FRONT_LINES = 200
_TITLE_LEVEL = 1

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_FRONT_KEY = re.compile(r"([A-Za-z_][\w .-]{0,63}):(?:[ \t]+(.*))?")
_FRONT_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)")


def read_text(file: SourceFile, limits: Limits) -> Iterator[Document]:
    """The whole file is the text; a short first line before an empty one is also the title."""
    text = _content(file, limits)
    first, _, rest = text.lstrip().partition("\n")
    alone = rest.partition("\n")[0].strip() == "" and rest.strip() != ""
    title = one_line(first) if alone and len(first) <= LONGEST_TITLE else ""
    yield Document(file.name, text, file.source, title)


def read_markdown(file: SourceFile, limits: Limits) -> Iterator[Document]:
    """The text as it stands: sections by ATX headings, title by the first `# `, metadata by front matter."""
    fields, text = front_matter(_content(file, limits))
    given = next((fields.pop(name) for name in list(fields) if name.lower() == "title"), "")
    title, sections = _sections(text)
    yield Document(
        file.name,
        text,
        file.source,
        title or one_line(str(given)),
        metadata=metadata_of(fields),
        sections=sections,
    )


def front_matter(text: str) -> tuple[dict[str, object], str]:
    """Fields between two `---` lines at the very beginning, and the text after them.

    Not YAML: `key: value`, `key: [a, b]` and `- item` lines under a key, of scalars. Other lines say nothing.
    """
    head, _, rest = text.partition("\n")
    if head.rstrip() != "---":
        return {}, text
    lines = rest.split("\n", _MOST_FRONT_LINES)
    stop = next((place for place, line in enumerate(lines) if line.rstrip() in ("---", "...")), None)
    if stop is None or not any(_FRONT_KEY.fullmatch(line.rstrip()) for line in lines[:stop]):
        return {}, text
    return _front_fields(lines[:stop]), "\n".join(lines[stop + 1 :])


def _front_fields(lines: Sequence[str]) -> dict[str, object]:
    fields: dict[str, object] = {}
    items: list[str] = []
    for line in lines:
        if found := _FRONT_KEY.fullmatch(line.rstrip()):
            items = []
            fields[found[1].strip()] = _front_value(found[2]) if found[2] else items
        elif item := _FRONT_ITEM.fullmatch(line.rstrip()):
            items.append(_unquoted(item[1]))
    return fields


def _front_value(text: str) -> object:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [_unquoted(part) for part in text[1:-1].split(",") if part.strip()]
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    plain = _unquoted(text)
    return typed(plain) if plain == text else plain


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _sections(text: str) -> tuple[str, tuple[Section, ...]]:
    """Title and sections. A heading's line belongs to its section; the title's own section has no heading."""
    title, path = "", HeadingPath()
    starts: list[tuple[int, str, int | None]] = [(0, "", None)]
    for at, level, heading in _headings(text):
        if level == _TITLE_LEVEL and not title:
            title = heading
            path.clear()
            starts.append((at, "", None))
        else:
            starts.append((at, path.enter(level, heading), None))
    return title, spans_to_sections(starts, size=len(text))


def _headings(text: str) -> Iterator[tuple[int, int, str]]:
    """Offset, level and words of each ATX heading outside of fenced code (CommonMark 0.31, 4.2 and 4.5)."""
    at, fence = 0, ""
    for line in text.split("\n"):
        found = _FENCE.fullmatch(line)
        if fence:
            closes = found and found[1].startswith(fence) and not found[2].strip()
            fence = "" if closes else fence
        elif found and not (found[1][0] == "`" and "`" in found[2]):
            fence = found[1]
        elif (heading := _HEADING.fullmatch(line)) and (heading[2] or "").strip("# \t"):
            yield at, len(heading[1]), one_line(heading[2])
        at += len(line) + 1


def _content(file: SourceFile, limits: Limits) -> str:
    limits.check_file(file.size)
    return clean(decode(file.stream.read(limits.file_bytes + 1)))
