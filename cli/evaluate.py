"""`moeret evaluate`: models side by side on pairs and collections, and runs against judgements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe_retrieval.corpus.pairs import Split
from moe_retrieval.errors import UsageError
from moe_retrieval.types import slug
from moeret_cli import bars, options, render, wording_tune
from moeret_cli import wording_evaluation as wording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moe_retrieval.encoder import Encoder
    from moe_retrieval.evaluation.report import EvaluationReport
    from moe_retrieval.moeret import Moeret

Files = list[Path] | None


def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help='"bundled", model folders or hub ids, side by side [what the store uses, else bundled].',
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        Files,
        typer.Option(
            "--pairs", metavar="PATH", help="A file of pairs, or a folder of them; may be repeated."
        ),
    ] = None,
    collection: Annotated[
        Files, typer.Option("--collection", metavar="DIR", help="A folder in BEIR layout; may be repeated.")
    ] = None,
    retrieval: Annotated[
        Path | None,
        typer.Option(
            "--retrieval",
            metavar="DIR",
            help="Judge the store's answers to the queries of a folder in BEIR layout: domain known, routed, "
            "in all domains, and by each way of joining scores.",
        ),
    ] = None,
    run: Annotated[
        Files, typer.Option("--run", metavar="FILE", help="A run of TREC, with --qrels; may be repeated.")
    ] = None,
    qrels: Annotated[
        Path | None, typer.Option("--qrels", metavar="FILE", help="Judgements for the runs.")
    ] = None,
    domain: Annotated[
        str, typer.Option("--domain", "-d", metavar="NAME", help="All texts by this domain's expert.")
    ] = "",
    experts: Annotated[
        list[str] | None,
        typer.Option(
            "--experts",
            metavar="DOMAIN=DIR",
            help="An exported expert, or the name of a bundled one; bundled: all of those. "
            "Each model is shown without and with them. May be repeated.",
        ),
    ] = None,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Also each domain's texts through each domain's expert.")
    ] = False,
    split: Annotated[
        Split | None,
        typer.Option("--split", case_sensitive=False, help="Which pairs of a folder or file count [test]."),
    ] = None,
    grouped: Annotated[
        bool,
        typer.Option(
            "--grouped",
            help="Average queries that share their relevant documents first, as those of a review.",
        ),
    ] = False,
    trec_out: Annotated[
        Path | None, typer.Option("--trec-out", metavar="DIR", help="Write the rankings as runs of TREC.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="DIR", help="Draw the figures as PNG.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Resamples of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap.")] = 0,
    store: options.Store = None,
    precision: options.PrecisionOption = None,
    engine: options.EngineOption = None,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """How good encoders are, with 95% intervals, and whether one beats the first by more than chance.

    Pairs give F1max, its threshold, precision, recall, ratio and ROC-AUC; collections and runs give nDCG,
    Recall, MRR and MAP. Each domain's texts go through its own expert. Of a folder of pairs, the test split
    counts unless --split says otherwise. With --retrieval, the store is judged, not its encoder.
    """
    moeret = options.open_store(quiet=quiet, store=store, precision=precision, engine=engine, device=device)
    if retrieval is not None:
        _check_alone(models, pairs, collection, run, qrels, experts)
        report = _answers(moeret, retrieval, grouped=grouped, samples=samples, seed=seed, json=json)
        _write(report, runs=trec_out, pictures=None)
        return
    from moe_retrieval.evaluation.run import evaluate as judge

    encoders = _encoders(moeret, models or [], experts or []) if pairs or collection else {}
    with bars.counting("texts encoded", "evaluations") as progress:
        report = judge(
            encoders,
            pairs=pairs or (),
            collections=collection or (),
            runs=run or (),
            qrels=qrels,
            domain=domain,
            split=split,
            matrix=matrix,
            by_group=grouped,
            samples=samples,
            seed=seed,
            progress=progress,
        )
    _show(report, json=json)  # first: what cannot be written must not cost what was computed
    _write(report, runs=trec_out, pictures=plots)


def _check_alone(*others: object) -> None:
    if any(others):
        raise UsageError(
            "--retrieval judges the store as it is, and goes with no model, pairs, collection or run",
            hint="moeret evaluate --retrieval DIR",
        )


def _answers(
    moeret: Moeret, folder: Path, *, grouped: bool, samples: int, seed: int, json: bool
) -> EvaluationReport:
    """Judge what the store answers, and show it."""
    from moe_retrieval.tuning.judging import judge_retrieval

    with bars.counting("queries answered", "ways") as progress:
        found = judge_retrieval(
            moeret.retriever,
            folder,
            mass=moeret.settings.mass,
            by_group=grouped,
            samples=samples,
            seed=seed,
            progress=progress,
        )
    if json:
        for said in found.figures.warnings:
            render.note(f"warning: {said}")
        render.json_line(found.to_dict())
        return found.figures
    _show(found.figures, json=False)
    render.line(wording_tune.COST_TITLE)
    render.table(wording_tune.COST_COLUMNS, wording_tune.cost_rows(found.costs))
    return found.figures


def _encoders(moeret: Moeret, models: Sequence[str], experts: Sequence[str]) -> Mapping[str, Encoder]:
    """The models that were named, or the store's."""
    if not models and not experts:
        encoder = moeret.encoder()
        render.note(f"evaluating {encoder.name}, as the store or the settings have it")
        return {Path(encoder.name).name: encoder}
    from moe_retrieval.encoder import Encoder
    from moe_retrieval.engines.packaged import expert_folders
    from moe_retrieval.evaluation.run import load_models

    settings = moeret.settings

    def load(name: str, packs: Mapping[str, Path]) -> Encoder:
        return Encoder.load(
            name,
            experts=packs,
            precision=settings.precision,
            engine=settings.engine,
            cache=settings.cache,
            device=settings.device or None,
            max_length=settings.max_length or None,
            query_prompt=settings.query_prompt or "",
            document_prompt=settings.document_prompt or "",
        )

    return load_models(models or [settings.model or "bundled"], experts=expert_folders(experts), load=load)


def _write(report: EvaluationReport, *, runs: Path | None, pictures: Path | None) -> None:
    """Runs and pictures, where they are wanted."""
    if runs is not None:
        from moe_retrieval.evaluation.trec import write_run

        for one in report.rankings:
            file = runs / f"{slug(one.data)}.{slug(one.model)}.trec"
            write_run(file, one.run, tag=slug(one.model) or "moeret")
            render.note(f"ranking written: {file}")
    if pictures is not None:
        from moe_retrieval.evaluation.plots import draw

        for file in draw(report, pictures):
            render.note(f"drawn: {file}")


def _show(report: EvaluationReport, *, json: bool) -> None:
    """The report as JSON, or as a table for each set."""
    for said in report.warnings:
        render.note(f"warning: {said}")
    if json:
        render.json_line(report.to_dict())
        return
    for title, columns, rows in wording.tables(report):
        render.line(title)
        render.table(columns, rows)
