"""Tokenizers by name: whatever names one, it counts as that tokenizer does."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from moe_retrieval.errors import MissingExtraError, UsageError
from moe_retrieval.retrieval.citations.token_counts import token_count

TEXT = "Aspirin lowers the risk of stroke; naïve Über-große 氏名 🙂 <|endoftext|> [SEP]\n\n<<<0f3a"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a byte-level BPE tokenizer, as models that write have."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([TEXT] * 5, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_file_a_folder_and_a_hub_id_name_the_same_tokenizer(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub"
    place = cache / "models--org--name" / "snapshots" / "abc"
    place.mkdir(parents=True)
    (place / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    refs = cache / "models--org--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    names = [str(folder), str(folder / "tokenizer.json"), "org/name"]
    assert len({token_count(name)(TEXT) for name in names}) == 1


def test_it_counts_what_the_tokenizer_makes_of_a_text_and_calls_no_text_special(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert token_count(str(folder))(TEXT) > len(tokenizer.encode(TEXT).ids)
    tokenizer.encode_special_tokens = True
    assert token_count(str(folder))(TEXT) == len(tokenizer.encode(TEXT).ids)


def test_nothing_is_cut_or_padded(folder: Path) -> None:
    file = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(file))
    count = token_count(str(folder))
    assert count("a") == 1
    assert count(TEXT * 10) > 100


def test_a_tokenizer_that_was_replaced_is_read_again(folder: Path) -> None:
    before = token_count(str(folder))(TEXT)
    file = folder / "tokenizer.json"
    other = json.loads(file.read_text(encoding="utf8"))
    other["model"]["merges"] = []
    file.write_text(json.dumps(other), encoding="utf8")
    assert token_count(str(folder))(TEXT) > before


@pytest.mark.parametrize(
    "name", ["org/none", "a b?c", "missing.json", "..", "org/name/more", "~nobody-here/x"]
)
def test_a_name_of_nothing_says_what_can_be_named(name: str, folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        token_count(name)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize(("name", "fetched"), [("org/none", True), ("./none/tokenizer.json", False)])
def test_how_to_fetch_is_said_of_what_may_be_a_hub_id(name: str, fetched: bool) -> None:
    with pytest.raises(UsageError) as caught:
        token_count(name)
    assert (f"hf download {name}" in caught.value.hint) == fetched


def test_a_file_that_is_no_tokenizer_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="cannot be read as a tokenizer"):
        token_count(str(tmp_path))


def test_tiktoken_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(MissingExtraError, match=r"tiktoken:nothing needs tiktoken; pip install"):
        token_count("tiktoken:nothing")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoding of tiktoken's own kind that needs no network: every byte is a token."""
    if find_spec("tiktoken") is None:
        pytest.skip("tiktoken is not installed: pip install 'moeret[tiktoken]'")
    import tiktoken_ext

    (tmp_path / "moeret_bytes.py").write_text(
        "def bytewise():\n"
        "    ranks = {bytes([one]): one for one in range(256)}\n"
        "    return {'name': 'bytewise', 'pat_str': r'\\S+|\\s+', 'mergeable_ranks': ranks,\n"
        "            'special_tokens': {'<|endoftext|>': 256}}\n"
        "ENCODING_CONSTRUCTORS = {'bytewise': bytewise}\n"
    )
    monkeypatch.setattr(tiktoken_ext, "__path__", [*tiktoken_ext.__path__, str(tmp_path)])
    monkeypatch.setattr("tiktoken.registry.ENCODING_CONSTRUCTORS", None)
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    import tiktoken.registry

    tiktoken.registry._available_plugin_modules.cache_clear()


@pytest.mark.usefixtures("plugin")
def test_tiktoken_counts_with_the_encoding_that_is_named() -> None:
    assert token_count("tiktoken:bytewise")(TEXT) == len(TEXT.encode())


@pytest.mark.usefixtures("plugin")
def test_an_encoding_that_tiktoken_does_not_know_says_what_was_meant() -> None:
    with pytest.raises(UsageError, match="did you mean 'bytewise'"):
        token_count("tiktoken:bytewis")
