"""The study of adaptation: recipes side by side on real citation data, equal steps and texts, three seeds.

    python benchmarks/adaptation.py run DATA --work FOLDER [--cells core|NAME;NAME] [--seeds 0,1,2]
        [--elsewhere]
    python benchmarks/adaptation.py table --work FOLDER [--json FILE]

Trained on `citations` without the articles marked in_dev_queries, and without every document of the
collections that judge: cocitation_titles (abstract -> cited titles, and pairs of titles),
cocitation_abstracts (pairs of abstracts). --elsewhere judges on collections not trained for, too. A cell is
one training and its figures: it takes minutes, is kept by a hash of its settings, and not computed twice.
Several processes may share a work folder; each takes the next cell that nobody has begun.

The gate is asked, but not obeyed: a study shows the experts that it would refuse.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from adaptation_table import show

if TYPE_CHECKING:
    from moe_retrieval import Encoder
    from moe_retrieval.corpus.collection import Collection

DOMAINS = ("cardiovascular", "mental-neuro", "metabolic", "obstetric-paediatric", "oncology")
"""Five of the domains with at least 200 articles, chosen before any figure was seen."""

JUDGES = ("cocitation_titles", "cocitation_abstracts", "sysrev")
ELSEWHERE = ("cacm", "cisi", "medquad", "healthver")
BATCH, LENGTH, STEPS = 20, 128, 120
FEWEST = 20
"""Pairs of a domain without which its AUC says nothing."""


@dataclass(frozen=True)
class Cell:
    """One line of the table: a recipe on a base.

    `steps`: over all domains; an expert alone gets its share. `on`: the cell whose model it begins with.
    `half`: the model half-way between that of `on` and the pretrained one; nothing is trained.
    """

    name: str
    recipe: str = ""
    on: str = ""
    rank: int | None = None
    layers: str = "all"
    steps: int = STEPS
    loss: str = "mnr"
    learned: bool = False
    half: bool = False
    single: bool = False


CELLS = {
    cell.name: cell
    for cell in (
        Cell("base"),
        Cell("dense", "dense"),
        Cell("dense half-way", on="dense", half=True),
        Cell("low-rank 8, frozen", "expert", rank=8),
        Cell("full, frozen", "expert", rank=0),
        Cell("half-way, then low-rank 8", "expert", on="dense half-way", rank=8),
        # beyond the core
        Cell("joint, all experts", "joint"),
        Cell("dense, twice the steps", "dense", steps=2 * STEPS),
        Cell("low-rank 4, frozen", "expert", rank=4),
        Cell("low-rank 16, frozen", "expert", rank=16),
        Cell("low-rank 8, one layer", "expert", rank=8, layers="single"),
        Cell("full, one layer", "expert", rank=0, layers="single"),
        Cell("one model per domain", "dense", single=True),
        Cell("dense, symmetric", "dense", loss="symmetric"),
        Cell("dense, mnr-plus", "dense", loss="mnr-plus"),
        Cell("dense, learned temperature", "dense", learned=True),
    )
}
CORE = tuple(CELLS)[:6]


class Study:
    """The data, and a folder of pairs, models and figures."""

    def __init__(self, data: Path, work: Path) -> None:
        self.data, self.work = data, work
        self.pairs_folder = work / "pairs"
        if not (self.pairs_folder / "report.json").is_file():
            build(data, self.pairs_folder, domains=DOMAINS)
        report = json.loads((self.pairs_folder / "report.json").read_text("utf-8"))
        self.material = report["files"]

    def key(self, cell: Cell, seed: int) -> str:
        on = self.key(CELLS[cell.on], seed) if cell.on else ""
        said = [
            asdict(cell),
            seed if cell.recipe or cell.on else 0,
            on,
            self.material,
            BATCH,
            LENGTH,
            DOMAINS,
        ]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    def model(self, cell: Cell, seed: int) -> Path | str:
        """Where the cell's model lies; it is trained first, if it is not there yet."""
        if not cell.recipe and not cell.on:
            return "bundled"
        folder = self.work / "models" / self.key(cell, seed)
        if not (folder / "done.json").is_file():
            base = self.model(CELLS[cell.on], seed) if cell.on else "bundled"
            begun = time.monotonic()
            notes = half_way(base, folder) if cell.half else self._train(cell, base, seed, folder)
            notes["seconds"] = round(time.monotonic() - begun)
            (folder / "done.json").write_text(json.dumps(notes), "utf-8")
        return folder

    def _train(self, cell: Cell, base: Path | str, seed: int, folder: Path) -> dict[str, Any]:
        from moe_retrieval.engines.bundled import find_model
        from moe_retrieval.model import surgery
        from moe_retrieval.model.configuration import choose_layers
        from moe_retrieval.training import recipes
        from moe_retrieval.training.losses import LossName, LossOptions
        from moe_retrieval.training.material import TrainingPairs
        from moe_retrieval.training.options import Recipe, TrainOptions
        from moe_retrieval.training.trainer import FitOptions

        source = find_model(base)
        if cell.layers != "all":
            layers = choose_layers(cell.layers, count=source.layers)
            model = surgery.upcycle(source.folder, moe_layers=layers)
            source = find_model(surgery.save(model, folder / "base", like=source.folder))
        alone = cell.recipe == "expert" or cell.single
        options = TrainOptions(
            recipe=Recipe(cell.recipe),
            rank=cell.rank,
            batch=BATCH,
            max_length=LENGTH,
            queries=80,
            shares=(1.0,),
            enforce=False,
            loss=LossOptions(LossName(cell.loss), learned=cell.learned),
            fit=FitOptions(
                steps=cell.steps // (len(DOMAINS) if alone else 1), evaluations=1, patience=0, seed=seed
            ),
        )
        pairs = TrainingPairs.open(self.pairs_folder).only(DOMAINS)
        shop = recipes.Workshop(source, pairs, DOMAINS, options, folder / "checkpoints", tell=tell)
        if cell.single:
            return {"texts": self._specialists(shop, folder), "courses": [], "verdicts": []}
        outcome = recipes.run(shop)
        surgery.save(outcome.model, folder, like=source.folder)
        found = outcome.to_dict()
        return {name: found[name] for name in ("courses", "verdicts", "gains")} | {
            "texts": sum(course.texts for course in outcome.courses)
        }

    def _specialists(self, shop: Any, folder: Path) -> int:
        from moe_retrieval.model import surgery
        from moe_retrieval.training import recipes

        texts = 0
        for domain in DOMAINS:
            own = replace(
                shop, pairs=shop.pairs.only([domain]), domains=(domain,), folder=shop.folder / domain
            )
            outcome = recipes.run(own)
            surgery.save(outcome.model, folder / domain, like=shop.source.folder)
            texts += sum(course.texts for course in outcome.courses)
        return texts

    def figures(self, cell: Cell, seed: int, *, elsewhere: bool) -> None:
        """Train the cell if need be, judge it, and keep what was found."""
        kind = "elsewhere" if elsewhere else "figures"
        place = self.work / kind / f"{self.key(cell, seed)}.json"
        if place.is_file() or not claimed(place):
            return
        folder = self.model(cell, seed)
        begun = time.monotonic()
        found = judge_elsewhere(folder, self.data) if elsewhere else judge(cell, folder, self.data)
        notes = {} if folder == "bundled" else json.loads((Path(folder) / "done.json").read_text("utf-8"))
        said = {"cell": cell.name, "seed": seed, "settings": asdict(cell), "training": notes, **found}
        said["judging_seconds"] = round(time.monotonic() - begun)
        place.write_text(json.dumps(said), "utf-8")


def build(data: Path, folder: Path, *, domains: tuple[str, ...]) -> None:
    """Pairs of `citations`, without every document of the collections that judge."""
    from moe_retrieval.training.pairs.build import BuildOptions
    from moe_retrieval.training.sources.reading import build_from

    build_from(
        [str(data / "citations" / "articles.jsonl")],
        output=folder,
        options=BuildOptions(validation=0.15, test=0.0, domains=domains),
        exclude=[data / name for name in JUDGES],
        seed=0,
    )


def claimed(place: Path) -> bool:
    """Whether this process is the first to begin on a file; a claim of a dead process is taken over."""
    place.parent.mkdir(parents=True, exist_ok=True)
    claim = place.with_suffix(".claim")
    try:
        owner = int(claim.read_text("ascii"))
        if owner != os.getpid() and Path(f"/proc/{owner}").exists():
            return False
    except (FileNotFoundError, ValueError):
        pass
    claim.write_text(str(os.getpid()), "ascii")
    return True


def tell(what: str, progress: Any) -> None:
    if progress.step % 20 == 0:
        print(f"  {what}: step {progress.step} of {progress.steps}, loss {progress.loss}", flush=True)


def half_way(base: Path | str, folder: Path) -> dict[str, Any]:
    """Save the model whose weights are the mean of those of `base` and of the pretrained one."""
    import torch

    from moe_retrieval.engines.bundled import find_model
    from moe_retrieval.model import surgery

    trained, pretrained = surgery.load(base), surgery.upcycle(find_model("bundled").folder)
    theirs = pretrained.state_dict()
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            weight.copy_(torch.lerp(theirs[name], weight, 0.5))
    surgery.save(trained, folder, like=base)
    return {"texts": 0, "courses": [], "verdicts": []}


def encoder_of(folder: Path | str, domain: str = "") -> Encoder:
    from moe_retrieval import Encoder

    single = Path(folder) / domain
    place = single if domain and folder != "bundled" and (single / "config.json").is_file() else folder
    return Encoder.load(place, engine="torch")


def judge(cell: Cell, folder: Path | str, data: Path) -> dict[str, Any]:
    """nDCG@10 of every query of cocitation_titles, and the pair metrics of both sets of pairs, by domain."""
    from moe_retrieval.corpus.collection import read_collection
    from moe_retrieval.corpus.pairs import read_pairs
    from moe_retrieval.evaluation.beir import evaluate_collection
    from moe_retrieval.evaluation.encoding import once
    from moe_retrieval.evaluation.metrics import pair_metrics
    from moe_retrieval.evaluation.pairs import score_pairs

    titles = read_collection(data / "cocitation_titles")
    sets = {name: read_pairs(data / name / "pairs.jsonl") for name in JUDGES[:2]}
    ndcg: dict[str, dict[str, float]] = {}
    pairs: dict[str, dict[str, dict[str, float]]] = {name: {} for name in sets}
    shared = once(encoder_of(folder))
    for domain in DOMAINS:
        encoder = once(encoder_of(folder, domain)) if cell.single else shared
        found = evaluate_collection(encoder, part_of(titles, domain), within_domain=True, samples=10)
        ndcg[domain] = dict(found.per_query["ndcg_10"])
        for name, all_pairs in sets.items():
            own = [pair for pair in all_pairs if pair.domain == domain]
            if len(own) < FEWEST:
                continue
            scores = score_pairs(encoder, own)
            metrics = pair_metrics(scores, [pair.label for pair in own])
            pairs[name][domain] = {"f1_max": metrics.f1_max, "roc_auc": metrics.roc_auc, "pairs": len(own)}
    return {"ndcg": ndcg, "pairs": pairs}


def judge_elsewhere(folder: Path | str, data: Path) -> dict[str, Any]:
    """The general expert on collections nobody trained for: nDCG@10, and Spearman's rho on stsb_train."""
    from scipy.stats import spearmanr

    from moe_retrieval.corpus.collection import read_collection
    from moe_retrieval.evaluation.beir import evaluate_collection

    encoder = encoder_of(folder)
    found: dict[str, Any] = {}
    for name in ELSEWHERE:
        result = evaluate_collection(encoder, read_collection(data / name), within_domain=False, samples=10)
        found[name] = dict(result.per_query["ndcg_10"])
    rows = [json.loads(line) for line in (data / "stsb_train" / "pairs.jsonl").open(encoding="utf8")]
    a, b = (encoder.encode_document([row[side] for row in rows]) for side in ("a", "b"))
    rho = spearmanr(np.einsum("nd,nd->n", a, b), [row["label"] for row in rows]).statistic
    return {"ndcg_elsewhere": found, "stsb_spearman": float(rho)}


def part_of(whole: Collection, domain: str) -> Collection:
    """The documents and queries of one domain."""
    documents = {
        name: text for name, text in whole.documents.items() if whole.document_domains[name] == domain
    }
    queries = {name: text for name, text in whole.queries.items() if whole.query_domains[name] == domain}
    return replace(
        whole, documents=documents, queries=queries, qrels={one: whole.qrels[one] for one in queries}
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    run, table = verbs.add_parser("run"), verbs.add_parser("table")
    run.add_argument("data", type=Path)
    run.add_argument("--cells", default="core", help="core, or names separated by ;")
    run.add_argument("--seeds", default="0,1,2")
    run.add_argument("--elsewhere", action="store_true")
    table.add_argument("--json", type=Path)
    for verb in (run, table):
        verb.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    if given.verb == "table":
        show(given.work, order=list(CELLS), domains=DOMAINS, path=given.json)
        return
    study = Study(given.data, given.work)
    names = CORE if given.cells == "core" else given.cells.split(";")
    for seed in map(int, given.seeds.split(",")):
        for name in names:
            print(f"{name}, seed {seed}", flush=True)
            study.figures(CELLS[name], seed, elsewhere=given.elsewhere)


if __name__ == "__main__":
    main()
