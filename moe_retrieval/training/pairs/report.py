"""What a build of pairs made: counts per domain, split and kind, and what was left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from moe_retrieval.corpus.pairs import Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from moe_retrieval.corpus.pairs import Pair

    Counts = Mapping[str, Mapping[str, Mapping[str, int]]]


@dataclass(frozen=True, slots=True)
class PairsReport:
    """`counts`: pairs per domain, split and kind; `labels`: per domain, split and label; `dropped`: left out,
    by reason; `files`: sha256 of each; a domain without a name is "".
    """

    pairs: int
    counts: Counts
    labels: Counts
    dropped: Mapping[str, int]
    warnings: tuple[str, ...]
    seed: int
    options: Mapping[str, Any]
    sources: Sequence[Mapping[str, Any]]
    files: Mapping[str, str] = field(default_factory=dict)

    def count(self, domain: str, split: Split) -> int:
        """Pairs of a domain in a split."""
        return sum(self.counts.get(domain, {}).get(split, {}).values())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def report_of(
    files: Mapping[Split, Sequence[Pair]],
    *,
    dropped: Mapping[str, int],
    seed: int,
    min_pairs: int,
    options: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
) -> PairsReport:
    """The report of these pairs; domains and reasons are in order of their names."""
    report = PairsReport(
        pairs=sum(map(len, files.values())),
        counts=_counts(files, lambda pair: pair.kind),
        labels=_counts(files, lambda pair: str(pair.label)),
        dropped=dict(sorted(dropped.items())),
        warnings=(),
        seed=seed,
        options=options,
        sources=sources,
    )
    return replace(report, warnings=tuple(_warnings(report, min_pairs=min_pairs)))


def _counts(files: Mapping[Split, Sequence[Pair]], what: Callable[[Pair], str]) -> Counts:
    counted = Counter((pair.domain, str(split), what(pair)) for split in files for pair in files[split])
    found: dict[str, dict[str, dict[str, int]]] = {}
    for domain, _, _ in sorted(counted):
        found.setdefault(domain, {str(split): {} for split in Split})
    for (domain, split, name), number in sorted(counted.items()):
        found[domain][split][name] = number
    return found


def _warnings(report: PairsReport, *, min_pairs: int) -> Iterator[str]:
    for domain in report.counts:
        pairs = sum(report.count(domain, split) for split in Split)
        positive = sum(found.get("1", 0) for found in report.labels[domain].values())
        if not domain:
            yield f"{pairs:,} pairs have no domain; --domain NAME gives them one"
        elif positive < min_pairs:
            yield f"{domain} has {positive:,} positive pairs, fewer than {min_pairs:,}: few for an expert"
        if not report.count(domain, Split.TRAIN):
            yield f"{domain or 'no domain'} has no pairs to train on"
        elif not report.count(domain, Split.VALIDATION):
            yield f"{domain or 'no domain'} has no validation pairs, so that no expert of it can be accepted"
    labels = {name for domain in report.labels.values() for split in domain.values() for name in split}
    if len(labels) == 1:
        yield (
            f"all labels are {labels.pop()}: rankings can be judged by that, F1 and ROC-AUC cannot; "
            "--negatives 1 adds pairs labelled 0"
        )
