"""Keytrail's targets for sigma-cli."""

from keytrail.convert import QueryDslBackend

__all__ = ["QueryDslBackend"]
