"""What a source of pairs is: by the name of the file or folder, and by its first record."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path

from moe_retrieval.errors import NothingFoundError, UsageError

SPLIT_FILES = ("train.jsonl", "validation.jsonl", "test.jsonl")

_XML = (".xml", ".nxml")


class SourceKind(StrEnum):
    """What a source is; `auto` looks at it."""

    AUTO = "auto"
    CITATIONS = "citations"
    QRELS = "qrels"
    PAIRS = "pairs"
    ARTICLES = "articles"
    DOCUMENTS = "documents"
    HUB = "hub"
    OPENALEX = "openalex"
    PUBMED = "pubmed"


def kind_of(source: str) -> SourceKind:
    """What a file or folder holds, by its name and its first record.

    Raises:
        NothingFoundError: there is no such file or folder.
        UsageError: it cannot be opened.
    """
    path = Path(source)
    try:
        return _kind_of(path)
    except FileNotFoundError as error:
        hint = "for a hub data set give --from hub, for a search --from openalex or --from pubmed"
        raise NothingFoundError(f"there is no file or folder {source}", hint=hint) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{source} cannot be read: {error}", hint="give a file that can be read") from error


def _kind_of(path: Path) -> SourceKind:
    if path.is_dir():
        judged = (path / "qrels").is_dir() or (path / "qrels.tsv").is_file()
        if judged and (path / "corpus.jsonl").is_file():
            return SourceKind.QRELS
        if (path / SPLIT_FILES[0]).is_file():
            return SourceKind.PAIRS
        return SourceKind.ARTICLES if _holds_xml(path) else SourceKind.DOCUMENTS
    with path.open(encoding="utf-8-sig") as stream:
        if path.suffix.lower() in _XML:
            return SourceKind.ARTICLES
        if path.suffix.lower() not in (".jsonl", ".ndjson"):
            return SourceKind.DOCUMENTS
        first = next((line for line in stream if line.strip()), "")
    try:
        record = json.loads(first)
    except (ValueError, RecursionError):
        record = None  # whoever reads it says which line is damaged
    fields = set(record) if isinstance(record, dict) else {"a", "b"}
    if "references" in fields:
        return SourceKind.CITATIONS
    return SourceKind.PAIRS if {"a", "b"} <= fields else SourceKind.DOCUMENTS


def _holds_xml(folder: Path) -> bool:
    return any(path.suffix.lower() in _XML and path.is_file() for path in folder.rglob("*"))
