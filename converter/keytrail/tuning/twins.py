"""Hostile twins: events that look as much like a benign hit as an attacker can make them, and must still fire.

Each differs from the hit in one thing that it would take power to make the same: who acts, on what, in whose account,
by which call. In everything that a caller chooses (session name, user agent, network) it copies the hit, or writes
there what a careless filter would take for the benign one.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keytrail.paths import leaves, text, values
from keytrail.tuning.fields import (
    ADDRESS,
    CALL,
    KEY,
    KEY_ARN,
    KMS,
    ONE_KEY,
    RECIPIENT,
    RESOURCE,
    SOURCE,
    WHATS,
    Actor,
    actor_of,
    session_of,
)

Record = dict[str, Any]
STRANGER = "keytrail-intruder"
OTHER_ACCOUNT = "999999999999"
OTHER_ID = "deadbeef-dead-4bad-8bad-deadbeefdead"


@dataclass(frozen=True)
class Twin:
    """A hostile event, and what it is: ``what`` goes into the sentence "... would be silenced".

    ``through`` is the list that it has one more element in: only an exclusion that asks for that can mistake it.
    """

    what: str
    record: Record
    through: str | None = None


@dataclass(frozen=True)
class World:
    """What an attacker could use besides: the site's other keys, the rule's other calls, the trusted addresses."""

    keys: Sequence[str] = ()
    calls: Sequence[str] = ()
    addresses: Sequence[str] = ()


def twins(record: Mapping[str, Any], world: World) -> Iterator[Twin]:
    """Yield the hostile twins of one hit."""
    for make in (_who, _key, _key_set, _what, _account, _call, _beside):
        yield from make(record, actor_of(record), world)


# -- who ----------------------------------------------------------------------------------------------------------


def _who(record: Mapping[str, Any], actor: Actor, world: World) -> Iterator[Twin]:
    identity = record.get("userIdentity")
    given = identity if isinstance(identity, Mapping) else {}
    for what, made in _identities(actor, session_of(record) or "session", text(given.get("accountId") or "")):
        kept = {name: given[name] for name in ("accountId", "invokedBy", "accessKeyId") if name in given}
        twin = {**copy.deepcopy(dict(record)), "userIdentity": {**kept, **made}}
        yield Twin(what, twin)
        for address in world.addresses:
            yield Twin(f"{what}, from the trusted address {address}", {**twin, ADDRESS: address})
        yield Twin(f"{what}, with its name for a user agent", {**twin, "userAgent": actor.name})
    bare = {name: value for name, value in given.items() if name not in ("sessionContext", "arn", "invokedBy", "type")}
    yield Twin("somebody of whom the event tells nothing", {**copy.deepcopy(dict(record)), "userIdentity": bare})


def _identities(actor: Actor, session: str, account: str) -> Iterator[tuple[str, Record]]:
    """Others who act, each as like the benign one as names can be."""
    partition = actor.name.split(":")[1] if actor.account else "aws"
    own = actor.account or account or OTHER_ACCOUNT
    name = actor.name.rpartition("/")[2] or actor.name

    def arn(path: str, where: str = own, within: str = partition) -> str:
        return f"arn:{within}:iam::{where}:{path}"

    roles = {
        "another role with the same session name": arn(f"role/{STRANGER}"),
        "a role of the same name under another path": arn(f"role/{STRANGER}/{name}"),
        "a role whose name begins the same": arn(f"role/{name}x"),
        "a role whose name ends the same": arn(f"role/x{name}"),
        "a role of the same name in another account": arn(f"role/{name}", OTHER_ACCOUNT),
        "a role of the same name in another partition": arn(
            f"role/{name}", own, "aws-cn" if partition == "aws" else "aws"
        ),
    }
    for what, role in roles.items():
        yield what, _role(role, session)
    yield "another role whose session has the name of the benign one", _role(arn(f"role/{STRANGER}"), name)
    users = {"another user": arn(f"user/{STRANGER}"), "a user of the same name": arn(f"user/people/{name}")}
    users["a user of the same name in another account"] = arn(f"user/{name}", OTHER_ACCOUNT)
    for what, user in users.items():
        if user != actor.name:
            yield what, {"type": "IAMUser", "arn": user, "userName": user.rpartition("/")[2]}
    yield "the root user", {"type": "Root", "arn": arn("root")}
    yield (
        "a federated user of the same name",
        {"type": "FederatedUser", "arn": f"arn:aws:sts::{own}:federated-user/{name}"},
    )


def _role(arn: str, session: str) -> Record:
    name, account, partition = arn.rpartition("/")[2], arn.split(":")[4], arn.split(":")[1]
    issuer = {"type": "Role", "arn": arn, "userName": name, "accountId": account}
    return {
        "type": "AssumedRole",
        "arn": f"arn:{partition}:sts::{account}:assumed-role/{name}/{session}",
        "principalId": f"AROAKEYTRAILINTRUDER:{session}",
        "sessionContext": {"sessionIssuer": issuer},
    }


# -- what ---------------------------------------------------------------------------------------------------------


def _key(record: Mapping[str, Any], actor: Actor, world: World) -> Iterator[Twin]:
    """The same call about another key, which the caller can spell in four ways; what AWS writes of it is one."""
    used = [text(value) for value in values(record, RESOURCE) if KEY_ARN.search(text(value))]
    asked = [text(value) for value in values(record, KEY)]
    if not used and not asked:
        return
    for what, key in _other_keys((used or asked)[0], world):
        key_id = key.rpartition("/")[2]
        for spelling in [key, key_id, f"alias/{STRANGER}"] if asked else [""]:
            twin = copy.deepcopy(dict(record))
            _replace(twin, "resources", lambda value, new=key: new if KEY_ARN.search(value) else value)
            _replace(twin, "requestParameters", lambda value, new=spelling: new, only="keyId")
            yield Twin(f"{what}{f', called {spelling}' if asked else ''}", twin)
    if used and asked and asked[0].rpartition(":")[2].startswith("alias/"):
        twin = copy.deepcopy(dict(record))
        _replace(twin, "resources", lambda value: _foreign(value) if KEY_ARN.search(value) else value)
        yield Twin("another key to which the alias was moved", twin)


def _key_set(record: Mapping[str, Any], actor: Actor, world: World) -> Iterator[Twin]:
    """The same call that sets another key: for a trail, an object or a grant.

    Beside what was asked for, what answers it is changed. The key that a call of KMS is about is ``_key``'s: an answer
    about another one than was asked for is an event that there cannot be.
    """
    parameters = record.get("requestParameters")
    given = [(name, value) for name, value in leaves(parameters) if isinstance(value, str) and name != "keyId"]
    asked = {value for _, value in given if KEY_ARN.search(value)}
    others = [("another key", ""), *((f"the key {own}", own) for own in world.keys if own not in asked)]
    for what, key in others if asked else ():
        twin = copy.deepcopy(dict(record))
        for top in ("requestParameters", "responseElements"):
            _replace(twin, top, lambda value, new=key: (new or _foreign(value)) if value in asked else value)
        yield Twin(f"the same with {what} in what is asked for", twin)


def _other_keys(key: str, world: World) -> Iterator[tuple[str, str]]:
    yield "another key", _foreign(key)
    if KEY_ARN.search(key):
        arn, partition, service, region, account, name = key.split(":")
        other = "eu-north-1" if region != "eu-north-1" else "us-east-1"
        yield "the key of that id in another region", ":".join((arn, partition, service, other, account, name))
        yield "the key of that id in another account", ":".join((arn, partition, service, region, OTHER_ACCOUNT, name))
        cn = "aws-cn" if partition == "aws" else "aws"
        yield "the key of that id in another partition", ":".join((arn, cn, service, region, account, name))
    for own in world.keys:
        if own != key:
            yield f"the key {own}", own


def _foreign(key: str) -> str:
    return key.rpartition("/")[0] + f"/{OTHER_ID}" if "/" in key else OTHER_ID


def _what(record: Mapping[str, Any], actor: Actor, world: World) -> Iterator[Twin]:
    """The same call about something else: another bucket, trail or store, with a name that is like the benign one."""
    for name in WHATS:
        if name in (RESOURCE, KEY):
            continue
        for value in map(text, values(record, name)):
            for other in (f"{STRANGER}-logs", f"{value}-2", f"x{value}", *_recased(value, name)):
                yield Twin(f"the {name.partition('.')[2]} {other}", _renamed(record, name, value, other))


def _renamed(record: Mapping[str, Any], name: str, value: str, other: str) -> Record:
    twin = copy.deepcopy(dict(record))
    _replace(twin, "requestParameters", lambda _: other, only=name.partition(".")[2])
    _replace(twin, "resources", lambda found: _inside(found, value, other))
    return twin


def _recased(value: str, name: str) -> list[str]:
    """A bucket's name is in small letters, and ids know no case; of trails nobody says so."""
    return [value.swapcase()] if name.endswith(("name", "trailName")) and not value.startswith("arn:") else []


def _inside(found: str, old: str, new: str) -> str:
    return re.sub(rf"(?<=:){re.escape(old)}(?=/|$)", lambda _: new, found)


# -- whose, and how -----------------------------------------------------------------------------------------------


def _account(record: Mapping[str, Any], actor: Actor, world: World) -> Iterator[Twin]:
    if RECIPIENT in record:
        yield Twin("the same in another account", {**copy.deepcopy(dict(record)), RECIPIENT: OTHER_ACCOUNT})


def _call(record: Mapping[str, Any], actor: Actor, world: World) -> Iterator[Twin]:
    for call in world.calls:
        if call != record.get(CALL):
            yield Twin(f"another call, {call}", {**copy.deepcopy(dict(record)), CALL: call})


def _beside(record: Mapping[str, Any], actor: Actor, world: World) -> Iterator[Twin]:
    """In a list, Sigma asks for any element: a known one would cover for a hostile one beside it.

    Where AWS writes one key in resources, there is no such event.
    """
    resources = record.get("resources")
    alone = record.get(SOURCE) == KMS and record.get(CALL) in ONE_KEY and isinstance(resources, list)
    if isinstance(resources, list) and resources and not (alone and len(resources) == 1):
        last = resources[-1]
        other = {**last, "ARN": _foreign(text(last.get("ARN") or ""))} if isinstance(last, Mapping) else last
        twin = {**copy.deepcopy(dict(record)), "resources": [*resources, other]}
        yield Twin("the same beside another resource", twin, RESOURCE)
    parameters = record.get("requestParameters")
    for name, value in parameters.items() if isinstance(parameters, Mapping) else ():
        if isinstance(value, list) and f"requestParameters.{name}" in WHATS:
            twin = copy.deepcopy(dict(record))
            twin["requestParameters"][name] = [*value, OTHER_ID]
            yield Twin(f"the same beside another {name}", twin, f"requestParameters.{name}")


def _replace(record: Record, top: str, change: Any, only: str | None = None) -> None:
    """Change the texts below ``top`` in place, those of one key or all."""

    def walk(node: Any, named: bool) -> Any:
        if isinstance(node, dict):
            return {key: walk(value, named or key == only) for key, value in node.items()}
        if isinstance(node, list):
            return [walk(value, named) for value in node]
        return change(node) if isinstance(node, str) and named else node

    if top in record:
        record[top] = walk(record[top], only is None)
