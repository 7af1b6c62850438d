"""Kibana's public API, as far as rules and exception lists need it: one space of one Kibana."""

from __future__ import annotations

import base64
import os
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from keytrail.errors import UsageError
from keytrail.files import read_key
from keytrail.kibana.transport import CREDENTIALS, TRIES, KibanaError, Transport, Uncertain

SECONDS = 60.0  # that a request may take
PAGE = 100
WINDOW = 10_000  # rules that _find pages through at most
IDS_AT_ONCE = 50
RULES = "/api/detection_engine/rules"
LISTS = "/api/exception_lists"
ITEMS = "/api/exception_lists/items"
SPACES = "/api/spaces/space"

Rule = dict[str, Any]


class Kibana(Transport):
    """One space of a Kibana: ``space`` is its id."""

    def __init__(
        self, http: httpx.Client, url: str, space: str, stop: threading.Event, report: Callable[[str], None]
    ) -> None:
        super().__init__(http, url, stop, report)
        self.space = space

    def look_up(self) -> None:
        """See whether the space exists: Kibana writes into one that does not, where nobody will ever see it.

        Errors: :class:`KibanaError`, for a space that does not exist among others.
        """
        try:
            self.get(f"{SPACES}/{quote(self.space)}", {})
        except KibanaError as error:
            if error.status != 404:
                raise
            hint = "its id is in the URL of its pages, after /s/; a Kibana below a path has that path in its own URL"
            raise KibanaError(f"there is no space {self.space!r} ({error.message})", status=404, hint=hint) from error

    # Rules

    def rules(self, *, tag: str, ids: Sequence[str]) -> list[Rule]:
        """Return every rule with a tag or with one of some rule ids, each once.

        Errors: :class:`KibanaError` for more than can be paged through, and for a space that changes all the while.
        """
        filters = [f"alert.attributes.tags: {_kql(tag)}"]
        for start in range(0, len(ids), IDS_AT_ONCE):
            listed = " OR ".join(map(_kql, ids[start : start + IDS_AT_ONCE]))
            filters.append(f"alert.attributes.params.ruleId: ({listed})")
        found: dict[str, Rule] = {}
        for one in filters:
            sort = {"filter": one, "sort_field": "created_at", "sort_order": "asc"}
            found.update({rule["id"]: rule for rule in self._every(f"{RULES}/_find", sort, "rules")})
        return list(found.values())

    def copies(self, rule_id: str) -> list[Rule]:
        """Return the rules that have a rule id, oldest first: Kibana's storage does not keep it to one."""
        query = {"filter": f"alert.attributes.params.ruleId: {_kql(rule_id)}"}
        sort = {"sort_field": "created_at", "sort_order": "asc"}
        return self._every(f"{RULES}/_find", query | sort, "rules")

    def rule(self, id: str) -> Rule | None:
        """Return the rule of an object's id, None where there is none."""
        return self._get_one(RULES, {"id": id})

    def create(self, body: Mapping[str, Any]) -> Rule:
        """Create a rule. Errors: :class:`Uncertain`, :class:`KibanaError`."""
        return self._object(self.write("POST", RULES, body=body))

    def replace(self, body: Mapping[str, Any]) -> Rule:
        """Replace the rule whose object's id is in the body. Errors: as :meth:`create`."""
        return self._object(self.write("PUT", RULES, body=body))

    def delete(self, id: str) -> None:
        """Delete the rule of an object's id; one that is gone is deleted. Errors: as :meth:`create`."""
        self._delete(RULES, {"id": id})

    # Exception lists

    def lists(self, tag: str) -> list[Rule]:
        """Return the exception lists of this space that carry a tag."""
        query = {"namespace_type": "single", "filter": f"exception-list.attributes.tags: {_kql(tag)}"}
        return self._every(f"{LISTS}/_find", query, "exception lists")

    def exception_list(self, list_id: str) -> Rule | None:
        """Return an exception list, None where there is none."""
        return self._get_one(LISTS, {"list_id": list_id, "namespace_type": "single"})

    def items(self, list_id: str) -> list[Rule]:
        """Return the items of an exception list."""
        query = {"list_id": list_id, "namespace_type": "single"}
        return self._every(f"{ITEMS}/_find", query, "exceptions")

    def item(self, item_id: str) -> Rule | None:
        """Return an exception item, None where there is none."""
        return self._get_one(ITEMS, {"item_id": item_id, "namespace_type": "single"})

    def create_list(self, body: Mapping[str, Any]) -> Rule:
        """Create an exception list. Errors: as :meth:`create`."""
        return self._object(self.write("POST", LISTS, body=body))

    def create_item(self, body: Mapping[str, Any]) -> Rule:
        """Create an exception item. Errors: as :meth:`create`."""
        return self._object(self.write("POST", ITEMS, body=body))

    def replace_list(self, body: Mapping[str, Any]) -> Rule:
        """Replace an exception list's own fields, as :meth:`replace_item`."""
        return self._object(self.write("PUT", LISTS, body=body))

    def replace_item(self, body: Mapping[str, Any]) -> Rule:
        """Replace an exception item; ``_version`` in the body guards against races. Errors: as :meth:`create`."""
        return self._object(self.write("PUT", ITEMS, body=body))

    def delete_item(self, item_id: str) -> None:
        """Delete an exception item. Errors: as :meth:`create`."""
        self._delete(ITEMS, {"item_id": item_id, "namespace_type": "single"})

    def delete_list(self, list_id: str) -> None:
        """Delete an exception list with its items. Errors: as :meth:`create`."""
        self._delete(LISTS, {"list_id": list_id, "namespace_type": "single"})

    # What they share

    def _every(self, path: str, query: Mapping[str, str], what: str) -> list[Rule]:
        """Page through all there is; begin again when the total changes meanwhile."""
        for _ in range(TRIES):
            found: dict[str, Rule] = {}
            total, page = 1, 1
            while len(found) < total and page * PAGE <= WINDOW:
                answer = self.get(path, {**query, "page": str(page), "per_page": str(PAGE)})
                if not isinstance(answer, Mapping) or not isinstance(answer.get("data"), list):
                    raise KibanaError(f"GET {path}: the answer is no page of {what}", hint="is this URL a Kibana's?")
                total, data = int(answer.get("total", 0)), answer["data"]
                if total > WINDOW:
                    raise KibanaError(f"the space has {total:,} {what} of Keytrail's, more than Kibana pages through")
                found.update({one["id"]: one for one in data})
                if not data:
                    break
                page += 1
            if len(found) == total or not total:
                return list(found.values())
            self.wait(0.5)
        raise KibanaError(f"the {what} of the space change while they are read", hint="try again when nobody edits")

    def _get_one(self, path: str, query: Mapping[str, str]) -> Rule | None:
        try:
            return self._object(self.get(path, query))
        except KibanaError as error:
            if error.status == 404:
                return None
            raise

    def _delete(self, path: str, query: Mapping[str, str]) -> None:
        try:
            self.write("DELETE", path, query)
        except KibanaError as error:
            if error.status != 404:
                raise

    @staticmethod
    def _object(answer: Any) -> Rule:
        if not isinstance(answer, dict) or "id" not in answer:
            raise Uncertain("Kibana's answer is no object with an id", hint="is this URL a Kibana's?")
        return answer


def _kql(text: str) -> str:
    """A string in KQL: quoted, so that nothing in it is an operator or a wildcard."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# Connecting


def connect(
    url: str,
    space: str = "default",
    *,
    key_file: Path | None = None,
    timeout: float = SECONDS,
    stop: threading.Event | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Kibana:
    """Return a space of the Kibana at a URL. Nothing is sent yet.

    Parameters: ``url`` is http(s)://host[:port][/base path]; ``key_file`` holds an API key, otherwise KIBANA_API_KEY
    or KIBANA_USERNAME and KIBANA_PASSWORD are used; ``timeout`` is in seconds. TLS certificates are always verified,
    against those of KIBANA_CA_CERTS if that is set; ``report`` is called with a line of text when something is to be
    tried again.

    Errors: :class:`UsageError` for a URL, a space, a file or variables that cannot be used.
    """
    address = _checked(url)
    if space != "default":
        if not space or space.strip("abcdefghijklmnopqrstuvwxyz0123456789_-"):
            raise UsageError(f"{space!r} is no id of a space", hint="it is in the URL of the space, after /s/")
        address += f"/s/{quote(space)}"
    headers = {"elastic-api-version": "2023-10-31", "accept": "application/json", **_credentials(key_file)}
    http = httpx.Client(headers=headers, timeout=timeout, verify=_authorities(address), follow_redirects=False)
    return Kibana(http, address, space, stop or threading.Event(), report)


def _checked(url: str) -> str:
    """Return the URL without a slash at its end. No error repeats what may hold a secret."""
    if "@" in url:
        raise UsageError("credentials do not belong into the URL of Kibana", hint=CREDENTIALS)
    try:
        parts = urlsplit(url)
        named = parts.hostname if parts.port is None or parts.port else None
    except ValueError:
        named = None
    if not named or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise UsageError("that is no URL of a Kibana", hint="give http(s)://host[:port][/base path]")
    if "/s/" in f"{parts.path}/":
        raise UsageError("the URL of Kibana names a space", hint="leave out /s/… and name it with --space")
    return url.rstrip("/")


def _authorities(address: str) -> ssl.SSLContext | bool:
    if not address.startswith("https:"):
        return True
    given = os.environ.get("KIBANA_CA_CERTS")
    try:
        return ssl.create_default_context(cafile=given or None)
    except OSError as error:  # an SSLError is one
        message = f"KIBANA_CA_CERTS cannot be used: {error}"
        raise UsageError(message, path=given, hint="name a file of certificates in PEM format") from error


def _credentials(key_file: Path | None) -> dict[str, str]:
    key = os.environ.get("KIBANA_API_KEY")
    user, password = os.environ.get("KIBANA_USERNAME"), os.environ.get("KIBANA_PASSWORD")
    if key_file is not None:
        key = read_key(key_file)
    if key:
        # Kibana shows a key as id:key or encoded; the header takes it encoded.
        encoded = base64.b64encode(key.encode()).decode() if ":" in key else key
        if not encoded.isascii() or not encoded.isprintable() or " " in encoded:
            raise UsageError("the API key has characters that no API key has", hint="give it as Kibana showed it")
        return {"authorization": f"ApiKey {encoded}"}
    if user and password:
        return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    if user or password:
        raise UsageError("KIBANA_USERNAME and KIBANA_PASSWORD go together", hint="set both or neither")
    return {}
