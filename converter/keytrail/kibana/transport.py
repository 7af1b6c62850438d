"""Requests to Kibana, and for every failure whether Kibana may have acted.

What only reads is tried again. What writes is tried again here only where Kibana surely did nothing (it throttles,
or was not reached); otherwise :class:`Uncertain` leaves it to the caller to look before it tries again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from keytrail.errors import KeytrailError, Stopped

TRIES = 5
LONGEST_WAIT = 60.0  # that a Retry-After is followed for, in seconds
MOST_BYTES = 64_000_000  # of an answer
CREDENTIALS = "set KIBANA_API_KEY, or KIBANA_USERNAME and KIBANA_PASSWORD, or name a file with --api-key-file"
PRIVILEGES = (
    "the key needs Security: All in this space; from 9.3 on also the privilege Rules, from 9.4 on Exceptions for lists"
)


class KibanaError(KeytrailError):
    """Kibana refused or failed a request; ``status`` is the answer's, None where there was none."""

    def __init__(self, message: str, *, status: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Uncertain(KibanaError):
    """A request to write whose answer is missing or no answer: Kibana may have acted or not."""


class Transport:
    """Sends requests to one space: ``url`` is Kibana's with the space's prefix; ``stop``, once set, ends waiting.

    ``report`` is called with a line of text when something is to be tried again.
    """

    def __init__(self, http: httpx.Client, url: str, stop: threading.Event, report: Callable[[str], None]) -> None:
        self.url = url
        self.stop = stop
        self._http = http
        self._report = report

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def wait(self, seconds: float, why: KibanaError | None = None) -> None:
        """Say why and wait; raise :class:`Stopped` when the user asks to stop meanwhile."""
        if why is not None:
            self._report(f"{why.message}; trying again in {seconds:g} seconds")
        if self.stop.wait(seconds):
            raise Stopped("stopped while waiting to try again")

    def get(self, path: str, query: Mapping[str, str]) -> Any:
        for left in reversed(range(TRIES)):
            try:
                return self._send("GET", path, query)
            except _Again as error:
                if not left:
                    raise error.error from None
                self.wait(error.wait(TRIES - left), error.error)
            except Uncertain as error:
                if not left:
                    raise
                self.wait(_backoff(TRIES - left), error)
        raise AssertionError("unreachable")

    def write(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        for left in reversed(range(TRIES)):
            try:
                return self._send(method, path, query or {}, body)
            except _Again as error:
                if not left:
                    raise error.error from None
                self.wait(error.wait(TRIES - left), error.error)
        raise AssertionError("unreachable")

    def _send(self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None = None) -> Any:
        doing = f"{method} {path}"
        headers = {"kbn-xsrf": "keytrail"} if method != "GET" else {}
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = json.dumps(body).encode()
        try:
            with self._http.stream(
                method, self.url + path, params=dict(query), headers=headers, content=content
            ) as answer:
                text = _read(answer, doing)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _Again(_unreached(doing, error), 0.5) from error
        except httpx.TimeoutException as error:
            raise Uncertain(f"{doing}: no answer within {self._http.timeout.read:g} seconds") from error
        except httpx.TransportError as error:
            raise Uncertain(f"{doing}: the connection broke ({type(error).__name__})") from error
        return _judged(doing, answer, text)


class _Again(Exception):
    """Kibana did nothing; the same may be sent again."""

    def __init__(self, error: KibanaError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after

    def wait(self, attempt: int) -> float:
        if self.after is not None and self.after > LONGEST_WAIT:
            raise self.error
        return _backoff(attempt) if self.after is None else self.after


def _backoff(attempt: int) -> float:
    return float(min(0.5 * 2 ** (attempt - 1), 8.0))


def _unreached(doing: str, error: Exception) -> KibanaError:
    if "CERTIFICATE" in str(error).upper() or "SSL" in str(error).upper():
        hint = "set KIBANA_CA_CERTS to the file of its certificate authority"
        return KibanaError(f"{doing}: the TLS connection fails: {error}", hint=hint)
    return KibanaError(f"{doing}: Kibana cannot be reached: {error}", hint="check the URL, and that Kibana runs")


def _read(answer: httpx.Response, doing: str) -> str:
    kept = bytearray()
    for chunk in answer.iter_bytes():
        kept += chunk
        if len(kept) > MOST_BYTES:
            raise Uncertain(f"{doing}: the answer has more than {MOST_BYTES:,} bytes", status=answer.status_code)
    return kept.decode("utf-8", "replace")


def _judged(doing: str, answer: httpx.Response, text: str) -> Any:
    """Return what the answer holds, or raise what it means."""
    status = answer.status_code
    if status == 429:
        wait = _retry_after(answer.headers.get("retry-after"))
        told = "" if wait is None else f" (Retry-After: {wait:g} seconds)"
        raise _Again(KibanaError(f"{doing}: Kibana is throttling{told}", status=status, hint="try later"), wait)
    if 300 <= status < 400:
        host = urlsplit(answer.headers.get("location", "")).hostname or "another path"
        hint = "a redirect is never followed, so that no secret goes elsewhere: give the URL it leads to"
        raise KibanaError(f"{doing}: the answer leads to {host}", status=status, hint=hint)
    try:
        found = json.loads(text)
    except ValueError:
        message = f"{doing}: the answer is no JSON (status {status}, {answer.headers.get('content-type', 'no type')})"
        kind = KibanaError if status in (400, 401, 403, 404, 413) else Uncertain
        hint = "a proxy or a login page answered instead of Kibana"
        raise kind(message, status=status, hint=hint) from None
    if status < 300:
        return found
    message = f"{doing}: {_reason(found)} (status {status})"
    if status >= 500:
        raise Uncertain(message, status=status)
    raise KibanaError(message, status=status, hint={401: CREDENTIALS, 403: PRIVILEGES}.get(status))


def _reason(found: object) -> str:
    """What a platform error, or a handler's, says."""
    said = found.get("message") if isinstance(found, Mapping) else None
    text = "; ".join(map(str, said)) if isinstance(said, list) else str(said or "no reason given")
    return text[:1000]


def _retry_after(given: str | None) -> float | None:
    if not given:
        return None
    try:
        return max(float(given), 0.0)
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(given)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max((moment - datetime.now(timezone.utc)).total_seconds(), 0.0)
