"""The schemas that Keytrail knows by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from keytrail.errors import SchemaError
from keytrail.schemas.base import Schema


class _Schemas(Mapping[str, Schema]):
    """The schemas by their names; each is a module, which is imported when it is asked for."""

    names = ("keytrail", "ecs", "ecs-custom", "raw")

    def __getitem__(self, name: str) -> Schema:
        if name not in self.names:
            raise KeyError(name)
        found: Schema = import_module(f"{__name__}.{name.replace('-', '_')}").SCHEMA
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


SCHEMAS: Mapping[str, Schema] = _Schemas()


def get_schema(name: str) -> Schema:
    """Return the schema called ``name``; raises :class:`SchemaError` with the names there are."""
    found = SCHEMAS.get(name)
    if found is None:
        raise SchemaError(f"there is no schema {name!r}", hint=f"one of: {', '.join(SCHEMAS)}")
    return found


__all__ = ["SCHEMAS", "Schema", "get_schema"]
