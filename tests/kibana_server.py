"""The smallest Kibana that is faithful to what its detection engine does to rules and exception lists.

Real HTTP on loopback. It is strict where Kibana is (versions, xsrf, required fields, one of id and rule_id), and as lax
(unknown fields are dropped silently, though recorded in ``dropped``; a rule id can be there twice). Faults are put in
with ``fail``; ``log`` has every write that was acted on.
"""

from __future__ import annotations

import json
import re
import select
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]
RULES = "/api/detection_engine/rules"
SPACES = "/api/spaces/space/"
COMMON = frozenset(
    re.findall(
        r"\w+",
        "rule_id name description risk_score severity enabled interval from to max_signals version tags author "
        "references false_positives severity_mapping risk_score_mapping threat related_integrations required_fields "
        "investigation_fields setup note license building_block_type timestamp_override rule_name_override timeline_id "
        "timestamp_override_fallback_disabled timeline_title response_actions exceptions_list actions meta throttle "
        "namespace type",
    )
)
QUERY = frozenset({"query", "language", "index", "data_view_id", "filters", "alert_suppression"})
TYPES: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {  # required, and all
    "query": (frozenset(), QUERY | {"saved_id"}),
    "saved_query": (frozenset({"saved_id"}), QUERY | {"saved_id"}),
    "eql": (
        frozenset({"query", "language"}),
        QUERY | {"timestamp_field", "event_category_override", "tiebreaker_field"},
    ),
    "esql": (frozenset({"query", "language"}), frozenset({"query", "language", "alert_suppression"})),
    "threshold": (frozenset({"query", "threshold"}), QUERY | {"threshold", "saved_id"}),
    "new_terms": (
        frozenset({"query", "new_terms_fields", "history_window_start"}),
        QUERY | {"new_terms_fields", "history_window_start"},
    ),
}
DEFAULTS: Json = {
    "enabled": False,
    "interval": "5m",
    "from": "now-6m",
    "to": "now",
    "max_signals": 100,
    "version": 1,
    "tags": [],
    "author": [],
    "references": [],
    "false_positives": [],
    "severity_mapping": [],
    "risk_score_mapping": [],
    "threat": [],
    "related_integrations": [],
    "required_fields": [],
    "setup": "",
    "exceptions_list": [],
    "actions": [],
    "output_index": "",
}
NO_REVISION = frozenset({"enabled", "revision", "updated_at", "updated_by", "execution_summary"})


class Refusal(Exception):
    """An answer that is an error; ``platform`` errors have another shape than those of handlers."""

    def __init__(self, status: int, message: str | list[str], *, platform: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"message": message}
        self.body |= {"statusCode": status, "error": "Error"} if platform else {"status_code": status}


@dataclass
class Fault:
    """What goes wrong with the next request that fits.

    ``kind`` is throttled, redirect, html before, html after, or one of timeout, cut, error with before or after (Kibana
    acted); ``edit`` and ``late`` call ``act`` before and after the request is handled, which then succeeds.
    """

    kind: str
    method: str = ""
    path: str = ""
    after: str | None = None
    status: int = 500
    act: Callable[[Kibana], None] = lambda kibana: None

    def fits(self, method: str, path: str) -> bool:
        return (not self.method or method == self.method) and (not self.path or path.endswith(self.path))


@dataclass
class Space:
    """What a space holds: rules by object id, exception lists by list id, items by item id."""

    rules: dict[str, Json] = field(default_factory=dict)
    lists: dict[str, Json] = field(default_factory=dict)
    items: dict[str, Json] = field(default_factory=dict)


class Kibana:
    """The state of the server, and what tests do to it behind the client's back."""

    def __init__(self) -> None:
        self.url = ""
        self.spaces = {"default": Space(), "soc": Space()}
        self.nowhere: dict[str, Space] = {}  # what is written into spaces that do not exist
        self.key: str | None = None
        self.forbidden: set[str] = set()  # methods
        self.drops: set[str] = set()  # fields that this release does not know
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str]] = []
        self.dropped: set[str] = set()
        self.requests = 0
        self.pages: list[tuple[int, int]] = []
        self.lock = threading.RLock()
        self._now = datetime(2026, 1, 1, tzinfo=timezone.utc)

    # For tests

    @property
    def rules(self) -> dict[str, Json]:
        """The rules of the default space, by object id."""
        return self.spaces["default"].rules

    def rule(self, rule_id: str) -> Json:
        """The one rule of an id."""
        (found,) = [rule for rule in self.rules.values() if rule["rule_id"] == rule_id]
        return found

    def edit(self, rule_id: str, **fields: Any) -> None:
        """What an analyst does in the rule editor: fields are set, None removes one."""
        with self.lock:
            self._save(self.rule(rule_id), fields, "analyst")

    def put_by_hand(self, **fields: Any) -> Json:
        """Add a rule, without a check whether its id is there."""
        with self.lock:
            sent = set(self.dropped)
            made = self._add(self.spaces["default"], fields, "analyst")
            self.dropped = sent
            return made

    def fail(self, kind: str, method: str = "", path: str = "", **more: Any) -> None:
        self.faults.append(Fault(kind, method, path, **more))

    def now(self) -> str:
        self._now += timedelta(milliseconds=37)
        return self._now.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    # Rules

    def create(self, space: Space, body: Json) -> Json:
        self._check_rule(body)
        if "rule_id" in body and any(rule["rule_id"] == body["rule_id"] for rule in space.rules.values()):
            raise Refusal(409, f'rule_id: "{body["rule_id"]}" already exists')
        self._check_links(space, body, None)
        return self._add(space, body, "keytrail")

    def _add(self, space: Space, body: Json, who: str) -> Json:
        made = self._filled(body)
        made |= {"id": str(uuid.uuid4()), "rule_id": body.get("rule_id") or str(uuid.uuid4()), "revision": 0}
        made |= {"immutable": bool(body.get("immutable")), "rule_source": {"type": "internal"}}
        moment = self.now()
        made |= {"created_at": moment, "created_by": who, "updated_at": moment, "updated_by": who}
        space.rules[made["id"]] = made
        return made

    def replace(self, space: Space, body: Json) -> Json:
        if ("id" in body) == ("rule_id" in body):
            raise Refusal(400, ['either "id" or "rule_id" must be set, and not both'])
        self._check_rule(body)
        rule = self.find_one(space, body)
        self._check_links(space, body, rule)
        if body["type"] != rule["type"]:
            raise Refusal(400, "the type of a rule cannot change")
        made = self._filled(body)
        for name in ("enabled", "version"):
            made[name] = body.get(name, rule[name])
        kept = ("id", "rule_id", "revision", "immutable", "rule_source", "created_at", "created_by")
        made |= {name: rule[name] for name in kept}
        gone = {name: None for name in rule if name not in made and name not in ("updated_at", "updated_by")}
        self._save(rule, {**made, **gone}, "keytrail")
        return rule

    def _save(self, rule: Json, fields: Json, who: str) -> None:
        before = {name: value for name, value in rule.items() if name not in NO_REVISION}
        for name, value in fields.items():
            rule.pop(name, None)
            if value is not None:
                rule[name] = value
        after = {name: value for name, value in rule.items() if name not in NO_REVISION}
        rule["revision"] += before != after
        rule["updated_at"], rule["updated_by"] = self.now(), who

    def delete(self, space: Space, query: Mapping[str, str]) -> Json:
        if ("id" in query) == ("rule_id" in query):
            raise Refusal(400, ['either "id" or "rule_id" must be set, and not both'])
        return space.rules.pop(self.find_one(space, query)["id"])

    def find_one(self, space: Space, query: Mapping[str, Any]) -> Json:
        for key in ("id", "rule_id"):
            for rule in space.rules.values():
                if key in query and rule[key] == query[key]:
                    return rule
        key = "id" if "id" in query else "rule_id"
        raise Refusal(404, f'{key}: "{query.get(key)}" not found')

    def _check_rule(self, body: Json) -> None:
        for name in ("type", "name", "description", "risk_score", "severity"):
            if name not in body:
                raise Refusal(400, f"[request body]: {name}: Required", platform=True)
        if body["type"] not in TYPES:
            raise Refusal(400, "[request body]: type: Invalid discriminator value", platform=True)
        if any(name not in body for name in TYPES[body["type"]][0]):
            raise Refusal(400, f"[request body]: {sorted(TYPES[body['type']][0])}: Required", platform=True)
        if body["severity"] not in ("low", "medium", "high", "critical") or not 0 <= body["risk_score"] <= 100:
            raise Refusal(400, "[request body]: severity or risk_score: Invalid", platform=True)
        if any(value is None for value in body.values()):
            raise Refusal(400, "[request body]: Expected a value, received null", platform=True)

    def _check_links(self, space: Space, body: Json, own: Json | None) -> None:
        defaults = [one for one in body.get("exceptions_list", []) if one["type"] == "rule_default"]
        if len(defaults) > 1:
            raise Refusal(400, "More than one default exception list found on rule")
        for rule in space.rules.values():
            if rule is not own and any(one in rule["exceptions_list"] for one in defaults):
                raise Refusal(409, "default exception list already exists in rule")

    def _filled(self, body: Json) -> Json:
        known = (COMMON | TYPES[body["type"]][1]) - self.drops
        self.dropped |= body.keys() - known - {"id"}
        made = {**json.loads(json.dumps(DEFAULTS)), **{name: body[name] for name in body if name in known}}
        if body["type"] not in ("eql", "esql"):
            made.setdefault("language", "kuery")
            made.setdefault("query", "")
        made["required_fields"] = [{"ecs": "." in one["name"], **one} for one in made["required_fields"]]
        made["actions"] = [{"uuid": str(uuid.uuid4()), **one} for one in made["actions"]]
        if "threshold" in made:
            said = made["threshold"]
            listed = [said["field"]] if isinstance(said["field"], str) else said["field"]
            made["threshold"] = {"cardinality": [], **said, "field": listed}
        return made

    def find(self, space: Space, query: Mapping[str, str]) -> Json:
        if ("sort_field" in query) != ("sort_order" in query):
            raise Refusal(400, ['when "sort_order" and "sort_field" must exist together or not at all'])
        found = [rule for rule in space.rules.values() if _holds(query.get("filter"), rule)]
        found.sort(key=lambda rule: str(rule[query.get("sort_field", "updated_at")]))
        data, page, size = self._page(found, query, 20)
        return {"page": page, "perPage": size, "total": len(found), "data": data}

    def _page(self, found: list[Json], query: Mapping[str, str], default: int) -> tuple[list[Json], int, int]:
        page, size = int(query.get("page", 1)), int(query.get("per_page", default))
        self.pages.append((page, size))
        if page * size > 10_000:
            raise Refusal(400, "Result window is too large")
        return found[(page - 1) * size : page * size], page, size

    # Exception lists and items

    def lists(self, space: Space, method: str, query: Mapping[str, str], body: Json) -> Json:
        if method == "POST":
            _required(body, "name", "description", "type")
            list_id = body.setdefault("list_id", str(uuid.uuid4()))
            if list_id in space.lists:
                raise Refusal(409, f'exception list id: "{list_id}" already exists')
            return self._made(space.lists, list_id, body, {"version": 1, "immutable": False})
        list_id = (body if method == "PUT" else query)["list_id"]
        found = space.lists.get(list_id)
        if found is None:
            raise Refusal(404, f'exception list list_id: "{list_id}" does not exist')
        if method == "PUT":
            return self._overwritten(space.lists, list_id, body)
        if method == "DELETE":
            del space.lists[found["list_id"]]
            for item in [one for one in space.items.values() if one["list_id"] == found["list_id"]]:
                del space.items[item["item_id"]]
        return found

    def items(self, space: Space, method: str, query: Mapping[str, str], body: Json) -> Json:
        if method in ("POST", "PUT"):
            _required(body, "name", "description", "type", "entries")
        if method == "POST":
            if body.get("list_id") not in space.lists:
                raise Refusal(404, f'exception list id: "{body.get("list_id")}" does not exist')
            item_id = body.setdefault("item_id", str(uuid.uuid4()))
            if item_id in space.items:
                raise Refusal(409, f'exception list item id: "{item_id}" already exists')
            return self._made(space.items, item_id, {**body, "comments": _comments([], body)}, {})
        item_id = (body if method == "PUT" else query)["item_id"]
        found = space.items.get(item_id)
        if found is None:
            raise Refusal(404, f'exception list item item_id: "{item_id}" does not exist')
        if method == "DELETE":
            del space.items[item_id]
        if method == "PUT":
            return self._overwritten(space.items, item_id, {**body, "comments": _comments(found["comments"], body)})
        return found

    def _overwritten(self, home: dict[str, Json], key: str, body: Json) -> Json:
        found = home[key]
        if body.pop("_version", found["_version"]) != found["_version"]:
            raise Refusal(409, "version conflict")
        kept = {name: found[name] for name in ("id", "list_id", "created_at", "created_by")}
        return self._made(home, key, {**body, **kept}, {})

    def _made(self, home: dict[str, Json], key: str, body: Json, more: Json) -> Json:
        moment = self.now()
        made = {"id": str(uuid.uuid4()), "created_at": moment, "created_by": "keytrail", "tags": [], "os_types": []}
        made |= {"namespace_type": "single", **more, **body, "updated_at": moment, "_version": f"v{moment}"}
        home[key] = made
        return made

    def find_lists(self, home: dict[str, Json], query: Mapping[str, str]) -> Json:
        found = [
            one
            for one in home.values()
            if query.get("list_id") in (None, one["list_id"]) and _holds(query.get("filter"), one)
        ]
        data, page, size = self._page(found, query, 20)
        return {"page": page, "per_page": size, "total": len(found), "data": data}

    # Requests

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Json) -> Json:
        name = "default"
        if found := re.match(r"/s/([^/]+)(/.*)", path):
            name, path = found[1], found[2]
        # Only Kibana's pages ask whether a space exists; its API reads and writes in any.
        space = self.spaces.get(name) or self.nowhere.setdefault(name, Space())
        if method != "GET":
            self.log.append((method, path))
        routes: dict[str, Callable[[], Json]] = {
            RULES: lambda: self._rules(space, method, query, body),
            f"{RULES}/_find": lambda: self.find(space, query),
            "/api/exception_lists": lambda: self.lists(space, method, query, body),
            "/api/exception_lists/items": lambda: self.items(space, method, query, body),
            "/api/exception_lists/_find": lambda: self.find_lists(space.lists, query),
            "/api/exception_lists/items/_find": lambda: self.find_lists(space.items, query),
        }
        if path.startswith(SPACES) and (asked := path[len(SPACES) :]) in self.spaces:
            return {"id": asked, "name": asked, "disabledFeatures": []}
        if path not in routes:
            raise Refusal(404, "Not Found", platform=True)
        return routes[path]()

    def _rules(self, space: Space, method: str, query: Mapping[str, str], body: Json) -> Json:
        if method == "POST":
            return self.create(space, body)
        if method == "PUT":
            return self.replace(space, body)
        if method == "DELETE":
            return self.delete(space, query)
        if ("id" in query) == ("rule_id" in query):
            raise Refusal(400, ['either "id" or "rule_id" must be set, and not both'])
        return self.find_one(space, query)

    def pop_fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.fits(method, path):
                self.faults.remove(fault)
                return fault
        return None


def _required(body: Json, *names: str) -> None:
    for name in names:
        if not body.get(name):
            raise Refusal(400, f"[request body]: {name}: Required", platform=True)


def _comments(before: list[Json], body: Json) -> list[Json]:
    """Comments can only be added: what comes without an id is a new one."""
    added = [{"id": str(uuid.uuid4()), **one} for one in body.get("comments", []) if "id" not in one]
    return [*before, *added]


def _holds(filter: str | None, one: Json) -> bool:
    """Evaluate the little KQL that is needed: a field, and a quoted value or several in brackets."""
    if filter is None:
        return True
    parsed = re.fullmatch(r'[\w-]+\.attributes\.(tags|params\.ruleId|name): (\(.*\)|".*")', filter)
    if parsed is None:
        raise Refusal(400, f"KQLSyntaxError: {filter}")
    wanted = [text.replace('\\"', '"') for text in re.findall(r'"((?:[^"\\]|\\.)*)"', parsed[2])]
    value = one.get({"params.ruleId": "rule_id"}.get(parsed[1], parsed[1]))
    return any(text in (value if isinstance(value, list) else [value]) for text in wanted)


class Handler(BaseHTTPRequestHandler):
    kibana: Kibana
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # an answer is one packet, which spares the client a delayed acknowledgement
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        with self.kibana.lock:
            self.kibana.requests += 1
            fault = self.kibana.pop_fault(self.command, parts.path)
        if fault is not None and self._fails_before(fault):
            return
        with self.kibana.lock:
            try:
                self._check()
                answer, status = self.kibana.answer(self.command, parts.path, query, body), 200
            except Refusal as refusal:
                answer, status = refusal.body, refusal.status
            text = json.dumps(answer)
        self._finish(fault, status, text)

    def _finish(self, fault: Fault | None, status: int, text: str) -> None:
        """Answer, or fail after all is done."""
        if fault is None or fault.kind in ("edit", "late"):
            if fault is not None and fault.kind == "late":
                with self.kibana.lock:
                    fault.act(self.kibana)
            self._say(status, text)
        elif fault.kind == "timeout after":
            self._hang()
        elif fault.kind == "cut after":
            self._cut()
        elif fault.kind == "error after":
            self._say(fault.status, '{"statusCode": 503, "error": "Unavailable", "message": "try later"}')
        else:  # "html after"
            self._say(502, "<html><body>Bad gateway</body></html>", "text/html")

    def _fails_before(self, fault: Fault) -> bool:
        if fault.kind == "throttled":
            self._say(429, '{"statusCode": 429, "error": "Too Many Requests", "message": "busy"}', after=fault.after)
        elif fault.kind == "timeout before":
            self._hang()
        elif fault.kind == "cut before":
            self._cut()
        elif fault.kind == "error before":
            self._say(fault.status, '{"statusCode": 500, "error": "Internal", "message": "an error occurred"}')
        elif fault.kind == "html before":
            self._say(200, "<html><body>Log in</body></html>", "text/html")
        elif fault.kind == "redirect":
            self.send_response(302)
            self.send_header("location", "http://elsewhere.invalid/login")
            self.send_header("content-length", "0")
            self.end_headers()
        else:
            if fault.kind == "edit":
                with self.kibana.lock:
                    fault.act(self.kibana)
            return False
        return True

    def _check(self) -> None:
        kibana = self.kibana
        if self.headers.get("elastic-api-version") != "2023-10-31":
            raise Refusal(400, "no such version of the API", platform=True)
        if self.command != "GET" and not self.headers.get("kbn-xsrf"):
            raise Refusal(400, "Request must contain a kbn-xsrf header.", platform=True)
        if kibana.key is not None and self.headers.get("authorization") != kibana.key:
            raise Refusal(401, "Unauthorized", platform=True)
        if self.command in kibana.forbidden:
            raise Refusal(403, "API [...] is unauthorized for user", platform=True)

    def _say(self, status: int, text: str, kind: str = "application/json", after: str | None = None) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if after is not None:
            self.send_header("retry-after", after)
        self.end_headers()
        self.wfile.write(body)

    def _hang(self) -> None:
        """Answer nothing until the client has given up."""
        self.close_connection = True
        select.select([self.connection], [], [], 30)

    def _cut(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.close()

    do_GET = do_POST = do_PUT = do_DELETE = handle_any


class Quiet(ThreadingHTTPServer):
    """Clients that go away in the middle are what the tests are about."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def running() -> Iterator[Kibana]:
    """Yield a Kibana that answers on loopback until the block ends."""
    kibana = Kibana()
    handler = type("Bound", (Handler,), {"kibana": kibana})
    server = Quiet(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    kibana.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield kibana
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    with running() as served:
        print(served.url, flush=True)  # until Ctrl-C
        threading.Event().wait()
