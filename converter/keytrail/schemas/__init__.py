"""The schemas that Keytrail knows by name."""

from __future__ import annotations

from keytrail.errors import SchemaError
from keytrail.schemas.base import Schema
from keytrail.schemas.ecs import SCHEMA as ECS
from keytrail.schemas.keytrail import SCHEMA as KEYTRAIL

SCHEMAS: dict[str, Schema] = {schema.name: schema for schema in (KEYTRAIL, ECS)}


def get_schema(name: str) -> Schema:
    """Return the schema called ``name``; raises :class:`SchemaError` with the names there are."""
    found = SCHEMAS.get(name)
    if found is None:
        raise SchemaError(f"there is no schema {name!r}", hint=f"one of: {', '.join(SCHEMAS)}")
    return found


__all__ = ["SCHEMAS", "Schema", "get_schema"]
