"""Event times: ISO 8601, read to the millisecond, which is what an index keeps of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from functools import lru_cache

DAY = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# CloudTrail writes 2026-11-20T10:15:00Z. The rest of ISO 8601 that ingest pipelines take is taken as well.
_ISO = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)(?:T(?:(?P<hour>\d\d)(?::(?P<minute>\d\d)"
    r"(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?)?(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?)?)?)?",
    re.ASCII,
)
_FORM, _DIGITS = b"0000-00-00T00:00:00Z", bytes.maketrans(b"123456789", b"000000000")
_PLAIN = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)Z", re.ASCII)


def milliseconds(value: object) -> int | None:
    """Return a time as milliseconds since 1970, what is finer cut off; None for what is no time."""
    if not isinstance(value, str):
        return None
    plain = _PLAIN.fullmatch(value, 11) if value[10:11] == "T" else None
    if plain is not None:
        midnight = _midnight(value[:10])
        hour, minute, second = map(int, plain.groups())
        return None if midnight is None else midnight + (hour * 3600 + minute * 60 + second) * 1000
    found = _ISO.fullmatch(value)
    if found is None:
        return None
    zone = (found["zone"] or "Z").replace(":", "")
    away = timedelta(0) if zone == "Z" else timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5] or 0))
    year, month, day = (int(found[name] or 1) for name in ("year", "month", "day"))
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    thousandths = int((found["fraction"] or "0").ljust(3, "0")[:3])
    try:
        local = datetime(year, month, day, hour, minute, second, thousandths * 1000, timezone.utc)
        moment = local + away if zone[0] == "-" else local - away
    except (ValueError, OverflowError):
        return None
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def plain_ends(values: Iterable[object]) -> tuple[object, object]:
    """Return the first and the last of some times in the form of CloudTrail; None for both where others are among them.

    The order of such times is that of their letters.
    """
    distinct = set(values)
    try:
        text = "\n".join(distinct)  # type: ignore[arg-type]  # what is no text is an error
    except TypeError:
        return None, None
    if not text.isascii() or text.encode().translate(_DIGITS) != b"\n".join([_FORM] * len(distinct)):
        return None, None
    return min(distinct, default=None), max(distinct, default=None)  # type: ignore[type-var]


@lru_cache(maxsize=4096)
def _midnight(day: str) -> int | None:
    return milliseconds(day) if len(day) == 10 else None


def iso(moment: int) -> str:
    """Return milliseconds since 1970 as ISO 8601, in UTC; thousandths only where there are some."""
    found = _EPOCH + timedelta(milliseconds=moment)
    return found.isoformat(timespec="milliseconds" if moment % 1000 else "seconds").replace("+00:00", "Z")
