"""What a hunt has read, and what it could not say: the same for every way to print it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from keytrail.errors import KeytrailError
from keytrail.hunt import Hunt
from keytrail.records import Reader


@dataclass(frozen=True)
class Summary:
    """What a hunt has read, and what came of each rule.

    ``counts`` has each rule that could be evaluated, 0 included, ``refused`` the reason for each that could not,
    ``blind`` the reason for each whose events cannot be in the logs, ``doubtful`` of each that is *exact if* the
    conditions that the searched index breaks. ``bad`` are the first of ``bad_count`` inputs that could not be read.
    ``first`` and ``last`` are event times in milliseconds since 1970, where they are known.
    """

    counts: Mapping[str, int]
    refused: Mapping[str, str]
    searched: int
    files: int
    records: int
    bad: Sequence[KeytrailError] = ()
    bad_count: int = 0
    blind: Mapping[str, str] = field(default_factory=dict)
    doubtful: Mapping[str, str] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None

    @classmethod
    def of(cls, hunt: Hunt, reader: Reader) -> Summary:
        """Return the summary of a hunt that has come to its end."""
        return cls(
            hunt.counts,
            hunt.refused,
            hunt.searched,
            reader.files,
            reader.records,
            reader.bad,
            reader.bad_count,
            hunt.blind,
            first=hunt.span.first,
            last=hunt.span.last,
        )

    def read(self) -> dict[str, int]:
        """Return what was read, as JSON has it."""
        return {"files": self.files, "records": self.records, "bad": self.bad_count}
