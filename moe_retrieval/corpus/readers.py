"""Read a corpus: paths in, documents out, with a reason for everything that is not one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from moe_retrieval.corpus.arguments import expand_all
from moe_retrieval.corpus.assembly import one_line
from moe_retrieval.corpus.html_format import read_html
from moe_retrieval.corpus.office_formats import read_docx, read_pdf
from moe_retrieval.corpus.parquet_format import read_parquet
from moe_retrieval.corpus.scope import Scope, scope_of
from moe_retrieval.corpus.sources import Limits, SourceFile, open_regular
from moe_retrieval.corpus.table_formats import read_delimited, read_json, read_jsonl
from moe_retrieval.corpus.text_formats import read_markdown, read_text
from moe_retrieval.corpus.walking import FORMATS, STDIN_SOURCE, Found, walk
from moe_retrieval.corpus.xml_formats import read_xml
from moe_retrieval.errors import RejectedError, UsageError
from moe_retrieval.hashing import hash63
from moe_retrieval.types import Document, Rejected, Skipped, slug

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from moe_retrieval.types import MetaValue

    Read = Iterator[Document | Rejected]
    Reader = Callable[[SourceFile, Limits], Read]

__all__ = ["FORMATS", "Limits", "Scope", "read_corpus", "scope_of"]

MOST_SHOWN = 80  # characters of a value in a reason

_LIMITS = Limits()


def read_corpus(
    paths: Sequence[str],
    *,
    domain: str | None = None,
    domain_field: str | None = None,
    limits: Limits = _LIMITS,
    stdin: BinaryIO | None = None,
    missing_ok: bool = False,
) -> Iterator[Document | Rejected | Skipped]:
    """Documents of files, folders, patterns (`**` too) and `-` (JSON lines from `stdin`), in a fixed order.

    The domain of a document is `domain`; or the value of its field `domain_field`; or, for a given folder,
    the sub-folder it lies in (a folder without sub-folders is itself the domain); or None: to be routed.
    `source` is the absolute path of the file, with links resolved, or "stdin". With `missing_ok`, a path that
    is gone, a folder without documents and a pattern without match yield nothing, so that what the store
    holds of them can be pruned.

    Raises:
        UsageError: a path is missing, cannot be one or may not be looked at, or the domain means nothing.
        NothingFoundError: a folder holds no documents, or a pattern matches nothing.
    """
    fixed = _checked_domain(domain, domain_field)
    roots = expand_all(paths, missing_ok=missing_ok)
    if None in roots and stdin is None:
        raise UsageError("'-' reads standard input, and there is none", hint="give a file or a folder")
    return _read_roots(roots, fixed, domain_field, limits, stdin)


def _checked_domain(domain: str | None, domain_field: str | None) -> str | None:
    if domain is None:
        return None
    if domain_field is not None:
        raise UsageError("a domain and a field that holds it exclude each other", hint="give one of the two")
    if not slug(domain):
        raise UsageError(f"{domain!r} gives no domain name", hint="use letters, digits and hyphens")
    return slug(domain)


def _read_roots(
    roots: Sequence[Path | None], fixed: str | None, field: str | None, limits: Limits, stdin: BinaryIO | None
) -> Iterator[Document | Rejected | Skipped]:
    seen: set[str] = set()
    layout = fixed is None and field is None
    for root in roots:
        if root is None:
            if stdin is not None:
                file = SourceFile(STDIN_SOURCE, STDIN_SOURCE, stdin, 0, numbered=False)
                yield from _with_domain(_read_stream(file, read_jsonl, limits), fixed, field)
            continue
        for found in walk(root, layout=layout, seen=seen):
            if isinstance(found, Found):
                yield from _with_domain(_read_file(found, limits), fixed or found.domain, field)
            else:
                yield found


def _with_domain(items: Read, domain: str | None, field: str | None) -> Read:
    for item in items:
        if isinstance(item, Rejected):
            yield item
        elif field is None:
            yield replace(item, domain=domain)
        else:
            yield _domain_from_field(item, field)


def _domain_from_field(document: Document, field: str) -> Document | Rejected:
    value = document.metadata.get(field)
    if value is None:
        return _rejected(document, f"no domain in its field {field!r}")
    if not (name := _domain_name(value)):
        return _rejected(document, f"its field {field!r} cannot name a domain: {_shown(value)}")
    return replace(document, domain=name)


def _domain_name(value: MetaValue) -> str:
    """The domain of a text or number; none for a truth value, a list, or an object, which is held as JSON."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return "" if isinstance(value, str) and _is_nested(value) else slug(str(value))


def _is_nested(value: str) -> bool:
    """Whether a text is a list or an object in JSON."""
    if not value.startswith(("[", "{")):
        return False
    try:
        json.loads(value)
    except ValueError:
        return False
    except RecursionError:
        return True
    return True


def _shown(value: MetaValue) -> str:
    """A value as JSON in one line; what is JSON already stays as it is."""
    nested = isinstance(value, str) and _is_nested(value)
    text = one_line(str(value) if nested else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."


def _read_file(found: Found, limits: Limits) -> Read:
    source = found.path.as_posix()
    try:
        stream, size = open_regular(found.path)
    except RejectedError as error:
        yield Rejected(source, error.message)
        return
    except OSError as error:
        yield Rejected(source, f"cannot be read: {error.strerror}")
        return
    with stream:
        if size == 0:
            yield Rejected(source, "an empty file")
            return
        file = SourceFile(source, found.path.name, stream, size)
        yield from _read_stream(file, _READERS[found.path.suffix.lower()], limits)


def _read_stream(file: SourceFile, reader: Reader, limits: Limits) -> Read:
    """What a format reader gives, checked; whatever stops it is a rejection of the file."""
    ids: set[int] = set()
    nothing = True
    try:
        for item in reader(file, limits):
            nothing = False
            yield _checked(item, ids, limits) if isinstance(item, Document) else item
    except RejectedError as error:
        yield Rejected(file.source, error.message)
    except OSError as error:
        yield Rejected(file.source, f"cannot be read: {error.strerror or error}")
    else:
        if nothing:
            yield Rejected(file.source, "no documents in it")


def _checked(document: Document, ids: set[int], limits: Limits) -> Document | Rejected:
    key = hash63(document.id.encode())
    if key in ids:
        return Rejected(document.source, f"duplicate id {document.id!r}")
    if not document.text or document.text.isspace():
        return _rejected(document, "no text")
    if len(document.text) > limits.text_chars:
        return _rejected(document, f"more than {limits.text_chars:,} characters of text")
    ids.add(key)
    return document


def _rejected(document: Document, reason: str) -> Rejected:
    """The reason under the document's id, unless that is the name of its file, which the source ends with."""
    alone = document.source.rpartition("/")[2] == document.id
    return Rejected(document.source, reason if alone else f"{one_line(document.id)}: {reason}")


_READERS: dict[str, Reader] = {
    ".txt": read_text, ".text": read_text, ".md": read_markdown, ".markdown": read_markdown,
    ".html": read_html, ".htm": read_html, ".xhtml": read_html,
    ".json": read_json, ".jsonl": read_jsonl, ".ndjson": read_jsonl,
    ".csv": read_delimited, ".tsv": read_delimited,
    ".parquet": read_parquet, ".xml": read_xml, ".nxml": read_xml, ".pdf": read_pdf, ".docx": read_docx,
}  # fmt: skip
