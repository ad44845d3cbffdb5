"""Small random models as folders, the same for the same seed: real files, no download."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

WORDS = (  # noqa: SIM905 - reads better as a sentence
    "the a of in and heart lung skin attack disease patient risk drug dose trial blood pressure "
    "cell immune worm malaria aspirin stroke smoking cough tumour light sun joint pain fever"
).split()


def build_tiny_bert(
    folder: Path, *, seed: int = 0, dim: int = 32, layers: int = 2, max_length: int = 32
) -> Path:
    """Write configuration, weights, tokenizer and the sentence-transformers files; returns `folder`."""
    return build_tiny(folder, "bert", seed=seed, dim=dim, layers=layers, max_length=max_length)


FAMILIES = ("bert", "roberta", "xlm-roberta", "mpnet", "modernbert")
_OF_FAMILY: dict[str, dict[str, object]] = {
    "bert": {},
    "roberta": {"pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1},
    "mpnet": {"pad_token_id": 1},
    # a window of 8 tokens in two of three layers, so that it matters which layers have it
    "modernbert": {"pad_token_id": 0, "local_attention": 8, "cls_token_id": 2, "sep_token_id": 3},
}


def build_tiny(
    folder: Path, family: str, *, seed: int = 0, dim: int = 32, layers: int = 2, max_length: int = 32
) -> Path:
    """As `build_tiny_bert`, of any family."""
    import torch
    from transformers import AutoConfig, AutoModel

    folder.mkdir(parents=True, exist_ok=True)
    special = _OF_FAMILY[family]
    vocabulary = _write_tokenizer(folder / "tokenizer.json", pad=int(str(special.get("pad_token_id", 0))))
    config = AutoConfig.for_model(
        family,
        vocab_size=vocabulary,
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * dim,
        max_position_embeddings=64,
        initializer_range=0.3,  # far from linear, so that a wrong expert shows
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(config)
    model.save_pretrained(folder)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **named})
    _write(folder / "modules.json", _modules())
    _write(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": dim, "pooling_mode_mean_tokens": True},
    )
    return folder


def build_tiny_cross_encoder(folder: Path, *, seed: int = 0, labels: int = 1) -> Path:
    """A random BERT that gives `labels` scores for a pair of texts, as sentence-transformers loads it."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    build_tiny(folder, "bert", seed=seed)
    for name in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        (folder / name).unlink()
    config = AutoConfig.from_pretrained(folder, num_labels=labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


def different(model: Any, *names: str) -> Any:
    """`model` with experts of these names added, each with weights of its own."""
    import torch

    from moe_retrieval.model import surgery

    for seed, name in enumerate(names, start=1):
        surgery.add_expert(model, name)
        generator = torch.Generator().manual_seed(seed)
        number = surgery.expert_number(model, name)
        with torch.no_grad():
            for _, layer in model.expert_layers:
                for weight in layer.experts[number].parameters():
                    weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model


def _modules() -> list[dict[str, object]]:
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    return [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (path, kind) in enumerate(kinds)
    ]


def _write_tokenizer(path: Path, *, pad: int = 0) -> int:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789.,:;?!-[]()")
    pieces = [
        *(["[PAD]", "[UNK]"] if pad == 0 else ["[UNK]", "[PAD]"]),
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *WORDS,
        *letters,
        *(f"##{letter}" for letter in letters),
    ]
    vocabulary = {piece: at for at, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a token of text
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = (
        processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
        if pad == 0
        else processors.RobertaProcessing(ends[1], ends[0])
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.enable_truncation(8)  # like many published files: a loader must switch it off
    tokenizer.save(str(path))
    return len(vocabulary)


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")
