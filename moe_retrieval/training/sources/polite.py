"""Asking a service of the web: never faster than it wants, patient while it is busy."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from moe_retrieval.corpus.assembly import one_line
from moe_retrieval.corpus.sources import short
from moe_retrieval.errors import FetchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ATTEMPTS = 6
UNREACHABLE_ATTEMPTS = 3  # without any connection: who is offline should not wait a minute to hear it
LONGEST_PAUSE = 60.0  # seconds between two attempts, unless the service asks for more
LONGEST_WISH = 300.0  # seconds that a service may ask for; beyond, the run ends and can go on later
TIMEOUT = 60.0
MOST_BYTES = 256 << 20  # of one answer

_GO_ON = "run the same command again later: it goes on where it was"


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why an attempt failed, and how long the service wants to be left alone."""

    reason: str
    wish: float = 0.0
    unreachable: bool = False


@dataclass(slots=True)
class Polite:
    """One service: at most `per_second` requests, up to 6 attempts each with pauses of 1, 2, 4, ... seconds.

    `service` is its name in messages. `clock` and `sleep` count seconds.
    """

    service: str
    per_second: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _next: float = field(default=0.0, init=False)

    def read(self, request: Request, parse: Callable[[bytes], T]) -> T:
        """The parsed answer; one that `parse` finds damaged (ValueError) was cut on its way: asked again.

        Raises:
            FetchError: the service refuses, is out of reach, or is busy beyond patience.
        """
        attempt = 0
        while True:
            self._pace()
            found = self._attempt(request, parse)
            if not isinstance(found, _Trouble):
                return found
            attempt += 1
            self._give_up(found, attempt)
            self.sleep(max(found.wish, min(2.0 ** (attempt - 1), LONGEST_PAUSE)))

    def _pace(self) -> None:
        if (wait := self._next - self.clock()) > 0:
            self.sleep(wait)
        self._next = self.clock() + 1 / self.per_second

    def _attempt(self, request: Request, parse: Callable[[bytes], T]) -> T | _Trouble:
        try:
            with urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - only http and https: `base_of`
                body = answer.read(MOST_BYTES + 1)
        except HTTPError as error:
            return self._refused(error)
        except (URLError, TimeoutError, ConnectionError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            timed_out = isinstance(reason, TimeoutError)
            unreachable = isinstance(error, URLError) and not timed_out
            return _Trouble(
                short(reason) if isinstance(reason, Exception) else str(reason), unreachable=unreachable
            )
        if len(body) > MOST_BYTES:
            raise FetchError(f"{self.service} answers with more than {MOST_BYTES:,} bytes", hint=_GO_ON)
        try:
            return parse(body)
        except ValueError as error:
            return _Trouble(f"its answer is damaged ({short(error)})")

    def _refused(self, error: HTTPError) -> _Trouble:
        """Trouble that may pass: too many requests, a server's own failure.

        Raises:
            FetchError: any other refusal; asking again would not help.
        """
        with error:
            said = one_line(_text(error))[:200]
            wish = _wish(error.headers.get("Retry-After") or "", now=error.headers.get("Date") or "")
        if error.code in (401, 403):
            hint = "check the API key; both services give one for free"
            raise FetchError(
                f"{self.service} wants a key, or another one: {said or error.code}", hint=hint
            ) from error
        if error.code not in (408, 429) and error.code < 500:
            hint = "check the query"
            raise FetchError(f"{self.service} refuses: {error.code} {said}".rstrip(), hint=hint) from error
        return _Trouble(f"{error.code} {error.reason} {said}".rstrip(), wish)

    def _give_up(self, trouble: _Trouble, attempt: int) -> None:
        if trouble.wish > LONGEST_WISH:
            raise FetchError(
                f"{self.service} asks to be left alone for {trouble.wish:,.0f} seconds ({trouble.reason})",
                hint=_GO_ON,
            )
        if trouble.unreachable and attempt >= UNREACHABLE_ATTEMPTS:
            raise FetchError(
                f"{self.service} cannot be reached: {trouble.reason}",
                hint="check the connection and run the same command again; or build pairs from files on disk",
            )
        if attempt >= ATTEMPTS:
            raise FetchError(f"{self.service} did not answer {attempt} times: {trouble.reason}", hint=_GO_ON)


def base_of(url: str) -> str:
    """The address of a service, without a slash at its end.

    Raises:
        UsageError: it is no address of the web.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise UsageError(f"{url!r} is no address of a service", hint="it begins with https://")
    return url.rstrip("/")


def _text(error: HTTPError) -> str:
    try:
        return error.read(2_000).decode(errors="replace")
    except (OSError, HTTPException):
        return ""


def _wish(header: str, *, now: str) -> float:
    """Seconds of a Retry-After: a number, or a date (RFC 9110, 10.2.3) by the service's own clock."""
    if header.strip().isdecimal():
        return float(header)
    try:
        return max((parsedate_to_datetime(header) - parsedate_to_datetime(now)).total_seconds(), 0.0)
    except (ValueError, TypeError):  # TypeError: one of the two has no time zone
        return 0.0
