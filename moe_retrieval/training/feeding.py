"""Pairs to tensors: texts are cut to the length, tokenised once, and padded batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from moe_retrieval.engines.pooling import padded
from moe_retrieval.engines.tokens import Tokens
from moe_retrieval.training.batches import related_texts
from moe_retrieval.training.pair_model import Texts
from moe_retrieval.training.validation import DOCUMENT, QUERY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from moe_retrieval.corpus.pairs import Pair
    from moe_retrieval.model.source import ModelSource


class Feeder:
    """Tokenises texts for a model; `experts` says which expert of it learns or computes a domain's texts.

    A text longer than `max_length` is cut: one window of a text is what it is trained by.
    """

    def __init__(
        self,
        source: ModelSource,
        *,
        experts: Mapping[str, int],
        max_length: int,
        prompts: Mapping[str, str] | None = None,
        words: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._tokens = Tokens(source.tokenizer, max_length=max_length, lower_case=source.lower_case)
        self._own = {
            domain: self._tokens.with_words(own, first=source.config["vocab_size"])
            for domain, own in (words or {}).items()
        }
        self._experts = dict(experts)
        self._prompts = dict(source.prompts if prompts is None else prompts)
        self._pad = source.config["pad_token_id"] or 0
        self._known: dict[tuple[str, str, str], list[int]] = {}

    def texts(self, texts: Sequence[str], domain: str, *, side: str = DOCUMENT) -> Texts:
        """Texts of one domain as one padded batch; `side`: whether they get the query's or the document's
        prompt.
        """
        return self._padded([(text, domain) for text in texts], side)

    def _padded(self, texts: Iterable[tuple[str, str]], side: str) -> Texts:
        """Texts with their domains as one batch."""
        listed = list(texts)
        ids, mask = padded([self._ids(text, domain, side) for text, domain in listed], pad=self._pad)
        experts = torch.tensor([self._experts.get(domain, 0) for _, domain in listed])
        return Texts(torch.from_numpy(ids), torch.from_numpy(mask), experts)

    def lengths(self, texts: Sequence[str], domain: str, *, side: str = DOCUMENT) -> list[int]:
        """Tokens of each text."""
        return [len(self._ids(text, domain, side)) for text in texts]

    def batch(
        self, pairs: Sequence[Pair], *, related: Mapping[str, AbstractSet[str]] | None = None
    ) -> dict[str, Texts]:
        """The arguments of `PairModel.forward` for pairs.

        `related`: text -> texts that it belongs to, by any pair. A negative of one pair stands against all a
        of the batch: it is left out where it is one of their texts, or belongs to one of them.
        """
        sides = {
            "a": self._padded(((pair.a, pair.domain) for pair in pairs), QUERY),
            "b": self._padded(((pair.b, pair.domain) for pair in pairs), DOCUMENT),
        }
        known = {text for pair in pairs for text in (pair.a, pair.b)}
        known |= {text for pair in pairs for text in (related or {}).get(pair.a, ())}
        hard = [(text, pair.domain) for pair in pairs for text in pair.negatives if text not in known]
        if hard:
            sides["negatives"] = self._padded(dict.fromkeys(hard), DOCUMENT)
        return sides

    def _ids(self, text: str, domain: str, side: str) -> list[int]:
        key = (domain if domain in self._own else "", side, text)
        if key not in self._known:
            tokens = self._own.get(domain, self._tokens)
            self._known[key] = tokens.cut(text, prompt=self._prompts.get(side, ""))
        return self._known[key]


class Batches(Dataset[dict[str, Any]]):
    """The steps of a training in their order: item i is the whole batch of step i."""

    def __init__(self, pairs: Sequence[Pair], steps: Sequence[Sequence[int]], feeder: Feeder) -> None:
        self._pairs, self._steps, self._feeder = pairs, steps, feeder
        self._related = related_texts(pairs)

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, step: int) -> dict[str, Any]:
        return self._feeder.batch([self._pairs[place] for place in self._steps[step]], related=self._related)


def only(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The batch itself, where a data loader would stack several."""
    (batch,) = batches
    return batch
