"""`moeret evaluate`: what it prints, writes and refuses."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from moe_retrieval.corpus.pairs import Pair, Split, write_pairs
from moe_retrieval.evaluation.trec import read_run
from moe_retrieval.model import surgery
from tests.program import run_moeret
from tests.tiny_model import WORDS, build_tiny, different

if TYPE_CHECKING:
    from pathlib import Path

    from tests.program import Run


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models (base, experts), a pack of cvd, pairs (built/, mixed.jsonl) and a collection."""
    folder = tmp_path_factory.mktemp("evaluate")
    base = build_tiny(folder / "base", "bert")
    model = different(surgery.upcycle(base), "cvd", "skin")
    for domain in ("cvd", "skin"):
        surgery.assign(model, domain, domain)
    surgery.save(model, folder / "experts", like=base)
    (folder / "pack").write_text(surgery.export_expert(model, "cvd", folder / "packs"))
    for split in Split:
        write_pairs(folder / "built" / f"{split}.jsonl", pairs(split))
    collection(folder / "collection")
    return folder


def pairs(split: Split) -> list[Pair]:
    shift = {Split.TRAIN: 1, Split.VALIDATION: 2, Split.TEST: 3}[split]
    return [
        Pair(f"{word} {WORDS[place - shift]}", WORDS[place - 1], ("cvd", "skin")[place % 2],
             label=int(place % 3 == 0), split=split)
        for place, word in enumerate(WORDS[: 20 + 3 * shift])
    ]  # fmt: skip


def collection(folder: Path) -> None:
    folder.mkdir()
    sides = ("cvd", "skin")
    for name, count in (("corpus", 24), ("queries", 12)):
        records = [
            {
                "_id": f"{name[0]}{place}",
                "text": f"{WORDS[place + 2]} {WORDS[place]}",
                "domain": sides[place % 2],
            }
            for place in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    judged = [f"q{place}\tc{place + 2}\t1\n" for place in range(12)]
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))


def test_models_stand_side_by_side_with_tests_against_the_first(inputs: Path) -> None:
    done = run_moeret("evaluate", inputs / "base", inputs / "experts", "--pairs", inputs / "built",
                      "--collection", inputs / "collection", "--samples", "50", "--json")  # fmt: skip
    assert done.code == 0, done.err
    (told,) = done.records()
    assert list(told) == [
        "models", "pairs", "rankings", "matrices", "differences", "warnings", "seed", "samples",
    ]  # fmt: skip
    assert told["models"] == ["base", "experts"]
    assert [(one["model"], one["data"]) for one in told["pairs"]] == [
        ("base", "built (test)"),
        ("experts", "built (test)"),
    ]
    assert [one["macro"]["count"] for one in told["pairs"]] == [29, 29]
    assert told["pairs"][0]["experts"] == {"cvd": "general", "skin": "general"}
    assert set(told["rankings"][1]["domains"]) == {"cvd", "skin"}
    scopes = {one["scope"] for one in told["differences"] if one["kind"] == "ranking"}
    assert scopes == {"cvd", "skin", "macro", "pooled"}
    assert {(one["model"], one["against"]) for one in told["differences"]} == {("experts", "base")}


def test_tables_show_intervals_floor_and_differences(inputs: Path) -> None:
    done = run_moeret("evaluate", inputs / "base", inputs / "experts", "--pairs", inputs / "built",
                      "--collection", inputs / "collection", "--samples", "50")  # fmt: skip
    lines = done.out.splitlines()
    assert lines[0] == "built (test): pairs"
    assert lines[1].split() == [
        "domain", "model", "pairs", "F1max", "floor", "threshold", "precision", "recall", "ratio", "ROC-AUC",
    ]  # fmt: skip
    assert [line.split()[:2] for line in lines[2:6]] == [
        ["cvd", "base"], ["cvd", "experts"], ["skin", "base"], ["skin", "experts"],
    ]  # fmt: skip
    assert "[" in lines[2]
    assert "built (test): differences to base" in lines
    assert "collection: rankings" in lines
    assert any(line.split()[:3] == ["macro", "experts", "nDCG@10"] for line in lines)


def test_the_same_seed_prints_the_same(inputs: Path) -> None:
    words = ["evaluate", inputs / "base", "--pairs", inputs / "built", "--samples", "50"]
    once, again = run_moeret(*words), run_moeret(*words)
    assert once.out == again.out
    assert run_moeret(*words, "--seed", "1").out != once.out


def test_another_split_is_taken_when_asked_for(inputs: Path) -> None:
    done = run_moeret("evaluate", inputs / "base", "--pairs", inputs / "built", "--split", "validation",
                      "--samples", "20")  # fmt: skip
    assert done.out.startswith("built (validation): pairs\n")


def test_the_encoder_of_the_settings_is_judged_where_none_is_named(moeret: Run, inputs: Path) -> None:
    done = moeret("evaluate", "--pairs", inputs / "built", "--samples", "20")
    assert done.code == 0, done.err
    assert "as the store or the settings have it" in done.err
    assert "model" in done.out.split()


def test_the_stores_pinned_encoder_is_judged_where_there_is_one(
    moeret: Run, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOERET_MODEL")
    (tmp_path / "docs" / "cvd").mkdir(parents=True)
    (tmp_path / "docs" / "cvd" / "a.txt").write_text("aspirin and stroke")
    assert moeret("index", tmp_path / "docs", "--model", inputs / "experts").code == 0
    done = moeret("evaluate", "--pairs", inputs / "built", "--samples", "20", "--json")
    assert done.code == 0, done.err
    assert done.records()[0]["pairs"][0]["experts"]["cvd"] != "general"


def test_experts_are_shown_against_the_model_without_them(inputs: Path) -> None:
    pack = inputs / "packs" / (inputs / "pack").read_text()
    done = run_moeret("evaluate", inputs / "base", "--experts", f"cvd={pack}", "--pairs", inputs / "built",
                      "--samples", "20", "--json")  # fmt: skip
    (told,) = done.records()
    assert told["models"] == ["base", "base + cvd"]
    without, with_it = told["pairs"]
    assert without["domains"]["skin"] == with_it["domains"]["skin"]  # its expert is the same
    assert without["domains"]["cvd"] != with_it["domains"]["cvd"]


def test_a_matrix_has_a_row_per_domain_and_a_column_per_expert(inputs: Path) -> None:
    done = run_moeret("evaluate", inputs / "experts", "--matrix", "--collection", inputs / "collection",
                      "--samples", "20")  # fmt: skip
    lines = done.out.splitlines()
    at = lines.index("collection, experts: nDCG@10 of each domain's texts by each expert")
    assert lines[at + 1].split() == ["texts", "of", "general", "cvd", "skin"]
    assert [line.split()[0] for line in lines[at + 2 : at + 4]] == ["cvd", "skin"]
    assert all(line.count("*") == 1 for line in lines[at + 2 : at + 4])
    plain = run_moeret(
        "evaluate", inputs / "base", "--matrix", "--pairs", inputs / "built", "--samples", "20"
    )
    assert "base has no expert beside general: there is no matrix of it" in plain.err


def test_a_written_run_is_judged_to_the_same_figures(inputs: Path, tmp_path: Path) -> None:
    words = [
        "evaluate",
        inputs / "experts",
        "--collection",
        inputs / "collection",
        "--samples",
        "20",
        "--json",
    ]
    (told,) = run_moeret(*words, "--trec-out", tmp_path / "runs").records()
    file = tmp_path / "runs" / "collection.experts.trec"
    assert len(read_run(file)) == 12
    done = run_moeret("evaluate", "--run", file, "--qrels", inputs / "collection" / "qrels.tsv", "--samples",
                      "20", "--json")  # fmt: skip
    (again,) = done.records()
    assert again["rankings"][0]["per_query"] == told["rankings"][0]["per_query"]
    assert again["rankings"][0]["pooled"] == told["rankings"][0]["pooled"]


def test_runs_are_compared_with_the_first(tmp_path: Path) -> None:
    (tmp_path / "a.run").write_text(
        "".join(f"q{at} Q0 d{at + 1} 1 2 a\nq{at} Q0 d{at} 2 1 a\n" for at in range(9))
    )
    (tmp_path / "b.run").write_text("".join(f"q{at} Q0 d{at} 1 2 b\n" for at in range(9)))
    (tmp_path / "qrels").write_text("".join(f"q{at} 0 d{at} 1\n" for at in range(9)))
    done = run_moeret("evaluate", "--run", tmp_path / "a.run", "--run", tmp_path / "b.run", "--qrels",
                      tmp_path / "qrels", "--json")  # fmt: skip
    (told,) = done.records()
    (found,) = [one for one in told["differences"] if one["measure"] == "mrr_10"]
    assert (found["model"], found["against"], found["difference"]) == ("b.run", "a.run", 0.5)
    assert found["p_value"] < 0.01


def test_plots_are_drawn_to_the_folder(inputs: Path, tmp_path: Path) -> None:
    done = run_moeret("evaluate", inputs / "base", "--pairs", inputs / "built", "--samples", "20", "--plots",
                      tmp_path / "plots")  # fmt: skip
    assert done.code == 0, done.err
    assert len(list((tmp_path / "plots").glob("*.png"))) == 4
    assert done.err.count("drawn: ") == 4


def test_the_tables_are_shown_even_where_pictures_cannot_be_drawn(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run_moeret("evaluate", inputs / "base", "--pairs", inputs / "built", "--samples", "20", "--plots",
                      tmp_path / "plots")  # fmt: skip
    assert (done.code, "pip install 'moeret[plot]'" in done.err) == (5, True)
    assert "F1max" in done.out


def test_quiet_says_nothing_beside_the_tables(inputs: Path) -> None:
    done = run_moeret("evaluate", inputs / "base", "--pairs", inputs / "built", "--samples", "20", "-q")
    assert (done.code, done.err) == (0, "")


def test_bad_input_gets_a_sentence(inputs: Path, tmp_path: Path) -> None:
    base, built = inputs / "base", inputs / "built"
    lonely, empty, qrels = tmp_path / "lonely.jsonl", tmp_path / "empty.jsonl", tmp_path / "qrels"
    write_pairs(lonely, [Pair("heart", "lung", "cvd"), Pair("heart", "skin", "cvd")])
    empty.write_text("")
    qrels.write_text("other 0 d 1\n")
    (tmp_path / "bad.run").write_text("q1 Q0 d1\n")
    (tmp_path / "a.run").write_text("q1 Q0 d1 1 1 a\n")
    orders: list[tuple[list[object], int, str]] = [
        ([base], 2, "there is nothing to evaluate on"),
        ([tmp_path / "none", "--pairs", built], 1, "no model folder"),
        ([base, base, "--pairs", built], 2, "is named twice"),
        ([base, "--pairs", tmp_path / "none.jsonl"], 2, "none.jsonl cannot be read"),
        ([base, "--pairs", empty], 2, "empty.jsonl holds no pairs"),
        ([base, "--pairs", lonely], 2, "no domain has pairs of both labels (cvd)"),
        ([base, "--pairs", lonely, "--split", "validation"], 2, "no pairs of the split validation"),
        ([base, "--pairs", tmp_path], 2, "has no test.jsonl"),
        ([base, "--collection", tmp_path / "none"], 2, "there is no folder"),
        ([base, "--pairs", built, "--domain", "cvdd"], 3, "unknown domain 'cvdd'"),
        ([inputs / "experts", "--pairs", built, "--domain", "cvdd"], 3, "did you mean 'cvd'"),
        ([base, "--pairs", built, "--experts", "cvd"], 2, "'cvd' names no domain and expert"),
        ([base, "--pairs", built, "--experts", f"cvd={tmp_path / 'none'}"], 2, "no folder"),
        (["--run", tmp_path / "a.run"], 2, "a run is judged by qrels"),
        (["--qrels", qrels], 2, "a run is judged by qrels"),
        (["--run", tmp_path / "a.run", "--qrels", qrels], 2, "a.run answers no query that qrels judges"),
        (["--run", tmp_path / "bad.run", "--qrels", qrels], 2, "line 1 has 3 fields"),
        (["--run", tmp_path / "a.run", "--qrels", empty], 2, "no query is judged"),
    ]  # fmt: skip
    for words, code, said in orders:
        done = run_moeret("evaluate", *words)
        assert (done.code, said in done.err) == (code, True), (words, done.err)
