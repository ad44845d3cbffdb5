"""Options that several verbs share, and the store they open."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe_retrieval.types import Across, Durability, EngineName, Mode, Precision
from moeret_cli import render

if TYPE_CHECKING:
    from typing import BinaryIO

    from moe_retrieval.moeret import Moeret

Store = Annotated[
    str | None,
    typer.Option("--store", metavar="PATH", help="Folder or s3:// URL of the store [MOERET_STORE; .moeret]."),
]
Model = Annotated[str | None, typer.Option("--model", help="Folder or hub id of the encoder [bundled].")]
Experts = Annotated[
    str | None,
    typer.Option(
        "--experts",
        metavar="WORDS",
        help="Experts for domains that have none: bundled, or DOMAIN=NAME or =FOLDER, set apart by commas.",
    ),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        case_sensitive=False,
        help="Arithmetic of the encoder; auto: bf16 where the device has it.",
    ),
]
EngineOption = Annotated[
    EngineName | None,
    typer.Option(
        "--engine", case_sensitive=False, help="What computes the vectors; auto: the fastest installed."
    ),
]
Device = Annotated[str | None, typer.Option("--device", help="Torch device, such as cpu or cuda:0.")]
DurabilityOption = Annotated[
    Durability | None,
    typer.Option(
        "--durability",
        case_sensitive=False,
        help="What published work survives: a power cut, or the end of the process only [power].",
    ),
]
Wait = Annotated[
    float | None,
    typer.Option("--wait", metavar="SECONDS", help="Wait for another process that writes the store [0]."),
]
Recall = Annotated[
    float | None,
    typer.Option("--recall", help="Share of the true ten nearest that a search index must find [0.98]."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No narration, no progress.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would be done; change nothing.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]
Domains = Annotated[
    list[str] | None,
    typer.Option(
        "--domain", "-d", metavar="NAME", help="Search this domain only; may be repeated. Default: routed."
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where", metavar="FILTER", help="Only documents that match, as in: year >= 2015 and journal = 'BMJ'"
    ),
]
ModeOption = Annotated[
    Mode | None,
    typer.Option("--mode", case_sensitive=False, help="Search by vector, by full text, or both."),
]

Fusion = Annotated[
    Across | None,
    typer.Option(
        "--fusion",
        case_sensitive=False,
        help="How domains of several experts are joined; auto: by calibrated probability, else by rank.",
    ),
]
Weight = Annotated[
    float | None,
    typer.Option("--weight", help="Weight of the vector search in a hybrid score [as tuned, else 0.7]."),
]


def open_store(*, quiet: bool, **flags: Any) -> Moeret:
    """The facade over the settings of this run; notices go to standard error unless quiet."""
    render.quiet = quiet
    from moe_retrieval.moeret import Moeret
    from moe_retrieval.settings import load_settings

    return Moeret.open(settings=load_settings(**flags).values, notify=render.note)


def names(listed: str) -> tuple[str, ...]:
    """Words set apart by commas."""
    return tuple(name.strip() for name in listed.split(",") if name.strip())


def stdin() -> BinaryIO:
    """Standard input in bytes; empty where the process was started without one."""
    return getattr(sys.stdin, "buffer", None) or io.BytesIO()
