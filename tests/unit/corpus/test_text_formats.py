"""Plain text, Markdown and HTML."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from reading import document, headed, put, reasons


def test_text_keeps_its_characters_and_loses_control_codes(tmp_path: Path) -> None:
    found = document(put(tmp_path / "a.txt", "e\u0301\r\nline\x01\x07\ttab\rend\x0cpage\u00a0x"))
    assert found.text == "e\u0301\nline\ttab\nend\npage\u00a0x"
    assert (found.id, found.source) == ("a.txt", (tmp_path / "a.txt").resolve().as_posix())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_is_decoded_from_what_editors_write(tmp_path: Path, encoding: str) -> None:
    text = "Größe – naïve café, 37 °C, and more plain words around it."
    assert document(put(tmp_path / "a.txt", text.encode(encoding))).text == text


def test_one_broken_byte_does_not_turn_utf8_into_another_encoding(tmp_path: Path) -> None:
    found = document(put(tmp_path / "a.txt", "naïve café – Größe".encode() + b"\xff"))
    assert found.text == "naïve café – Größe\ufffd"


def test_text_in_an_unknown_encoding_is_rejected_not_garbled(tmp_path: Path) -> None:
    path = put(tmp_path / "a.txt", "Аспирин снижает риск инсульта".encode("cp1251"))
    assert reasons(path) == ["text in an unknown encoding; convert it to UTF-8"]


def test_a_short_first_line_alone_is_the_title_and_stays(tmp_path: Path) -> None:
    titled = document(put(tmp_path / "a.txt", "On aspirin\n\nIt helps.\n"))
    assert (titled.title, titled.text) == ("On aspirin", "On aspirin\n\nIt helps.\n")
    assert document(put(tmp_path / "b.txt", "On aspirin\nit helps.\n")).title == ""
    assert document(put(tmp_path / "c.txt", "word " * 40 + "\n\nIt helps.\n")).title == ""


MARKDOWN = """---
title: ignored, there is a heading
year: 2021
version: 1.10
code: 007
authors: [Ann, "Bo, Jr"]
tags:
  - heart
  - 'blood'
draft: true
---
# Aspirin and *stroke* #

Intro.

## Methods

### Sampling

```python
# not a heading
```

~~~
## nor this
~~~

## Results ##
Fewer strokes.
"""


def test_markdown_has_sections_by_headings_outside_of_code(tmp_path: Path) -> None:
    found = document(put(tmp_path / "a.md", MARKDOWN))
    assert found.title == "Aspirin and *stroke*"
    assert [name for name, _ in headed(found)] == ["", "Methods", "Methods > Sampling", "Results"]
    assert headed(found)[1][1] == "## Methods"
    assert headed(found)[3][1] == "## Results ##\nFewer strokes."


def test_front_matter_becomes_typed_metadata_and_leaves_the_text(tmp_path: Path) -> None:
    found = document(put(tmp_path / "a.md", MARKDOWN))
    assert found.text.startswith("# Aspirin")
    assert found.metadata == {
        "year": 2021, "version": 1.1, "code": "007", "authors": ["Ann", '"Bo', 'Jr"'],
        "tags": ["heart", "blood"], "draft": True,
    }  # fmt: skip


def test_a_rule_at_the_beginning_is_no_front_matter(tmp_path: Path) -> None:
    text = "---\nwords without a key\n---\nmore"
    assert document(put(tmp_path / "a.md", text)).text == text


def test_markdown_without_a_heading_takes_the_title_of_its_front_matter(tmp_path: Path) -> None:
    found = document(put(tmp_path / "a.md", "---\ntitle: Given\n---\nwords"))
    assert (found.title, found.text, found.metadata, found.sections) == ("Given", "words", {}, ())


HTML = """<!doctype html><html><head><title>The  page</title><style>p{}</style>
<script>var a="<p>no</p>"</script></head>
<body><header>Site</header><nav>Menu</nav><h1>The page</h1><p>First&nbsp;<b>par</b>agraph<br>line two.</p>
<noscript>none</noscript><h2>Doses</h2><ul><li>one</li><li>two <i>x</i></li></ul>
<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>
<h3>Adults</h3><pre>  x
    y</pre><template>t</template><aside>ads</aside><!-- note -->
<h2>Harms</h2>loose text<footer>foot</footer></body></html>"""


def test_html_gives_the_words_a_reader_sees_under_headings(tmp_path: Path) -> None:
    found = document(put(tmp_path / "a.html", HTML))
    assert found.title == "The page"
    assert headed(found) == [
        ("", "The page\n\nFirst\u00a0paragraph\nline two."),
        ("Doses", "Doses\n\none\ntwo x\n\na\tb\n1\t2"),
        ("Doses > Adults", "Adults\n\nx\n    y"),
        ("Harms", "Harms\n\nloose text"),
    ]


def test_the_one_h1_of_a_page_is_no_parent_of_its_sections(tmp_path: Path) -> None:
    found = document(put(tmp_path / "a.html", "<title>Page | Site</title><h1>Page</h1>a<h2>Part</h2>b"))
    assert [name for name, _ in headed(found)] == ["", "Part"]


def test_html_is_decoded_as_it_declares(tmp_path: Path) -> None:
    page = '<meta charset="koi8-r"><p>Аспирин и инсульт</p>'
    assert document(put(tmp_path / "a.html", page.encode("koi8-r"))).text == "Аспирин и инсульт"
    wrong = '<meta charset="no-such"><p>naïve</p>'
    assert document(put(tmp_path / "b.html", wrong.encode())).text == "naïve"
    codec = '<meta charset="rot13"><p>naïve</p>'
    assert document(put(tmp_path / "c.html", codec.encode())).text == "naïve"


@pytest.mark.parametrize("tags", ["<div>", "<a><i>", "<div></x>", "<span>", "<blockquote><p>", "<font><li>"])
def test_deeply_nested_html_is_refused_at_once(tmp_path: Path, tags: str) -> None:
    path = put(tmp_path / "a.html", tags * 100_000 + "x")
    began = time.process_time()
    assert reasons(path) == ["nested deeper than 10,000 elements"]
    assert time.process_time() - began < 2


def test_unclosed_paragraphs_and_cells_are_no_nesting(tmp_path: Path) -> None:
    assert document(put(tmp_path / "a.html", "<p>word <br><img>" * 20_000)).text.startswith("word")


def test_a_page_of_scripts_alone_is_rejected(tmp_path: Path) -> None:
    assert reasons(put(tmp_path / "a.html", "<script>alert(1)</script>")) == ["no text"]
