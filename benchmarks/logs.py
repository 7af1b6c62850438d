"""Log files to measure with: CloudTrail events of many services, the same ones every time, with attacks among them.

``python -m benchmarks.logs FOLDER`` writes a million events in 1,000 .json.gz files, laid out as CloudTrail does in S3.
``--events`` and ``--files`` scale it. Three events in four only read; a few in a thousand are of KMS. Two of the
fixtures' events are planted in each file, and now and then a burst of reads of sealed log files.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from keytrail.data import packaged

Event = dict[str, Any]
START = datetime(2026, 11, 20, tzinfo=timezone.utc)
ACCOUNTS = ("111122223333", "444455556666", "123456789012", "999999999999")
REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-2")
STREAMS = [(account, region) for account in ACCOUNTS for region in REGIONS]
DELIVERY = timedelta(minutes=5)
PLANTED = 2
BURST_EVERY, BURST = 100, 120
AGENTS = (
    "Boto3/1.40.61 md/Botocore#1.40.61 ua/2.1 os/linux#6.8.0-1018-aws md/arch#x86_64 lang/python#3.12.11",
    "aws-cli/2.31.9 md/awscrt#0.27.6 ua/2.1 os/linux#6.8.0 md/arch#x86_64 lang/python#3.13.7 md/command#ec2.describe",
    "APN/1.0 HashiCorp/1.0 Terraform/1.13.4 (+https://www.terraform.io) terraform-provider-aws/6.18.0",
    "aws-sdk-java/2.35.5 md/io#sync md/http#Apache ua/2.1 os/Linux#6.1.155 lang/java#21.0.9",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
)


class Source:
    """What the events of one file are drawn from."""

    def __init__(self, seed: str, account: str, region: str) -> None:
        self.random = Random(seed)  # noqa: S311 - the same numbers every time, for measurements
        self.account = account
        self.region = region

    def uuid(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def word(self, letters: int) -> str:
        return f"{self.random.getrandbits(4 * letters):0{letters}x}"

    def one(self, *given: Any) -> Any:
        return given[int(self.random.random() * len(given))]

    def number(self, below: int) -> int:
        # Some are seen far more often than others.
        return int(self.random.random() ** 3 * below)

    def arn(self, service: str, rest: str) -> str:
        return f"arn:aws:{service}:{self.region}:{self.account}:{rest}"


# -- who calls ----------------------------------------------------------------------------------------------------


def role(source: Source) -> Event:
    """A session of one of the account's roles."""
    number = source.number(150)
    name = f"{('app', 'ci-deploy', 'monitoring', 'batch-worker', 'data-pipeline')[number % 5]}-role-{number}"
    principal = f"AROA{number * 7919:016X}"
    session = f"i-{number * 104729:017x}" if number % 3 else f"session-{number}"
    return {
        "type": "AssumedRole",
        "principalId": f"{principal}:{session}",
        "arn": f"arn:aws:sts::{source.account}:assumed-role/{name}/{session}",
        "accountId": source.account,
        "accessKeyId": f"ASIA{number * 15485863 + source.number(40):016X}",
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": principal,
                "arn": f"arn:aws:iam::{source.account}:role/{name}",
                "accountId": source.account,
                "userName": name,
            },
            "attributes": {"creationDate": f"2026-11-20T0{number % 8}:1{number % 10}:21Z", "mfaAuthenticated": "false"},
        },
    }


def user(source: Source) -> Event:
    """One of the account's users."""
    number = source.number(40)
    return {
        "type": "IAMUser",
        "principalId": f"AIDA{number * 7907:016X}",
        "arn": f"arn:aws:iam::{source.account}:user/person.{number}",
        "accountId": source.account,
        "accessKeyId": f"AKIA{number * 6151:016X}",
        "userName": f"person.{number}",
    }


# -- what is called: eventSource, eventName, whether it only reads, request, response ------------------------------

Call = tuple[str, str, bool, Any, Any]


def describe(source: Source) -> Call:
    """A call that describes machines."""
    name = source.one(
        "Instances", "Volumes", "SecurityGroups", "NetworkInterfaces", "Tags", "Subnets", "InstanceStatus"
    )
    request = {
        f"{name[0].lower()}{name[1:]}Set": {"items": [{"id": f"i-{source.word(17)}"}] * (source.number(3))},
        "filterSet": {
            "items": [
                {
                    "name": "tag:aws:autoscaling:groupName",
                    "valueSet": {"items": [{"value": f"asg-{source.number(60)}"}]},
                }
            ]
        },
    }
    return "ec2", f"Describe{name}", True, request, None


def assume_role(source: Source) -> Call:
    """A role is assumed."""
    name = f"app-role-{source.number(150)}"
    session = f"session-{source.word(12)}"
    answer = {
        "credentials": {
            "accessKeyId": f"ASIA{source.word(16).upper()}",
            "expiration": "Nov 20, 2026, 9:31:04 AM",
            "sessionToken": source.word(120),
        },
        "assumedRoleUser": {
            "assumedRoleId": f"AROA{source.number(150):016X}:{session}",
            "arn": f"arn:aws:sts::{source.account}:assumed-role/{name}/{session}",
        },
    }
    request = {
        "roleArn": f"arn:aws:iam::{source.account}:role/{name}",
        "roleSessionName": session,
        "durationSeconds": 3600,
    }
    return "sts", "AssumeRole", True, request, answer


def identity(source: Source) -> Call:
    """Somebody asks who he is."""
    return "sts", "GetCallerIdentity", True, None, None


def bucket(source: Source) -> Call:
    """A call about one bucket."""
    name = source.one("GetBucketAcl", "GetBucketLocation", "GetBucketPolicy", "ListBuckets", "GetBucketVersioning")
    request = {
        "bucketName": f"example-{source.number(80)}-{source.account}",
        "Host": f"s3.{source.region}.amazonaws.com",
    }
    return "s3", name, True, {**request, name[9:].lower() or "list": ""}, None


def thing(source: Source) -> Call:
    """A call about an object in a bucket."""
    name = source.one("GetObject", "GetObject", "GetObject", "HeadObject", "PutObject")
    key = f"data/year=2026/month=11/day=20/part-{source.word(8)}.snappy.parquet"
    request = {"bucketName": f"example-{source.number(80)}-{source.account}", "Host": "s3.amazonaws.com", "key": key}
    return "s3", name, name != "PutObject", request, None


def log(source: Source) -> Call:
    """A call about one log."""
    name = source.one("CreateLogStream", "CreateLogStream", "PutRetentionPolicy", "CreateLogGroup")
    stream = f"2026/11/20/[$LATEST]{source.word(32)}"
    return "logs", name, False, {"logGroupName": f"/aws/lambda/fn-{source.number(90)}", "logStreamName": stream}, None


def identities(source: Source) -> Call:
    """A call about roles and policies."""
    name = source.one(
        "GetRole", "GetRolePolicy", "ListAttachedRolePolicies", "GetPolicyVersion", "ListRoles", "GetUser"
    )
    return "iam", name, True, {"roleName": f"app-role-{source.number(150)}", "maxItems": 100}, None


def parameter(source: Source) -> Call:
    """A call about one parameter."""
    names = [f"/app/{source.number(90)}/{part}" for part in ("host", "port", "user", "flags")]
    return "ssm", source.one("GetParameter", "GetParameters"), True, {"names": names, "withDecryption": True}, None


def agent(source: Source) -> Call:
    """A call about one agent."""
    request = {"instanceId": f"i-{source.word(17)}", "agentVersion": "3.3.2958.0", "agentStatus": "Active"}
    request |= {"platformType": "Linux", "platformName": "Amazon Linux", "computerName": f"ip-10-{source.number(255)}"}
    return "ssm", "UpdateInstanceInformation", False, request, None


def key(source: Source) -> Call:
    """A call about one key."""
    key_id = source.arn("kms", f"key/{UUID(int=source.number(30) * 2**97 + 5)}")
    name = source.one("Decrypt", "Decrypt", "GenerateDataKey", "DescribeKey", "ListGrants")
    context = {"aws:s3:arn": f"arn:aws:s3:::example-{source.number(80)}"}
    return "kms", name, True, {"keyId": key_id, "encryptionContext": context}, None


def table(source: Source) -> Call:
    """A call about one table."""
    name = source.one("DescribeTable", "DescribeTable", "UpdateTable", "ListTables")
    return "dynamodb", name, name[0] != "U", {"tableName": f"table-{source.number(50)}"}, None


def evaluation(source: Source) -> Call:
    """A call of AWS Config with evaluations."""
    items = [
        {
            "complianceResourceType": "AWS::EC2::Instance",
            "complianceResourceId": f"i-{source.word(17)}",
            "complianceType": source.one("COMPLIANT", "COMPLIANT", "NON_COMPLIANT"),
            "orderingTimestamp": "Nov 20, 2026, 8:31:04 AM",
        }
        for _ in range(1 + source.number(6))
    ]
    return "config", "PutEvaluations", False, {"evaluations": items, "testMode": False}, {"failedEvaluations": []}


def target(source: Source) -> Call:
    """A call about one target."""
    name = source.one("DescribeTargetHealth", "DescribeLoadBalancers", "RegisterTargets")
    arn = source.arn("elasticloadbalancing", f"targetgroup/tg-{source.number(40)}/{source.number(40):016x}")
    return "elasticloadbalancing", name, name[0] == "D", {"targetGroupArn": arn}, None


def image(source: Source) -> Call:
    """A call about one image."""
    name = source.one("BatchGetImage", "GetDownloadUrlForLayer", "GetAuthorizationToken", "BatchCheckLayerAvailability")
    request = {"registryId": source.account, "repositoryName": f"app/{source.number(60)}"}
    return "ecr", name, True, {**request, "layerDigest": f"sha256:{source.word(64)}"}, None


def function(source: Source) -> Call:
    """A call about one function."""
    name = source.one("ListFunctions20150331", "GetFunction20150331v2", "Invoke", "UpdateFunctionCode20150331v2")
    return "lambda", name, name[0] in "LG", {"functionName": f"fn-{source.number(90)}"}, None


def network(source: Source) -> Call:
    """A call about one network."""
    name = source.one("CreateNetworkInterface", "DeleteNetworkInterface", "CreateTags", "RunInstances")
    groups = {"items": [{"groupId": f"sg-{source.number(70):017x}"}]}
    answer = {"requestId": source.uuid(), "networkInterface": {"networkInterfaceId": f"eni-{source.word(17)}"}}
    return "ec2", name, False, {"subnetId": f"subnet-{source.number(30):017x}", "groupSet": groups}, answer


def secret(source: Source) -> Call:
    """A call about one secret."""
    arn = source.arn("secretsmanager", f"secret:app/{source.number(60)}-AbCdEf")
    return "secretsmanager", "GetSecretValue", True, {"secretId": arn}, None


def trail(source: Source) -> Call:
    """A call about one trail."""
    return "cloudtrail", source.one("DescribeTrails", "LookupEvents", "GetTrailStatus"), True, {"maxResults": 50}, None


CALLS: dict[Callable[[Source], Call], int] = {
    describe: 300,
    assume_role: 140,
    identity: 25,
    bucket: 70,
    thing: 30,
    log: 90,
    identities: 70,
    parameter: 50,
    agent: 40,
    key: 4,
    table: 30,
    evaluation: 20,
    target: 45,
    image: 40,
    function: 24,
    network: 30,
    secret: 15,
    trail: 7,
}
_KINDS, _WEIGHTS = list(CALLS), list(CALLS.values())


def event(source: Source, moment: datetime) -> Event:
    """Return one API call."""
    service, name, reads, request, answer = source.random.choices(_KINDS, _WEIGHTS)[0](source)
    by_user = source.random.random() < 0.1
    made: Event = {
        "eventVersion": "1.11",
        "userIdentity": user(source) if by_user else role(source),
        "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": f"{service}.amazonaws.com",
        "eventName": name,
        "awsRegion": source.region,
        "sourceIPAddress": f"10.{source.number(4)}.{source.number(200)}.{source.number(250)}",
        "userAgent": AGENTS[source.number(len(AGENTS))],
    }
    if source.random.random() < 0.03:
        made["errorCode"] = "AccessDenied"
        made["errorMessage"] = f"User: {made['userIdentity']['arn']} is not authorized to perform: {service}:{name}"
    made |= {
        "requestParameters": request,
        "responseElements": answer,
        "requestID": source.uuid(),
        "eventID": source.uuid(),
        "readOnly": reads,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": source.account,
        "eventCategory": "Management",
    }
    if source.random.random() < 0.7:
        host = f"{service}.{source.region}.amazonaws.com"
        made["tlsDetails"] = {
            "tlsVersion": "TLSv1.3",
            "cipherSuite": "TLS_AES_128_GCM_SHA256",
            "clientProvidedHostHeader": host,
        }
    return made


# -- files --------------------------------------------------------------------------------------------------------


@cache
def fixtures() -> dict[str, Event]:
    """Return the events of the fixtures by name."""
    folder = packaged("fixtures") / "events"
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def log_read(number: int) -> Event:
    """Return the read of a sealed log file, another one for each number."""
    read = fixtures()["modern_read_log_file"]
    context = read["requestParameters"]["encryptionContext"]
    arn = context["aws:s3:arn"].replace(".json.gz", f"{number}.json.gz")
    request = {**read["requestParameters"], "encryptionContext": {**context, "aws:s3:arn": arn}}
    return {**read, "requestParameters": request}


def planted(source: Source, number: int, begin: datetime) -> Iterator[Event]:
    """Yield what is planted in file ``number``."""
    known = list(fixtures().values())
    found = [known[(number * PLANTED + turn) % len(known)] for turn in range(PLANTED)]
    if number % BURST_EVERY == 0:
        found += map(log_read, range(BURST))
    for place, one in enumerate(found):
        moment = begin + timedelta(seconds=place)
        yield {**one, "eventID": source.uuid(), "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}


def write_file(folder: Path, number: int, events: int) -> int:
    """Write file ``number`` with so many events; return how many bytes of JSON that is."""
    account, region = STREAMS[number % len(STREAMS)]
    source = Source(f"keytrail {number}", account, region)
    begin = START + number // len(STREAMS) * DELIVERY
    records = list(planted(source, number, begin))[:events]
    while len(records) < events:
        records.append(event(source, begin + DELIVERY * source.random.random()))
    source.random.shuffle(records)
    data = json.dumps({"Records": records}, separators=(",", ":")).encode()
    arrival = begin + DELIVERY
    name = f"{account}_CloudTrail_{region}_{arrival:%Y%m%dT%H%MZ}_{source.word(16)}.json.gz"
    path = folder / "AWSLogs" / account / "CloudTrail" / region / f"{arrival:%Y/%m/%d}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0))
    return len(data)


def write(folder: Path, events: int, files: int) -> int:
    """Write ``events`` in so many files; return how many bytes of JSON they are."""
    if not 0 < files <= events:
        raise SystemExit("there must be at least one file, and an event for each")
    sizes = [events // files + (number < events % files) for number in range(files)]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return sum(pool.map(partial(write_file, folder), range(files), sizes, chunksize=8))


def main() -> None:
    """Write the files that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.logs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=1_000)
    given = parser.parse_args()
    size = write(given.folder, given.events, given.files)
    packed = sum(path.stat().st_size for path in given.folder.rglob("*.json.gz"))
    print(f"{given.events:,} events, {given.files:,} files, {size:,} bytes, {size / packed:.1f} times the packed size")


if __name__ == "__main__":
    main()
