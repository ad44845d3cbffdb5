"""Pairs that a tiny model can learn: texts of the same three words, among words that mean nothing there."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from moe_retrieval.corpus.pairs import Pair
from tests.tiny_model import WORDS

if TYPE_CHECKING:
    from pathlib import Path

_WORDS = WORDS[5:]
_NOISE, _SAID = 3, 3
_TESTS = 20


def noisy_pairs(domain: str, *, count: int) -> list[Pair]:
    """`count` pairs: both sides say the same three words, and three that say nothing; which words those
    are, the domain decides. No text stands in two pairs.
    """
    draw = random.Random(domain)
    shuffled = draw.sample(_WORDS, len(_WORDS))
    noise, meant = shuffled[:_NOISE], shuffled[_NOISE:]

    def said(words: list[str]) -> str:
        return " ".join(draw.sample([*words, *draw.sample(noise, _SAID)], len(words) + _SAID))

    texts = [sorted(draw.sample(meant, 3)) for _ in range(4 * count)]
    distinct = list({" ".join(words): words for words in texts}.values())[:count]
    made = [
        Pair(said(words), said(words), domain, a_id=f"{domain}:a{at}", b_id=f"{domain}:b{at}")
        for at, words in enumerate(distinct)
    ]
    return [replace(pair, b=_swapped(pair.b)) if pair.a == pair.b else pair for pair in made]


def _swapped(text: str) -> str:
    """The text with its last two words the other way round."""
    *words, one, other = text.split()
    return " ".join([*words, other, one])


def write_pair_folder(folder: Path, *domains: str, train: int = 400, validation: int = 150) -> Path:
    """What `moeret pairs build` would write of such pairs; the same text is in no two parts."""
    parts: dict[str, list[Pair]] = {"train": [], "validation": [], "test": []}
    for domain in domains:
        pairs = noisy_pairs(domain, count=train + validation + _TESTS)
        ends = (0, train, train + validation, len(pairs))
        for name, (start, stop) in zip(parts, pairwise(ends), strict=True):
            parts[name] += pairs[start:stop]
    folder.mkdir(parents=True)
    for name, pairs in parts.items():
        lines = [json.dumps(pair.to_dict() | {"split": name}) for pair in pairs]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "report.json").write_text("{}", "utf-8")
    return folder


def build_pretrained(folder: Path, tiny: Path) -> Path:
    """A tiny model that has learnt to compare texts by their words: experts find something to build on."""
    from moe_retrieval.model import surgery
    from moe_retrieval.model.source import open_source
    from moe_retrieval.training import recipes
    from moe_retrieval.training.material import TrainingPairs
    from moe_retrieval.training.options import FitOptions, Recipe, TrainOptions

    pairs = TrainingPairs.open(write_pair_folder(folder / "pairs", "all", train=600, validation=20))
    options = TrainOptions(
        recipe=Recipe.DENSE,
        batch=16,
        rate=0.003,
        shares=(1.0,),
        fit=FitOptions(steps=150, evaluations=1, patience=0, bf16=False),
    )
    shop = recipes.Workshop(open_source(tiny), pairs, ("all",), options, folder / "checkpoints")
    return surgery.save(recipes.run(shop).model, folder / "model", like=tiny)
