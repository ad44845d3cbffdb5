"""Test collections in BEIR layout: corpus.jsonl, queries.jsonl and qrels of one folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import UsageError
from moe_retrieval.types import slug

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_LINE = 'one {"_id": "q1", "text": "..."} per line'

Qrels = dict[str, dict[str, int]]
"""Query id -> document id -> grade; 0: judged, and not relevant."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents and judged queries by id; `domains`: of documents and of queries, where records name one."""

    name: str
    documents: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    document_domains: Mapping[str, str]
    query_domains: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """Judged queries by id, without documents; `domains`: of those that name one."""

    name: str
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    domains: Mapping[str, str]


def read_asked(folder: Path, *, split: str = "") -> Asked:
    """As `read_collection`, without its documents, which lie in a store; corpus.jsonl need not be there.

    Raises:
        UsageError: a file is missing or damaged, or no query is judged.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", hint="give a folder in BEIR layout")
    asked, qrels = _judged(folder, split)
    texts = {name: _text(one) for name, one in asked.items()}
    return Asked(folder.resolve().name, texts, {name: qrels[name] for name in texts}, _domains(asked))


def read_collection(folder: Path, *, split: str = "") -> Collection:
    """The collection of a folder. A document's text is its title and its text, joined by a blank.

    Qrels are `qrels.tsv`, or `qrels/<split>.tsv` as BEIR publishes them (without `split`: test, or the only
    one there). Queries that nothing was judged for are left out.

    Raises:
        UsageError: a file is missing or damaged; the message names file and line.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", hint="give a folder in BEIR layout")
    documents = {str(one["_id"]): one for one in _records(folder / "corpus.jsonl")}
    queries, qrels = _judged(folder, split)
    return Collection(
        name=folder.name,
        documents={name: _text(one) for name, one in documents.items()},
        queries={name: _text(one) for name, one in queries.items()},
        qrels={name: qrels[name] for name in queries},
        document_domains=_domains(documents),
        query_domains=_domains(queries),
    )


def _judged(folder: Path, split: str) -> tuple[dict[str, dict[str, Any]], Qrels]:
    """The records of the judged queries, by id, and all judgements."""
    asked = {str(one["_id"]): one for one in _records(folder / "queries.jsonl")}
    qrels = read_qrels(_qrels_file(folder, split))
    queries = {name: one for name, one in asked.items() if name in qrels}
    if not queries:
        raise UsageError(
            f"{folder} has no query with a judgement", hint="ids in queries and qrels must agree"
        )
    return queries, qrels


def read_qrels(path: Path) -> Qrels:
    """Judgements of a tsv file with a header (BEIR), or of TREC's four columns.

    Raises:
        UsageError: the file cannot be read, or a line is no judgement; the message names it.
    """
    qrels: Qrels = {}
    for number, line in enumerate(_lines(path), start=1):
        parts = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or (number == 1 and parts[0].lower() in ("query-id", "query_id", "qid")):
            continue
        fields = [parts[0], parts[2], parts[3]] if len(parts) == 4 else parts
        try:
            query, document, grade = fields[0], fields[1], int(float(fields[2]))
        except (IndexError, ValueError, OverflowError) as error:
            raise UsageError(
                f"{path}, line {number} is no judgement", hint="query-id, corpus-id, score, set apart by tabs"
            ) from error
        qrels.setdefault(query, {})[document] = grade
    return qrels


def _qrels_file(folder: Path, split: str) -> Path:
    if split:
        return folder / "qrels" / f"{split}.tsv"
    if (whole := folder / "qrels.tsv").is_file():
        return whole
    if (test := folder / "qrels" / "test.tsv").is_file():
        return test
    found = sorted((folder / "qrels").glob("*.tsv"))
    if len(found) != 1:
        raise UsageError(f"{folder} has no qrels.tsv", hint="give the split: qrels/<split>.tsv")
    return found[0]


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if "\\u" in line:
                json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            said = f"{path}, line {number} holds half a character (a lone surrogate)"
            raise UsageError(said, hint="write it in UTF-8, or as two \\u escapes") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}, line {number} is no JSON: {error}", hint="fetch it again") from error
        if not isinstance(record, dict) or "_id" not in record or not isinstance(record.get("text"), str):
            raise UsageError(f"{path}, line {number} has no _id or no text", hint=_LINE)
        yield record


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        hint = "a collection has corpus.jsonl, queries.jsonl, qrels.tsv"
        raise UsageError(f"{path} cannot be read: {reason}", hint=hint) from error


def _text(record: Mapping[str, Any]) -> str:
    return f"{record.get('title') or ''} {record['text']}".strip()


def _domains(records: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name: slug(str(one["domain"])) for name, one in records.items() if one.get("domain")}
