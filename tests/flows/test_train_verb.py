"""`moeret train`: an expert into the store, a model into a folder, what is refused, and what nobody loses."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from moe_retrieval import Encoder, Moeret
from moe_retrieval.model.packs import open_pack
from moe_retrieval.settings import load_settings
from tests.noisy_pairs import build_pretrained, write_pair_folder
from tests.program import run_moeret

if TYPE_CHECKING:
    from pathlib import Path

    from tests.program import Done

OLD = ("cvd", "copd", "skin", "worm", "immune")
FAST = ("--steps", "100", "--batch", "16", "--rank", "0", "--rate", "0.005", "--patience", "0")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair_folder(tmp_path_factory.mktemp("pairs") / "made", *OLD, "joint")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return build_pretrained(tmp_path_factory.mktemp("base"), tiny_model)


@pytest.fixture
def store(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with five domains of three documents each."""
    monkeypatch.setenv("MOERET_STORE", str(tmp_path / "store"))
    for domain in OLD:
        write_documents(tmp_path / "corpus" / domain)
    done = run_moeret("index", tmp_path / "corpus", "--model", base, "-q")
    assert done.code == 0, done.err
    return tmp_path / "store"


def write_documents(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for at, text in enumerate(("aspirin and stroke", "smoking and the lung", "fever in malaria")):
        (folder / f"{at}.txt").write_text(f"{text} {folder.name}", "utf-8")
    return folder


def handle(store: Path) -> Moeret:
    return Moeret.open(settings=load_settings(store=store).values)


def state(store: Path, *domains: str) -> dict[str, Any]:
    """Everything that must stay: the catalog's entries, and the stored vectors to the byte."""
    with handle(store) as moeret:
        live = moeret.store.catalog.latest()
        assert live is not None
        found = {}
        for domain in domains:
            table = moeret.store.view(live.domains[domain])
            vectors = [batch["vector"].flatten().to_numpy().tobytes() for batch in table.batches(("vector",))]
            found[domain] = (live.domains[domain], vectors)
        return found


def trained(*words: object) -> Done:
    done = run_moeret("train", *words, *FAST, "--json")
    assert done.code == 0, done.err
    return done


def test_a_trained_expert_waits_for_reindex_and_makes_one_table_stale(store: Path, pairs: Path) -> None:
    before = state(store, *OLD)
    (told,) = trained("cvd", "--pairs", pairs).records()
    assert told["accepted"] == ["cvd"]
    assert told["verdicts"][0]["test"]["low"] > 0
    assert state(store, *OLD) == before
    plan = run_moeret("reindex", "--dry-run", "--json").records()
    assert [one["domain"] for one in plan] == ["cvd"]
    assert run_moeret("reindex", "-q").code == 0
    after = state(store, *OLD)
    assert after["cvd"][0].expert == told["expert"]
    assert {name: after[name] for name in OLD[1:]} == {name: before[name] for name in OLD[1:]}


def test_a_sixth_domain_costs_the_other_five_nothing(store: Path, pairs: Path, tmp_path: Path) -> None:
    before = state(store, *OLD)
    with handle(store) as moeret:
        asked = [moeret.query("stroke", domains=[domain], mode="vector").hits for domain in OLD]
    done = run_moeret("train", "joint", "--pairs", pairs, *FAST)
    assert done.code == 0, done.err
    assert "only its new table needs indexing" in done.out
    assert "moeret index PATH --domain joint" in done.out
    assert "waits for its first table" in run_moeret("status").err
    new = write_documents(tmp_path / "new")
    (report,) = run_moeret("index", new, "--domain", "joint", "--json", "-q").records()
    assert (report["encoded"], list(report["domains"])) == (3, ["joint"])
    assert state(store, *OLD) == before
    with handle(store) as moeret:
        assert [moeret.query("stroke", domains=[one], mode="vector").hits for one in OLD] == asked
        pinned = {one.domain: one.expert for one in moeret.status().domains}
        encoder = moeret.encoder()
        pack = store / "experts" / pinned["joint"]
        alone = Encoder.load(encoder.source.folder, experts={"joint": pack}, engine="torch")
        texts = ["fever in malaria"]
        np.testing.assert_array_equal(
            encoder.encode_document(texts, domain="joint"), alone.encode_document(texts, domain="joint")
        )


def test_the_pack_says_how_it_was_made(store: Path, pairs: Path) -> None:
    (told,) = trained("cvd", "--pairs", pairs, "--licence", "CC0-1.0").records()
    pack = store / "experts" / told["expert"]
    notes = open_pack(pack).card.notes
    assert (notes["licence"], notes["recipe"], notes["accepted"]) == ("CC0-1.0", "expert", ["cvd"])
    assert notes["courses"][0]["steps"] == 100
    card = (pack / "README.md").read_text("utf-8")
    assert "licence: CC0-1.0" in card
    assert f"{notes['verdicts'][0]['before']:.4f}" in card
    assert not list((store / "training").iterdir())


def test_an_expert_that_is_no_better_is_not_accepted(store: Path, pairs: Path) -> None:
    words = ("--steps", "1", "--batch", "2", "--rank", "1", "--rate", "1e-9", "--patience", "0")
    done = run_moeret("train", "cvd", "--pairs", pairs, *words)
    assert done.code == 0, done.err
    assert "not accepted: the expert is not better than general" in done.out
    assert run_moeret("reindex", "--dry-run", "--json").out == ""


def test_the_table_shows_what_was_compared_and_what_comes_next(store: Path, pairs: Path) -> None:
    done = run_moeret("train", "cvd", "--pairs", pairs, *FAST)
    assert done.code == 0, done.err
    assert "against the general expert" in done.out
    assert "against the model as it was" not in done.out  # for an expert on the base they are the same
    assert "next: moeret reindex --domain cvd" in done.out
    assert "{'loss'" not in done.out


@pytest.mark.parametrize("recipe", ["joint", "dense", "polish"])
def test_a_model_recipe_writes_a_model_that_opens(
    tmp_path: Path, tiny_model: Path, pairs: Path, recipe: str
) -> None:
    words = ["--recipe", recipe, "--model", tiny_model, "--domains", "cvd,skin", "-o", tmp_path / "model"]
    (told,) = trained("--pairs", pairs, *words, "--rate", "0.003").records()
    assert told["domains"] == ["cvd", "skin"]
    assert {gain["domain"] for gain in told["gains"]} == {"cvd", "skin"}
    encoder = Encoder.load(tmp_path / "model", engine="torch")
    assert set(encoder.domains) == set(told["accepted"])
    assert "nDCG@10" in (tmp_path / "model" / "TRAINING.md").read_text("utf-8")
    assert not list((tmp_path / "model").glob(".training*"))
    again = run_moeret("train", "--pairs", pairs, *words, *FAST)
    assert (again.code, "is there already" in again.err) == (2, True)


def test_the_router_recipe_teaches_gates(tmp_path: Path, tiny_model: Path, pairs: Path) -> None:
    run_moeret("model", "upcycle", tiny_model, "--domains", "cvd,skin", "-o", tmp_path / "base", "-q")
    words = ["--recipe", "router", "--model", tmp_path / "base", "--domains", "cvd,skin"]
    trained("--pairs", pairs, *words, "-o", tmp_path / "gated")
    assert Encoder.load(tmp_path / "gated").source.routing == "sentence"


def test_a_single_file_of_pairs_is_split_by_document(store: Path, pairs: Path, tmp_path: Path) -> None:
    one = tmp_path / "pairs.jsonl"
    rows = [json.loads(line) for line in (pairs / "train.jsonl").read_text("utf-8").splitlines()]
    one.write_text("".join(json.dumps({"a": row["a"], "b": row["b"]}) + "\n" for row in rows), "utf-8")
    (told,) = trained("cvd", "--pairs", one).records()
    assert 0 < told["courses"][0]["pairs"] < len(rows)


def test_a_wrong_name_gets_a_near_one(store: Path, pairs: Path) -> None:
    done = run_moeret("train", "cvdd", "--pairs", pairs)
    assert done.code == 2
    assert "domain 'cvdd' has 0 pairs to learn from" in done.err
    assert "cvd" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cvd"], "there is nothing to learn from"),
        (["--pairs", "PAIRS"], "no domain is named"),
        (["cvd", "--pairs", "PAIRS", "-o", "x"], "goes to the store"),
        (["--pairs", "PAIRS", "--recipe", "dense"], "makes a model"),
        (["cvd", "--pairs", "PAIRS", "--recipe", "dense", "-o", "x"], "trains a model"),
        (["cvd", "--pairs", "missing.jsonl"], "cannot be read"),
        (["cvd", "--pairs", "PAIRS", "--at-least", "1000"], "400 pairs to learn from, 1000 are needed"),
        (["cvd", "--pairs", "PAIRS", "--loss", "nothing"], "nothing"),
        (["!!", "--pairs", "PAIRS"], "cannot name a domain"),
        (["cvd", "--pairs", "PAIRS", "--first", "router"], "polish cannot begin with router"),
        (["cvd", "--pairs", "PAIRS", "--routing", "wishes"], "no gate is called 'wishes'"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    store: Path, pairs: Path, words: list[str], said: str
) -> None:
    done = run_moeret("train", *[str(pairs) if word == "PAIRS" else word for word in words])
    assert done.code == 2
    assert said in done.err


def test_the_test_split_is_never_opened(store: Path, pairs: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(pairs, own)
    (own / "test.jsonl").write_bytes(b"\xff not even text")
    trained("cvd", "--pairs", own)
    shutil.copyfile(pairs / "test.jsonl", own / "validation.jsonl")
    done = run_moeret("train", "cvd", "--pairs", own)
    assert (done.code, "test split" in done.err) == (2, True)


def test_mined_negatives_are_of_the_domain_and_nobody_elses(
    pairs: Path, tiny_model: Path, tmp_path: Path
) -> None:
    done = run_moeret(
        "pairs", "mine", pairs, "-o", tmp_path / "mined", "--pool", "--model", tiny_model, "--margin", "1",
        "--per-pair", "2",
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in (tmp_path / "mined" / "train.jsonl").read_text("utf-8").splitlines()]
    known = {(row["domain"], row["b"]) for row in rows}
    taken = [(row["domain"], text) for row in rows for text in row.get("negatives", ())]
    assert len(taken) > len(rows) / 2  # what scores above the pair's own text is passed over
    assert set(taken) <= known
    assert (tmp_path / "mined" / "test.jsonl").read_bytes() == (pairs / "test.jsonl").read_bytes()
