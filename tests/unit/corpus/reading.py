"""What the tests of readers share: files on disk in, documents and reasons out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moe_retrieval.corpus.readers import read_corpus
from moe_retrieval.types import Document, Rejected, Skipped


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(*paths: Path | str, **options: Any) -> list[Document | Rejected | Skipped]:
    return list(read_corpus([str(path) for path in paths], **options))


def documents(*paths: Path | str, **options: Any) -> list[Document]:
    items = read(*paths, **options)
    assert [item for item in items if not isinstance(item, Document)] == []
    return [item for item in items if isinstance(item, Document)]


def document(path: Path | str, **options: Any) -> Document:
    (found,) = documents(path, **options)
    return found


def reasons(*paths: Path | str, **options: Any) -> list[str]:
    return [item.reason for item in read(*paths, **options) if isinstance(item, Rejected)]


def headed(found: Document) -> list[tuple[str, str]]:
    """Heading and text of each section."""
    return [(part.heading, found.text[part.start : part.end].strip()) for part in found.sections]
