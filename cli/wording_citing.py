"""What `moeret cite` says, as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeret_cli.wording import count, short_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_retrieval.retrieval.citations.citing import Verdict


def verdict(one: Verdict) -> str:
    """A citation on one line: whether it holds, where it stands, and what its source and the store say."""
    place = f"{one.doc_id} {short_path(one.source)}:{one.start}-{one.end}"
    said = f"source {one.in_source}, store {one.in_store}, table version {one.as_cited}"
    note = f" ({one.note})" if one.note else ""
    return f"[{one.number}] {one.key}  {'holds' if one.holds else 'FAILS'}  {place}  {said}{note}"


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many citations hold."""
    if not verdicts:
        return "no citations: there is nothing to check"
    held = sum(one.holds for one in verdicts)
    if held == len(verdicts):
        return f"{count(held, 'citation')}, all as they were cited"
    return (
        f"{held:,} of {count(len(verdicts), 'citation')} as they were cited, the others have changed or gone"
    )
