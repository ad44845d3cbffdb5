"""`moeret model`: make a model with experts, look into it, move experts in and out, export its graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe_retrieval.errors import UsageError
from moeret_cli import bars, options, render

if TYPE_CHECKING:
    from moe_retrieval.models import ModelInfo

app = typer.Typer(
    help="Make models with experts, look into them, move experts.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help='"bundled", a model folder, or a hub id.')]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder.")]


@app.command()
def upcycle(
    base: Model,
    output: Output,
    domains: Annotated[str, typer.Option("--domains", metavar="A,B", help="Domains with an expert.")] = "",
    layers: Annotated[
        str, typer.Option("--layers", help="all, single (the middle one), every:N, or numbers: 0,3,5.")
    ] = "all",
    routing: Annotated[
        str, typer.Option("--routing", help="index, domain_token, token_types, sentence or token.")
    ] = "index",
    top_k: Annotated[int, typer.Option("--top-k", help="Experts that a learned gate joins.")] = 1,
    rank: Annotated[int, typer.Option("--rank", min=0, help="Rank of low-rank experts; 0: full ones.")] = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a model with one expert per domain; at first it computes exactly what BASE does."""
    render.quiet = quiet
    from moe_retrieval.models import upcycle_model

    with bars.phase(f"upcycling {base}"):
        made = upcycle_model(
            base,
            output,
            domains=options.names(domains),
            layers=layers,
            routing=routing,
            top_k=top_k,
            rank=rank,
        )
    _show(made, json=json)


@app.command()
def info(model: Model, json: options.Json = False) -> None:
    """Parameters, experts, layers, routing, fingerprints."""
    from moe_retrieval.models import model_info

    _show(model_info(model), json=json)


@app.command()
def experts(
    model: Model,
    texts: Annotated[
        Path | None, typer.Option("--texts", metavar="FILE", help="Texts to compare by, one per line.")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """How alike the experts are, in weights and in what they compute; duplicates are named."""
    render.quiet = quiet
    from moe_retrieval.models import PROBES, compare_experts

    with bars.phase("comparing experts"):
        pairs = compare_experts(model, texts=PROBES if texts is None else _lines(texts))
    for pair in pairs if json else ():
        render.json_line(pair.to_dict())
    if not json:
        render.expert_pairs(pairs)


@app.command("export-expert")
def export_expert(
    model: Model,
    domain: Annotated[str, typer.Argument(help="The domain whose expert is exported.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder in which the pack is written.")
    ],
    quiet: options.Quiet = False,
) -> None:
    """Write one domain's expert as a pack, a folder named by the sha256 of its weights."""
    render.quiet = quiet
    from moe_retrieval.models import export_expert as export

    with bars.phase(f"exporting {domain}"):
        pack = export(model, domain, output)
    render.line(str(pack))


@app.command("import-expert")
def import_expert(
    model: Model,
    pack: Annotated[Path, typer.Argument(help="Folder of the pack, named by its sha256.")],
    domain: Annotated[str, typer.Option("--domain", "-d", help="The domain that it is for.")],
    output: Output,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a model that has the experts of MODEL and the one of the pack."""
    render.quiet = quiet
    from moe_retrieval.models import import_expert as take

    with bars.phase(f"importing {domain}"):
        made = take(model, {domain: pack}, output)
    _show(made, json=json)


@app.command()
def onnx(
    model: Model,
    output: Output,
    domain: Annotated[str, typer.Option("--domain", "-d", help="Whose graph is written.")] = "general",
    quiet: options.Quiet = False,
) -> None:
    """Write one domain's graph for onnxruntime: ids and mask in, hidden states out."""
    render.quiet = quiet
    from moe_retrieval.models import export_onnx

    with bars.phase(f"exporting {domain}"):
        place = export_onnx(model, output, domain=domain)
    render.line(str(place))


def _show(found: ModelInfo, *, json: bool) -> None:
    if json:
        render.json_line(found.to_dict())
    else:
        render.model_info(found)


def _lines(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{file} cannot be read: {error}", hint="give a text file, one text per line"
        ) from error
    if not (texts := [line for line in lines if line]):
        raise UsageError(f"{file} holds no text", hint="one text per line")
    return texts
