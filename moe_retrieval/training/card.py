"""What is written beside a trained expert or model: data, steps, figures with intervals, licence."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moe_retrieval.training.gate import Verdict
    from moe_retrieval.training.options import TrainOptions
    from moe_retrieval.training.outcome import Outcome


def notes(
    outcome: Outcome, *, options: TrainOptions, data: Mapping[str, Any], licence: str, base: str
) -> dict[str, Any]:
    """The facts of a training, for the card.json of a pack; `data`: where the pairs are from."""
    said = json.loads(json.dumps(asdict(options), default=str))
    return {"base": base, "licence": licence, "data": dict(data), "options": said, **outcome.to_dict()}


def markdown(found: Mapping[str, Any], verdicts: Sequence[Verdict], gains: Sequence[Verdict]) -> str:
    """The card that a person reads, from what `notes` gave."""
    courses = [
        f"- {one['what']}: {one['pairs']} pairs, {one['steps']} steps, {one['texts_seen']} texts seen, "
        f"share {one['share']} of the way kept"
        for one in found["courses"]
    ]
    parts = [
        f"# {', '.join(found['accepted']) or found['recipe']}\n",
        f"Trained by the recipe `{found['recipe']}` of moeret on {found['base']}.\n",
        "## Data and steps\n",
        *(f"- {name}: {value}" for name, value in found["data"].items()),
        f"- licence: {found['licence'] or 'not stated'}",
        *courses,
        "",
    ]
    if verdicts:
        parts += ["## Against the general expert of the same model\n", *_table(verdicts), ""]
    if gains and [one.test for one in gains] != [one.test for one in verdicts]:
        parts += ["## Against the untouched base\n", *_table(gains), ""]
    return "\n".join(parts)


def _table(verdicts: Sequence[Verdict]) -> list[str]:
    rows = [
        f"| {one.domain} | {one.test.n} | {one.before:.4f} | {one.after:.4f} | {one.test.difference:+.4f} "
        f"({one.test.low:+.4f} to {one.test.high:+.4f}) |"
        for one in verdicts
    ]
    return [
        "nDCG@10 on validation pairs, by which the training was steered; the interval is that of a paired",
        "bootstrap over queries (95%).\n",
        "| domain | queries | before | after | difference |",
        "|---|---|---|---|---|",
        *rows,
    ]
