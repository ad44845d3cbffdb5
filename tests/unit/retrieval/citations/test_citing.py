"""Verification of citations: what changed is found, and what did not is not accused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from moe_retrieval import Moeret
from moe_retrieval.contexts import Citation, Context
from moe_retrieval.errors import UsageError
from moe_retrieval.retrieval.citations.cited import read_contexts
from moe_retrieval.retrieval.citations.citing import State, Verdict
from moe_retrieval.settings import load_settings
from moe_retrieval.types import Document

HEART = "Statins lower the risk of a heart attack. They are taken every day."
LUNG = "Home oxygen is worth it where the lungs are weak. It is used at night."
LINES = {"a": "Beta blockers slow the heart.", "b": "Oxygen relieves the breathless."}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    for domain, text in (("heart", HEART), ("lung", LUNG)):
        (folder / domain).mkdir(parents=True)
        (folder / domain / f"{domain}.txt").write_text(text)
    records = [json.dumps({"_id": name, "title": "", "text": text}) for name, text in LINES.items()]
    (folder / "heart" / "more.jsonl").write_text("\n".join(records))
    return folder


@pytest.fixture
def moeret(tmp_path: Path, tiny_model: Path, corpus: Path) -> Moeret:
    settings = load_settings(store=str(tmp_path / "store"), model=str(tiny_model)).values
    opened = Moeret.open(settings=settings)
    opened.index(str(corpus))
    return opened


@pytest.fixture
def context(moeret: Moeret) -> Context:
    """Four citations: two files, and two records of one file."""
    found = moeret.context("statins or oxygen for the heart", domains=["heart", "lung"], budget=3_000)
    assert {one.doc_id for one in found.citations} == {"heart.txt", "lung.txt", "a", "b"}
    return found


def verdicts(moeret: Moeret, context: Context) -> dict[str, Verdict]:
    return {one.doc_id: one for one in moeret.verify_citations(context)}


def states(one: Verdict) -> tuple[State, State, State]:
    return (one.in_source, one.in_store, one.as_cited)


def test_what_nobody_touched_holds(moeret: Moeret, context: Context) -> None:
    found = moeret.verify_citations(context)
    assert [one.number for one in found] == [1, 2, 3, 4]
    assert all(one.holds and states(one) == (State.SAME,) * 3 and not one.note for one in found)


def test_an_edited_file_fails_and_the_others_hold(moeret: Moeret, context: Context, corpus: Path) -> None:
    (corpus / "heart" / "heart.txt").write_text(HEART.replace("lower", "raise"))
    found = verdicts(moeret, context)
    assert {name for name, one in found.items() if not one.holds} == {"heart.txt"}
    assert states(found["heart.txt"]) == (State.CHANGED, State.SAME, State.SAME)
    assert found["heart.txt"].note == "its source no longer has this text"


def test_a_text_that_moved_is_found_where_it_stands_now(
    moeret: Moeret, context: Context, corpus: Path
) -> None:
    (corpus / "lung" / "lung.txt").write_text(f"A preface. {LUNG}")
    found = verdicts(moeret, context)["lung.txt"]
    assert found.in_source is State.CHANGED
    assert found.note == f"in its source the text now stands at 11-{11 + len(LUNG)}"


def test_a_file_that_is_gone_fails(moeret: Moeret, context: Context, corpus: Path) -> None:
    (corpus / "lung" / "lung.txt").unlink()
    found = verdicts(moeret, context)["lung.txt"]
    assert states(found) == (State.GONE, State.SAME, State.SAME)
    assert not found.holds


def test_a_record_that_is_gone_from_its_file_fails(moeret: Moeret, context: Context, corpus: Path) -> None:
    (corpus / "heart" / "more.jsonl").write_text(json.dumps({"_id": "a", "title": "", "text": LINES["a"]}))
    found = verdicts(moeret, context)
    assert (found["a"].in_source, found["b"].in_source) == (State.SAME, State.GONE)


def test_a_file_that_can_no_longer_be_read_fails(moeret: Moeret, context: Context, corpus: Path) -> None:
    (corpus / "lung" / "lung.txt").write_bytes(b"")
    found = verdicts(moeret, context)["lung.txt"]
    assert (found.in_source, found.note) == (State.UNREADABLE, "an empty file")
    assert not found.holds


def test_an_edit_that_was_indexed_shows_in_the_store_and_the_cited_version_still_has_it(
    moeret: Moeret, context: Context, corpus: Path
) -> None:
    (corpus / "heart" / "heart.txt").write_text(HEART.replace("lower", "raise"))
    moeret.index(str(corpus))
    found = verdicts(moeret, context)["heart.txt"]
    assert states(found) == (State.CHANGED, State.CHANGED, State.SAME)


def test_a_version_that_was_given_back_is_unknown_and_what_did_not_change_holds(
    moeret: Moeret, context: Context, corpus: Path
) -> None:
    (corpus / "heart" / "heart.txt").write_text(HEART.replace("lower", "raise"))
    moeret.index(str(corpus))
    moeret.close()
    moeret.gc(keep=1)
    found = verdicts(moeret, context)
    assert states(found["lung.txt"]) == (State.SAME, State.SAME, State.UNKNOWN)
    assert found["lung.txt"].holds
    assert not found["heart.txt"].holds


def test_a_document_that_was_taken_out_of_the_store_fails(
    moeret: Moeret, context: Context, corpus: Path
) -> None:
    moeret.remove_domain("lung")
    found = verdicts(moeret, context)["lung.txt"]
    assert states(found) == (State.SAME, State.GONE, State.SAME)
    assert not found.holds


def test_a_document_in_another_domain_holds_and_is_said_to_be_there(moeret: Moeret, context: Context) -> None:
    moeret.rename_domain("lung", "lungs")
    found = verdicts(moeret, context)["lung.txt"]
    assert found.holds
    assert found.note == "its document is now in domain lungs"


def test_documents_of_a_caller_are_judged_by_the_store_alone(moeret: Moeret) -> None:
    moeret.index_documents([Document("x", "A text that no file holds.", source="made")], domain="made")
    context = moeret.context("no file", domains=["made"])
    (found,) = moeret.verify_citations(context)
    assert states(found) == (State.UNKNOWN, State.SAME, State.SAME)
    assert found.holds


CHANGES = {
    "text": lambda one: replace(one, text=one.text.replace("e", "a")),
    "longer": lambda one: replace(one, text=one.text + " more"),
    "start": lambda one: replace(one, start=one.start + 1),
    "negative": lambda one: replace(one, start=-5),
    "end": lambda one: replace(one, end=one.end + 5),
    "key": lambda one: replace(one, key="0" * 12),
    "doc_id": lambda one: replace(one, doc_id="other"),
    "huge": lambda one: replace(one, start=10**30, end=10**30 + len(one.text)),
    "source": lambda one: replace(one, source="/etc/passwd"),
    "folder": lambda one: replace(one, source="/"),
    "null": lambda one: replace(one, source="/a\0b"),
    "empty": lambda one: replace(one, text="", end=one.start),
    "backwards": lambda one: replace(one, start=one.end, end=one.start),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_citation_that_was_forged_fails(moeret: Moeret, context: Context, change: str) -> None:
    forged = [CHANGES[change](one) for one in context.citations]
    assert not any(one.holds for one in moeret.verify_citations(replace(context, citations=tuple(forged))))


def test_a_context_survives_its_json(context: Context) -> None:
    assert read_contexts(json.dumps(context.to_dict()), name="x") == [context]


def test_several_contexts_may_stand_on_lines(context: Context) -> None:
    line = json.dumps(context.to_dict())
    assert read_contexts(f"{line}\n\n{line}\n", name="x") == [context, context]


def spoilt(context: Context, **fields: object) -> str:
    record = context.to_dict()
    record["citations"] = [one | fields for one in record["citations"]]
    return json.dumps(record)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"start": "1"}, "x, object 1, citation 1: 'start' is '1'"),
        ({"start": True}, "'start' is True"),
        ({"text": None}, "'text' is None"),
        ({"page": "7"}, "'page' is '7'"),
        ({"doc_id": ["a"]}, r"'doc_id' is \['a'\]"),
    ],
)
def test_a_field_of_another_type_is_named(context: Context, fields: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_contexts(spoilt(context, **fields), name="x")


@pytest.mark.parametrize(
    "text", ["", "\n", "no json", "[1]", "7", '{"text": "a"}', "[" * 100_000, '{"a": 1}\n{']
)
def test_what_is_no_context_says_what_to_give(text: str) -> None:
    with pytest.raises(UsageError, match="give what moeret context --json has printed"):
        read_contexts(text, name="x")


def test_a_missing_field_is_named(context: Context) -> None:
    record = context.to_dict()
    del record["citations"][2]["version"]
    with pytest.raises(UsageError, match="citation 3 has no 'version'"):
        read_contexts(json.dumps(record), name="x")


def test_fields_that_are_not_known_do_not_matter(context: Context) -> None:
    (found,) = read_contexts(spoilt(context, more=1), name="x")
    assert found == context


def test_a_verdict_is_a_record(moeret: Moeret, context: Context) -> None:
    record = moeret.verify_citations(context)[0].to_dict()
    assert json.loads(json.dumps(record))["holds"] is True
    assert Citation.__dataclass_fields__.keys() >= {"key", "table", "version"}
