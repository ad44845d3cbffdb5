"""Index documents and answer queries through moeret's Python interface, in one process, as the rivals do.

python moeret_in_one_process.py DOCUMENTS.jsonl QUERIES.jsonl STORE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from moe_retrieval import Moeret


def main() -> None:
    documents, queries, store = sys.argv[1:]
    moeret = Moeret.open(store)
    moeret.index(documents, domain="all")
    found: dict[str, list[str]] = {}
    for line in Path(queries).read_text("utf-8").splitlines():
        query = json.loads(line)
        hits = moeret.query(query["text"], k=40, mode="vector").hits
        found[query["_id"]] = list(dict.fromkeys(hit.doc_id for hit in hits))[:10]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
