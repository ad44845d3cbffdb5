"""Count tokens as the model counts them that will read a context: by a tokenizer that the caller names."""

from __future__ import annotations

import importlib
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_retrieval.errors import MissingExtraError, UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    Count = Callable[[str], int]

FILE = "tokenizer.json"
TIKTOKEN = "tiktoken:"

_KINDS = "a tokenizer.json, a folder that holds one, a hub id in the local cache, or tiktoken:NAME"


def token_count(name: str) -> Count:
    """Counts the tokens of a text with the tokenizer called `name`: a tokenizer.json, a folder that holds
    one, a hub id whose tokenizer.json lies in the local cache, or `tiktoken:` with the name of an encoding or
    model. Nothing is fetched but what tiktoken fetches for itself.

    Counted are the special tokens, too, that the tokenizer puts around a text of its own. Text that is
    spelled like a special token counts as text.

    Raises:
        UsageError: there is no such tokenizer, or it cannot be read.
        MissingExtraError: tiktoken is asked for and not installed.
    """
    if name.startswith(TIKTOKEN):
        return _tiktoken(name.removeprefix(TIKTOKEN))
    file = _file_of(name)
    return _from_file(str(file), file.stat().st_mtime_ns)


def _file_of(name: str) -> Path:
    place = Path(os.path.expanduser(name))  # noqa: PTH111 - that of Path fails where there is no such user
    if place.is_dir():
        if not (place / FILE).is_file():
            hint = "AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER) writes one"
            raise UsageError(f"the folder {name} holds no {FILE}", hint=hint)
        return place / FILE
    if place.is_file():
        return place
    return _cached(name)


def _cached(name: str) -> Path:
    """The tokenizer.json of a hub id, as an earlier download left it."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, FILE)
    except HFValidationError as error:  # no hub id is spelled so
        raise UsageError(f"there is no tokenizer {name!r}", hint=f"give {_KINDS}") from error
    if not isinstance(found, str):
        hint = f"give {_KINDS}; hf download {name} {FILE} would fetch it, if it is a hub id"
        raise UsageError(f"there is no tokenizer {name!r}", hint=hint)
    return Path(found)


@lru_cache(maxsize=8)
def _from_file(file: str, _changed: int) -> Count:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(file)
    except Exception as error:  # the library raises nothing narrower
        raise UsageError(f"{file} cannot be read as a tokenizer", hint=f"give {_KINDS}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return lambda text: len(tokenizer.encode_batch_fast([text])[0])


@lru_cache(maxsize=8)
def _tiktoken(name: str) -> Count:
    try:
        tiktoken: Any = importlib.import_module("tiktoken")
    except ImportError as error:
        raise MissingExtraError(
            "tiktoken", extra="tiktoken", purpose=f"the tokenizer {TIKTOKEN}{name}"
        ) from error
    encoding = _encoding(tiktoken, name)
    return lambda text: len(encoding.encode_ordinary(text))


def _encoding(tiktoken: Any, name: str) -> Any:
    known = tiktoken.list_encoding_names()
    try:
        return tiktoken.get_encoding(name) if name in known else tiktoken.encoding_for_model(name)
    except KeyError as error:
        raise UsageError(
            f"tiktoken knows no encoding or model {name!r}", hint=did_you_mean(name, known)
        ) from error
    except OSError as error:  # its file is fetched when it is first used
        hint = "use it once where there is a network, or set TIKTOKEN_CACHE_DIR to a folder that holds it"
        raise UsageError(f"tiktoken cannot fetch the file of {name!r}", hint=hint) from error
