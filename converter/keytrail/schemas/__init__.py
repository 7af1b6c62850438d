"""The schemas that Keytrail knows by name."""

from __future__ import annotations

from keytrail.errors import SchemaError
from keytrail.schemas.base import Schema
from keytrail.schemas.ecs import SCHEMA as ECS
from keytrail.schemas.ecs_custom import SCHEMA as ECS_CUSTOM
from keytrail.schemas.keytrail import SCHEMA as KEYTRAIL
from keytrail.schemas.raw import SCHEMA as RAW

SCHEMAS: dict[str, Schema] = {schema.name: schema for schema in (KEYTRAIL, ECS, ECS_CUSTOM, RAW)}


def get_schema(name: str) -> Schema:
    """Return the schema called ``name``; raises :class:`SchemaError` with the names there are."""
    found = SCHEMAS.get(name)
    if found is None:
        raise SchemaError(f"there is no schema {name!r}", hint=f"one of: {', '.join(SCHEMAS)}")
    return found


__all__ = ["SCHEMAS", "Schema", "get_schema"]
