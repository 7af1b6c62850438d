"""What stands behind the name of an index: whether all of it is searched, and whether what comes back is all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from keytrail.cluster import named_errors
from keytrail.errors import ClusterError, UsageError
from keytrail.mapping import CLOSED, fits, flat_settings, is_closed

if TYPE_CHECKING:
    from keytrail.cluster import Cluster

Body = Mapping[str, Any]


def closed(cluster: Cluster, pattern: str) -> list[UsageError]:
    """Return an error for each closed index that ``pattern`` means, which a search passes over without a word.

    Errors: those of the cluster.
    """
    with named_errors(f"read the settings of {pattern}"):
        found = cluster.client.indices.get_settings(
            index=pattern, name=CLOSED, flat_settings=True, expand_wildcards=["open", "closed"]
        )
        names = [name for name, one in found.body.items() if is_closed(one["settings"])]
    hint = "POST {0}/_open opens it, and ,-{0} behind the pattern leaves it out"
    return [
        UsageError(f"the index {name} is closed: it is not searched", hint=hint.format(name)) for name in sorted(names)
    ]


def check_source(bodies: Mapping[str, Body], wanted: Iterable[str]) -> None:
    """Raise :class:`UsageError` where an index does not give back fields of its documents that are ``wanted``."""
    paths = sorted(set(wanted))
    for name, body in bodies.items():
        kept = (body.get("mappings") or {}).get("_source") or {}
        hint = "hunt in an index that keeps it, or in the files"
        if str(kept.get("enabled", True)).lower() == "false":
            raise UsageError(f"the index {name} does not keep _source", hint=hint)
        lost = [path for path in paths if not _comes_back(path, kept)]
        if lost:
            raise UsageError(f"the index {name} does not keep {', '.join(lost[:3])} in _source", hint=hint)


def _comes_back(path: str, kept: Mapping[str, Any]) -> bool:
    def named(patterns: Iterable[str]) -> bool:
        return any(fits(pattern, part) for pattern in patterns for part in _parts(path))

    return not named(kept.get("excludes") or ()) and (not kept.get("includes") or named(kept["includes"]))


def _parts(path: str) -> Iterator[str]:
    """A field and the objects that it lies in: what is said of them is said of it."""
    yield path
    yield from (path[:cut] for cut in range(len(path)) if path[cut] == ".")


def shards(bodies: Mapping[str, Body]) -> int:
    """Return how many shards the indices have together."""
    return sum(int(flat_settings(body.get("settings") or {}).get("number_of_shards", 1)) for body in bodies.values())


def check_shards(cluster: Cluster, pattern: str, bodies: Mapping[str, Body], held: int) -> None:
    """Raise :class:`ClusterError` where a point in time that holds so many shards is not of the indices in ``bodies``.

    One may have come or gone since their mappings were read, or the key may not read one. Within ``named_errors``.
    """
    if held == shards(bodies):
        return
    # An alias with a routing has not all shards of its indices.
    found = cluster.client.search_shards(index=pattern)
    if len(found["shards"]) == held and set(found["indices"]) == set(bodies):
        return
    changed = sorted(set(found["indices"]) ^ set(bodies))
    what = f"{', '.join(changed[:3])} came or went meanwhile" if changed else "some of them cannot be searched"
    raise ClusterError(
        f"what {pattern} means is not what was read the mapping of: {what}",
        hint="run it again; if it stays so, may the key that you use read all of these indices?",
    )
