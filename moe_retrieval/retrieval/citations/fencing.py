"""Text of documents made fit to stand in a prompt: nothing hidden in it, nothing that looks like the frame.

The fence is an HMAC of store secret, generation, query and content: a document cannot know it, so it cannot
close it, and the same input gives the same bytes. This keeps a document from posing as another one or as the
prompt around it; it does not keep a language model from following instructions that it reads in a document.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_retrieval.retrieval.citations.spans import Span

# What ends a line or page but is no \n; it becomes one, so that the words around it stay apart.
_BREAK = re.compile("\r\n|[\x0b\x0c\r\x85\u2028\u2029]")

# C0 and C1 controls but \n and \t; surrogates and what is no character; bidi and annotation marks; and what
# Unicode calls default ignorable: zero-width characters, fillers, soft hyphen, variation selectors, tags.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\u202a-\u202e\ufff9-\ufffb"
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

# Characters that a reader, of flesh or not, takes for < or >, by how many of them they show.
_OPENING = {
    **dict.fromkeys("<\uff1c\ufe64\u2039\u276e\u27e8\u2329\u3008\u02c2\u1438", 1),
    **dict.fromkeys("\u00ab\u226a\u300a\u27ea", 2),
    "\u22d8": 3,
}
_CLOSING = {
    **dict.fromkeys(">\uff1e\ufe65\u203a\u276f\u27e9\u232a\u3009\u02c3\u1433", 1),
    **dict.fromkeys("\u00bb\u226b\u300b\u27eb", 2),
    "\u22d9": 3,
}
_WEIGHTS = _OPENING | _CLOSING
_FENCE_LENGTH = 3
_RUN = re.compile(f"(?:[{''.join(_OPENING)}]+|[{''.join(_CLOSING)}]+)")
_QUOTE_MARK = re.compile(r"(?m)^>+(?=[ \n]|$)")  # how a line of mail, or of a Python session, begins

_LT, _GT = ("".join(char for char, weight in side.items() if weight == 1) for side in (_OPENING, _CLOSING))
# The elements of a context in XML, and what chat templates of the common model families mark turns with
# (ChatML and Llama 3, DeepSeek, Gemma, Llama 2, Mistral, Qwen, as their tokenizer files have them).
_MARKS = (
    re.compile(rf"[{_LT}](?=/?(?:source|context|note)\b)", re.IGNORECASE),
    re.compile(rf"[{_LT}](?=[|\uff5c][^<>|\uff5c\n]{{1,64}}[|\uff5c][{_GT}])"),
    re.compile(
        rf"[{_LT}](?=/?(?:s|bos|eos|pad|start_of_turn|end_of_turn|think|tools?|tool_call|tool_response|"
        rf"function_results|system|user|assistant|human)[{_GT}])",
        re.IGNORECASE,
    ),
    re.compile(rf"[{_LT}](?=[{_LT}]/?SYS[{_GT}])", re.IGNORECASE),
    re.compile(r"[\[\uff3b](?=/?(?:INST|SYSTEM_PROMPT|(?:AVAILABLE_)?TOOLS?(?:_[A-Z]+)?)[\]\uff3d])"),
    re.compile(r"(?m)^[ \t]*[\[\uff3b](?=\d+[\]\uff3d][ \t]+[0-9a-f]{12}[ \t]*$)"),
)
_SUSPECT = re.compile(f"[\\[\uff3b{''.join(_WEIGHTS)}]")


def visible(text: str) -> str:
    """The text without control, bidi, tag and zero-width characters: readers do not see them, models do.

    Any line or page break becomes a line feed.
    """
    return _HIDDEN.sub("", _BREAK.sub("\n", text))


def quoted(text: str) -> str:
    """The visible text, with a space put into whatever looks like the frame around it.

    That is a fence (three or more of < or >, or of what looks like them), an element of a context in XML, the
    line above a source, and the marks of turns in chat templates. A second time changes nothing more.
    """
    text = visible(text)
    if not _SUSPECT.search(text):
        return text
    text = _RUN.sub(_spaced, text)
    for mark in _MARKS:
        text = mark.sub(r"\g<0> ", text)
    return text


def fence_of(spans: Sequence[Span], *, query: str, secret: bytes, generation: int) -> str:
    """Sixteen hex digits that occur in none of the spans, nor in what is shown beside them.

    `spans`: all that may be shown, what touches joined, so that no fence arises where two chunks meet.
    """
    content = json.dumps([asdict(span) for span in spans], sort_keys=True)
    shown = "\n".join(visible(part) for one in spans for part in _shown(one)).casefold()
    for attempt in range(1_000):
        message = f"{generation}\0{attempt}\0{query}\0{content}".encode("utf8", "surrogatepass")
        fence = hmac.new(secret, message, hashlib.sha256).hexdigest()[:16]
        if fence not in shown:
            return fence
    raise AssertionError("a 64-bit fence occurred in the content a thousand times")


def _shown(span: Span) -> tuple[str, ...]:
    return (span.text, span.title, span.section, span.doc_id, span.domain)


def _spaced(run: re.Match[str]) -> str:
    weight = sum(_WEIGHTS[char] for char in run[0])
    if weight < _FENCE_LENGTH or _QUOTE_MARK.match(run.string, run.start()):
        return run[0]
    return " ".join(("<" if run[0][0] in _OPENING else ">") * weight)
