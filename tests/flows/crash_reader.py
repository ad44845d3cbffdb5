"""A program that queries a store until its standard input ends, and writes down every answer.

    python -m tests.flows.crash_reader STORE MODEL GRAPHS FILE SEED

Each line of FILE is one answer: its generation, the query, and the hits with what they are a part of. A hit
whose text is not that of the version it claims to be, and an error of any kind, end the program with it.
"""

from __future__ import annotations

import json
import random
import select
import sys
from pathlib import Path
from typing import Any

from moe_retrieval import Hit, Store
from moe_retrieval.retrieval.pinned import EncoderChoice
from moe_retrieval.retrieval.retriever import Answer, Retriever
from moe_retrieval.types import Mode, Precision
from tests.flows.crash_corpus import DOMAINS, queries, text_of

PAUSE = 0.05
"""Seconds between two queries: the writer is to be disturbed, not starved."""


def main() -> None:
    store, model, graphs, file, seed = sys.argv[1:]
    choice = EncoderChoice(model=model, precision=Precision.FP32, cache=Path(graphs))
    retriever = Retriever(Store.open(store), choice=choice)
    draw, asked = random.Random(int(seed)), queries()
    with Path(file).open("a", encoding="utf8") as answers:
        while not select.select([sys.stdin], [], [], PAUSE)[0]:
            answer = ask(retriever, draw, asked)
            answers.write(json.dumps(told(answer)) + "\n")
            answers.flush()
    retriever.close()


def ask(retriever: Retriever, draw: random.Random, asked: list[str]) -> Answer:
    domains = draw.choice([None, None, [draw.choice(DOMAINS)]])
    mode = draw.choice(list(Mode))
    return retriever.query(draw.choice(asked), k=draw.choice([1, 5, 20]), mode=mode, domains=domains)


def told(answer: Answer) -> dict[str, Any]:
    return {
        "generation": answer.generation,
        "query": answer.query,
        "hits": [_part(hit) for hit in answer.hits],
    }


def _part(hit: Hit) -> tuple[str, str, int, int, int, float | None]:
    version = int(str(hit.metadata["version"]))
    if hit.text != text_of(hit.doc_id, version)[hit.start : hit.end]:
        raise AssertionError(f"{hit.chunk_id} claims to be of {hit.doc_id} version {version}: {hit.text!r}")
    return hit.domain, hit.doc_id, version, hit.start, hit.end, hit.why.vector_score


if __name__ == "__main__":
    main()
