"""One query by sentence-transformers and LanceDB, in a process of its own.

python cold_query.py build ROWS.jsonl MODEL_FOLDER FOLDER
python cold_query.py query TEXT MODEL_FOLDER FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    task, said, model, folder = sys.argv[1:]
    import lancedb
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(model, device="cpu")
    database = lancedb.connect(folder)
    if task == "build":
        rows = [json.loads(line) for line in Path(said).read_text("utf-8").splitlines()]
        vectors = encoder.encode([row["text"] for row in rows], normalize_embeddings=True)
        table = [{**row, "vector": vector} for row, vector in zip(rows, vectors, strict=True)]
        database.create_table("documents", table)
        return
    vector = encoder.encode([said], normalize_embeddings=True)[0]
    for row in database.open_table("documents").search(vector).limit(10).to_list():
        print(row["_id"], row["_distance"], row["text"][:80])


if __name__ == "__main__":
    main()
