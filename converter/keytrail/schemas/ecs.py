"""Schema ``ecs``: what Elastic's AWS integration makes of a CloudTrail record, in both directions.

The tables hold what versions 5.2.0 to 8.8 of the integration keep alike, unchanged and findable; what
6.22.0 (for Elasticsearch 8) and 7.0.1 (for 9) added is in :data:`SINCE_6_22`. :func:`document` writes what
those two and later versions write, with their setting ``retain: all``. It leaves out what no rule about a
record can ask for: geography, the parsed user agent, ``related.*``, ECS categories and the time of arrival.
A value for which a real index would refuse the *whole* document (requestParameters that is a string, an
object where a keyword belongs) is left out alone.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from importlib import resources
from typing import Any

from keytrail import paths
from keytrail.schemas import java
from keytrail.schemas.base import Schema

TRAIL = "aws.cloudtrail."
FLATTENED = TRAIL + "flattened."
IDENTITY = TRAIL + "user_identity."
SESSION = IDENTITY + "session_context."

# The record's free-form objects, each kept twice: as text that Java prints for a map, and flattened.
PAYLOADS = {
    "requestParameters": "request_parameters",
    "responseElements": "response_elements",
    "additionalEventData": "additional_eventdata",
    "serviceEventDetails": "service_event_details",
}
# The newest major version of the integration: Kibana's rule editor saves no rule that names a range of several.
INTEGRATION = {"package": "aws", "integration": "cloudtrail", "version": "^8.0.0"}
# Values that the pipeline takes for "no value", wherever they stand in the record.
DROPPED = frozenset({"", "-", "none"})
SIZE_LIMIT = 32766  # UTF-16 code units of the Java text, from which on the flattened copy is left out
# An index refuses a document with more bytes in a term or in a flattened leaf and its path, or more nested objects.
TERM_LIMIT = 32766
DEPTH_LIMIT = 20
# Keywords without ignore_above: the template for `*.name` and user agents in ecs@mappings sets none.
UNLIMITED = ("cloud.service.name", "group.name", "user.name", "user.target.name", "user_agent.original")

NAMES: dict[str, str] = {
    "eventVersion": TRAIL + "event_version",
    "eventTime": "@timestamp",
    "eventSource": "event.provider",
    "eventName": "event.action",
    "awsRegion": "cloud.region",
    "sourceIPAddress": "source.address",
    "userAgent": "user_agent.original",
    "errorCode": TRAIL + "error_code",
    "errorMessage": TRAIL + "error_message",
    "requestID": TRAIL + "request_id",
    "eventID": "event.id",
    "eventType": TRAIL + "event_type",
    "eventCategory": TRAIL + "event_category",
    "apiVersion": TRAIL + "api_version",
    "managementEvent": TRAIL + "management_event",
    "readOnly": TRAIL + "read_only",
    "recipientAccountId": TRAIL + "recipient_account_id",
    "vpcEndpointId": TRAIL + "vpc_endpoint_id",
    "sessionCredentialFromConsole": TRAIL + "session_credential_from_console",
    "resources.ARN": TRAIL + "resources.arn",
    "resources.ARNPrefix": TRAIL + "resources.ARNPrefix",
    "resources.accountId": TRAIL + "resources.account_id",
    "resources.type": TRAIL + "resources.type",
    "tlsDetails.cipherSuite": "tls.cipher",
    "tlsDetails.clientProvidedHostHeader": "tls.client.server_name",
    "userIdentity.type": IDENTITY + "type",
    "userIdentity.userName": "user.name",
    "userIdentity.principalId": "user.id",
    "userIdentity.arn": IDENTITY + "arn",
    "userIdentity.accountId": "cloud.account.id",
    "userIdentity.accessKeyId": IDENTITY + "access_key_id",
    "userIdentity.invokedBy": IDENTITY + "invoked_by",
    "userIdentity.sessionContext.attributes.mfaAuthenticated": SESSION + "mfa_authenticated",
    "userIdentity.sessionContext.attributes.creationDate": SESSION + "creation_date",
    "userIdentity.sessionContext.sessionIssuer.type": SESSION + "session_issuer.type",
    "userIdentity.sessionContext.sessionIssuer.userName": "user.name",
    "userIdentity.sessionContext.sessionIssuer.principalId": SESSION + "session_issuer.principal_id",
    "userIdentity.sessionContext.sessionIssuer.arn": SESSION + "session_issuer.arn",
    "userIdentity.sessionContext.sessionIssuer.accountId": SESSION + "session_issuer.account_id",
    # Copies of three keys in fields of their own, where wildcards work.
    "requestParameters.userName": "user.target.name",
    "requestParameters.groupName": "group.name",
    "responseElements.user.userId": "user.target.id",
    "responseElements.group.groupId": "group.id",
}
PREFIXES: dict[str, str] = {f"{root}.": f"{FLATTENED}{part}." for root, part in PAYLOADS.items()}
PREFIXES["insightDetails."] = FLATTENED + "insight_details."

# Not in NAMES: on an index of an older version these queries would match nothing, without a word.
SINCE_6_22: dict[str, str] = {
    # Older versions read `sharedEventId`, which AWS does not send.
    "sharedEventID": TRAIL + "shared_event_id",
    "vpcEndpointAccountId": TRAIL + "vpc_endpoint_account_id",
    "tlsDetails.keyExchange": TRAIL + "tls_details.key_exchange",
    "addendum.reason": TRAIL + "addendum.reason",
    "addendum.updatedFields": TRAIL + "addendum.updated_fields",
    "addendum.originalRequestID": TRAIL + "addendum.original_request_id",
    "addendum.originalEventID": TRAIL + "addendum.original_event_id",
    "userIdentity.credentialId": IDENTITY + "credential_id",
    "userIdentity.identityProvider": IDENTITY + "identity_provider",
    "userIdentity.invokedByDelegate.accountId": IDENTITY + "invoked_by_delegate.account_id",
    "userIdentity.inScopeOf.issuerType": IDENTITY + "in_scope_of.issuer_type",
    "userIdentity.inScopeOf.credentialsIssuedTo": IDENTITY + "in_scope_of.credentials_issued_to",
    "userIdentity.inScopeOf.sourceArn": IDENTITY + "in_scope_of.source_arn",
    "userIdentity.inScopeOf.sourceAccount": IDENTITY + "in_scope_of.source_account",
    "userIdentity.onBehalfOf.userId": IDENTITY + "on_behalf_of.user_id",
    "userIdentity.onBehalfOf.identityStoreArn": IDENTITY + "on_behalf_of.identity_store_arn",
    "userIdentity.sessionContext.ec2RoleDelivery": SESSION + "ec2_role_delivery",
    "userIdentity.sessionContext.sourceIdentity": SESSION + "source_identity",
    "userIdentity.sessionContext.assumedRoot": SESSION + "assumed_root",
    "userIdentity.sessionContext.signInSessionArn": SESSION + "sign_in_session_arn",
    "userIdentity.sessionContext.webIdFederationData.federatedProvider": SESSION
    + "web_id_federation_data.federated_provider",
}
# An index field may hold another of the record's fields instead; the rule's field is the one it holds when …
_CHANGED = {
    "eventTime",
    "eventName",
    "managementEvent",
    "userIdentity.sessionContext.attributes.creationDate",
    "userIdentity.sessionContext.sessionIssuer.userName",
}
_COPIES = {
    path: target
    for path, target in {**NAMES, **SINCE_6_22}.items()
    if path not in _CHANGED and not path.startswith("resources.")
}
_ISO_8601 = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)(?:T(?:(?P<hour>\d\d)(?::(?P<minute>\d\d)"
    r"(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?)?(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?)?)?)?"
)
_BASIC = re.compile(
    r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)T(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)"
    r"(?:\.(?P<fraction>\d{3}))?(?P<zone>Z|[+-]\d\d:?\d\d)"
)


def document(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document that the integration makes of ``record``, whatever the record holds."""
    pruned = _pruned(record)
    kept: dict[str, Any] = pruned if isinstance(pruned, dict) else {}
    if _at(kept, "tlsDetails.tlsVersion") == "tlsVersion":
        del kept["tlsDetails"]
    made: dict[str, Any] = {"ecs": {"version": "8.11.0"}, "cloud": {"provider": "aws"}}
    for path, target in _COPIES.items():
        _put(made, target, _fitting(_at(kept, path)))
    _put(made, "@timestamp", _instant(kept.get("eventTime"), _ISO_8601))
    _put(made, TRAIL + "management_event", _texts(kept.get("managementEvent")))
    _put(made, "event.action", _texts(kept.get("eventName")))
    _actor(kept, made)
    _payloads(kept, made)
    _surroundings(kept, made)
    _put(made, TRAIL + "resources", _resources(kept.get("resources")))
    _put(made, "event.kind", "event")
    _put(made, "event.outcome", _outcome(kept))
    for target in UNLIMITED:
        if _overlong(_at(made, target)):
            _put(made, target, [])
    return made


def _actor(kept: dict[str, Any], made: dict[str, Any]) -> None:
    """Who made the call; takes the name of a UserAuthentication away from its additionalEventData."""
    kind = _at(kept, "userIdentity.type")
    if kind in ("AssumedRole", "FederatedUser"):
        _put(made, "user.name", _fitting(_at(kept, "userIdentity.sessionContext.sessionIssuer.userName")))
    if kept.get("eventName") == "UserAuthentication" and _at(made, "user.name") is None:
        extra = kept.get("additionalEventData")
        if isinstance(extra, dict):
            _put(made, "user.name", _fitting(extra.pop("UserName", None)))
    if kind == "IdentityCenterUser" and _at(made, "user.id") is None:
        _put(made, "user.id", _fitting(_at(kept, "userIdentity.onBehalfOf.userId")))
    if _at(made, "cloud.account.id") is None:
        _put(made, "cloud.account.id", _fitting(kept.get("recipientAccountId")))
    created = _at(kept, "userIdentity.sessionContext.attributes.creationDate")
    _put(made, SESSION + "creation_date", _instant(created, _ISO_8601) or _instant(created, _BASIC))
    claims = _at(kept, "userIdentity.sessionContext.webIdFederationData.attributes")
    _put(made, SESSION + "web_id_federation_data.attributes", _flattened(claims))


def _payloads(kept: dict[str, Any], made: dict[str, Any]) -> None:
    for root, part in PAYLOADS.items():
        node = kept.get(root)
        if node is None:
            continue
        text = java.text(node)
        _put(made, TRAIL + part, text)
        if java.length(text) < SIZE_LIMIT:
            _put(made, FLATTENED + part, _flattened(node))
    _put(made, FLATTENED + "insight_details", _flattened(kept.get("insightDetails")))


def _surroundings(kept: dict[str, Any], made: dict[str, Any]) -> None:
    address = _at(made, "source.address")
    if isinstance(address, str) and _is_address(address):
        _put(made, "source.ip", address)
    if _at(made, TRAIL + "shared_event_id") is None:
        _put(made, TRAIL + "shared_event_id", _fitting(kept.get("sharedEventId")))
    service = kept.get("eventSource")
    if isinstance(service, str) and service.endswith(".amazonaws.com"):
        _put(made, "cloud.service.name", service.split(".amazonaws.com", 1)[0] or None)
    version = _at(kept, "tlsDetails.tlsVersion")
    if isinstance(version, str):
        protocol, separator, number = version.partition("v")
        _put(made, "tls.version", (number if separator else version) or None)
        _put(made, "tls.version_protocol", (protocol.lower() if separator else "") or None)


def _outcome(kept: dict[str, Any]) -> str:
    answer = _at(kept, "responseElements.ConsoleLogin")
    if kept.get("eventName") == "ConsoleLogin" and isinstance(answer, str):
        return answer.lower()
    return "success" if kept.get("errorCode") is None and kept.get("errorMessage") is None else "failure"


def _resources(node: object) -> list[dict[str, Any]] | None:
    """The resources without duplicates, under the names and in the order that the pipeline gives them."""
    found: dict[str, dict[str, Any]] = {}
    for resource in node if isinstance(node, list) else [node]:
        if not isinstance(resource, dict):
            continue
        named = dict(resource)
        if isinstance(node, list):  # a resource that stands alone keeps its own spelling
            for old, new in (("ARN", "arn"), ("accountId", "account_id")):
                if old in named:
                    named[new] = named.pop(old)
        key = "_".join(java.text(named.get(part, "")) for part in ("arn", "account_id", "type"))
        fitting = {name: _fitting(value) for name, value in named.items() if name.isidentifier()}
        found[key] = {name: value for name, value in fitting.items() if value is not None}
    return [found[key] for key in java.hash_order(found) if found[key]] or None


# Values.


def _pruned(node: object) -> object:
    """A value without what the pipeline drops, maps in a Java HashMap's order; None for nothing left."""
    if isinstance(node, Mapping):
        pruned = {key: _pruned(node[key]) for key in java.hash_order(node)}
        return {key: value for key, value in pruned.items() if value is not None} or None
    if isinstance(node, list):
        return [value for value in map(_pruned, node) if value is not None] or None
    return None if isinstance(node, str) and node in DROPPED else node


def _at(node: object, path: str) -> object:
    for key in path.split("."):
        if not isinstance(node, dict):
            return None
        node = node.get(key)
    return node


def _put(made: dict[str, Any], target: str, value: object) -> None:
    if value is None:
        return
    *parents, last = target.split(".")
    for key in parents:
        made = made.setdefault(key, {})
    made[last] = value


def _fitting(value: object) -> object:
    """What a field that is no object can hold of a value: scalars; None otherwise."""
    if isinstance(value, list):
        return [_literal(element) for element in value] if all(map(_is_scalar, value)) else None
    return _literal(value) if _is_scalar(value) else None


def _overlong(value: object) -> bool:
    texts = value if isinstance(value, list) else [value]
    return any(isinstance(text, str) and len(text.encode("utf-8", "surrogatepass")) > TERM_LIMIT for text in texts)


def _texts(value: object) -> object:
    fitting = _fitting(value)
    if isinstance(fitting, list):
        return [java.text(element) for element in fitting]
    return None if fitting is None else java.text(fitting)


def _is_scalar(value: object) -> bool:
    return isinstance(value, (str, int, float))


def _flattened(node: object) -> object:
    """What a flattened field can hold of a value; None where the index would refuse the document for it."""
    objects = node if isinstance(node, list) else [node]
    if not objects or not all(isinstance(entry, dict) and entry for entry in objects):
        return None
    if any(_depth(entry) > DEPTH_LIMIT for entry in objects):
        return None
    literal = _literal(node)
    for path, value in paths.leaves(literal):
        leaf = f"{path}\0{java.text(value)}".encode("utf-8", "surrogatepass")
        if "\0" in path or len(leaf) > TERM_LIMIT:
            return None
    return literal


def _depth(node: object) -> int:
    if isinstance(node, dict):
        return 1 + max(map(_depth, node.values()), default=0)
    return max(map(_depth, node), default=0) if isinstance(node, list) else 0


def _literal(node: object) -> object:
    """A value as the index receives it: a number that Java writes in its own way (1.2E7) becomes its text."""
    if isinstance(node, dict):
        return {key: _literal(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_literal(value) for value in node]
    if isinstance(node, float) and java.text(node) != repr(node):
        return java.text(node)
    return node


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _instant(value: object, pattern: re.Pattern[str]) -> str | None:
    """A time in the form in which the pipeline writes it; None where it reads none."""
    found = pattern.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    zone = (found["zone"] or "Z").replace(":", "")
    away = timedelta(0) if zone == "Z" else timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5] or 0))
    year, month, day = (int(found[name] or 1) for name in ("year", "month", "day"))
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    microseconds = int((found["fraction"] or "0").ljust(3, "0")[:3]) * 1000
    try:
        local = datetime(year, month, day, hour, minute, second, microseconds, timezone.utc)
        moment = local + away if zone[0] == "-" else local - away
    except (ValueError, OverflowError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _body() -> dict[str, Any]:
    text = resources.files("keytrail.schemas").joinpath("ecs.mapping.json").read_text("utf-8")
    body: dict[str, Any] = json.loads(text)
    return body


def _is_issued(record: Mapping[str, Any]) -> bool:
    return _at(record, "userIdentity.type") in ("AssumedRole", "FederatedUser")


def _is_authentication(record: Mapping[str, Any]) -> bool:
    return record.get("eventName") == "UserAuthentication"


def _has(path: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda record: isinstance(_at(record, path), str) and _at(record, path) not in DROPPED


# Rule fields whose place in the index holds something else in some events.
SHARED: dict[str, tuple[str, Callable[[Mapping[str, Any]], bool]]] = {
    "userIdentity.userName": (
        "is asked of events that are no UserAuthentication and whose userIdentity.type is neither AssumedRole "
        "nor FederatedUser (user.name is something else otherwise)",
        lambda record: not _is_issued(record) and not _is_authentication(record),
    ),
    "userIdentity.sessionContext.sessionIssuer.userName": (
        "is asked of events whose userIdentity.type is AssumedRole or FederatedUser "
        "(user.name is userIdentity.userName otherwise)",
        _is_issued,
    ),
    "userIdentity.principalId": (
        "is there (user.id can be onBehalfOf.userId otherwise)",
        _has("userIdentity.principalId"),
    ),
    "userIdentity.accountId": (
        "is there (cloud.account.id is recipientAccountId otherwise)",
        _has("userIdentity.accountId"),
    ),
    "additionalEventData.UserName": (
        "is asked of events that are no UserAuthentication (it is moved to user.name then)",
        lambda record: not _is_authentication(record),
    ),
    # document() writes what 6.22 does, so that this holds for every record here.
    **{
        rule_field: ("is kept, which the AWS integration does from version 6.22 on", lambda record: True)
        for rule_field in SINCE_6_22
    },
}

SCHEMA = Schema(
    name="ecs",
    title="Elastic's AWS integration, data stream aws.cloudtrail",
    index="logs-aws.cloudtrail-*",
    names={**NAMES, **SINCE_6_22},
    prefixes=PREFIXES,
    body=_body(),
    document=document,
    dropped=DROPPED,
    shared=SHARED,
    java_maps={FLATTENED + part: TRAIL + part for part in PAYLOADS.values()},
    size_limits={FLATTENED + part: SIZE_LIMIT for part in PAYLOADS.values()},
    companions={"source.address": {"ip": "source.ip"}},
    integration=INTEGRATION,
)
