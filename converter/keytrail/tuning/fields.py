"""Who chooses the value of each field: what an exclusion may rest on, and what it may not.

This is data. ``strength`` is how much a field's value keeps an attacker out: 0 where he writes what he likes, 1 where
nothing he does changes it. It is used to rank, and never to accept: that takes the hostile twins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from keytrail.learn import who
from keytrail.paths import text, values
from keytrail.profile import EXAMPLES, SCHEMA

Record = Mapping[str, Any]
_TRAIL = SCHEMA["properties"]["trails"]["items"]["properties"]
_PLACE = _TRAIL["bucket"]["pattern"]
ACCOUNT = re.compile(SCHEMA["$defs"]["account"]["pattern"], re.ASCII)
KEY_ARN = re.compile(SCHEMA["$defs"]["key"]["properties"]["arn"]["pattern"], re.ASCII)
# Not of a multi-region key, whose id means another key in each region; and not an alias, which can be moved.
_KEY_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
ROLE, USER, TYPE = "userIdentity.sessionContext.sessionIssuer.arn", "userIdentity.arn", "userIdentity.type"
RESOURCE, KEY, INVOKED_BY = "resources.ARN", "requestParameters.keyId", "userIdentity.invokedBy"
BUCKET, RECIPIENT, ADDRESS = "requestParameters.bucketName", "recipientAccountId", "sourceIPAddress"
SSE_KEY = "x-amz-server-side-encryption-aws-kms-key-id"
SOURCE, CALL = "eventSource", "eventName"

WHO, WHAT, WHERE, WHOSE, HOW, NONE = "who", "what", "where", "whose", "how", "none"


@dataclass(frozen=True)
class Control:
    """A field that tells hits apart: ``chooser`` says who chooses its value, ``form`` what AWS writes there.

    ``role`` is what the field is good for in an exclusion: who acts, what is acted on, from where, whose log it is, how
    (which call), or none at all. A value that does not have the form is never put into a filter. ``cased`` says that
    values which differ in the case of a letter are different things, as far as anybody knows.
    """

    field: str
    label: str
    role: str
    strength: float
    chooser: str
    form: str = ".^"
    cased: bool = False

    def takes(self, value: str) -> bool:
        """Tell whether the value has the form that AWS gives it, and is an address that not everybody can have."""
        return re.fullmatch(self.form, value, re.ASCII) is not None and (self.role != WHERE or is_public(value))


_ROLE_FORM, _USER_FORM = (SCHEMA["$defs"][name]["pattern"] for name in ("role", "user"))
_HOST = r"[a-z0-9.-]+\.amazonaws\.com"
_SET = "the caller names it, and that is what he gets"
_NAMED = "the caller names it, and no other is taken"
_TRAIL_FORM = f"[A-Za-z0-9._-]{{3,128}}|{_TRAIL['arn']['pattern']}"
FIELDS: tuple[Control, ...] = (
    Control(ROLE, "role", WHO, 0.8, "AWS writes it; it takes the role's credentials", _ROLE_FORM),
    Control(USER, "user", WHO, 0.8, "AWS writes it; it takes the user's credentials", _USER_FORM),
    Control(
        INVOKED_BY, "service", WHO, 0.5, "AWS writes it; whoever sets the service up causes it", r"[a-z0-9.-]+\.com"
    ),
    Control(RESOURCE, "key", WHAT, 0.6, "AWS writes the key that was used", KEY_ARN.pattern),
    Control(
        KEY,
        "key asked for",
        WHAT,
        0.5,
        "the caller spells it, and KMS takes no other key",
        f"{_KEY_ID.pattern}|{KEY_ARN.pattern}",
    ),
    Control(BUCKET, "bucket", WHAT, 0.5, "the caller names it, and S3 takes no other bucket", _PLACE),
    Control(
        "requestParameters.name",
        "trail",
        WHAT,
        0.5,
        _NAMED,
        _TRAIL_FORM,
        cased=True,
    ),
    Control(
        "requestParameters.trailName",
        "trail",
        WHAT,
        0.5,
        _NAMED,
        _TRAIL_FORM,
        cased=True,
    ),
    Control(
        "requestParameters.customKeyStoreId",
        "key store",
        WHAT,
        0.5,
        _NAMED,
        r"cks-[0-9a-f]{17}",
    ),
    Control(
        "requestParameters.eventDataStore",
        "event data store",
        WHAT,
        0.5,
        _NAMED,
        r"arn:aws[a-z-]*:cloudtrail:[a-z0-9-]+:[0-9]{12}:eventdatastore/[0-9a-f-]{36}",
    ),
    Control("requestParameters.kmsKeyId", "key set", WHAT, 0.5, _SET, KEY_ARN.pattern),
    Control(f"requestParameters.{SSE_KEY}", "key of the object", WHAT, 0.5, _SET, KEY_ARN.pattern),
    Control("requestParameters.s3BucketName", "bucket set", WHAT, 0.5, _SET, _PLACE),
    Control("requestParameters.granteePrincipal", "grantee", WHAT, 0.5, _SET, f"{_ROLE_FORM}|{_USER_FORM}|{_HOST}"),
    Control(RECIPIENT, "account", WHOSE, 0.3, "AWS writes it; everybody in the account has it", ACCOUNT.pattern),
    Control(
        ADDRESS, "address", WHERE, 0.3, "AWS writes it; whoever calls through that network has it", r"[0-9a-f.:]{3,45}"
    ),
    Control(SOURCE, "service called", HOW, 0.1, "the caller chooses what to call", _HOST),
    Control(CALL, "call", HOW, 0.1, "the caller chooses what to call", r"[A-Za-z0-9_]{1,128}"),
    Control("userAgent", "user agent", NONE, 0.0, "the caller writes what he likes"),
    Control("session name", "session name", NONE, 0.0, "whoever assumes a role names the session as he likes"),
    Control("awsRegion", "region", NONE, 0.0, "the caller chooses where to call"),
)
BY_FIELD: Mapping[str, Control] = {one.field: one for one in FIELDS}
WHATS = tuple(one.field for one in FIELDS if one.role == WHAT)
# On these calls AWS writes one key in resources. A ReEncrypt has two, an alias is listed beside its key, and S3 lists
# an object's bucket: there, one element of the list that is known would cover for another that is not.
_ONE_KEY = """
    CancelKeyDeletion CreateGrant Decrypt DeleteExpiredKeyMaterial DeleteImportedKeyMaterial DeleteKey DescribeKey
    DisableKey DisableKeyRotation EnableKey EnableKeyRotation Encrypt GenerateDataKey GenerateDataKeyPair
    GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext GetKeyPolicy GetKeyRotationStatus
    ImportKeyMaterial ListGrants ListKeyPolicies PutKeyPolicy ReplicateKey ScheduleKeyDeletion UpdatePrimaryRegion
"""
ONE_KEY = frozenset(_ONE_KEY.split())
KMS = "kms.amazonaws.com"


@dataclass(frozen=True)
class Actor:
    """Who acts: ``lines`` are the lines of a selection that names him, or ``why`` says why none can."""

    name: str
    lines: Mapping[str, str]
    field: str = ""
    why: str = ""

    @property
    def account(self) -> str:
        """The account in the ARN, or nothing."""
        parts = self.name.split(":")
        return parts[4] if len(parts) > 5 else ""


def actor_of(record: Record) -> Actor:
    """Return who acts: the role and never its session, the user, or the service that acts by itself."""
    kind = "".join(text(value) for value in values(record, TYPE)[:1])
    found = who(record)
    if found.kind == "role" and BY_FIELD[ROLE].takes(found.value):
        return Actor(found.value, {TYPE: "AssumedRole", ROLE: found.value}, ROLE)
    if found.kind == "user" and BY_FIELD[USER].takes(found.value):
        return Actor(found.value, {TYPE: "IAMUser", USER: found.value}, USER)
    service = "".join(text(value) for value in values(record, INVOKED_BY)[:1])
    if kind == "AWSService" and BY_FIELD[INVOKED_BY].takes(service):
        return Actor(service, {TYPE: kind, INVOKED_BY: service}, INVOKED_BY)
    whys = {"Root": "the root user is never excluded", "": "the events do not say who acted"}
    why = whys.get(kind, f"of the type {kind}, and not told in a form that only AWS writes")
    return Actor(found.value, {}, why=why)


def session_of(record: Record) -> str:
    """Return the name of the session, which whoever assumed the role has chosen; nothing where there is none."""
    arn = "".join(text(value) for value in values(record, USER)[:1])
    return arn.rpartition("/")[2] if ":assumed-role/" in arn else ""


def keys_of(record: Record) -> Iterator[str]:
    """Yield the ARNs of the keys that AWS says were used, else the key as the caller spelled it."""
    found = [text(value) for value in values(record, RESOURCE) if ":key/" in text(value)]
    yield from found or (text(value) for value in values(record, KEY))


def is_public(address: str) -> bool:
    """Tell whether it is an address that its network's owner alone can call from; in a VPC everybody picks his own."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return found.is_global or any(found in ip_network(known) for known in EXAMPLES)


def escaped(value: str) -> str:
    """Return a value as a Sigma string that means just that value: no wildcard, whatever a log says."""
    return re.sub(r"[\\*?]", r"\\\g<0>", value)
