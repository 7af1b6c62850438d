"""How loud the pack is on a month in which nothing happens: the expected alerts a day, by rule.

``python -m benchmarks.quiet_month`` makes thirty days of an account's normal activity (deliveries every five minutes,
digests every hour, a known reader that fetches every log file, console use, AWS Config, administrators' changes with a
ticket) and hunts in them with every rule, without a site profile. Nothing in it is random. ``--write FILE`` writes the
month down instead, as NDJSON; ``--intruder`` adds a night in which somebody makes noise that looks like the reader's,
so that it be excluded with it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import chain
from pathlib import Path
from typing import Any

from keytrail.data import packaged
from keytrail.files import write_text
from keytrail.hunt import Hunt
from keytrail.pack import LEVELS, Rule, load_rules
from keytrail.schemas import get_schema

from fixtures import make_sample as sample

Event = dict[str, Any]
START = datetime(2026, 10, 1, tzinfo=timezone.utc)
DAYS = 30


def month(days: int = DAYS) -> Iterator[Event]:
    """Yield the records, day by day."""
    number = 0
    for day in range(days):
        start = START + timedelta(days=day)
        for event in (*machines(start), *people(start, day)):
            number += 1
            event["eventID"] = sample.identifier(f"quiet {number}")
            yield event


def machines(start: datetime) -> Iterator[Event]:
    """What CloudTrail, the known reader and AWS Config do every day."""
    config = sample.role("AWSServiceRoleForConfig", "configLambdaExecution") | {"invokedBy": "config.amazonaws.com"}
    for slot in range(24 * 12):
        time = start + timedelta(minutes=5 * slot)
        name = sample.log_file(sample.region_of(time), time)
        yield sample.seal(time + timedelta(seconds=20), name)
        yield sample.unseal(time + timedelta(minutes=3), name, sample.READER, sample.INSIDE)
    for hour in range(24):
        time = start + timedelta(hours=hour)
        yield sample.seal(time + timedelta(minutes=6), sample.digest_file(time))
        request = {"keyId": sample.KEY, "policyName": "default"}
        yield sample.record(time, "kms:GetKeyPolicy", config, sample.service("config")[1], request)
        yield sample.record(time, "kms:ListGrants", config, sample.service("config")[1], {"keyId": sample.KEY})


def people(start: datetime, day: int) -> Iterator[Event]:
    """What administrators do on a working day, and once a week and a month with a change ticket."""
    if start.weekday() >= 5:
        return
    console = {"sourceIPAddress": sample.OFFICE, "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0)"}
    who, key = sample.ADMINISTRATOR, {"keyId": sample.KEY}
    morning = start + timedelta(hours=9)
    for minute, call in enumerate(
        ("kms:DescribeKey", "kms:ListAliases", "cloudtrail:DescribeTrails", "s3:ListBuckets")
    ):
        yield sample.record(morning + timedelta(minutes=minute), call, who, console, key if "Key" in call else {})
    looked_at = sample.log_file(sample.REGION, start + timedelta(hours=8, minutes=55))
    analyst = sample.user("cloudtrail-admin") | {"invokedBy": "AWS Internal"}
    yield sample.unseal(morning + timedelta(minutes=10), looked_at, analyst, sample.INSIDE)
    if start.weekday() == 2:
        yield from weekly(start + timedelta(hours=14), who, key)
    if day == 12:
        yield from monthly(start + timedelta(hours=15), who, key)


def weekly(time: datetime, who: Event, key: Event) -> Iterator[Event]:
    """The key's policy is set again as infrastructure code has it; the trail's settings as well."""
    put, update = "kms:PutKeyPolicy", "cloudtrail:UpdateTrail"
    policy = {**key, "policyName": "default", "policy": sample.default_policy()}
    yield sample.record(time, put, who, sample.cli(sample.OFFICE, put), policy, key)
    state = {"name": "example-trail", "kmsKeyId": sample.KEY, "enableLogFileValidation": True}
    yield sample.seal(time + timedelta(minutes=1), f"AWSLogs/{sample.ACCOUNT}/CloudTrail/")
    answer = sample.trail_state() | {"kmsKeyId": sample.KEY}
    yield sample.record(time + timedelta(minutes=1), update, who, sample.cli(sample.OFFICE, update), state, answer)


def monthly(time: datetime, who: Event, key: Event) -> Iterator[Event]:
    """Keys of other applications are made, rotated and granted to AWS services."""
    made = "kms:CreateKey"
    yield sample.record(
        time, made, who, sample.cli(sample.OFFICE, made), {"origin": "AWS_KMS", "keyUsage": "ENCRYPT_DECRYPT"}
    )
    rotated = "kms:EnableKeyRotation"
    yield sample.record(time, rotated, who, sample.cli(sample.OFFICE, rotated), key)
    grant = {
        "keyId": "arn:aws:kms:us-west-2:111122223333:key/0987dcba-09fe-87dc-65ba-ab0987654321",
        "granteePrincipal": "rds.us-west-2.amazonaws.com",
        "operations": ["Decrypt", "Encrypt", "GenerateDataKey"],
    }
    through = sample.ADMINISTRATOR | {"invokedBy": "rds.amazonaws.com"}
    yield sample.record(time, "kms:CreateGrant", through, sample.service("rds")[1], grant, {"grantId": "0" * 64})


def intruder() -> Iterator[Event]:
    """One night: the reader's stolen credentials on another key, and a role that is called like the reader."""
    start = START + timedelta(days=17, hours=2)
    other = sample.KEY.replace("1234abcd", "0987dcba")
    issuer = {"arn": f"arn:aws:iam::{sample.ACCOUNT}:role/temporary/LogReader"}
    namesake = sample.role("LogReader", "siem") | {
        "invokedBy": "AWS Internal",
        "sessionContext": {"sessionIssuer": issuer},
    }
    for number in range(200):
        time = start + timedelta(seconds=30 * number)
        name = sample.log_file(sample.REGION, START + timedelta(minutes=5 * number))
        for who, key in ((sample.READER, other), (namesake, sample.KEY)):
            event = sample.unseal(time, name, who, sample.INSIDE)
            event["resources"] = [{**event["resources"][0], "ARN": key}]
            event["eventID"] = sample.identifier(f"intruder {number} {key}")
            yield event


def alerts(rules: list[Rule], days: int = DAYS) -> Counter[str]:
    """Return how often each rule fires on the month, by stem."""
    hunt = Hunt.prepare(rules, get_schema("keytrail"))
    found: Counter[str] = Counter()
    for event in month(days):
        for rule in hunt.matching(event):
            found[rule.stem] += 1
    return found


def main() -> None:
    """Print the alerts a day, or write the month."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quiet_month", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the records to this file")
    parser.add_argument("--intruder", action="store_true", help="with --write: and what somebody adds to hide in it")
    given = parser.parse_args()
    if given.write is not None:
        events = chain(month(), intruder() if given.intruder else ())
        write_text(given.write, "".join(json.dumps(event) + "\n" for event in events))
        return
    rules = load_rules([packaged("rules")]).rules
    found = alerts(rules)
    by_level: Counter[str] = Counter()
    for rule in sorted(rules, key=lambda one: (-LEVELS.index(one.level), one.stem)):
        by_level[rule.level] += found[rule.stem]
        if found[rule.stem]:
            print(f"{rule.level:14} {rule.stem:36} {found[rule.stem] / DAYS:8.2f} a day")
    for level in reversed(LEVELS):
        print(f"{level:14} {'all rules':36} {by_level[level] / DAYS:8.2f} a day")


if __name__ == "__main__":
    main()
