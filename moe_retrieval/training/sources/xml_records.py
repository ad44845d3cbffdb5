"""Records of biomedical XML, read as the corpus reads them, and what names and dates a paper."""

from __future__ import annotations

import calendar
import re
from typing import TYPE_CHECKING

from moe_retrieval.corpus.sources import short
from moe_retrieval.corpus.xml_elements import elements, inline
from moe_retrieval.errors import RejectedError
from moe_retrieval.hashing import hash63

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from xml.etree.ElementTree import Element

    from moe_retrieval.corpus.sources import Limits, SourceFile

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_YEAR = re.compile(r"\b(1[5-9]|20)\d\d\b")


def records(file: SourceFile, limits: Limits) -> Iterator[Element]:
    """The `<article>` and `<PubmedArticle>` elements of a file; each is emptied when the next is asked for.

    Raises:
        RejectedError: the file is damaged, of another kind, or not safe to read.
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError

    try:
        for element, _ in elements(file, limits):
            yield element
    except DefusedXmlException as error:
        raise RejectedError("declares XML entities, or refers to something outside of the file") from error
    except (ParseError, ValueError, LookupError) as error:
        raise RejectedError(f"not well-formed XML ({short(error)})") from error


def paper_id(ids: Mapping[str, str], title: str) -> str:
    """One name for a paper, whoever cites it: by PubMed, PMC, DOI, else by a hash of its title."""
    pmid = ids.get("pmid", "").strip()
    if pmid.isdecimal():
        return f"pmid:{pmid}"
    pmc = (ids.get("pmc") or ids.get("pmcid") or "").strip().upper().removeprefix("PMC")
    if pmc.isdecimal():
        return f"pmc:{pmc}"
    if doi := ids.get("doi", "").strip().lower().removeprefix("https://doi.org/"):
        return f"doi:{doi}"
    return f"title:{hash63(re.sub(r'[^0-9a-z]+', ' ', title.lower()).strip().encode()):016x}"


def iso_date(dated: Element) -> str:
    """The date of a `<pub-date>`, `<ArticleDate>` or `<PubDate>` as far as it is known: 2019, 2019-05, ..."""
    said = {child.tag.lower(): inline(child) for child in dated}
    if not (year := _YEAR.search(said.get("year") or said.get("medlinedate", ""))):
        return ""
    if not (month := _month(said.get("month", ""))):
        return year[0]
    day = said.get("day", "")
    if not day.isdecimal() or not 1 <= int(day) <= calendar.monthrange(int(year[0]), month)[1]:
        return f"{year[0]}-{month:02}"
    return f"{year[0]}-{month:02}-{int(day):02}"


def _month(said: str) -> int:
    if said.isdecimal():
        return int(said) if 1 <= int(said) <= 12 else 0
    return _MONTHS.get(said[:3].lower(), 0)
