"""`moeret train`: adapt the encoder to a domain."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe_retrieval.errors import UsageError
from moe_retrieval.training.options import (
    FitOptions,
    LossName,
    LossOptions,
    Recipe,
    Similarity,
    TrainOptions,
)
from moeret_cli import bars, options, render, wording_training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from moe_retrieval.adaptation import TrainReport
    from moe_retrieval.moeret import Moeret
    from moe_retrieval.training.trainer import Progress

    Tell = Callable[[str, Progress], None]


def train(
    domain: Annotated[
        str | None, typer.Argument(help="The domain whose expert is trained; other recipes take --domains.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", metavar="PATH", help="What `moeret pairs build` wrote, or a file of pairs."),
    ] = None,
    recipe: Annotated[
        Recipe,
        typer.Option(
            "--recipe",
            case_sensitive=False,
            help="expert: one domain's, all else frozen; joint: trunk and experts together; polish: the "
            "trunk, then each expert alone; dense: the trunk alone; router: gates alone.",
        ),
    ] = Recipe.EXPERT,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="New folder of the model; not for `expert`."),
    ] = None,
    domains: Annotated[
        str, typer.Option("--domains", metavar="A,B", help="Domains of a model [all of the pairs].")
    ] = "",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps, one batch each.")] = 200,
    batch: Annotated[int, typer.Option("--batch", min=2, help="Pairs per step.")] = 32,
    chunk: Annotated[
        int, typer.Option("--chunk", min=0, help="Texts in memory at once, for large batches; 0: all.")
    ] = 0,
    rate: Annotated[float | None, typer.Option("--rate", help="Learning rate [by what is trained].")] = None,
    rank: Annotated[
        int | None, typer.Option("--rank", min=0, help="Of a low-rank expert; 0: full [by pairs].")
    ] = None,
    max_length: Annotated[int, typer.Option("--max-length", min=8, help="Tokens of a text.")] = 128,
    loss: Annotated[
        LossName, typer.Option("--loss", case_sensitive=False, help="What a batch is held against.")
    ] = LossName.MNR,
    similarity: Annotated[
        Similarity, typer.Option("--similarity", case_sensitive=False, help="How vectors are compared.")
    ] = Similarity.COSINE,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Divides scores [0.05; dot: 0.7].")
    ] = None,
    learn_temperature: Annotated[
        bool, typer.Option("--learn-temperature", help="Train the temperature, too.")
    ] = False,
    patience: Annotated[
        int, typer.Option("--patience", min=0, help="Looks at validation without a gain; 0: never stop.")
    ] = 3,
    at_least: Annotated[int, typer.Option("--at-least", min=2, help="Pairs that a domain needs.")] = 50,
    first: Annotated[
        Recipe, typer.Option("--first", case_sensitive=False, help="What polish begins with: dense or joint.")
    ] = Recipe.DENSE,
    routing: Annotated[
        str, typer.Option("--routing", help="Of the recipe router: sentence or token.")
    ] = "sentence",
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Experts that its gate joins.")] = 1,
    licence: Annotated[str, typer.Option("--licence", help="Of the data; stands in the card.")] = "",
    report_to: Annotated[
        str, typer.Option("--report-to", metavar="A,B", help="tensorboard, wandb, ... [none].")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", help="Of the order of pairs and of dropout.")] = 0,
    store: options.Store = None,
    model: options.Model = None,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train an expert for DOMAIN, or a model; validation decides what is kept, and whether anything is.

    An expert that is not better than the general one is not accepted. An accepted one waits in the store for
    `moeret reindex`; no other domain is touched. The same command goes on with a training that was killed.
    """
    moeret = options.open_store(quiet=quiet, store=store, model=model, device=device)
    if pairs is None:
        raise UsageError("there is nothing to learn from", hint="--pairs PATH; moeret pairs build makes them")
    chosen = TrainOptions(
        recipe=recipe,
        rank=rank,
        batch=batch,
        chunk=chunk,
        max_length=max_length,
        rate=rate,
        at_least=at_least,
        routing=routing,
        top_k=top_k,
        first=first,
        loss=LossOptions(loss, similarity, temperature, learn_temperature),
        fit=FitOptions(
            steps=steps, patience=patience, seed=seed, device=device or "", report_to=options.names(report_to)
        ),
    )
    with _watched(chosen) as tell:
        if recipe is Recipe.EXPERT:
            report = _expert(moeret, domain, pairs, output, chosen, licence, tell)
        else:
            report = _model(domain, model, options.names(domains), pairs, output, chosen, licence, tell)
    if json:
        render.json_line(report.to_dict())
    else:
        _show(report)


def _expert(
    moeret: Moeret,
    domain: str | None,
    pairs: Path,
    output: Path | None,
    chosen: TrainOptions,
    licence: str,
    tell: Tell,
) -> TrainReport:
    from moe_retrieval.adaptation import train_expert

    if domain is None:
        raise UsageError("no domain is named", hint="moeret train DOMAIN --pairs PATH")
    if output is not None:
        raise UsageError("an expert goes to the store, not to a folder", hint="leave out --output")
    return train_expert(moeret, domain, pairs=pairs, options=chosen, licence=licence, tell=tell)


def _model(
    domain: str | None,
    base: str | None,
    domains: tuple[str, ...],
    pairs: Path,
    output: Path | None,
    chosen: TrainOptions,
    licence: str,
    tell: Tell,
) -> TrainReport:
    from moe_retrieval.adaptation import train_model

    if domain is not None:
        raise UsageError(f"the recipe {chosen.recipe} trains a model", hint="--domains A,B, or leave it out")
    if output is None:
        raise UsageError(f"the recipe {chosen.recipe} makes a model", hint="--output DIR, a new folder")
    return train_model(
        base,
        pairs=pairs,
        output=output,
        recipe=chosen.recipe,
        domains=domains,
        options=chosen,
        licence=licence,
        tell=tell,
    )


@contextmanager
def _watched(chosen: TrainOptions) -> Iterator[Tell]:
    """A line with steps, loss, validation and the time left; it begins anew with each fit."""
    with bars.steps(total=chosen.fit.steps) as show:
        yield lambda what, progress: show(wording_training.step(what, progress), progress.step)


def _show(report: TrainReport) -> None:
    for title, verdicts in wording_training.tables(report):
        render.line(title)
        render.table(wording_training.COLUMNS, [wording_training.row(one) for one in verdicts])
    for said in wording_training.summary(report):
        render.line(said)
