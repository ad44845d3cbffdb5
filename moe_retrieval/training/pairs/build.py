"""Build honest training pairs: from any source, cleaned, capped, split by document, written with a report."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from moe_retrieval.corpus.pairs import Split, write_pairs
from moe_retrieval.errors import MoeretError, UsageError, did_you_mean
from moe_retrieval.training.pairs.exclusion import Excluded
from moe_retrieval.training.pairs.filtering import Gathered, PairSource, gathered, together_in
from moe_retrieval.training.pairs.report import PairsReport, report_of
from moe_retrieval.training.pairs.splits import SplitPairs, split_pairs
from moe_retrieval.training.pairs.unrelated import with_negatives

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from moe_retrieval.corpus.pairs import Pair

__all__ = ["BuildOptions", "PairSource", "PairsReport", "build_pairs"]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How pairs are chosen and split.

    `negatives`: pairs labelled 0 that are drawn per positive one, within its split, domain and kind.
    `domains`: keep only these. `min_pairs`: a domain with fewer gets a warning. `max_pairs`: of a domain, a
    sample drawn by seed; 0: all. `min_chars`: of a text, white space folded. `keep_splits`: pairs that say
    where they belong stay there. `exclude`: what was kept out, for the report.
    """

    validation: float = 0.1
    test: float = 0.1
    by_time: bool | None = None
    keep_splits: bool = False
    negatives: int = 0
    domains: tuple[str, ...] = ()
    min_pairs: int = 50
    max_pairs: int = 0
    min_chars: int = 8
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.negatives, self.min_pairs, self.max_pairs, self.min_chars) < 0:
            raise UsageError(
                "a count of pairs or characters is below 0", hint="0 stands for none, or for all"
            )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def build_pairs(
    sources: Sequence[PairSource],
    *,
    output: Path,
    options: BuildOptions | None = None,
    excluded: Excluded | None = None,
    seed: int,
) -> PairsReport:
    """Write train.jsonl, validation.jsonl, test.jsonl and report.json to a new folder, all of them or none.

    The same sources, options and seed give the same bytes.

    Raises:
        UsageError: the folder holds something; no pair is left, or none of a domain that was asked for.
        MoeretError: the folder cannot be written.
    """
    options = options or BuildOptions()
    check_output(output)
    found = gathered(
        sources,
        excluded=excluded or Excluded(),
        domains=options.domains,
        min_chars=options.min_chars,
        max_pairs=options.max_pairs,
        seed=seed,
    )
    _check_any(found, options)
    parts = split_pairs(
        found.pairs,
        seed=seed,
        validation=options.validation,
        test=options.test,
        by_time=options.by_time,
        groups=found.groups,
        keep=options.keep_splits,
    )
    dropped = Counter(found.dropped) + Counter(parts.dropped)
    files: Mapping[Split, Sequence[Pair]] = {split: parts.of(split) for split in Split}
    if options.negatives:
        files, missing = _with_negatives(parts, sources, per_positive=options.negatives, seed=seed)
        dropped["no negative found"] += missing
    report = report_of(
        files,
        dropped=+dropped,
        seed=seed,
        min_pairs=options.min_pairs,
        options=options.to_dict(),
        sources=[source.to_dict() for source in sources],
    )
    return _written(files, report, output)


def check_output(output: Path) -> None:
    """Nothing, where `output` can become a folder of pairs.

    Raises:
        UsageError: it is there already, and holds something.
    """
    try:
        taken = output.exists() and (not output.is_dir() or any(output.iterdir()))
    except OSError as error:
        raise UsageError(
            f"{output} cannot be looked at: {error.strerror}", hint="name a new folder"
        ) from error
    if taken:
        raise UsageError(f"{output} is there already and not empty", hint="name a new folder")


def _check_any(found: Gathered, options: BuildOptions) -> None:
    there = {pair.domain for pair in found.pairs}
    for domain in options.domains:
        if domain not in there:
            hint = _reasons(found) if domain in found.domains else did_you_mean(domain, found.domains)
            raise UsageError(f"no pairs of the domain {domain!r}", hint=hint)
    if not found.pairs:
        raise UsageError("no pairs are left", hint=_reasons(found) or "the sources hold none")


def _reasons(found: Gathered) -> str:
    """What was left out, the most frequent reasons first."""
    most = sorted(found.dropped.items(), key=lambda item: (-item[1], item[0]))
    said = ", ".join(f"{reason} ({number:,})" for reason, number in most)
    return f"left out: {said}" if said else ""


def _with_negatives(
    parts: SplitPairs, sources: Sequence[PairSource], *, per_positive: int, seed: int
) -> tuple[dict[Split, Sequence[Pair]], int]:
    """Each split with pairs labelled 0 of its own documents, so that splits stay apart."""
    together = together_in(sources)
    files: dict[Split, Sequence[Pair]] = {}
    missing = 0
    for split in Split:
        pairs, groups = parts.of(split), parts.groups[split]
        files[split], _, lacking = with_negatives(
            pairs, groups, per_positive=per_positive, together=together, seed=seed
        )
        missing += lacking
    return files, missing


def _written(files: Mapping[Split, Sequence[Pair]], report: PairsReport, output: Path) -> PairsReport:
    """Write beside the folder and move it there whole."""
    fresh = output.parent / f".{output.name}.{os.getpid()}.tmp"
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        hashes = {f"{split}.jsonl": write_pairs(fresh / f"{split}.jsonl", files[split]) for split in Split}
        report = replace(report, files=hashes)
        text = json.dumps(report.to_dict(), ensure_ascii=False, indent=1) + "\n"
        (fresh / "report.json").write_text(text, "utf-8")
        fresh.replace(output)
    except OSError as error:
        hint = "make room on the disk, or give another folder"
        raise MoeretError(f"{output} cannot be written: {error.strerror}", hint=hint) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return report
