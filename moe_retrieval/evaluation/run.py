"""Models side by side on pairs and collections, and runs against judgements: what `moeret evaluate` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moe_retrieval.corpus.collection import read_collection, read_qrels
from moe_retrieval.encoder import Encoder
from moe_retrieval.errors import UnknownDomainError, UsageError
from moe_retrieval.evaluation.beir import evaluate_collection
from moe_retrieval.evaluation.compare import compare
from moe_retrieval.evaluation.encoding import OnceEncoder
from moe_retrieval.evaluation.inputs import read_pair_set
from moe_retrieval.evaluation.judging import judge_run
from moe_retrieval.evaluation.matrix import cross_domain
from moe_retrieval.evaluation.pairs import evaluate_pairs
from moe_retrieval.evaluation.report import EvaluationReport
from moe_retrieval.evaluation.trec import read_run
from moe_retrieval.types import GENERAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from moe_retrieval.corpus.collection import Collection
    from moe_retrieval.corpus.pairs import Pair, Split
    from moe_retrieval.evaluation.judging import RankingEvaluation
    from moe_retrieval.evaluation.matrix import Matrix
    from moe_retrieval.evaluation.pairs import PairEvaluation


def _plain(name: str, experts: Mapping[str, Path]) -> Encoder:
    return Encoder.load(name, experts=experts)


def load_models(
    names: Sequence[str],
    *,
    experts: Mapping[str, Path] | None = None,
    load: Callable[[str, Mapping[str, Path]], Encoder] = _plain,
) -> dict[str, Encoder]:
    """Encoders by the names they go by in a report; with `experts`, each model without them and with them.

    `load`: makes an encoder of a model's name and its experts.

    Raises:
        UsageError: a model is named twice.
        ModelError: a model or an expert cannot be used; other errors as of `Encoder.load`.
    """
    found: dict[str, Encoder] = {}
    for name, label in zip(names, _labels(names), strict=True):
        found[label] = load(name, {})
        if experts:
            found[f"{label} + {', '.join(experts)}"] = load(name, experts)
    return found


def _labels(names: Sequence[str]) -> list[str]:
    """A folder's own name where that tells the models apart, else what was given."""
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise UsageError(f"the model {twice[0]} is named twice", hint="name each model once")
    short = [Path(name).resolve().name if Path(name).is_dir() else name for name in names]
    return [one if short.count(one) == 1 else name for one, name in zip(short, names, strict=True)]


def evaluate(
    models: Mapping[str, Encoder],
    *,
    pairs: Sequence[Path] = (),
    collections: Sequence[Path] = (),
    runs: Sequence[Path] = (),
    qrels: Path | None = None,
    domain: str = "",
    split: Split | None = None,
    matrix: bool = False,
    by_group: bool = False,
    samples: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """Judge models on every set, and compare each with the first; see docs/adaptation.md.

    Args:
        models: encoders by name; not needed for runs.
        pairs: files of pairs, or folders of them.
        split: which pairs of a folder or file count; None: test. See `read_pair_set`.
        collections: folders in BEIR layout.
        runs: rankings in the format of TREC.
        qrels: judgements for the runs.
        domain: whose expert all texts go through; empty: each domain's texts through its own.
        matrix: also each domain's texts through each expert.
        by_group: queries that share their relevant documents are averaged first.
        samples: resamples of the bootstrap.
        seed: of the bootstrap.
        progress: hears how many texts were encoded and how many evaluations are done.

    Raises:
        UsageError: there is nothing to evaluate, or an input cannot be used.
        UnknownDomainError: no model has an expert for `domain`.
        MissingExtraError: ir_measures is not installed, for collections and runs.
    """
    _check(models, pairs=pairs, collections=collections, runs=runs, qrels=qrels, domain=domain)
    work = _Work(models, domain=domain, by_group=by_group, samples=samples, seed=seed, progress=progress)
    on_runs = work.judged_runs(runs, qrels) if qrels is not None else []
    for path in pairs:
        work.on_pairs(path, split=split, matrix=matrix)
    for folder in collections:
        work.on_collection(folder, matrix=matrix)
    rankings = [*work.rankings, *on_runs]
    evaluations: list[PairEvaluation | RankingEvaluation] = [*work.pairs, *rankings]
    return EvaluationReport(
        models=tuple(dict.fromkeys(one.model for one in evaluations)),
        pairs=tuple(work.pairs),
        rankings=tuple(rankings),
        matrices=tuple(work.matrices),
        differences=tuple(compare(evaluations)),
        warnings=tuple(dict.fromkeys([*work.notes, *(said for one in evaluations for said in one.warnings)])),
        seed=seed,
        samples=samples,
    )


def _check(
    models: Mapping[str, Encoder],
    *,
    pairs: Sequence[Path],
    collections: Sequence[Path],
    runs: Sequence[Path],
    qrels: Path | None,
    domain: str,
) -> None:
    if bool(runs) != (qrels is not None):
        raise UsageError("a run is judged by qrels", hint="give both: --run FILE --qrels FILE")
    if not (pairs or collections or runs):
        raise UsageError(
            "there is nothing to evaluate on",
            hint="--pairs FILE, --collection DIR, or --run FILE --qrels FILE",
        )
    if (pairs or collections) and not models:
        raise UsageError("there is no model to evaluate", hint="name one, as: moeret evaluate bundled")
    known = {name for encoder in models.values() for name in (GENERAL, *encoder.domains)}
    if domain and models and domain not in known:
        raise UnknownDomainError(domain, known)


class _Work:
    """Evaluations as they are done, model by model on each set."""

    def __init__(
        self,
        models: Mapping[str, Encoder],
        *,
        domain: str,
        by_group: bool,
        samples: int,
        seed: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.models, self.domain, self.by_group = models, domain, by_group
        self.samples, self.seed = samples, seed
        self.pairs: list[PairEvaluation] = []
        self.rankings: list[RankingEvaluation] = []
        self.matrices: list[Matrix] = []
        self.notes: list[str] = []
        self._told, self._texts = progress, 0

    def on_pairs(self, path: Path, *, split: Split | None, matrix: bool) -> None:
        """Every model on a set of pairs."""
        held = read_pair_set(path, split=split)
        data = _free(held.name, str(path), (one.data for one in self.pairs))
        for model, memory in self._encoders():
            found = evaluate_pairs(
                memory,
                held.pairs,
                model=model,
                data=data,
                domain=self.domain,
                samples=self.samples,
                seed=self.seed,
            )
            self.pairs.append(found)
            if matrix:
                self._matrix(memory, held.pairs, model=model, data=data)
            self._encoded(0)

    def on_collection(self, folder: Path, *, matrix: bool) -> None:
        """Every model on a collection."""
        held = read_collection(folder)
        data = _free(folder.resolve().name, str(folder), (one.data for one in self.rankings))
        for model, memory in self._encoders():
            found = evaluate_collection(
                memory,
                held,
                model=model,
                data=data,
                domain=self.domain,
                by_group=self.by_group,
                samples=self.samples,
                seed=self.seed,
            )
            self.rankings.append(found)
            if matrix:
                self._matrix(memory, held, model=model, data=data)
            self._encoded(0)

    def _matrix(
        self, memory: OnceEncoder, texts: Collection | Sequence[Pair], *, model: str, data: str
    ) -> None:
        if not memory.encoder.domains:
            self.notes.append(f"{model} has no expert beside general: there is no matrix of it")
            return
        found = cross_domain(memory, texts, model=model, data=data, samples=self.samples, seed=self.seed)
        self.matrices.append(found)

    def judged_runs(self, runs: Sequence[Path], qrels: Path) -> list[RankingEvaluation]:
        """Every run by the judgements of one file."""
        judged = read_qrels(qrels)
        names = [path.name for path in runs]
        return [
            judge_run(
                read_run(path),
                judged,
                model=path.name if names.count(path.name) == 1 else str(path),
                data=qrels.name,
                by_group=self.by_group,
                samples=self.samples,
                seed=self.seed,
            )
            for path in runs
        ]

    def _encoders(self) -> Iterator[tuple[str, OnceEncoder]]:
        """Models with a memory for one set, so that a matrix encodes nothing again."""
        for name, encoder in self.models.items():
            yield name, OnceEncoder(encoder, progress=self._encoded)

    def _encoded(self, texts: int) -> None:
        self._texts += texts
        if self._told is not None:
            self._told(self._texts, len(self.pairs) + len(self.rankings))


def _free(name: str, path: str, taken: Iterable[str]) -> str:
    """The short name of a set, or its path where another set has that name."""
    return path if name in set(taken) else name
