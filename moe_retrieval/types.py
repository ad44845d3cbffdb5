"""The values that travel between the rooms: frozen, typed, without behaviour beyond `to_dict`."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

GENERAL = "general"
"""Name of the pretrained, unchanged expert; domains without an expert of their own use it."""

MetaValue = str | int | float | bool | None | list[str]


class Mode(StrEnum):
    """How candidates are found: by vector, by full text, or by both, fused."""

    HYBRID = "hybrid"
    VECTOR = "vector"
    TEXT = "text"


class Across(StrEnum):
    """How lists of several vector spaces become one.

    `auto`: by calibrated probability where every searched space is calibrated, else by rank. `cosine`:
    scores as they are, as if the spaces were one. `zscore`: each list less its mean, over its deviation.
    `dbsf`: each list scaled to three deviations around its mean. `weighted`: each list scaled from its last
    to its best.
    """

    AUTO = "auto"
    CALIBRATED = "calibrated"
    RRF = "rrf"
    COSINE = "cosine"
    ZSCORE = "zscore"
    DBSF = "dbsf"
    WEIGHTED = "weighted"


class Within(StrEnum):
    """How the vector and the full-text list of one space become one: by weight, rank or deviation."""

    WEIGHTED = "weighted"
    RRF = "rrf"
    DBSF = "dbsf"


@dataclass(frozen=True, slots=True)
class Fusing:
    """How ranked lists are joined. `weight`: that of the vector search in a hybrid score; None: what the
    store was tuned to, else the default.
    """

    across: Across = Across.AUTO
    within: Within | None = None
    weight: float | None = None


class Precision(StrEnum):
    """Number format of the encoder; `auto` is bf16 where the device computes in it, else fp32.

    `int8` stands for weights of 8 bits, which change rankings: it is never chosen unasked.
    """

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"


class EngineName(StrEnum):
    """What computes the vectors; `auto` is the fastest that is installed for the device."""

    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"
    ONNX = "onnx"


class IndexEngine(StrEnum):
    """What searches vectors; `auto` is FAISS, unless none of its indexes fits."""

    AUTO = "auto"
    FAISS = "faiss"
    LANCE = "lance"


class Durability(StrEnum):
    """What a published generation survives: a power cut, or only the end of the process that wrote it."""

    POWER = "power"
    PROCESS = "process"


class Widen(StrEnum):
    """What the text of a hit grows to: the chunks beside it, its section, or its whole document."""

    NEIGHBOURS = "neighbours"
    SECTION = "section"
    PARENT = "parent"


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch `text[start:end]` of a document under one heading or on one page; no overlaps."""

    start: int
    end: int
    heading: str = ""
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """The source unit. Identity is (source, id); `text` is what was extracted, and chunk offsets count its
    characters.
    """

    id: str
    text: str
    source: str = ""
    title: str = ""
    metadata: Mapping[str, MetaValue] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """The embedded unit. `text == document.text[start:end]`; `content`, what is embedded and searched, is
    `lead + text`.
    """

    doc_id: str
    source: str
    ordinal: int
    start: int
    end: int
    text: str
    title: str = ""
    section: str = ""
    page: int | None = None
    lead: str = ""

    @property
    def content(self) -> str:
        return self.lead + self.text


@dataclass(frozen=True, slots=True)
class Route:
    """One domain a text is sent to, and the router's probability for it (1.0 when the caller named the
    domain). `abstained`: the text is like none of the domains, so it is sent to all.
    """

    domain: str
    probability: float
    abstained: bool = False


@dataclass(frozen=True, slots=True)
class Why:
    """How a hit came to its place: its route and its rank and score in each search (None: that search did not
    find it).

    What a refinement did: `fused_score` is the score before it (None: it changed none), `phrasing_ranks` the
    ranks under each phrasing, `copies` the other domains that hold the same text, `boost` what was added,
    `found` the start and end of the chunk that was found where the text has grown beyond it.
    """

    route_probability: float = 1.0
    vector_rank: int | None = None
    vector_score: float | None = None
    text_rank: int | None = None
    text_score: float | None = None
    fused_score: float | None = None
    phrasing_ranks: tuple[int | None, ...] = ()
    copies: tuple[str, ...] = ()
    rerank_score: float | None = None
    boost: float | None = None
    found: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One ranked chunk. `score`: higher is better; comparable within one answer only."""

    rank: int
    score: float
    domain: str
    doc_id: str
    chunk_id: str
    title: str
    text: str
    source: str
    start: int
    end: int
    section: str = ""
    page: int | None = None
    metadata: Mapping[str, MetaValue] = field(default_factory=dict)
    why: Why = Why()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file or document that was not indexed, and why."""

    source: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was passed over on purpose (an evaluation file, no domain to put it in); not a failure."""

    source: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Rerouted:
    """How routing changed with the domains of a store: of `texts` that the router before knew, the first
    domain of `changed` is another now; `to` counts these by their new one.
    """

    texts: int
    changed: int
    to: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was learnt from judged queries under vectors that are no more: how many `questions` the router
    knew, and the `calibrations` of which domains.
    """

    questions: int
    calibrations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What a run of index or reindex did.

    `documents` were read and accepted, `chunks` are stored in the domains they went to, `encoded` chunks were
    embedded in this run; `unchanged`, `moved` (to another domain), `removed`, `rejected` and `vanished`
    count documents, `shared` those that lie in several domains; `domains` gives
    chunks per domain, `routed` the documents that the router placed, `rerouted` what other domains did to
    the routing of what was known before (None: they are the same), `forgotten` what only `moeret tune` can
    teach the store again (None: nothing).
    """

    documents: int = 0
    chunks: int = 0
    encoded: int = 0
    unchanged: int = 0
    moved: int = 0
    removed: int = 0
    rejected: int = 0
    vanished: int = 0
    shared: int = 0
    seconds: float = 0.0
    generation: int = 0
    domains: Mapping[str, int] = field(default_factory=dict)
    routed: Mapping[str, int] = field(default_factory=dict)
    rejections: tuple[Rejected, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    rerouted: Rerouted | None = None
    forgotten: Forgotten | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def slug(name: str) -> str:
    """The domain name that `name` stands for: lower-case letters, digits and single hyphens, at most 64
    characters.

    An empty string comes back for a name without a letter or digit; the caller says what that means to it.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:64].strip("-")
