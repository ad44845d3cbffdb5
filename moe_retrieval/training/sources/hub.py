"""Pairs of a data set on the Hugging Face hub, or of a folder like one: columns `a`, `b`, `label`."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from moe_retrieval.corpus.assembly import one_line
from moe_retrieval.corpus.pairs import Pair, Split
from moe_retrieval.errors import FetchError, UsageError, did_you_mean
from moe_retrieval.training.sources.hub_files import FORMATS, read_rows
from moe_retrieval.types import slug

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

KIND = "labelled"

_COMMIT = re.compile(r"[0-9a-f]{40}")
_WORD = re.compile(r"[a-z]+")
_SPLITS = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "valid": Split.VALIDATION,
    "validation": Split.VALIDATION,
    "val": Split.VALIDATION,
    "dev": Split.VALIDATION,
    "test": Split.TEST,
}


def hub_pairs(
    dataset_id: str,
    *,
    revision: str = "",
    split: str | None = None,
    cache: Path | None = None,
    domain: str = "",
    endpoint: str | None = None,
) -> Iterator[Pair]:
    """The pairs of a data set, in the order of its files and rows; all splits, or one.

    `dataset_id`: an id such as `GleghornLab/abstract_domain_cvd`, or a folder, which needs no revision.
    `revision`: 40 digits of a commit, since a branch may hold another content tomorrow. `cache`: where files
    are kept, by default the hub's own cache. `domain`: of all pairs; else the one that a row names, else what
    the data set's name ends with. A pair's `split` is what the names of its file and folders say. The files
    are Parquet, JSON lines or CSV; where one split is there in several formats, the first of these is read.
    Texts are given as they stand, empty and equal ones too.

    Raises:
        UsageError: there is no such revision, split or data set, or a file or row is not as it should be.
        FetchError: the hub cannot be reached.
    """
    wanted = _split(split)
    place: _Place = _Folder(Path(dataset_id))
    if not dataset_id or not Path(dataset_id).is_dir():
        _check_revision(dataset_id, revision)
        place = _Hub(dataset_id, revision=revision, cache=cache, endpoint=endpoint)
    chosen = _chosen(dataset_id, place.files(), wanted)
    return _pairs(chosen, place.fetch, own=slug(domain), fallback=_domain_of(place.name))


def _split(name: str | None) -> Split | None:
    if name is not None and name.lower() not in _SPLITS:
        raise UsageError(f"no split is called {name!r}", hint=did_you_mean(name, list(map(str, Split))))
    return None if name is None else _SPLITS[name.lower()]


def _check_revision(dataset_id: str, revision: str) -> None:
    if _COMMIT.fullmatch(revision):
        return
    said = f"{revision!r} may stand for another content tomorrow" if revision else "no revision is given"
    raise UsageError(
        f"{dataset_id!r} is no folder, and as a data set of the hub it is not pinned: {said}",
        hint=f"give the 40 digits of a commit; {_find(dataset_id)}",
    )


def _find(dataset_id: str) -> str:
    return f"this shows the newest: git ls-remote https://huggingface.co/datasets/{dataset_id}"


def _domain_of(name: str) -> str:
    """`GleghornLab/abstract_domain_cvd`: cvd."""
    last = name.rstrip("/").rpartition("/")[2]
    return slug(last.rpartition("domain_")[2])


# --- files ------------------------------------------------------------------------------------------------


class _Place(Protocol):
    @property
    def name(self) -> str: ...

    def files(self) -> list[str]:
        """Names of all files, sorted, with `/` between folders."""
        ...

    def fetch(self, name: str) -> Path:
        """Where a file lies on this disk."""
        ...


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = folder.resolve().name
        self.fetch = folder.joinpath

    def files(self) -> list[str]:
        found = (path for path in self._folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(self._folder).as_posix() for path in found)


class _Hub:
    def __init__(self, name: str, *, revision: str, cache: Path | None, endpoint: str | None) -> None:
        self.name = name
        self._revision = revision
        self._cache = cache
        self._endpoint = endpoint

    def files(self) -> list[str]:
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self._endpoint)
        with self._errors():
            return sorted(api.list_repo_files(self.name, repo_type="dataset", revision=self._revision))

    def fetch(self, name: str) -> Path:
        from huggingface_hub import hf_hub_download

        with self._errors():
            return Path(
                hf_hub_download(
                    self.name,
                    name,
                    repo_type="dataset",
                    revision=self._revision,
                    cache_dir=self._cache,
                    endpoint=self._endpoint,
                )
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The hub's errors as ours."""
        from huggingface_hub import errors

        try:
            yield
        except errors.GatedRepoError as error:
            hint = "ask for access on its page, then: hf auth login"
            raise UsageError(f"the data set {self.name} is open to some only", hint=hint) from error
        except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
            hint = "check the name; for a private one: hf auth login"
            raise UsageError(f"{self.name!r} is no folder, and no data set of the hub", hint=hint) from error
        except errors.RevisionNotFoundError as error:
            raise UsageError(
                f"the data set {self.name} has no revision {self._revision}", hint=_find(self.name)
            ) from error
        except _transport_errors() as error:
            raise FetchError(
                f"the data set {self.name} could not be fetched: {one_line(str(error))[:200]}",
                hint="check the connection and try again, or give a folder that holds its files",
            ) from error


def _transport_errors() -> tuple[type[Exception], ...]:
    """Those of the HTTP library below the hub's, whichever that is in this version, and the system's."""
    from huggingface_hub.errors import HfHubHTTPError

    return (*(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)), OSError)


def _chosen(dataset_id: str, files: Iterable[str], wanted: Split | None) -> list[tuple[str, Split | None]]:
    """The files to read, with their splits: of every split those of its best format."""
    by_split: dict[Split | None, dict[str, list[str]]] = {}
    for name in files:
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in FORMATS and not any(part.startswith(".") for part in name.split("/")):
            by_split.setdefault(_split_of(name), {}).setdefault(suffix, []).append(name)
    if not by_split:
        raise UsageError(f"{dataset_id} holds no data", hint=f"read are {', '.join(FORMATS)} files")
    if wanted is not None and wanted not in by_split:
        known = sorted(str(split) for split in by_split if split) or ["none by the files' names"]
        raise UsageError(f"{dataset_id} has no split {wanted}", hint=f"it has: {', '.join(known)}")
    return [
        (name, split)
        for split, formats in by_split.items()
        if wanted in (None, split)
        for name in formats[min(formats, key=FORMATS.index)]
    ]


def _split_of(name: str) -> Split | None:
    """By the words of the file's name, then of its folders from the inside out."""
    for part in reversed(PurePosixPath(name.lower()).with_suffix("").parts):
        for word in _WORD.findall(part):
            if word in _SPLITS:
                return _SPLITS[word]
    return None


# --- rows -------------------------------------------------------------------------------------------------


def _pairs(
    files: Iterable[tuple[str, Split | None]], fetch: Callable[[str], Path], *, own: str, fallback: str
) -> Iterator[Pair]:
    for name, split in files:
        for number, row in enumerate(read_rows(fetch(name), name=name), start=1):
            place = f"{name}, row {number}"
            yield Pair(
                a=_text(row, "a", place),
                b=_text(row, "b", place),
                domain=own or slug(str(row.get("domain") or "")) or fallback,
                label=_label(row["label"], place),
                kind=KIND,
                split=split,
            )


def _text(row: Mapping[str, Any], column: str, place: str) -> str:
    if not isinstance(value := row[column], str):
        raise UsageError(
            f"{place}: {column!r} is no text: {value!r:.60}", hint="it must be a column of texts"
        )
    return value


def _label(value: object, place: str) -> int:
    """0 or 1, however the column holds it: a number, a truth value, or its digits."""
    for label in (0, 1):
        if value == label or (isinstance(value, str) and value.strip() in {f"{label}", f"{label}.0"}):
            return label
    raise UsageError(f"{place}: the label is {value!r:.60}", hint="it must be 0 or 1")
