"""`moeret pairs`: build pairs to train and to judge by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe_retrieval.errors import UsageError
from moe_retrieval.training.sources.kinds import SourceKind
from moeret_cli import bars, options, render, wording_pairs

if TYPE_CHECKING:
    from moe_retrieval.training.pairs.report import PairsReport

app = typer.Typer(
    help="Build pairs of texts to train an expert on.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def pairs() -> None:
    """Build pairs of texts to train an expert on."""


@app.command()
def build(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Files and folders; or the id of a hub data set, or a search."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder.")],
    origin: Annotated[
        SourceKind,
        typer.Option("--from", case_sensitive=False, help="What SOURCE is; auto looks at it."),
    ] = SourceKind.AUTO,
    kinds: Annotated[
        str,
        typer.Option(
            "--kinds",
            metavar="A,B",
            help="Kinds of pairs. Citations: cited-title, same-bracket, co-cited [the first two; of a "
            "search the first and last]. "
            "Documents: title-body, neighbours, sentence-rest [all].",
        ),
    ] = "",
    min_cocitations: Annotated[
        int, typer.Option("--min-cocitations", min=1, help="Articles that must cite both papers of a pair.")
    ] = 1,
    hub_cap: Annotated[
        int, typer.Option("--hub-cap", min=1, help="Pairs of one kind that a paper may be in.")
    ] = 20,
    negatives: Annotated[
        int, typer.Option("--negatives", min=0, help="Pairs labelled 0 to draw per positive one.")
    ] = 0,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(
            "--exclude",
            metavar="PATH",
            help="Keep out the documents of this BEIR folder or file of pairs; may be repeated.",
        ),
    ] = None,
    include_held_out: Annotated[
        bool, typer.Option("--include-held-out", help="Also use articles marked in_dev_queries.")
    ] = False,
    domain: Annotated[str, typer.Option("--domain", "-d", help="Put all pairs into this domain.")] = "",
    domains: Annotated[
        str, typer.Option("--domains", metavar="A,B", help="Keep pairs of these domains only.")
    ] = "",
    max_pairs: Annotated[
        int, typer.Option("--max-pairs", min=0, help="Pairs per domain at most, drawn by seed; 0: all.")
    ] = 0,
    validation: Annotated[float, typer.Option("--validation", help="Share of the validation split.")] = 0.1,
    test: Annotated[float, typer.Option("--test", help="Share of the test split.")] = 0.1,
    by_time: Annotated[
        bool | None,
        typer.Option(
            "--by-time/--not-by-time",
            help="The newest documents are test [so it is where all pairs have a date].",
        ),
    ] = None,
    keep_splits: Annotated[
        bool, typer.Option("--keep-splits", help="Leave pairs in the split that they name.")
    ] = False,
    qrels_split: Annotated[
        str, typer.Option("--qrels-split", metavar="NAME", help="Judgements: qrels/NAME.tsv.")
    ] = "",
    revision: Annotated[str, typer.Option("--revision", help="Commit of a hub data set, 40 digits.")] = "",
    hub_split: Annotated[
        str, typer.Option("--hub-split", metavar="NAME", help="Only this split of a hub data set.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Articles of a search at most.")] = 1000,
    email: Annotated[str, typer.Option("--email", help="Your address, which live services ask for.")] = "",
    years: Annotated[
        str, typer.Option("--years", metavar="A-B", help="Articles of a search that appeared in these years.")
    ] = "",
    articles: Annotated[
        Path, typer.Option("--articles", metavar="DIR", help="Where articles of a search are kept.")
    ] = Path("articles"),
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same files.")] = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write train, validation and test pairs that share no document, with a report, to DIR.

    SOURCE may be a citation file, a folder with qrels, a file or folder of pairs, PubMed or PMC XML, or plain
    documents, which need no labels; with --from also a hub data set, or a search at OpenAlex or PubMed.
    """
    render.quiet = quiet
    from moe_retrieval.training.pairs.build import BuildOptions
    from moe_retrieval.training.sources.reading import SourceOptions, build_from

    with bars.phase("building pairs"):
        report = build_from(
            sources,
            output=output,
            kind=origin,
            source_options=SourceOptions(
                kinds=options.names(kinds),
                min_cocitations=min_cocitations,
                hub_cap=hub_cap,
                include_held_out=include_held_out,
                domain=domain,
                qrels_split=qrels_split,
                revision=revision,
                hub_split=hub_split,
                limit=limit,
                email=email,
                years=_years(years),
                articles=articles,
            ),
            options=BuildOptions(
                validation=validation,
                test=test,
                by_time=by_time,
                keep_splits=keep_splits,
                negatives=negatives,
                domains=options.names(domains),
                max_pairs=max_pairs,
            ),
            exclude=exclude or (),
            seed=seed,
        )
    _show(report, output=output, json=json)


@app.command()
def mine(
    pairs: Annotated[Path, typer.Argument(metavar="DIR", help="What `moeret pairs build` wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder.")],
    per_pair: Annotated[int, typer.Option("--per-pair", min=1, help="Negatives per pair.")] = 4,
    depth: Annotated[int, typer.Option("--depth", min=1, help="Neighbours looked at per pair.")] = 100,
    margin: Annotated[
        float, typer.Option("--margin", help="Of the positive's score, what a negative may reach.")
    ] = 0.95,
    pool: Annotated[bool, typer.Option("--pool", help="From the pairs' own texts, without a store.")] = False,
    store: options.Store = None,
    model: options.Model = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Add hard negatives to training pairs: near texts of the same domain that do not belong to them.

    They come from the domain's table in the store. Left out is what may be a false negative: papers cited
    together, near-duplicates, and what scores nearly as high as the text that belongs.
    """
    moeret = options.open_store(quiet=quiet, store=store, model=model)
    from moe_retrieval.adaptation import mine_pairs
    from moe_retrieval.encoder import Encoder

    encoder = Encoder.load(model) if pool else None
    with bars.phase("mining negatives"):
        found = mine_pairs(
            None if pool else moeret,
            pairs,
            output,
            encoder=encoder,
            per_pair=per_pair,
            depth=depth,
            margin=margin,
        )
    if json:
        render.json_line(found.to_dict())
        return
    for said in wording_pairs.mined(found, output=output):
        render.line(said)


def _show(report: PairsReport, *, output: Path, json: bool) -> None:
    if json:
        render.json_line(report.to_dict())
        return
    render.table(wording_pairs.COLUMNS, wording_pairs.rows(report))
    render.line(wording_pairs.summary(report, output=output))
    for said in wording_pairs.notes(report):
        render.note(said)


def _years(said: str) -> tuple[int, int] | None:
    first, _, last = said.partition("-")
    if not said:
        return None
    if not first.isdecimal() or not (last or first).isdecimal():
        raise UsageError(f"years {said!r} are no years", hint="--years 2015-2024, or one year")
    return int(first), int(last or first)
