"""Schema ``keytrail``: the raw CloudTrail record in an index of our own, where every rule keeps its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from keytrail.schemas.base import Schema
from keytrail.times import iso, milliseconds

# Elasticsearch refuses a term of more than 32,766 bytes; 10,922 characters are never more, whatever the alphabet.
KEYWORD: dict[str, Any] = {"type": "keyword", "ignore_above": 10922}
ADDRESS: dict[str, Any] = {**KEYWORD, "fields": {"ip": {"type": "ip", "ignore_malformed": True}}}
NUMBER: dict[str, Any] = {**KEYWORD, "fields": {"number": {"type": "double", "ignore_malformed": True}}}

# Objects whose keys AWS services and callers choose: the index learns them as they come.
OPEN_OBJECTS = (
    "requestParameters",
    "responseElements",
    "additionalEventData",
    "serviceEventDetails",
    "insightDetails",
    "addendum",
    "edgeDeviceDetails",
    "eventContext",
)
SCALARS = (
    "eventVersion",
    "eventTime",
    "eventSource",
    "eventName",
    "awsRegion",
    "userAgent",
    "errorCode",
    "errorMessage",
    "requestID",
    "eventID",
    "eventType",
    "apiVersion",
    "managementEvent",
    "readOnly",
    "recipientAccountId",
    "sharedEventID",
    "vpcEndpointId",
    "vpcEndpointAccountId",
    "eventCategory",
    "sessionCredentialFromConsole",
)
IDENTITY = (
    "type",
    "principalId",
    "arn",
    "accountId",
    "accessKeyId",
    "userName",
    "invokedBy",
    "identityProvider",
    "credentialId",
    "inScopeOf.sourceArn",
    "inScopeOf.sourceAccount",
    "inScopeOf.issuerType",
    "inScopeOf.credentialsIssuedTo",
    "onBehalfOf.userId",
    "onBehalfOf.identityStoreArn",
    "sessionContext.attributes.mfaAuthenticated",
    "sessionContext.attributes.creationDate",
    "sessionContext.sessionIssuer.type",
    "sessionContext.sessionIssuer.principalId",
    "sessionContext.sessionIssuer.arn",
    "sessionContext.sessionIssuer.accountId",
    "sessionContext.sessionIssuer.userName",
    "sessionContext.webIdFederationData.federatedProvider",
    "sessionContext.sourceIdentity",
    "sessionContext.ec2RoleDelivery",
    "sessionContext.assumedRoot",
)
RESOURCE = ("ARN", "arn", "accountId", "type")
TLS = ("tlsVersion", "cipherSuite", "clientProvidedHostHeader", "keyExchange")
# Mapped ahead of the first event, so that a caller who floods the index with invented keys cannot crowd them out.
REQUEST = (
    "keyId",
    "encryptionContext.aws:cloudtrail:arn",
    "encryptionContext.aws:s3:arn",
    "sourceEncryptionContext.aws:cloudtrail:arn",
    "sourceEncryptionContext.aws:s3:arn",
    "policy",
    "policyName",
    "granteePrincipal",
    "operations",
    "name",
    "s3BucketName",
    "kmsKeyId",
    "bucketName",
    "key",
    "LifecycleConfiguration.Rule.Expiration.Date",
    "LifecycleConfiguration.Rule.Expiration.Days",
    "LifecycleConfiguration.Rule.NoncurrentVersionExpiration.NoncurrentDays",
    "PublicAccessBlockConfiguration.BlockPublicAcls",
    "PublicAccessBlockConfiguration.BlockPublicPolicy",
    "PublicAccessBlockConfiguration.IgnorePublicAcls",
    "PublicAccessBlockConfiguration.RestrictPublicBuckets",
    "ServerSideEncryptionConfiguration.Rule.BlockedEncryptionTypes.EncryptionType",
    "ServerSideEncryptionConfiguration.Rules.BlockedEncryptionTypes.EncryptionType",
    "VersioningConfiguration.Status",
    "advancedEventSelectors.fieldSelectors.equals",
    "advancedEventSelectors.fieldSelectors.field",
    "advancedEventSelectors.fieldSelectors.notEndsWith",
    "advancedEventSelectors.fieldSelectors.notEquals",
    "advancedEventSelectors.fieldSelectors.notStartsWith",
    "bypassPolicyLockoutSafetyCheck",
    "destinationEncryptionContext.aws:cloudtrail:arn",
    "destinationEncryptionContext.aws:s3:arn",
    "enableLogFileValidation",
    "eventSelectors.excludeManagementEventSources",
    "eventSelectors.includeManagementEvents",
    "eventSelectors.readWriteType",
    "includeGlobalServiceEvents",
    "isMultiRegionTrail",
    "origin",
    "x-amz-server-side-encryption-customer-algorithm",
)
RESPONSE = (
    "includeGlobalServiceEvents",
    "isMultiRegionTrail",
    "kmsKeyId",
    "logFileValidationEnabled",
)
ADDITIONAL = ("SSEApplied",)


def _properties(names: tuple[str, ...], spec: Mapping[str, Any] = KEYWORD) -> dict[str, Any]:
    return {name: dict(spec) for name in names}


BODY: dict[str, Any] = {
    "settings": {
        "index.mapping.total_fields.limit": 4000,
        "index.mapping.total_fields.ignore_dynamic_beyond_limit": True,
    },
    "mappings": {
        "date_detection": False,
        "numeric_detection": False,
        "dynamic_templates": [{"values": {"match_mapping_type": "*", "mapping": KEYWORD}}],
        "properties": {
            "@timestamp": {"type": "date"},
            **_properties(SCALARS),
            "sourceIPAddress": ADDRESS,
            "userIdentity": {"subobjects": False, "properties": _properties(IDENTITY)},
            "resources": {"properties": _properties(RESOURCE)},
            "tlsDetails": {"properties": _properties(TLS)},
            **{name: {"subobjects": False, "properties": {}} for name in OPEN_OBJECTS},
        },
    },
}
BODY["mappings"]["properties"]["responseElements"]["properties"] = _properties(RESPONSE)
BODY["mappings"]["properties"]["additionalEventData"]["properties"] = _properties(ADDITIONAL)
BODY["mappings"]["properties"]["requestParameters"]["properties"] = {
    **_properties(REQUEST),
    "pendingWindowInDays": NUMBER,
}


def document(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document that the index holds for ``record``: the record, in a form that Elasticsearch never refuses.

    A scalar where the index has an object is kept under the key ``_value``; an empty part of a key is written ``_``;
    ``@timestamp`` is the event's time, where that is one.
    """
    made = {key: _objectlike(key, value) for key, value in _clean(record).items()}
    moment = milliseconds(record.get("eventTime"))
    if moment is not None:
        made["@timestamp"] = iso(moment)
    return made


def _objectlike(key: str, value: Any) -> Any:
    spec = BODY["mappings"]["properties"].get(key, {})
    if "properties" not in spec or value is None:
        return value
    if isinstance(value, list):
        return [_objectlike(key, element) for element in value]
    return value if isinstance(value, dict) else {"_value": value}


_SCALARS = frozenset((str, int, float, bool, type(None)))


def _clean(node: Any) -> Any:
    if isinstance(node, (dict, Mapping)):  # dict is asked first: Mapping is slow to ask for
        return {
            _clean_key(str(key)): value if type(value) in _SCALARS else _clean(value) for key, value in node.items()
        }
    if isinstance(node, list):
        return [_clean(element) for element in node]
    return node


@lru_cache(maxsize=4096)
def _clean_key(key: str) -> str:
    if key.strip() and not key.startswith(".") and not key.endswith(".") and ".." not in key:
        return key
    return ".".join(part if part.strip() else "_" for part in key.split("."))


_OBJECTS = ("userIdentity", "resources", "tlsDetails", *OPEN_OBJECTS)

SCHEMA = Schema(
    name="keytrail",
    title="CloudTrail records as they are, in Keytrail's own index",
    index="keytrail-cloudtrail-*",
    names={name: name for name in (*SCALARS, "sourceIPAddress", *_OBJECTS)},
    prefixes={f"{name}.": f"{name}." for name in _OBJECTS},
    body=BODY,
    document=document,
    as_is=True,
)
