"""Pairs that do not belong together: two documents of one domain that nothing brings together."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from moe_retrieval.training.pairs.texts import folded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from moe_retrieval.corpus.pairs import Pair

_TRIES = 20
"""Draws per negative; a domain in which nearly all papers are cited together gives none."""


def with_negatives(
    pairs: Sequence[Pair],
    groups: Sequence[str],
    *,
    per_positive: int,
    together: Callable[[str, str], bool],
    seed: int,
) -> tuple[tuple[Pair, ...], tuple[str, ...], int]:
    """The pairs and, after each positive one, its `a` with `b`s of other pairs of its domain and kind,
    labelled 0; their groups; and how many negatives were not found.

    `together` says of two document ids whether they belong together; pairs given here do, too.
    """
    pools = _pools(pairs)
    known = {key for one in pairs for key in _keys(one)}
    drawn = random.Random(f"{seed} negatives")  # noqa: S311 - a sample, no secret
    made: list[Pair] = []
    their: list[str] = []
    missing = 0
    for pair, group in zip(pairs, groups, strict=True):
        made.append(pair)
        for _ in range(per_positive if pair.label else 0):
            negative = _draw(pair, pools[pair.domain, pair.kind], known, together=together, drawn=drawn)
            if negative is None:
                missing += 1
                continue
            known.update(_keys(negative))
            made.append(negative)
        their += [group] * (len(made) - len(their))
    return tuple(made), tuple(their), missing


def _draw(
    pair: Pair,
    pool: Sequence[Pair],
    known: set[tuple[str, str]],
    *,
    together: Callable[[str, str], bool],
    drawn: random.Random,
) -> Pair | None:
    for _ in range(_TRIES):
        other = pool[drawn.randrange(len(pool))]
        negative = replace(
            pair, b=other.b, b_id=other.b_id, label=0, date=max(pair.date, other.date), negatives=()
        )
        known_already = any(key in known for key in _keys(negative))
        if not (known_already or together(*negative.documents) or folded(pair.a) == folded(other.b)):
            return negative
    return None


def _pools(pairs: Iterable[Pair]) -> dict[tuple[str, str], list[Pair]]:
    """Positive pairs by domain and kind; a document often cited is drawn as often."""
    pools: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for one in pairs:
        if one.label:
            pools[one.domain, one.kind].append(one)
    return pools


def _keys(pair: Pair) -> tuple[tuple[str, str], tuple[str, str]]:
    """The pair by documents, and by texts; in no order."""
    ids, texts = sorted(pair.documents), sorted((folded(pair.a), folded(pair.b)))
    return (ids[0], ids[1]), (texts[0], texts[1])
