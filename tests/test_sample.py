"""The sample: four hours of logs that tell the story its generator tells."""

from __future__ import annotations

import gzip
import runpy
from operator import itemgetter
from typing import Any

from keytrail.data import packaged
from keytrail.records import Reader

FIXTURES = packaged("fixtures")
SAMPLE = FIXTURES / "sample"


def records() -> list[dict[str, Any]]:
    return sorted((record.record for record in Reader([str(SAMPLE)])), key=itemgetter("eventTime"))


def test_the_sample_is_what_its_generator_gives() -> None:
    # The texts are compared and not the packed bytes, which differ from one zlib to another.
    made = runpy.run_path(str(FIXTURES / "make_sample.py"))["build"]()
    paths = sorted(path for path in SAMPLE.rglob("*") if path.is_file())
    shipped = {path.relative_to(SAMPLE).as_posix(): gzip.decompress(path.read_bytes()) for path in paths}
    assert shipped == {name: text.encode() for name, text in made.items()}
    assert sum(path.stat().st_size for path in paths) < 60_000


def test_the_sample_is_read_without_complaint() -> None:
    reader = Reader([str(SAMPLE)])
    ids = {record.record["eventID"] for record in reader}
    assert (reader.bad, reader.passed_over, reader.digests) == ([], 0, 1)
    assert len(ids) == reader.records > 200


def test_each_log_file_was_sealed_until_the_trail_lost_its_key() -> None:
    bucket = "arn:aws:s3:::example-trail-bucket/"
    sealed = {
        record["requestParameters"]["encryptionContext"]["aws:s3:arn"].removeprefix(bucket)
        for record in records()
        if record["eventName"] == "GenerateDataKey"
    }
    files = [path.relative_to(SAMPLE).as_posix() for path in sorted(SAMPLE.rglob("*_CloudTrail_*.gz"))]
    assert [name for name in files if name not in sealed] == files[-1:]


def test_the_story_is_there_in_its_order() -> None:
    thief = "arn:aws:iam::111122223333:role/KeyAdministrator"
    told = []
    for record in records():
        who = record["userIdentity"]
        issuer = who.get("sessionContext", {}).get("sessionIssuer", {}).get("arn")
        if issuer == thief or who.get("accountId") == "444455556666" or "errorCode" in record:
            told.append(record.get("errorCode") or record["eventName"])
    assert [name for number, name in enumerate(told) if name not in told[:number]] == [
        "DescribeTrails",
        "GetKeyPolicy",
        "ListGrants",
        "CreateGrant",
        "Decrypt",
        "DisableKey",
        "DisabledException",
        "ScheduleKeyDeletion",
        "KMSInvalidStateException",
        "UpdateTrail",
        "StopLogging",
    ]
    assert records()[-1]["eventName"] == "StopLogging"
