"""Every error that Keytrail raises on purpose, each with a name, a place and what to do about it."""

from __future__ import annotations

from pathlib import Path

from sigma.exceptions import SigmaError

from keytrail.visible import path_text, visible


class KeytrailError(SigmaError):
    """Base of all named errors; a SigmaError, so that sigma-cli reports it like those of any other backend.

    Parameters: ``message`` says what is wrong; ``path``, ``line`` and ``column`` (counted from 1) say where;
    ``hint`` says what to do; ``field`` is the field that it is about. ``str()`` gives all, the way compilers do.
    """

    def __init__(
        self,
        message: str,
        *,
        path: Path | str | None = None,
        line: int | None = None,
        column: int | None = None,
        hint: str | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = None if path is None else str(path)
        self.line = line
        self.column = column
        self.hint = hint
        self.field = field

    @property
    def place(self) -> str:
        """The file with line and column, as far as they are known."""
        # A line feed in a file's name would begin what looks like another error.
        path = None if self.path is None else visible(path_text(self.path))
        return ":".join(str(part) for part in (path, self.line, self.column) if part is not None)

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.place else self.message
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class UsageError(KeytrailError):
    """The command was asked for something that does not exist or does not fit together."""


class RuleError(KeytrailError):
    """A Sigma rule that cannot be read or that says something its author cannot have meant."""


class RecordError(KeytrailError):
    """A log file, or a part of one, that is not CloudTrail records."""


class CaseError(KeytrailError):
    """A fixture case that names an event or a field which does not exist, or is malformed."""


class SchemaError(KeytrailError):
    """A schema that is unknown or whose mapping cannot be used."""


class UnmappedField(SchemaError):
    """A rule uses a field that the schema has no place for: the query would silently match nothing."""


class UnsupportedQuery(KeytrailError):
    """The embedded engine was given Query DSL that it does not implement."""


class NodeError(KeytrailError):
    """No real Elasticsearch could be started or reached."""


class ClusterError(KeytrailError):
    """A real Elasticsearch refused or failed a request."""


class Rejected(ClusterError):
    """A real Elasticsearch finds a request wrong in itself: asking again would not help."""


class Refused(KeytrailError):
    """No query for this target and schema means what the rule says; the reason names the field and its type."""


class FilterError(KeytrailError):
    """A Sigma filter that would not do what its author means, or that misses what an exclusion has to say."""


class ProfileError(KeytrailError):
    """A site profile that cannot be read, or that says something it cannot mean."""


class NeedsProfile(Refused):
    """A rule that means nothing without a site profile."""


class StateError(KeytrailError):
    """A state file that is none, is broken or is in use."""


class Stopped(KeytrailError):
    """The user asked to stop."""


class WorkerError(KeytrailError):
    """A process that searched files ended before it was done."""
