"""How loud the pack is on a month in which nothing happens: the expected alerts a day, by rule.

``python -m benchmarks.quiet_month`` makes thirty days of an account's normal activity and hunts in them with every
rule, correlations too, without a site profile and with one (``benchmarks/quiet_site.yml``). The account has a trail of
its own and the organization's, whose bucket uses a bucket key; deliveries every five minutes, digests every hour, data
events of the log bucket; a known reader that fetches every log file; people who read in the console; AWS Config;
administrators' changes with a ticket, of the trail's key and of the keys of applications, one of which is retired.
Nothing is random. ``--write FILE`` writes the month down instead, as NDJSON; ``--intruder`` adds a night in which
somebody makes noise that looks like the reader's, so that it be excluded with it.
"""

from __future__ import annotations

import argparse
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
from keytrail.correlation_hunt import known_groups
from keytrail.data import packaged
from keytrail.files import json_text, write_text
from keytrail.hunt import Hunt
from keytrail.pack import LEVELS, Rule, load_rules
from keytrail.profile import Profile, load_profile
from keytrail.records import Reader
from keytrail.schemas import get_schema
from keytrail.site_filters import apply_profile

from fixtures import make_sample as sample

Event = dict[str, Any]
START = datetime(2026, 10, 1, tzinfo=timezone.utc)
DAYS = 30
SITE = Path(__file__).with_name("quiet_site.yml")
FIGURES = Path(__file__).with_name("quiet_month.json")
ORGANIZATION = {
    "trail": f"arn:aws:cloudtrail:{sample.REGION}:{sample.ACCOUNT}:trail/organization",
    "bucket": "arn:aws:s3:::example-organization-logs",
    "key": f"arn:aws:kms:{sample.REGION}:{sample.ACCOUNT}:key/aaaabbbb-12ab-34cd-56ef-1234567890ab",
}
APPLICATION_KEY = f"arn:aws:kms:{sample.REGION}:{sample.ACCOUNT}:key/0987dcba-09fe-87dc-65ba-ab0987654321"
CONSOLE = {"sourceIPAddress": sample.OFFICE, "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0)"}


def month(days: Iterable[int] = range(DAYS)) -> Iterator[Event]:
    """Yield the records of some of its days, the first being 0."""
    number = 0
    for day in days:
        start = START + timedelta(days=day)
        for event in (*machines(start), *organization(start), *people(start, day)):
            number += 1
            event["eventID"] = sample.identifier(f"quiet {number}")
            yield event


def machines(start: datetime) -> Iterator[Event]:
    """What CloudTrail, the known reader and AWS Config do every day."""
    config = sample.role("AWSServiceRoleForConfig", "LambdaDescribeHandlerSession")
    for slot in range(24 * 12):
        time = start + timedelta(minutes=5 * slot)
        name = sample.log_file(sample.region_of(time), time)
        yield sample.seal(time + timedelta(seconds=20), name)
        yield stored(time + timedelta(seconds=20), name)
        yield sample.unseal(time + timedelta(minutes=3), name, sample.READER, sample.INSIDE)
        yield fetched(time + timedelta(minutes=3), name)
    for hour in range(24):
        time = start + timedelta(hours=hour)
        yield sample.seal(time + timedelta(minutes=6), sample.digest_file(time))
        request = {"keyId": sample.KEY, "policyName": "default"}
        where = {"sourceIPAddress": "config.amazonaws.com", "userAgent": "config.amazonaws.com"}
        yield sample.record(time, "kms:GetKeyPolicy", config, where, request)
        yield sample.record(time, "kms:ListGrants", config, where, {"keyId": sample.KEY})


def _data(time: datetime, call: str, who: Event, where: Event, name: str) -> Event:
    request = {"bucketName": sample.BUCKET, "Host": f"{sample.BUCKET}.s3.amazonaws.com", "key": name}
    things = [{"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::{sample.BUCKET}/{name}"}]
    more = {"managementEvent": False, "eventCategory": "Data", "resources": things}
    return sample.record(time, call, who, where, request, **more)


def stored(time: datetime, name: str) -> Event:
    """CloudTrail writes a log file."""
    return _data(time, "s3:PutObject", *sample.service("cloudtrail"), name)


def fetched(time: datetime, name: str) -> Event:
    """The known reader fetches a log file."""
    who = {key: value for key, value in sample.READER.items() if key != "invokedBy"}
    return _data(time, "s3:GetObject", who, sample.cli(sample.OFFICE, "s3:GetObject"), name)


def organization(start: datetime) -> Iterator[Event]:
    """Deliveries and digests of the organization's trail; its bucket's key seals many objects for each call to KMS."""
    member = f"{ORGANIZATION['bucket']}/AWSLogs/o-exampleorgid/{sample.ACCOUNT}"
    places = {0: ORGANIZATION["bucket"], 6: f"{member}/CloudTrail-Digest/{sample.REGION}/{start:%Y/%m/%d}/x.json.gz"}
    for hour in range(24):
        for minute, place in places.items():
            context = {"aws:cloudtrail:arn": ORGANIZATION["trail"], "aws:s3:arn": place}
            request = {"keyId": ORGANIZATION["key"], "keySpec": "AES_256", "encryptionContext": context}
            key = [{"accountId": sample.ACCOUNT, "type": "AWS::KMS::Key", "ARN": ORGANIZATION["key"]}]
            time = start + timedelta(hours=hour, minutes=minute)
            who = sample.service("cloudtrail")
            yield sample.record(time, "kms:GenerateDataKey", *who, request, resources=key, sharedEventID="x")


def people(start: datetime, day: int) -> Iterator[Event]:
    """What administrators do on a working day, and once a week and a month with a change ticket."""
    if start.weekday() >= 5:
        return
    who, key = sample.ADMINISTRATOR, {"keyId": sample.KEY}
    morning = start + timedelta(hours=9)
    for minute, call in enumerate(
        ("kms:DescribeKey", "kms:ListAliases", "cloudtrail:DescribeTrails", "s3:ListBuckets", "kms:GetKeyPolicy")
    ):
        yield sample.record(morning + timedelta(minutes=minute), call, who, CONSOLE, key if "Key" in call else {})
    looked_at = sample.log_file(sample.REGION, start + timedelta(hours=8, minutes=55))
    analyst = sample.user("cloudtrail-admin") | {"invokedBy": "AWS Internal"}
    yield sample.unseal(morning + timedelta(minutes=10), looked_at, analyst, sample.INSIDE)
    if start.weekday() == 2:
        yield from weekly(start + timedelta(hours=14), who, key)
    if day == 12:
        yield from monthly(start + timedelta(hours=15), who, key)
    if day == 19:
        yield from retired(start + timedelta(hours=15), who)


def weekly(time: datetime, who: Event, key: Event) -> Iterator[Event]:
    """Infrastructure code sets the key's policy and the trail again; members get the organization's trail."""
    put, update = "kms:PutKeyPolicy", "cloudtrail:UpdateTrail"
    policy = {**key, "policyName": "default", "policy": sample.default_policy()}
    yield sample.record(time, put, who, sample.cli(sample.OFFICE, put), policy, key)
    state = {"name": "example-trail", "kmsKeyId": sample.KEY, "enableLogFileValidation": True}
    yield sample.seal(time + timedelta(minutes=1), f"AWSLogs/{sample.ACCOUNT}/CloudTrail/")
    answer = sample.trail_state() | {"kmsKeyId": sample.KEY}
    yield sample.record(time + timedelta(minutes=1), update, who, sample.cli(sample.OFFICE, update), state, answer)
    selectors = [{"readWriteType": "All", "includeManagementEvents": True, "excludeManagementEventSources": []}]
    spread = {"trailName": ORGANIZATION["trail"], "eventSelectors": selectors}
    yield sample.record(time, "cloudtrail:PutEventSelectors", *sample.service("cloudtrail"), spread, spread)


def monthly(time: datetime, who: Event, key: Event) -> Iterator[Event]:
    """Keys of other applications are made, rotated and granted to AWS services."""
    made = "kms:CreateKey"
    yield sample.record(
        time, made, who, sample.cli(sample.OFFICE, made), {"origin": "AWS_KMS", "keyUsage": "ENCRYPT_DECRYPT"}
    )
    rotated = "kms:EnableKeyRotation"
    yield sample.record(time, rotated, who, sample.cli(sample.OFFICE, rotated), key)
    grant = {
        "keyId": APPLICATION_KEY,
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


def retired(time: datetime, who: Event) -> Iterator[Event]:
    """An application goes: its key gets a last policy, is disabled, and scheduled for deletion in thirty days."""
    policy = sample.default_policy().replace("cloudtrail.amazonaws.com", "logs.us-west-2.amazonaws.com")
    calls: dict[str, Event] = {"PutKeyPolicy": {"policyName": "default", "policy": policy}, "DisableKey": {}}
    resources = [{"accountId": sample.ACCOUNT, "type": "AWS::KMS::Key", "ARN": APPLICATION_KEY}]
    for minute, (name, more) in enumerate({**calls, "ScheduleKeyDeletion": {"pendingWindowInDays": 30}}.items()):
        call, request = f"kms:{name}", {"keyId": APPLICATION_KEY, **more}
        where, moment = sample.cli(sample.OFFICE, call), time + timedelta(minutes=minute)
        yield sample.record(moment, call, who, where, request, {"keyId": APPLICATION_KEY}, resources=resources)


def alerts(rules: Iterable[Rule], days: Iterable[int] = range(DAYS), profile: Profile | None = None) -> Counter[str]:
    """Return how often each rule fires on days of the month, by stem."""
    listed = apply_profile(list(rules), profile) if profile else list(rules)
    known = {rule.id: known_groups(rule, profile) for rule in listed}
    hunt = Hunt.prepare(listed, get_schema("keytrail"), known)
    lines = b"".join(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for event in month(days))
    return Counter(hit.rule.stem for hit in hunt.run(Reader(["-"], stdin=io.BytesIO(lines))))


def columns(rules: Sequence[Rule]) -> tuple[Counter[str], Counter[str]]:
    """Return the alerts of the whole month, without a site profile and with one."""
    return alerts(rules), alerts(rules, profile=load_profile(SITE))


def main() -> None:
    """Print the alerts a day, and write them down for docs/rules.md; or write the month."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quiet_month", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the records to this file")
    parser.add_argument("--intruder", action="store_true", help="with --write: and what somebody adds to hide in it")
    given = parser.parse_args()
    if given.write is not None:
        events = chain(month(), intruder() if given.intruder else ())
        write_text(given.write, "".join(json.dumps(event) + "\n" for event in events))
        return
    rules = load_rules([packaged("rules")]).rules
    both = columns(rules)
    figures = {rule.stem: [round(column[rule.stem] / DAYS, 2) for column in both] for rule in rules}
    write_text(FIGURES, json_text(dict(sorted(figures.items()))) + "\n")
    by_level = [Counter[str](), Counter[str]()]
    print(f"{'alerts a day':51} {'without':>10} {'with a profile':>15}")
    for rule in sorted(rules, key=lambda one: (-LEVELS.index(one.level), one.stem)):
        found = [column[rule.stem] for column in both]
        for totals, count in zip(by_level, found, strict=True):
            totals[rule.level] += count
        if any(found):
            print(f"{rule.level:14} {rule.stem:36} {found[0] / DAYS:10.2f} {found[1] / DAYS:15.2f}")
    for level in reversed(LEVELS):
        print(f"{level:14} {'all rules':36} {by_level[0][level] / DAYS:10.2f} {by_level[1][level] / DAYS:15.2f}")


if __name__ == "__main__":
    main()
