"""Routing documents to 23 domains: the store's router against TF-IDF with logistic regression.

    python benchmarks/router.py DATA [--collection ohsumed_disease] [--splits 3] [--work FOLDER] [--json FILE]

The collection is indexed (into the same store as benchmarks/quality.py uses). Its documents are split 70 :
30, several times. The router learns from the chunk vectors of the 70, as the indexer fits it, and is judged
on the mean vector of each of the 30; the rival on TF-IDF of the same documents, its strength C chosen by
cross-validation on its training part. Printed: accuracy, expected calibration error (15 bins of equal width),
the mean number of domains that hold 90% of the probability, and how often the right one is among them.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from baselines import CACHE, load_beir, whole_text
from quality import indexed


def judged(probabilities: np.ndarray, classes: list[str], labels: np.ndarray) -> dict[str, float]:
    """Accuracy, calibration error, fan-out and coverage at 90% of class probabilities, (n, classes)."""
    predicted = np.array(classes)[probabilities.argmax(axis=1)]
    order = np.argsort(-probabilities, axis=1)
    held = np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1)
    fan = (held < 0.9 - 1e-9).sum(axis=1) + 1
    rank = np.argmax(np.array(classes)[order] == labels[:, None], axis=1)
    return {
        "accuracy": float((predicted == labels).mean()),
        "calibration_error": calibration_error(probabilities.max(axis=1), predicted == labels),
        "fan_out": float(fan.mean()),
        "coverage": float((rank < fan).mean()),
    }


def calibration_error(confidence: np.ndarray, right: np.ndarray, *, bins: int = 15) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015)."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[places == place].mean() - right[places == place].mean()) * (places == place).mean()
        for place in range(bins)
        if (places == place).any()
    ]
    return float(sum(gaps))


def rival(texts: list[str], labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """TF-IDF (sublinear, English stop words, words and pairs) with logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegressionCV

    features = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=2, ngram_range=(1, 2))
    known = features.fit_transform([texts[place] for place in train])
    model = LogisticRegressionCV(
        Cs=[1, 10, 100], cv=3, max_iter=300, scoring="accuracy", use_legacy_attributes=False
    )
    model.fit(known, labels[train])
    found = model.predict_proba(features.transform([texts[place] for place in test]))
    return judged(found, list(model.classes_), labels[test])


def ours(chunks: Chunks, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """The router as the indexer fits it, on chunks of training documents only."""
    from moe_retrieval import Router

    known = np.isin(chunks.owners, train)
    router = Router.fit(
        chunks.vectors[known],
        labels[chunks.owners[known]].tolist(),
        groups=chunks.owners[known].astype(np.int64),
    )
    whole = np.stack([chunks.vectors[chunks.owners == place].mean(axis=0) for place in test])
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    return judged(router.probabilities(whole.astype(np.float32)), list(router.domains), labels[test])


@dataclass(frozen=True)
class Chunks:
    """Stored vectors (n, dim) and the place of each one's document."""

    vectors: np.ndarray
    owners: np.ndarray

    @classmethod
    def load(cls, path: Path, work: Path, places: dict[str, int]) -> Chunks:
        opened = indexed(path, work)
        vectors, owners = [], []
        snapshot = opened.retriever.snapshot()
        for domain in snapshot.domains:
            view = snapshot.view(domain)
            vectors.append(view.vectors())
            for batch in view.batches(("doc_id",)):
                owners += [places[name] for name in batch["doc_id"].to_pylist()]
        return cls(np.concatenate(vectors), np.array(owners))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--collection", default="ohsumed_disease")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--work", type=Path, default=CACHE)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    documents, _queries, _qrels = load_beir(given.data / given.collection)
    texts = [whole_text(record) for record in documents.values()]
    labels = np.array([record["domain"] for record in documents.values()])
    places = {name: place for place, name in enumerate(documents)}
    chunks = Chunks.load(given.data / given.collection, given.work, places)
    results: dict[str, list[dict[str, float]]] = {"router": [], "tf-idf": []}
    for seed in range(given.splits):
        order = np.random.default_rng(seed).permutation(len(texts))
        cut = int(0.7 * len(texts))
        results["router"].append(ours(chunks, labels, order[:cut], order[cut:]))
        results["tf-idf"].append(rival(texts, labels, order[:cut], order[cut:]))
    found = {
        name: {key: round(statistics.mean(one[key] for one in each), 4) for key in each[0]}
        for name, each in results.items()
    }
    print(
        json.dumps(
            {"collection": given.collection, "documents": len(texts), "splits": given.splits, **found},
            indent=1,
        )
    )
    if given.json:
        given.json.write_text(
            json.dumps({"mean": found, "splits": results}, indent=1) + "\n", encoding="utf8"
        )


if __name__ == "__main__":
    main()
