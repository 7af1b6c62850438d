"""How large a report is, how long it takes and how much memory, with ten hits and with a million.

``python -m benchmarks.report_size [--hits 1000000] [--keep FOLDER]``: hits of every rule are made of the fixtures'
events, each with its own id, time, principal and source, and given to the report as a hunt would; no file is read.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random
from uuid import UUID

from keytrail.cases import load_events
from keytrail.correlation import Episode
from keytrail.correlation_hunt import CorrelationHit
from keytrail.data import packaged
from keytrail.hunt import AnyHit, Hit, Hunt
from keytrail.pack import Rule, load_rules
from keytrail.report import About, Findings, write_report
from keytrail.schemas import get_schema
from keytrail.summary import Summary
from keytrail.times import milliseconds

BEGIN = datetime(2026, 11, 1, tzinfo=timezone.utc)
STEP_OF_A_DAY = timedelta(days=30)


def hits(rules: list[Rule], number: int) -> Iterator[AnyHit]:
    """Yield so many hits: mostly of what describes, as in real logs, and now and then of all others."""
    hunt = Hunt.prepare(rules, get_schema("keytrail"))
    events = list(load_events(packaged("fixtures") / "events").values())
    pairs = [(rule, event) for event in events for rule in hunt.matching(event)]
    quiet = [pair for pair in pairs if pair[0].level == "informational"]
    random = Random(7)  # noqa: S311 - the same numbers every time, for measurements
    ids: dict[str, list[str]] = {}
    for turn in range(number):
        rule, event = random.choice(pairs if turn % 20 == 0 or number < 100 else quiet)
        moment = BEGIN + STEP_OF_A_DAY * (turn / number)
        made = str(UUID(int=random.getrandbits(128), version=4))
        identity = {
            **event["userIdentity"],
            "arn": f"arn:aws:iam::111122223333:user/person.{int(random.random() ** 3 * 9e4)}",
        }
        identity.pop("sessionContext", None)
        record = {**event, "eventID": made, "eventTime": f"{moment:%Y-%m-%dT%H:%M:%SZ}"}
        if rule.level != "informational":
            record |= {
                "userIdentity": identity,
                "sourceIPAddress": f"198.51.{random.getrandbits(8)}.{random.getrandbits(8)}",
            }
        if len(ids.setdefault(rule.id, [])) < 200:
            ids[rule.id].append(made)
        yield Hit(rule, record, f"AWSLogs/{turn // 1000}.json.gz", turn % 1000 + 1)
    start = milliseconds(f"{BEGIN:%Y-%m-%dT%H:%M:%SZ}") or 0
    correlations = [rule for rule in rules if rule.kind == "correlation"]
    for turn in range(min(number // 5, 2000)):
        rule = correlations[turn % len(correlations)]
        named = [one for base in rule.references.values() for one in ids.get(base.id, ())]
        found = tuple(named[turn % 50 : turn % 50 + 3 + turn % 100])
        group = tuple(f"group {turn}" for _ in rule.correlation.group_by)
        yield CorrelationHit(rule, Episode(group, start + turn * 1000, start + turn * 1000 + 60_000, found, len(found)))


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report_size", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--hits", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="Keep the report in this file.")
    given = parser.parse_args()
    rules = load_rules([packaged("rules")]).rules
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    findings = Findings(rules)
    counts: Counter[str] = Counter()
    taking = 0.0
    for hit in hits(rules, given.hits):
        counts[hit.rule.id] += 1
        begin = time.process_time()
        findings.take(hit)
        taking += time.process_time() - begin
    summary = Summary(counts, {}, 4 * given.hits, given.hits // 1000 + 1, 4 * given.hits)
    with tempfile.TemporaryDirectory() as folder:
        path = given.keep or Path(folder, "report.html")
        begin = time.process_time()
        write_report(path, findings, summary, About("keytrail hunt AWSLogs/ --report report.html", generated=BEGIN))
        writing = time.process_time() - begin
        size = path.stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    print(
        f"{given.hits:,} hits on {len(os.sched_getaffinity(0))} cores: report {size / 1e6:.2f} MB, "
        f"taking {taking:.1f} s of CPU ({taking / given.hits * 1e6:.1f} us a hit), writing {writing:.1f} s of CPU, "
        f"peak memory {peak / unit:.0f} MiB, {(peak - before) / unit:.0f} MiB more than without the report"
    )


if __name__ == "__main__":
    main()
