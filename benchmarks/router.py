"""Routing documents to 23 domains: the store's router against TF-IDF with logistic regression.

    python benchmarks/router.py DATA [--collection ohsumed_disease] [--splits 3] [--work FOLDER] [--json FILE]

The collection is indexed (into the same store as benchmarks/quality.py uses). Its documents are split 70 :
30, several times. The router learns from the chunk vectors of the 70, as the indexer fits it, and is judged
on the mean vector of each of the 30; the rival on TF-IDF of the same documents, its strength C chosen by
cross-validation on its training part. Printed: accuracy, expected calibration error (15 bins of equal width),
the mean number of domains that hold 90% of the probability, and how often the right one is among them; of the
router also the sets that it takes for 90%, 95%, 98% and 99% (`router_choice.choose`), their size and
coverage.
Then, one domain after the other is left out of the 70, and the energies of its documents among the 30 are
compared with those of the others: area under the curve (AUROC), and the shares that are abstained from.

    python benchmarks/router.py DATA --mixed FOLDER [--json FILE]

judges the router of the store that benchmarks/mixed.py built in FOLDER on that store's test queries: as it
is, fitted on chunks, and fitted to the validation queries besides. Then each of the three collections that
are no medicine is left out, and the energies of its chunks are compared with those of all others: a fifth of
the documents is held out, and routers are fitted to as many chunks of the rest as the indexer takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from baselines import CACHE, load_beir, whole_text
from quality import indexed

from moe_retrieval import Router
from moe_retrieval.router_choice import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_retrieval import Moeret


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


def halves(number: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of 70% and of 30% of the documents."""
    order = np.random.default_rng(seed).permutation(number)
    return order[: int(0.7 * number)], order[int(0.7 * number) :]


def fitted(chunks: Chunks, labels: np.ndarray, train: np.ndarray) -> Router:
    """The router as the indexer fits it, on chunks of these documents."""
    known = np.isin(chunks.owners, train)
    owners = chunks.owners[known]
    return Router.fit(chunks.vectors[known], labels[owners].tolist(), groups=owners.astype(np.int64))


def ours(chunks: Chunks, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """The router as the indexer fits it, on chunks of training documents only."""
    router = fitted(chunks, labels, train)
    heads = chunks.heads(test)  # what the indexer routes a document by
    return judged(
        router.probabilities(chunks.means(test), of=Kind.DOCUMENT), list(router.domains), labels[test]
    ) | sets(router, heads, labels[test], of=Kind.DOCUMENT)


def sets(
    router: Router, vectors: np.ndarray, labels: np.ndarray, *, of: Kind, texts: Sequence[str] = ()
) -> dict[str, float]:
    """Coverage and size of the sets that the router takes; abstaining, it searches all domains."""
    words = texts or [""] * len(vectors)
    found: dict[str, float] = {}
    for mass in (0.9, 0.95, 0.98, 0.99):
        choices = [
            router.choose(vector, text, mass=mass, of=of) for vector, text in zip(vectors, words, strict=True)
        ]
        inside = [
            label in {one.domain for one in each.routes} for each, label in zip(choices, labels, strict=True)
        ]
        searched = [len(each.chances if each.abstained else each.routes) for each in choices]
        taken = [len(each.routes) for each in choices]
        found |= {f"coverage_{mass}": float(np.mean(inside)), f"taken_{mass}": float(np.mean(taken))}
        found |= {f"searched_{mass}": float(np.mean(searched))}
    return found | {"abstained": float(np.mean([each.abstained for each in choices]))}


def unseen(chunks: Chunks, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """By domain that was left out: AUROC of the energy, and shares abstained from, of it and of others."""
    train, test = halves(len(labels), seed=0)
    heads = chunks.heads(test)
    return {
        domain: told_apart(
            fitted(chunks, labels, train[labels[train] != domain]), heads, labels[test] == domain
        )
        for domain in sorted(set(labels))
    }


def told_apart(router: Router, vectors: np.ndarray, new: np.ndarray) -> dict[str, float]:
    """Texts of which some (`new`) are of a domain that the router does not know, by their energy."""
    from sklearn.metrics import roc_auc_score

    energies = np.logaddexp.reduce(router.scores(vectors, of=Kind.DOCUMENT), axis=1)
    limit = router.documents.limit
    below = energies < (-np.inf if limit is None else limit)
    return {
        "texts": int(new.sum()),
        "auroc": float(roc_auc_score(new, -energies)),
        "abstained": float(below[new].mean()),
        "abstained_others": float(below[~new].mean()),
    }


def far_subjects(opened: Moeret) -> dict[str, dict[str, float]]:
    """As `unseen`, by chunk: the mixed store without each of its collections that are no medicine."""
    import mixed

    from moe_retrieval.retrieval.routing import SAMPLE

    snapshot = opened.retriever.snapshot()
    views = {name: snapshot.view(name) for name in snapshot.domains}
    vectors = np.concatenate([view.vectors() for view in views.values()])
    labels = np.repeat(list(views), [view.rows for view in views.values()])
    documents = np.concatenate(
        [batch["doc_key"].to_numpy() for view in views.values() for batch in view.batches(("doc_key",))]
    )
    order = np.random.default_rng(0).permutation(np.unique(documents))
    held = np.isin(documents, order[: len(order) // 5])
    known = np.flatnonzero(~held)[np.random.default_rng(0).permutation(int((~held).sum()))]
    each = SAMPLE // (len(views) - 1)
    sample = np.concatenate([known[labels[known] == name][:each] for name in views])
    found = {}
    for left in (mixed.MIXED.domain(name, "") for name in mixed.WHOLE):
        seen = sample[labels[sample] != left]
        router = Router.fit(vectors[seen], labels[seen].tolist(), groups=documents[seen])
        found[left] = told_apart(router, vectors[held], labels[held] == left)
    return found


def mixed_queries(opened: Moeret, data: Path) -> dict[str, dict[str, float]]:
    """The mixed store's router on test queries: fitted on chunks, and to validation queries besides."""
    import mixed

    from moe_retrieval.router_queries import KnownQueries

    asked = mixed.queries(data)
    texts = np.array([one.text for one in asked])
    vectors = opened.encoder().encode_query(texts.tolist())
    labels, test = np.array([one.domain for one in asked]), np.array([one.is_test for one in asked])
    router = mixed.fitted_router(opened)
    known, asked_for = texts[~test].tolist(), texts[test].tolist()
    taught = router.asked(KnownQueries.of(known, vectors[~test], domains=labels[~test].tolist()))
    return {
        name: judged(one.probabilities(vectors[test], asked_for), list(one.domains), labels[test])
        | sets(one, vectors[test], labels[test], of=Kind.QUERY, texts=asked_for)
        for name, one in {"chunks": router, "chunks and queries": taught}.items()
    }


@dataclass(frozen=True)
class Chunks:
    """Stored vectors (n, dim) and the place of each one's document."""

    vectors: np.ndarray
    owners: np.ndarray
    ordinals: np.ndarray

    def means(self, places: np.ndarray) -> np.ndarray:
        """Mean vectors of documents, of length one."""
        whole = np.stack([self.vectors[self.owners == place].mean(axis=0) for place in places])
        found: np.ndarray = whole / np.linalg.norm(whole, axis=1, keepdims=True)
        return found.astype(np.float32)

    def heads(self, places: np.ndarray) -> np.ndarray:
        """Vectors of documents' first chunks."""
        order = np.lexsort((self.ordinals, self.owners))
        firsts = dict(zip(self.owners[order][::-1].tolist(), order[::-1].tolist(), strict=True))
        return self.vectors[[firsts[place] for place in places.tolist()]]

    @classmethod
    def load(cls, path: Path, work: Path, places: dict[str, int]) -> Chunks:
        opened = indexed(path, work)
        vectors, owners, ordinals = [], [], []
        snapshot = opened.retriever.snapshot()
        for domain in snapshot.domains:
            view = snapshot.view(domain)
            vectors.append(view.vectors())
            for batch in view.batches(("doc_id", "ordinal")):
                owners += [places[name] for name in batch["doc_id"].to_pylist()]
                ordinals += batch["ordinal"].to_pylist()
        return cls(np.concatenate(vectors), np.array(owners), np.array(ordinals))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--collection", default="ohsumed_disease")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--work", type=Path, default=CACHE)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--mixed", type=Path)
    given = parser.parse_args()
    if given.mixed:
        import mixed

        opened = mixed.opened(given.mixed)
        found = mixed_queries(opened, given.data) | {"left out": far_subjects(opened)}
        print(json.dumps(found, indent=1))
        if given.json:
            given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")
        return

    documents, _queries, _qrels = load_beir(given.data / given.collection)
    texts = [whole_text(record) for record in documents.values()]
    labels = np.array([record["domain"] for record in documents.values()])
    places = {name: place for place, name in enumerate(documents)}
    chunks = Chunks.load(given.data / given.collection, given.work, places)
    results: dict[str, list[dict[str, float]]] = {"router": [], "tf-idf": []}
    for seed in range(given.splits):
        train, test = halves(len(texts), seed=seed)
        results["router"].append(ours(chunks, labels, train, test))
        results["tf-idf"].append(rival(texts, labels, train, test))
    left = unseen(chunks, labels)
    found = {
        name: {key: round(statistics.mean(one[key] for one in each), 4) for key in each[0]}
        for name, each in results.items()
    }
    head = {"collection": given.collection, "documents": len(texts), "splits": given.splits}
    print(json.dumps(head | found | {"unseen": left}, indent=1))
    if given.json:
        given.json.write_text(
            json.dumps({"mean": found, "splits": results, "unseen": left}, indent=1) + "\n", encoding="utf8"
        )


if __name__ == "__main__":
    main()
