"""Texts become windows that lose no token and gain none from what a document says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_retrieval.engines.tokens import Tokens
from moe_retrieval.errors import ModelError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tokens(tiny: Path) -> Tokens:
    return Tokens(tiny / "tokenizer.json", max_length=12)


def body(windows: list[list[int]]) -> list[int]:
    return [token for window in windows for token in window[1:-1]]


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=200))
def test_windows_hold_every_token_in_order_within_the_limit(tokens: Tokens, text: str) -> None:
    (windows,) = tokens.windows([text])
    assert len(body(windows)) == tokens.count(text)
    assert all(len(window) <= 12 for window in windows)


def test_windows_are_of_equal_size(tokens: Tokens) -> None:
    (windows,) = tokens.windows(["heart " * 21])
    assert [len(window) - 2 for window in windows] == [7, 7, 7]


def test_every_window_begins_with_the_prompt(tokens: Tokens) -> None:
    (windows,) = tokens.windows(["heart " * 20], prompt="risk: ")
    head = tokens.windows(["risk: "])[0][0][1:-1]
    assert len(windows) > 1
    assert all(window[1 : 1 + len(head)] == head for window in windows)


@pytest.mark.parametrize("text", ["", "   ", "\n\t "])
def test_an_empty_text_is_two_special_tokens(tokens: Tokens, text: str) -> None:
    (windows,) = tokens.windows([text])
    assert [len(window) for window in windows] == [2]


def test_special_tokens_in_a_text_are_text(tokens: Tokens) -> None:
    (windows,) = tokens.windows(["a [SEP] b [CLS]"])
    special = {windows[0][0], windows[-1][-1]}
    assert special.isdisjoint(body(windows))


def test_lone_surrogates_are_replaced(tokens: Tokens) -> None:
    assert tokens.windows(["heart \ud800 lung"]) == tokens.windows(["heart \ufffd lung"])
    assert tokens.windows(["\ud83d\ude00"]) == tokens.windows(["\U0001f600"])


def test_a_prompt_without_room_is_refused(tokens: Tokens) -> None:
    with pytest.raises(UsageError, match="no room"):
        tokens.windows(["heart"], prompt="heart " * 20)


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(ModelError, match="as a tokenizer"):
        Tokens(tmp_path / "tokenizer.json", max_length=12)


def test_the_digest_ignores_truncation_and_nothing_else(tiny: Path, tokens: Tokens, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    plain = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    plain.no_truncation()
    plain.save(str(tmp_path / "same.json"))
    plain.add_tokens(["[CVD]"])
    plain.save(str(tmp_path / "other.json"))
    digests = [Tokens(tmp_path / f"{name}.json", max_length=12).digest for name in ("same", "other")]
    assert [digest == tokens.digest for digest in digests] == [True, False]
