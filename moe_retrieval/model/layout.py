"""What lies beside saved weights: tokenizer, the list of sentence-transformers modules, a card."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from moe_retrieval.model.card import model_card
from moe_retrieval.model.source import HEAD

if TYPE_CHECKING:
    from pathlib import Path

    from moe_retrieval.model.source import ModelSource

_COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
_OURS = "moe_retrieval.integrations.sentence_transformers"
_THEIRS = "sentence_transformers.models"
MARK = "<!-- written by moeret; take this line out to keep your own text -->"


def write_layout(folder: Path, *, like: ModelSource, config: Any, head: Any = None) -> None:
    """Write to `folder` what `like` has beside its weights; `head`: a `PoolingHead` in place of like's own.

    A README.md without our mark is left as it is.
    """
    for name in _COPIED:
        if (like.folder / name).is_file() and like.folder != folder:
            shutil.copyfile(like.folder / name, folder / name)
    if not (folder / "sentence_bert_config.json").is_file():
        limits = {"max_seq_length": like.max_length, "do_lower_case": like.lower_case}
        _write(folder / "sentence_bert_config.json", limits)
    width = int(like.config["hidden_size"])
    _write(folder / "1_Pooling" / "config.json", _pooling(like.pooling, width))
    if head is not None:
        head.save(folder / HEAD)
    elif like.head is not None and like.head.parent != folder / HEAD:
        shutil.copytree(like.head.parent, folder / HEAD, dirs_exist_ok=True)
    has_head = head is not None or like.head is not None
    _write(folder / "modules.json", _modules(head=has_head, words=bool(config.vocabulary)))
    readme = folder / "README.md"
    if not readme.is_file() or MARK in readme.read_text("utf-8"):
        card = model_card(config, base=like.name, pooling=like.pooling, head=has_head)
        readme.write_text(f"{card}\n{MARK}\n", "utf-8")


def _pooling(how: str, width: int) -> dict[str, Any]:
    modes = {f"pooling_mode_{name}": name.startswith(how) for name in ("cls_token", "mean_tokens")}
    return {"word_embedding_dimension": width, **modes}


def _modules(*, head: bool, words: bool) -> list[dict[str, Any]]:
    """sentence-transformers' own modules where they do: others it opens with trust_remote_code only."""
    first = f"{_OURS}.ExpertTransformer" if words else f"{_THEIRS}.Transformer"
    listed = [("", first), ("1_Pooling", f"{_THEIRS}.Pooling")]
    if head:
        listed.append((HEAD, f"{_OURS}.ExpertHead"))
    listed.append((f"{len(listed)}_Normalize", f"{_THEIRS}.Normalize"))
    modules: list[dict[str, Any]] = [
        {"idx": at, "name": str(at), "path": path, "type": kind} for at, (path, kind) in enumerate(listed)
    ]
    modules[0]["kwargs"] = ["domain"]
    return modules


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), "utf-8")
