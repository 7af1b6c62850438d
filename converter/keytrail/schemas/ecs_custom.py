"""Schema ``ecs-custom``: schema ``ecs``, and beside the flattened objects a keyword for each field that needs one.

Elastic's AWS integration has two extension points that its updates leave alone: the ingest pipeline
``logs-aws.cloudtrail@custom``, which runs after its own, and the component template of the same name. With the two
documents that :func:`pipeline` and :func:`component_template` return, wildcards, regular expressions and negations
work on the fields of :data:`COPIED`. The pipeline's source is the flattened copy, because the record itself is gone by
then: where the integration leaves that out, from 32,766 characters on, there is nothing to copy. A text is copied by a
``set`` processor; values in lists, which that cannot reach, by one short script.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keytrail.schemas import ecs, java
from keytrail.schemas.base import Schema

NAME = "logs-aws.cloudtrail@custom"
ROOT = "keytrail"
# The one list: a rule's field, and the keyword that holds it.
COPIED: dict[str, str] = {
    "requestParameters.keyId": "request.key_id",
    "requestParameters.kmsKeyId": "request.kms_key_id",
    "requestParameters.destinationKeyId": "request.destination_key_id",
    "requestParameters.targetKeyId": "request.target_key_id",
    "requestParameters.policy": "request.policy",
    "requestParameters.granteePrincipal": "request.grantee_principal",
    "requestParameters.bucketName": "request.bucket_name",
    "requestParameters.s3BucketName": "request.s3_bucket_name",
    "requestParameters.key": "request.key",
    "requestParameters.name": "request.name",
    "requestParameters.trailName": "request.trail_name",
    "requestParameters.aliasName": "request.alias_name",
    "requestParameters.encryptionContext.aws:cloudtrail:arn": "request.encryption_context.cloudtrail_arn",
    "requestParameters.encryptionContext.aws:s3:arn": "request.encryption_context.s3_arn",
    "requestParameters.sourceEncryptionContext.aws:cloudtrail:arn": "request.source_encryption_context.cloudtrail_arn",
    "requestParameters.sourceEncryptionContext.aws:s3:arn": "request.source_encryption_context.s3_arn",
    "requestParameters.destinationEncryptionContext.aws:cloudtrail:arn": (
        "request.destination_encryption_context.cloudtrail_arn"
    ),
    "requestParameters.destinationEncryptionContext.aws:s3:arn": "request.destination_encryption_context.s3_arn",
    "requestParameters.operations": "request.operations",
    "requestParameters.eventSelectors.readWriteType": "request.event_selectors.read_write_type",
    "requestParameters.eventSelectors.includeManagementEvents": "request.event_selectors.include_management_events",
    "requestParameters.eventSelectors.excludeManagementEventSources": (
        "request.event_selectors.exclude_management_event_sources"
    ),
    "requestParameters.advancedEventSelectors.fieldSelectors.field": "request.advanced_event_selectors.field",
    "requestParameters.advancedEventSelectors.fieldSelectors.equals": "request.advanced_event_selectors.equals",
    "requestParameters.advancedEventSelectors.fieldSelectors.notEquals": "request.advanced_event_selectors.not_equals",
    "requestParameters.advancedEventSelectors.fieldSelectors.notStartsWith": (
        "request.advanced_event_selectors.not_starts_with"
    ),
    "requestParameters.advancedEventSelectors.fieldSelectors.notEndsWith": (
        "request.advanced_event_selectors.not_ends_with"
    ),
    "responseElements.kmsKeyId": "response.kms_key_id",
    "responseElements.trailARN": "response.trail_arn",
}
IN_LISTS = (
    "requestParameters.operations",
    "requestParameters.eventSelectors.",
    "requestParameters.advancedEventSelectors.",
)
SCRIPT = """\
void gather(def node, List keys, int at, List found) {
  if (node instanceof List) {
    for (def one : node) { gather(one, keys, at, found); }
  } else if (at < keys.size()) {
    if (node instanceof Map) { gather(node.get(keys.get(at)), keys, at + 1, found); }
  } else if (node instanceof String || node instanceof Number || node instanceof Boolean) {
    found.add(node.toString());
  }
}
for (def field : params.fields) {
  List found = new ArrayList();
  gather(ctx, field.from, 0, found);
  if (found.size() > 0) {
    def place = ctx;
    int last = field.to.size() - 1;
    for (int at = 0; at < last; at++) {
      if (!(place.get(field.to.get(at)) instanceof Map)) { place.put(field.to.get(at), new HashMap()); }
      place = place.get(field.to.get(at));
    }
    place.put(field.to.get(last), found);
  }
}
"""
# A flattened leaf has as many bytes at most, its path among them: no document is refused for the sake of a copy.
KEYWORD: dict[str, Any] = {"type": "keyword", "ignore_above": ecs.TERM_LIMIT}
TARGETS = {rule_field: f"{ROOT}.{target}" for rule_field, target in COPIED.items()}


def pipeline() -> dict[str, Any]:
    """Return what ``PUT _ingest/pipeline/logs-aws.cloudtrail@custom`` takes."""
    return {
        "description": "Keytrail: keywords beside the flattened objects, so that rules can look inside their values",
        "processors": [
            *(
                _set(rule_field, target)
                for rule_field, target in TARGETS.items()
                if not rule_field.startswith(IN_LISTS)
            ),
            _script({name: target for name, target in TARGETS.items() if name.startswith(IN_LISTS)}),
        ],
    }


def component_template() -> dict[str, Any]:
    """Return what ``PUT _component_template/logs-aws.cloudtrail@custom`` takes."""
    return {"template": {"mappings": {"properties": _properties()}}}


def _script(targets: Mapping[str, str]) -> dict[str, Any]:
    fields = [{"from": _source(name).split("."), "to": target.split(".")} for name, target in targets.items()]
    description = "the values of fields that are lists or lie in lists"
    return {"script": {"description": description, "lang": "painless", "params": {"fields": fields}, "source": SCRIPT}}


def _set(rule_field: str, target: str) -> dict[str, Any]:
    """Copies a text and nothing else: an object in a keyword's place would cost the whole document."""
    return {
        "set": {
            "description": f"{rule_field}, where it is a text",
            "if": _is_text(_source(rule_field)),
            "field": target,
            "copy_from": _source(rule_field),
            "ignore_empty_value": True,
        }
    }


def _source(rule_field: str) -> str:
    root, _, rest = rule_field.partition(".")
    return f"{ecs.FLATTENED}{ecs.PAYLOADS[root]}.{rest}"


def _is_text(path: str) -> str:
    """A condition in Painless that fails for no document: every step asks for a map before it goes on."""
    place = "ctx"
    steps = []
    for key in path.split("."):
        steps.append(f"{place} instanceof Map")
        place += f".{key}" if key.isidentifier() else f"['{key}']"
    return " && ".join([*steps[1:], f"{place} instanceof String"])


def _properties() -> dict[str, Any]:
    made: dict[str, Any] = {}
    for target in TARGETS.values():
        *parents, last = target.split(".")
        place = made
        for parent in parents:
            place = place.setdefault(parent, {"properties": {}})["properties"]
        place[last] = dict(KEYWORD)
    return made


def document(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document that the integration makes of ``record``, with what the pipeline adds."""
    made = ecs.document(record)
    for rule_field, target in TARGETS.items():
        if rule_field.startswith(IN_LISTS):
            _put(made, target, [java.text(value) for value in _gathered(made, _source(rule_field).split("."))])
        else:
            _put(made, target, _text_at(made, _source(rule_field)))
    return made


def _gathered(node: object, keys: Sequence[str]) -> Iterator[object]:
    """What the script gathers: every scalar at the end of the keys, through lists."""
    if isinstance(node, list):
        for one in node:
            yield from _gathered(one, keys)
    elif keys:
        if isinstance(node, dict):
            yield from _gathered(node.get(keys[0]), keys[1:])
    elif node is not None and not isinstance(node, dict):
        yield node


def _text_at(node: object, path: str) -> str | None:
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, str) else None


def _put(made: dict[str, Any], target: str, value: str | list[str] | None) -> None:
    if value:
        *parents, last = target.split(".")
        for key in parents:
            made = made.setdefault(key, {})
        made[last] = value


def _body() -> dict[str, Any]:
    body: dict[str, Any] = copy.deepcopy(dict(ecs.SCHEMA.body))
    body["mappings"]["properties"].update(_properties())
    return body


def copies(targets: Mapping[str, str]) -> dict[str, str]:
    """Return where each copy comes from: the flattened field that its source is a key of."""
    return {target: f"{ecs.FLATTENED}{ecs.PAYLOADS[name.partition('.')[0]]}" for name, target in targets.items()}


SCHEMA = Schema(
    name="ecs-custom",
    title="Elastic's AWS integration with Keytrail's own keywords, by its @custom pipeline",
    index=ecs.SCHEMA.index,
    names={**ecs.SCHEMA.names, **TARGETS},
    prefixes=ecs.SCHEMA.prefixes,
    body=_body(),
    document=document,
    dropped=ecs.SCHEMA.dropped,
    shared=ecs.SCHEMA.shared,
    java_maps=ecs.SCHEMA.java_maps,
    size_limits=ecs.SCHEMA.size_limits,
    companions=ecs.SCHEMA.companions,
    copies=copies(TARGETS),
    integration=ecs.SCHEMA.integration,
)
