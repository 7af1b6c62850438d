"""What the worst inputs cost, in seconds and megabytes, and what a real node takes of them.

``python -m benchmarks.limits`` gives each hostile rule to the loader, the converter (every schema and target) and the
embedded engine with hostile events, and each hostile event to a hunt with the whole pack; every one in a process of
its own, which ends at 60 seconds or 2 GB. ``--node 8`` (or 9) measures instead what a real Elasticsearch takes, by
bisection: the numbers behind the constants in ``keytrail.automaton`` and ``keytrail.query_dsl``.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from keytrail import automaton, query_dsl
from keytrail.cluster import Cluster, connect
from keytrail.convert import convert
from keytrail.data import packaged
from keytrail.engine import compile_query
from keytrail.errors import ClusterError, KeytrailError
from keytrail.hunt import Hunt
from keytrail.logfiles import STDIN
from keytrail.node import start
from keytrail.pack import load_rules
from keytrail.records import Reader
from keytrail.schemas import SCHEMAS
from keytrail.targets import TARGETS

SECONDS = 60
MEMORY = 2 << 30
RULE = """title: Hostile
id: 5c1f4f0e-6f3a-4e0c-9d0b-0d8f6a1c2b3d
logsource: {product: aws, service: cloudtrail}
detection:
"""


@dataclass(frozen=True)
class Figures:
    """What one input came to: the outcome in words, and what it cost."""

    name: str
    outcome: str
    seconds: float
    megabytes: float

    @property
    def survived(self) -> bool:
        """It ended with a result or a named error."""
        return not self.outcome.startswith("!")


# -- hostile rules ------------------------------------------------------------------------------------------------


def _line(line: str) -> str:
    return f"{RULE}  selection:\n    {line}\n  condition: selection\n"


def _condition(condition: str) -> str:
    return f"{RULE}  one: {{eventName: a}}\n  two: {{eventName: b}}\n  condition: {condition}\n"


def _values(key: str, values: Iterator[str]) -> str:
    return (
        f"{RULE}  selection:\n    {key}:\n"
        + "".join(f"    - {value}\n" for value in values)
        + "  condition: selection\n"
    )


def _selections(count: int, condition: str) -> str:
    return RULE + "".join(f"  s{n}: {{eventName: v{n}}}\n" for n in range(count)) + f"  condition: {condition}\n"


RULES: dict[str, Callable[[], str]] = {
    "wildcard of 10,000 *": lambda: _line(f"eventName: '{'*' * 10_000}'"),
    "wildcard of 10,000 ?": lambda: _line(f"eventName: '{'?' * 10_000}'"),
    "wildcard a*, 5,000 times": lambda: _line(f"eventName: '{'a*' * 5_000}'"),
    "wildcard *a, 440 times": lambda: _line(f"eventName: '{'*a' * 440}'"),
    "wildcard *a and 30 ?": lambda: _line(f"eventName: '*a{'?' * 30}'"),
    "contains 800 times a": lambda: _line(f"requestParameters.policy|contains: '{'a' * 800}'"),
    "value of 900,000 characters": lambda: _line(f"eventName: '{'a' * 900_000}'"),
    "windash with 30 dashes": lambda: _line(f"eventName|windash: '{' -a' * 30}'"),
    "one modifier 1,000 times": lambda: _line(f"? 'eventName{'|base64offset' * 1_000}'\n    : a"),
    "regex ((a*)*)*b": lambda: _line("eventName|re: '((a*)*)*b'"),
    "regex nested 5,000 deep": lambda: _line(f"eventName|re: '{'(' * 5_000}a{')*' * 5_000}'"),
    "regex ((x{255}){255}){255}": lambda: _line("eventName|re: '((x{255}){255}){255}'"),
    "regex ((((){255}){255}){255}){255}": lambda: _line("eventName|re: '((((){255}){255}){255}){255}x'"),
    "regex a.{200}": lambda: _line("eventName|re: 'a.{200}'"),
    "regex (a|b)*a(a|b){20}": lambda: _line("eventName|re: '(a|b)*a(a|b){20}'"),
    "regex a? and a, 200 times each": lambda: _line(f"eventName|re: '{'a?' * 200}{'a' * 200}'"),
    "regex of 100,000 characters": lambda: _line(f"eventName|re: '{'ab' * 15_000}'"),
    "10,000 values": lambda: _values("eventName", (f"v{n}" for n in range(10_000))),
    "10,000 values with contains": lambda: _values("eventName|contains", (f"v{n}" for n in range(10_000))),
    "300 values with contains": lambda: _values("eventName|contains", (f"value-{n}-long" for n in range(300))),
    "10,000 regexes": lambda: _values("eventName|re", (f"v{n}" for n in range(10_000))),
    "condition nested 1,000 deep": lambda: _condition("(" * 1_000 + "one" + ")" * 1_000),
    "condition nested 45 deep, and in or": lambda: _condition(
        "(" * 45 + "one" + "".join(" or two)" if n % 2 else " and two)" for n in range(45))
    ),
    "1,000 nots": lambda: _condition("not " * 1_000 + "one"),
    "condition one and one, 1,000 times": lambda: _condition(" and ".join(["one"] * 1_000)),
    "1,000 selections": lambda: _selections(1_000, "1 of them"),
    "1,000 selections, asked for 200 times": lambda: _selections(1_000, " or ".join(["1 of s*"] * 200)),
    "30,000 selections": lambda: _selections(30_000, "all of them"),
    "20,000 fields": lambda: (
        RULE
        + "  selection:\n"
        + "".join(f"    requestParameters.f{n}: a\n" for n in range(20_000))
        + "  condition: selection\n"
    ),
    "a file of 1 MB": lambda: _line("eventName: a") + f"description: {'x' * 990_000}\n",
    "a file of 90,000 lines": lambda: _line("eventName: a") + "falsepositives:\n" + "- none\n" * 90_000,
    "a file over 1 MB": lambda: _line("eventName: a") + f"description: {'x' * 1_000_000}\n",
    "aliases (billion laughs)": lambda: "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(30)),
    "YAML nested 100,000 deep": lambda: RULE + "  selection: " + "[" * 100_000 + "]" * 100_000,
    "a whole number of 100,000 digits": lambda: _line(f"eventName: {'9' * 100_000}"),
    "half a character": lambda: _line('eventName: "\\ud800"'),
}
DOCUMENTS: tuple[dict[str, Any], ...] = (
    {"eventName": "a" * 10_000, "requestParameters": {"policy": "a" * 10_000}},
    {"eventName": "a" * 10_921 + "b"},
    {"eventName": "é" * 9_000},
    {"eventName": ["a" * 200] * 100},
)


def try_rule(name: str) -> str:
    """Give a rule to everything that reads rules; return what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hostile.yml")
        path.write_text(RULES[name](), "utf-8")
        pack = load_rules([path])
    outcomes = [_told(error) for error in pack.errors]
    for rule in pack.rules:
        for target in TARGETS:
            for schema in SCHEMAS.values():
                made = convert(rule, schema, target)
                outcomes.append(made.verdict if made.error is None else _told(made.error))
                if made.query is not None and target == "query-dsl":
                    matches = compile_query(made.query.body["query"], schema.mapping)
                    for document in DOCUMENTS:
                        matches(schema.document(document))
    return "; ".join(dict.fromkeys(outcomes))


def _told(error: KeytrailError) -> str:
    message = error.message.replace("\n", " ")
    return f"{type(error).__name__}: {message if len(message) < 90 else message[:89] + '…'}"


# -- hostile events -----------------------------------------------------------------------------------------------


def _event(**changes: Any) -> str:
    record = json.loads(packaged("fixtures").joinpath("events", "put_key_policy.json").read_text("utf-8"))
    record["requestParameters"] |= changes
    return json.dumps(record)


EVENTS: dict[str, Callable[[], str]] = {
    "an event of 100,000 keys": lambda: _event(**{f"k{n}": "v" for n in range(100_000)}),
    "an event of 100,000 keys with dots": lambda: _event(**{f"policy.k{n}": "v" for n in range(100_000)}),
    "a value of 10 MB": lambda: _event(policy="a" * 10_000_000),
    "a value of 10 MB, not ASCII": lambda: _event(policy="é" * 5_000_000),
    "a value of 10 MB, braces": lambda: _event(policy="{=," * 3_300_000),
    "a list of 20,000 values": lambda: _event(policy=["arn:aws:iam::1:root"] * 20_000),
    "a key of 1,000,000 parts": lambda: _event(**{"a." * 1_000_000 + "b": "v"}),
    "an event nested 90 deep": lambda: _event(x="@").replace('"@"', '{"a":' * 90 + "1" + "}" * 90),
    "an event nested 100,000 deep": lambda: _event(x="@").replace('"@"', "[" * 100_000 + "]" * 100_000),
    "a number of 100,000 digits": lambda: _event(x="@").replace('"@"', "9" * 100_000),
    "half a character in an event": lambda: _event(policy="@").replace("@", "\\ud800"),
}


@cache
def hunts() -> list[Hunt]:
    """Return the whole pack made ready, once for each schema."""
    rules = load_rules([packaged("rules")]).rules
    return [Hunt.prepare(rules, schema) for schema in SCHEMAS.values()]


def try_event(name: str) -> str:
    """Hunt for every rule in one event, in every schema; return what became of it."""
    data = EVENTS[name]().encode()
    outcomes = []
    for hunt in hunts():
        reader = Reader([str(STDIN)], stdin=io.BytesIO(data))
        list(hunt.run(reader))
        outcomes += [_told(error).split("  ")[0] for error in reader.bad] or ["searched"]
    return "; ".join(dict.fromkeys(outcomes))


# -- one process each ---------------------------------------------------------------------------------------------


def measure(name: str, attempt: Callable[[str], str]) -> Figures:
    """Run one attempt in a process of its own and return its figures; ``!`` begins the outcome of one that dies."""
    receiving, sending = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        _attempt(name, attempt, sending)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        told = pipe.read().decode()
    _, status, used = os.wait4(child, 0)
    outcome = told or f"! ended by signal {status & 127}"
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return Figures(name, outcome, round(time.monotonic() - began, 2), round(used.ru_maxrss / scale, 1))


def _attempt(name: str, attempt: Callable[[str], str], sending: int) -> None:
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        outcome = attempt(name)
    except KeytrailError as error:
        outcome = _told(error)
    except BaseException as error:  # whatever it is, it is what this looks for
        outcome = f"! {type(error).__name__}: {error}"
    os.write(sending, outcome.encode("utf-8", "backslashreplace")[:4000])
    os._exit(0)


def figures() -> Iterator[Figures]:
    """Measure every hostile input."""
    for name in RULES:
        yield measure(name, try_rule)
    hunts()  # made ready before, as they are in a hunt through many events
    for name in EVENTS:
        yield measure(name, try_event)


# -- what a node takes --------------------------------------------------------------------------------------------

BODY: dict[str, Any] = {
    "settings": {"number_of_shards": 1, "number_of_replicas": 0},
    "mappings": {"properties": {"k": {"type": "keyword", "ignore_above": 10922}, "d": {"type": "double"}}},
}
Query = dict[str, Any]


def _nested(depth: int) -> Query:
    query: Query = {"term": {"k": {"value": "a"}}}
    for _ in range(depth):
        query = {"bool": {"filter": [query]}}
    return query


def _wild(value: str) -> Query:
    return {"wildcard": {"k": {"value": value}}}


def _any(clauses: Iterator[Query]) -> Query:
    return {"bool": {"should": list(clauses)}}


def _letters(count: int) -> str:
    return "".join(chr(97 + number % 26) for number in range(count))


# What grows, the most that Keytrail writes of it, and where to stop looking.
GROWING: dict[str, tuple[Callable[[int], Query], int, int]] = {
    "nested bool queries": (_nested, query_dsl.MOST_DEPTH, 200),
    "clauses (1 GB heap, this machine)": (
        lambda n: _any({"term": {"k": {"value": f"v{i}"}}} for i in range(n)),
        query_dsl.MOST_CLAUSES,
        40_000,
    ),
    "ranges (likewise)": (
        lambda n: _any({"range": {"d": {"gt": i}}} for i in range(n)),
        query_dsl.MOST_CLAUSES // 2,
        40_000,
    ),
    "bytes of a beginning": (lambda n: {"prefix": {"k": {"value": "a" * n}}}, automaton.LONGEST, 20_000),
    "characters of a value without case": (
        lambda n: {"term": {"k": {"value": "a" * n, "case_insensitive": True}}},
        automaton.LONGEST,
        20_000,
    ),
    "bytes of a value with case": (lambda n: {"term": {"k": {"value": "a" * n}}}, automaton.LONGEST_TERM, 100_000),
    "wildcard ????": (lambda n: _wild("?" * n), automaton.LONGEST, 5_000),
    "wildcard *aaaa*": (lambda n: _wild(f"*{'a' * n}*"), 0, 5_000),
    "wildcard *abcd…*": (lambda n: _wild(f"*{_letters(n)}*"), 0, 5_000),
    "wildcard *üüüü*": (lambda n: _wild(f"*é{'ü' * n}*"), 0, 5_000),
    "wildcard *a*a*a": (lambda n: _wild("*a" * n), 0, 5_000),
    "wildcard *a????": (lambda n: _wild("*a" + "?" * n), 0, 100),
    "regexp .*a.{n}": (lambda n: {"regexp": {"k": {"value": f".*a.{{{n}}}", "flags": "NONE"}}}, 0, 100),
    "regexp of n characters": (
        lambda n: {"regexp": {"k": {"value": _letters(n), "flags": "NONE"}}},
        0,
        5_000,
    ),
}


def at_the_limit() -> dict[str, Query]:
    """Return the largest query of each kind that Keytrail writes."""
    return {name: make(ours or _ours(make, most)) for name, (make, ours, most) in GROWING.items()}


def _taken(cluster: Cluster, index: str, query: Query) -> str | None:
    """Why a node does not take a query; None when it does."""
    found = cluster.search_each(index, {"q": query})["q"]
    return found.message if isinstance(found, ClusterError) else None


def _ours(make: Callable[[int], Query], most: int) -> int:
    """The largest pattern that Keytrail writes, by its own rule."""
    good, bad = 0, most + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        ((kind, inner),) = make(middle).items()
        ((name, spec),) = inner.items()
        cost = automaton.of_leaf(kind, name, spec["value"], ignore_case="case_insensitive" in spec)
        good, bad = (middle, bad) if cost.problem is None else (good, middle)
    return good


def node_figures(cluster: Cluster) -> Iterator[tuple[str, int, int, str]]:
    """Yield what grows, how far Keytrail goes, how far this node does, and why no further."""
    with cluster.temporary_index(BODY) as index:
        cluster.load(index, [("1", {"k": "a" * 3_000, "d": 1.5})])
        for name, (make, ours, most) in GROWING.items():
            good, bad, why = 1, 2, None
            while bad <= most and (why := _taken(cluster, index, make(bad))) is None:
                good, bad = bad, bad * 2
            while bad <= most and bad - good > 1:
                middle = (good + bad) // 2
                problem = _taken(cluster, index, make(middle))
                good, bad, why = (middle, bad, why) if problem is None else (good, middle, problem)
            yield name, ours or _ours(make, most), good, (why or "").partition(": ")[2]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node", choices=("8", "9"), help="measure a real node of this version")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if given.node:
        with start(given.node) as node:
            cluster = connect(node.url, anonymous=True)
            print(f"Elasticsearch {node.version}: what grows | Keytrail writes at most | the node takes | then it says")
            for name, ours, taken, why in node_figures(cluster):
                print(f"{name:36} {ours:>8,} {taken:>8,}  {why[:110]}", flush=True)
            cluster.client.close()
        return
    if given.json:
        print(json.dumps([asdict(found) for found in figures()]))
        return
    for found in figures():
        print(f"{found.seconds:>6.2f} s {found.megabytes:>6.1f} MB  {found.name}: {found.outcome}", flush=True)


if __name__ == "__main__":
    main()
