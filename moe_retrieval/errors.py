"""Every error moeret raises on purpose: a sentence, a next step, and an exit code for the command line."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class MoeretError(Exception):
    """The root of the tree. `hint` says what to do next; `exit_code` is what the command line ends with."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def to_dict(self) -> dict[str, object]:
        return {
            "error": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


# --- what the caller asked for
# -------------------------------------------------------------------------------------


class UsageError(MoeretError):
    """An argument cannot mean anything: an empty query, k below one, two options that exclude each other."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is misspelt or has a value it cannot have."""


class FilterError(UsageError):
    """A filter does not parse, or names a field no document of the store has."""


class BudgetError(UsageError):
    """The token budget is smaller than the smallest hit."""


class NothingFoundError(MoeretError):
    """There is nothing to answer from: no store, no documents."""

    exit_code = 3


class UnknownDomainError(MoeretError):
    """The store or the model has no such domain."""

    exit_code = 3

    def __init__(self, domain: str, known: Iterable[str]) -> None:
        names = sorted(known)
        super().__init__(f"unknown domain {domain!r}", hint=did_you_mean(domain, names))
        self.domain = domain


class MissingExtraError(MoeretError):
    """An optional package is not installed."""

    exit_code = 5

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}", hint=f"pip install 'moeret[{extra}]'")


# --- documents
# -----------------------------------------------------------------------------------------------------


class RejectedError(MoeretError):
    """A document or file cannot be indexed; the reason is one line. The rest of the corpus goes on."""


class FetchError(MoeretError):
    """A service of the web cannot be reached, or refuses."""


# --- encoder and experts
# -------------------------------------------------------------------------------------------


class ModelError(MoeretError):
    """A model folder or an expert file cannot be used."""


class ChecksumError(ModelError):
    """The bytes of a weights file are not the ones that were promised."""


class ModelMismatchError(ModelError):
    """An explicitly given model is not the one the store was written with."""

    exit_code = 4


class BadVectorError(MoeretError):
    """An encoder gave a vector that is not finite, not of unit length, or of the wrong width."""


class StaleDomainError(MoeretError):
    """The table was written by another encoder than the one now loaded."""

    exit_code = 4

    def __init__(self, domain: str, *, stored: str, loaded: str, hint: str = "") -> None:
        super().__init__(
            f"domain {domain!r} was indexed with encoder {stored[:12]}, but {loaded[:12]} is loaded",
            hint=hint or f"moeret reindex --domain {domain}",
        )
        self.domain = domain


# --- the store
# -----------------------------------------------------------------------------------------------------


class StoreError(MoeretError):
    """The store could not do what was asked of it."""


class StoreCorruptError(StoreError):
    """Bytes of the store are damaged."""


class StoreConflictError(StoreError):
    """Another writer got in between; trying again may help."""


class StoreBusyError(StoreError):
    """Another process holds the writer lease."""


class StoreFullError(StoreError):
    """The disk is full."""


class StoreReadOnlyError(StoreError):
    """The store's folder may not be written."""


class StoreVersionError(StoreError):
    """The store was written by a newer moeret."""


class ForeignTableError(StoreError):
    """A table's own fingerprint is not the one the catalog records for it."""

    exit_code = 4


def refuse_bare(texts: object, what: str) -> None:
    """A text where a list of texts is wanted would be taken apart into letters.

    Raises:
        UsageError: `texts` is one text.
    """
    if isinstance(texts, str):
        raise UsageError(f"{what} is one text, {texts[:40]!r}", hint="give a list of texts, even of one")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The next step after a wrong name: the nearest known one, or the list of them."""
    names = list(known)
    spelled = {name.casefold(): name for name in reversed(names)}
    if near := difflib.get_close_matches(word.casefold(), spelled, n=1, cutoff=0.6):
        return f"did you mean {spelled[near[0]]!r}?"
    if not names:
        return "there are none yet"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"known: {shown}"
