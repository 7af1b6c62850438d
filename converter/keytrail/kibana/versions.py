"""The version of each rule in Kibana: one more whenever what the rule means has changed, and never for its words.

The file keeps, by schema and rule, the version and a digest of what the rule meant then. Keytrail ships one for its
own rules; whoever has others keeps their own beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keytrail.errors import UsageError
from keytrail.files import write_text
from keytrail.kibana.detection import DetectionRule, meaning
from keytrail.schemas import Schema

SHIPPED = Path(__file__).parent / "versions.json"


def read_versions(path: Path | None, schema: Schema) -> Mapping[str, Mapping[str, Any]]:
    """Return the versions of a schema's rules: those that ``path`` keeps, else those of Keytrail's own rules.

    A file that does not exist keeps none yet. Raises :class:`UsageError` for one that is no such file.
    """
    found: dict[str, dict[str, Any]] = _read(path or SHIPPED).get(schema.name, {})
    for name, one in found.items():
        if not (isinstance(one, dict) and isinstance(one.get("version"), int) and isinstance(one.get("meaning"), str)):
            raise UsageError(f"keeps no version of {name}", path=path or SHIPPED, hint="name another file")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot be read: {error}", path=path, hint="name another file") from error
    if not isinstance(found, dict) or not all(isinstance(part, dict) for part in found.values()):
        raise UsageError("is no file of versions", path=path, hint="name another file")
    return found


def write_versions(path: Path, schema: Schema, rules: Iterable[DetectionRule]) -> None:
    """Note the versions of ``rules`` in a file, beside those that it keeps already."""
    whole = _read(path)
    kept = dict(whole.get(schema.name, {}))
    for one in rules:
        kept[one.rule.id] = {"version": one.body["version"], "meaning": meaning(one.body)}
    write_text(path, json.dumps({**whole, schema.name: kept}, indent=1, sort_keys=True) + "\n")
