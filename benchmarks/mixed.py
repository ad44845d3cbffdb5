"""One store of several collections, biomedical and not, and its queries in two halves: what routing and
fusion are tuned and judged on.

    python benchmarks/mixed.py DATA [--work FOLDER] [--layout LAYOUT] [--experts DOMAIN=FOLDER,...]

builds the stores: `LAYOUT-general`, where every domain is on the general expert, and, where experts are
named, `LAYOUT-experts`: a copy in which the named domains are embedded again, each with its expert.

- `mixed`: six collections, each domain of each is a domain of its own (`medquad-oncology`, `sysrev-pain`, 28
  in all).
- `whole`: the same, each collection is one domain.
- `wide`: each of nine collections is one: all of DATA that have queries, but evidence_inference, whose
  documents are what cocitation_titles asks with. Nothing was ever chosen on healthver and scitldr.

A document's or query's id begins with its collection. A query belongs to the validation half where the first
bit of the sha256 of its id is 0, else to the test half: the split is this sentence, so it was there before
anything was tuned. What is learnt or chosen sees validation queries only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from baselines import CACHE, load_beir
from quality import cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from moe_retrieval import Moeret, Router

COLLECTIONS = ("cacm", "cisi", "npl_vaswani", "medquad", "sysrev", "cocitation_titles")
WHOLE = ("cacm", "cisi", "npl_vaswani")
"""Collections that are one domain in every layout."""


@dataclass(frozen=True)
class Layout:
    """Which collections a store holds, and whether each is one domain."""

    collections: tuple[str, ...]
    whole: bool

    def domain(self, collection: str, label: str) -> str:
        """The store's domain for a domain of a collection."""
        from moe_retrieval.types import slug

        return slug(collection if self.whole or collection in WHOLE else f"{collection} {label}")


MIXED = Layout(COLLECTIONS, whole=False)
LAYOUTS = {
    "mixed": MIXED,
    "whole": Layout(COLLECTIONS, whole=True),
    "wide": Layout((*COLLECTIONS, "ohsumed_disease", "healthver", "scitldr"), whole=True),
}


@dataclass(frozen=True)
class Query:
    """A judged query: text (cut as in quality.py), domain in the store, and the grades of documents."""

    id: str
    text: str
    collection: str
    domain: str
    grades: Mapping[str, int]

    @property
    def is_test(self) -> bool:
        return hashlib.sha256(self.id.encode()).digest()[0] >= 128


def queries(data: Path, layout: Layout = MIXED) -> list[Query]:
    """All judged queries of all collections."""
    found: list[Query] = []
    for name in layout.collections:
        _documents, asked, qrels = load_beir(data / name)
        judged = [one for one in asked if one in qrels]
        texts = cut([asked[one]["text"] for one in judged])
        found += [
            Query(
                f"{name}/{one}",
                text,
                name,
                layout.domain(name, asked[one]["domain"]),
                {f"{name}/{document}": grade for document, grade in qrels[one].items()},
            )
            for one, text in zip(judged, texts, strict=True)
        ]
    return found


def write_corpus(data: Path, file: Path, layout: Layout = MIXED) -> None:
    """The documents of all collections as one file of JSON lines, with the store's domains."""
    with file.open("w", encoding="utf8") as stream:
        for record in _documents(data, layout):
            stream.write(json.dumps(record) + "\n")


def opened(work: Path, *, name: str = "mixed-general", experts: tuple[str, ...] = ()) -> Moeret:
    """The store of that name; it need not exist yet."""
    from moe_retrieval import Moeret
    from moe_retrieval.settings import load_settings

    settings = load_settings(store=work / name, experts=experts).values
    return Moeret.open(settings=settings)


def fitted_router(store: Moeret) -> Router:
    """A router fitted as `moeret index` would now: the store's own may be of an older version."""
    from moe_retrieval.retrieval.routing import fit_router

    live = store.store.catalog.latest()
    router = fit_router(store.store, live.domains, store.encoder(), live=live) if live else None
    if router is None:
        raise SystemExit("the store is empty")
    return router


def _documents(data: Path, layout: Layout) -> Iterator[dict[str, str]]:
    for name in layout.collections:
        documents, _asked, _qrels = load_beir(data / name)
        for one, record in documents.items():
            yield {
                "_id": f"{name}/{one}",
                "title": record.get("title", ""),
                "text": record["text"],
                "domain": layout.domain(name, record["domain"]),
            }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=CACHE)
    parser.add_argument("--layout", choices=LAYOUTS, default="mixed")
    parser.add_argument("--experts", default="")
    given = parser.parse_args()
    layout = LAYOUTS[given.layout]
    given.work.mkdir(parents=True, exist_ok=True)
    corpus = given.work / f"{given.layout}.jsonl"
    if not corpus.is_file():
        write_corpus(given.data, corpus, layout)
    experts = tuple(filter(None, given.experts.split(",")))
    general = opened(given.work, name=f"{given.layout}-general")
    report = general.index(corpus, domain_field="domain")
    print(json.dumps({"chunks": report.chunks, "encoded": report.encoded}), flush=True)
    if experts:
        copy = given.work / f"{given.layout}-experts"
        shutil.copytree(given.work / f"{given.layout}-general", copy, dirs_exist_ok=True)
        report = opened(given.work, name=copy.name, experts=experts).reindex()
        print(json.dumps({"experts": report.domains, "encoded": report.encoded}), flush=True)
    asked = queries(given.data, layout)
    for name in layout.collections:
        mine = [one for one in asked if one.collection == name]
        print(f"{name}: {len(mine)} queries, {sum(one.is_test for one in mine)} of them test")


if __name__ == "__main__":
    main()
