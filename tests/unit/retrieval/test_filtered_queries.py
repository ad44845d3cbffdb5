"""A filter holds for a whole query, by vector and by full text, as text and as an object."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from moe_retrieval import Document, Encoder, Indexer, Retriever, Store
from moe_retrieval.errors import FilterError
from moe_retrieval.filters import Field
from moe_retrieval.types import Mode

HOSTILE = [
    "x' OR '1'='1",
    "\\' OR 1=1 --",
    "'; DROP TABLE t; --",
    "%",
    "_",
    "\\",
    "\0",
    "''",
    '"',
    "é😀\n",
    "') OR (true",
]


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Iterator[Retriever]:
    store = Store.open(tmp_path_factory.mktemp("filtered") / "store", create=True, durable=False)
    indexer = Indexer(store, encoder=encoder)
    for domain, year in (("cvd", 2010), ("skin", 2020)):
        indexer.index(
            [
                Document(f"{domain}{at}", "aspirin for the heart", metadata={"name": name, "year": year})
                for at, name in enumerate(HOSTILE)
            ],
            domain=domain,
        )
    indexer.index([Document("old", "aspirin", metadata={"published": "1999-05-01T08:00"})], domain="cvd")
    opened = Retriever(store, encoder=encoder)
    yield opened
    opened.close()


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_value_gives_its_own_documents_only(retriever: Retriever, name: str, mode: Mode) -> None:
    at = HOSTILE.index(name)
    pattern = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    for where in (Field("name") == name, Field("name").like(pattern), str(Field("name").in_([name]))):
        hits = retriever.query("aspirin", k=50, mode=mode, where=where, domains=["cvd", "skin"]).hits
        assert {hit.doc_id for hit in hits} == {f"cvd{at}", f"skin{at}"}


@pytest.mark.parametrize("mode", Mode)
def test_a_field_that_only_one_domain_has_leaves_the_others_empty(retriever: Retriever, mode: Mode) -> None:
    hits = retriever.query(
        "aspirin", k=50, mode=mode, where="published = 1999-05-01", domains=["cvd", "skin"]
    )
    assert [hit.doc_id for hit in hits.hits] == ["old"]


def test_a_value_of_the_wrong_kind_is_an_error_where_no_domain_has_such_values(retriever: Retriever) -> None:
    with pytest.raises(FilterError, match="'year' holds numbers, and '2020' is text"):
        retriever.query("aspirin", where="year = '2020'", domains=["skin"])
    with pytest.raises(FilterError, match="'published' holds text, and 1999 is a number"):
        retriever.query("aspirin", where="published > 1999", domains=["skin"])
