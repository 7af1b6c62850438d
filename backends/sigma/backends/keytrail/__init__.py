"""Keytrail's targets for sigma-cli."""

from keytrail.targets import KeytrailEsqlBackend, KeytrailLuceneBackend, QueryDslBackend

__all__ = ["KeytrailEsqlBackend", "KeytrailLuceneBackend", "QueryDslBackend"]
