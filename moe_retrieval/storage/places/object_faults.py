"""What an object store refuses, as errors of the store: one sentence, a next step, and nothing secret.

The text of a refusal holds the whole request, at times with its signature. It is told apart by the code and
the status that the server gave, and none of it is shown but those.
"""

from __future__ import annotations

import contextlib
import errno
import re
from typing import TYPE_CHECKING, NamedTuple

from moe_retrieval.errors import StoreError, StoreFullError, StoreReadOnlyError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_KEY_SERVICE = re.compile(r"169\.254\.1\d+\.\d+|/latest/(api/token|meta-data)|AssumeRole|/v2/credentials")
_NO_LOCATION = "redirect without LOCATION"
_NO_BUCKET = "NoSuchBucket"
_REQUEST = "Error performing "


class _Kind(NamedTuple):
    """What a refusal means, and what to do about it."""

    reason: str
    hint: str
    error: type[StoreError] = StoreError


_BUCKET = _Kind("there is no such bucket", "create it, or correct --store")
_NOBODY = _Kind(
    "no credentials were found",
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    StoreReadOnlyError,
)
_REGION = _Kind("the bucket lies in another region", "set AWS_REGION to that of the bucket")
_KEYS = _Kind(
    "the credentials were refused",
    "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the profile",
    StoreReadOnlyError,
)
_CLOCK = _Kind("the clock of this machine is wrong", "set it and run it again")
_DENIED = _Kind(
    "access was denied",
    "the credentials must be allowed to list and get there, and to put and delete for writing",
    StoreReadOnlyError,
)
_FULL = _Kind("the object store is full", "free some space and run it again", StoreFullError)
_SILENT = _Kind("the server did not answer", "check AWS_ENDPOINT_URL and the network, then run it again")
_REFUSED = _Kind("the server refused", "run it again")

_BY_CODE = {
    _NO_BUCKET: _BUCKET,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "ExpiredToken": _KEYS,
    "InvalidToken": _KEYS,
    "RequestTimeTooSkewed": _CLOCK,
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
}
_BY_STATUS = {"301": _REGION, "307": _REGION, "401": _KEYS, "403": _DENIED, "507": _FULL}


def is_object_fault(error: BaseException) -> bool:
    """Whether the Lance engine says this of an object store, and not that a file of a table is missing."""
    text = str(error)
    return _REQUEST in text and (_NO_BUCKET in text or _said(text, _STATUS) != "404")


def object_fault(error: BaseException, *, doing: str, place: str = "") -> StoreError:
    """The typed error that a refusal stands for; `doing` completes "could not ..."."""
    code, status = _said(str(error), _CODE), _said(str(error), _STATUS)
    kind = _kind(str(error), code, status)
    given = code or (f"HTTP {status}" if status else "")
    reason = f"{kind.reason}, {given}" if given and kind is not _NOBODY else kind.reason
    where = f" ({place})" if place else ""
    return kind.error(f"could not {doing}: {reason}{where}", hint=kind.hint)


def _kind(text: str, code: str, status: str) -> _Kind:
    if _KEY_SERVICE.search(text):  # what a machine of the provider gets its keys from
        return _NOBODY
    if _NO_LOCATION in text:
        return _REGION
    if code in _BY_CODE:
        return _BY_CODE[code]
    return _BY_STATUS.get(status, _REFUSED) if status else _SILENT


@contextlib.contextmanager
def object_faults(doing: str, *, place: str) -> Iterator[None]:
    """Turn a refusal inside the block into the error it stands for; a missing object is FileNotFoundError."""
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield
    except (AlreadyExistsError, PreconditionError):
        raise  # an answer, not a fault
    except FileNotFoundError as error:
        if _NO_BUCKET in str(error):
            raise object_fault(error, doing=doing, place=place) from None
        raise FileNotFoundError(errno.ENOENT, "there is no such object", f"{place} ({doing})") from None
    except (BaseError, ValueError, OSError, RuntimeError) as error:
        # not chained: the text of the cause may show the signed request
        raise object_fault(error, doing=doing, place=place) from None


def _said(text: str, pattern: re.Pattern[str]) -> str:
    found = pattern.search(text)
    return found[1] if found else ""
