"""Pairs to tensors: cut, prompted, padded, and never a positive among the negatives."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from moe_retrieval.corpus.pairs import Pair
from moe_retrieval.model.source import ModelSource, open_source
from moe_retrieval.training.feeding import Batches, Feeder, only
from moe_retrieval.training.validation import QUERY

PAIR = Pair("heart attack", "blood pressure", "cvd")


@pytest.fixture
def source(tiny_model: Path) -> ModelSource:
    return open_source(tiny_model)


@pytest.fixture
def decoded(tiny_model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_model / "tokenizer.json"))


def feeder(source: ModelSource, *, max_length: int = 32, **said: object) -> Feeder:
    return Feeder(source, experts={"cvd": 1, "skin": 2}, max_length=max_length, **said)  # type: ignore[arg-type]


def words(tokenizer: Tokenizer, ids: torch.Tensor) -> list[str]:
    return [tokenizer.decode(row.tolist()) for row in ids]


def test_texts_are_padded_to_the_longest_and_the_mask_says_where(source: ModelSource) -> None:
    texts = feeder(source).texts(["heart", "heart attack risk"], "cvd")
    assert texts.ids.shape == texts.mask.shape == (2, 5)
    assert texts.mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert texts.ids[0, 3:].tolist() == [source.config["pad_token_id"]] * 2


@pytest.mark.parametrize(("domain", "expert"), [("cvd", 1), ("skin", 2), ("unheard", 0)])
def test_texts_go_to_the_expert_of_their_domain(source: ModelSource, domain: str, expert: int) -> None:
    assert feeder(source).texts(["heart", "skin"], domain).experts.tolist() == [expert] * 2


def test_a_long_text_is_cut_and_keeps_its_ends(source: ModelSource) -> None:
    (whole,) = feeder(source).texts(["heart attack risk lung skin drug"], "cvd").ids
    (cut,) = feeder(source, max_length=6).texts(["heart attack risk lung skin drug"], "cvd").ids
    assert len(cut) == 6
    assert cut[:-1].tolist() == whole[:5].tolist()
    assert cut[-1] == whole[-1]  # [SEP]


def test_each_side_gets_its_own_prompt(source: ModelSource, decoded: Tokenizer) -> None:
    made = feeder(source, prompts={"query": "drug ", "document": "dose "})
    batch = made.batch([replace(PAIR, negatives=("worm",))])
    said = {side: words(decoded, texts.ids)[0] for side, texts in batch.items()}
    assert said == {"a": "drug heart attack", "b": "dose blood pressure", "negatives": "dose worm"}


def test_the_prompts_of_the_model_are_the_usual_ones(
    tiny_model: Path, tmp_path: Path, decoded: Tokenizer
) -> None:
    folder = tmp_path / "prompted"
    shutil.copytree(tiny_model, folder)
    said = {"prompts": {"query": "the ", "document": ""}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said), "utf-8")
    made = feeder(open_source(folder))
    assert words(decoded, made.texts(["heart"], "cvd", side=QUERY).ids) == ["the heart"]
    assert words(decoded, made.texts(["heart"], "cvd").ids) == ["heart"]


def test_lengths_are_those_of_the_tokens_with_prompt(source: ModelSource) -> None:
    made = feeder(source, max_length=5, prompts={"query": "drug ", "document": ""})
    assert made.lengths(["heart", "heart attack risk lung"], "cvd") == [3, 5]
    assert made.lengths(["heart", "heart attack risk lung"], "cvd", side=QUERY) == [4, 5]


def test_the_words_of_an_expert_are_tokens_in_its_domain_alone(source: ModelSource) -> None:
    made = feeder(source, words={"cvd": ["troponin"]})
    base = source.config["vocab_size"]
    assert made.texts(["heart troponin"], "cvd").ids[0, 2].item() == base
    assert (made.texts(["heart troponin"], "skin").ids < base).all()
    assert (made.texts(["heart troponin"], "cvd").ids == base).any()  # and it remembers that per domain


def test_rows_of_both_sides_are_in_the_order_of_the_pairs(source: ModelSource, decoded: Tokenizer) -> None:
    pairs = [PAIR, Pair("lung", "smoking cough", "cvd"), Pair("skin", "sun", "skin")]
    batch = feeder(source).batch(pairs)
    assert words(decoded, batch["a"].ids) == [pair.a for pair in pairs]
    assert words(decoded, batch["b"].ids) == [pair.b for pair in pairs]
    assert batch["a"].experts.tolist() == batch["b"].experts.tolist() == [1, 1, 2]
    assert "negatives" not in batch


def negatives(source: ModelSource, decoded: Tokenizer, pairs: list[Pair], known: list[Pair]) -> list[str]:
    """What stands against the first two pairs, when training knows these, too."""
    batch = Batches([*pairs, *known], [range(len(pairs))], feeder(source))[0]
    return words(decoded, batch["negatives"].ids) if "negatives" in batch else []


OTHER = Pair("lung", "smoking cough", "cvd")


def test_negatives_are_those_of_all_pairs_each_once(source: ModelSource, decoded: Tokenizer) -> None:
    pairs = [replace(PAIR, negatives=("worm", "sun")), replace(OTHER, negatives=("sun", "fever"))]
    assert negatives(source, decoded, pairs, []) == ["worm", "sun", "fever"]


@pytest.mark.parametrize(
    ("tempting", "known"),
    [
        ("smoking cough", []),
        ("lung", []),
        ("worm", [Pair("lung", "worm", "cvd")]),
        ("worm", [Pair("worm", "lung", "cvd")]),
    ],
    ids=["a positive of another pair", "an a of another pair", "belongs to another a", "the other way round"],
)
def test_what_belongs_to_anyone_in_the_batch_is_no_negative(
    source: ModelSource, decoded: Tokenizer, tempting: str, known: list[Pair]
) -> None:
    pairs = [replace(PAIR, negatives=(tempting, "fever")), OTHER]
    assert negatives(source, decoded, pairs, known) == ["fever"]


def test_a_pair_labelled_0_spares_no_negative(source: ModelSource, decoded: Tokenizer) -> None:
    pairs = [replace(PAIR, negatives=("worm",)), OTHER]
    assert negatives(source, decoded, pairs, [Pair("lung", "worm", "cvd", label=0)]) == ["worm"]


def test_each_item_is_the_whole_batch_of_a_step(source: ModelSource, decoded: Tokenizer) -> None:
    pairs = [PAIR, OTHER, Pair("skin", "sun", "cvd")]
    batches = Batches(pairs, [[2, 0], [1]], feeder(source))
    assert len(batches) == 2
    assert [words(decoded, batches[step]["a"].ids) for step in (0, 1)] == [["skin", "heart attack"], ["lung"]]
    assert only([{"a": 1}]) == {"a": 1}
