"""Texts to token ids, by the model's own tokenizer: nothing is cut, no special token comes from a text."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import TYPE_CHECKING

from moe_retrieval.errors import ModelError, UsageError
from moe_retrieval.hashing import remembered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from moe_retrieval.model.source import ModelSource

_SHORTEST, _LONGEST = 8, 8_192

Window = list[int]
"""Token ids of one stretch of a text, special tokens included: what the model sees at once."""


class Tokens:
    """A tokenizer with a length limit. Texts over the limit become several windows, none loses a token."""

    def __init__(self, file: Path, *, max_length: int, lower_case: bool = False) -> None:
        self._file = file
        self._tokenizer = _load(file)
        self._lower_case = lower_case
        self._first, self._last = _frame(self._tokenizer)
        self.max_length = max_length
        self.digest = _digest(file)
        self._shift = (0, 0)  # first id of added words, and what brings them to the model's id

    def with_words(self, words: Sequence[str], *, first: int) -> Tokens:
        """A tokenizer for which these words, wherever they stand alone, are tokens `first`, `first` + 1, ...

        `first`: the size of the model's table of embeddings, which may be larger than the tokenizer's
        vocabulary.

        Raises:
            ModelError: a word is a token already.
        """
        from tokenizers import AddedToken

        more = Tokens(self._file, max_length=self.max_length, lower_case=self._lower_case)
        base = more._tokenizer.get_vocab_size(with_added_tokens=True)
        added = more._tokenizer.add_tokens([AddedToken(word, single_word=True) for word in words])
        if added != len(words):
            raise ModelError(
                "a word of the expert's vocabulary is a token already", hint="leave that word out"
            )
        more._shift = (base, first - base)
        return more

    @property
    def special(self) -> int:
        """Number of special tokens around every window."""
        return len(self._first) + len(self._last)

    def count(self, text: str) -> int:
        return self.count_many([text])[0]

    def count_many(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self._ids(texts)]

    def windows(self, texts: Sequence[str], *, prompt: str = "") -> list[list[Window]]:
        """One list of windows per text; each window begins with the prompt and is at most `max_length` long.

        Raises:
            UsageError: the prompt leaves no room for a text.
        """
        head = self.count(prompt) if prompt else 0
        room = self.max_length - self.special - head
        if room < 1:
            raise UsageError(
                f"the prompt has {head} tokens and leaves no room in {self.max_length}",
                hint="give a shorter prompt",
            )
        prompted = [prompt + text for text in texts] if prompt else texts
        return [self._split(ids, head=head, room=room) for ids in self._ids(prompted)]

    def cut(self, text: str, *, prompt: str = "") -> Window:
        """Token ids of the beginning of a text, what does not fit left out."""
        (ids,) = self._ids([prompt + text])
        return [*self._first, *ids[: self.max_length - self.special], *self._last]

    def _split(self, ids: list[int], *, head: int, room: int) -> list[Window]:
        prompt, body = ids[:head], ids[head:]
        count = max(1, -(-len(body) // room))
        # of equal size, so that no window is a stump without context
        bounds = [len(body) * place // count for place in range(count + 1)]
        parts = (body[start:stop] for start, stop in pairwise(bounds))
        return [[*self._first, *prompt, *part, *self._last] for part in parts]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        clean = [_clean(text.lower() if self._lower_case else text) for text in texts]
        found = [one.ids for one in self._tokenizer.encode_batch_fast(clean, add_special_tokens=False)]
        base, shift = self._shift
        return [[one + shift if one >= base else one for one in ids] for ids in found] if shift else found


def _clean(text: str) -> str:
    """`text` with lone surrogates, which no UTF-8 can hold, replaced by U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _load(file: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(
            f"{file} cannot be read as a tokenizer: {error}", hint="fetch the model again"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # a "[SEP]" that a document contains is text
    return tokenizer


def _frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Special tokens the model wants before and after a text."""
    probe = tokenizer.encode("a")
    marks = probe.special_tokens_mask
    if 0 not in marks:
        raise ModelError("the tokenizer knows no token for 'a'", hint="fetch the model again")
    start = marks.index(0)
    stop = len(marks) - marks[::-1].index(0)
    return probe.ids[:start], probe.ids[stop:]


def _digest(file: Path) -> str:
    """Hash of what decides tokens: truncation and padding, which are switched off here, are left out."""
    return remembered(file, "tokenizer 1", lambda: _digest_anew(file))


def _digest_anew(file: Path) -> str:
    said = json.loads(file.read_text("utf-8"))
    said.pop("truncation", None)
    said.pop("padding", None)
    canonical = json.dumps(said, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def window_length(source: ModelSource, wanted: int | None) -> int:
    """Tokens of a window: what was asked for, within what the model has positions for.

    Raises:
        UsageError: it is out of range.
    """
    if not wanted:
        return source.max_length
    most = min(_LONGEST, source.positions)
    if not _SHORTEST <= wanted <= most:
        raise UsageError(
            f"max_length is {wanted}", hint=f"{source.name} takes from {_SHORTEST} to {most} tokens"
        )
    return wanted
