"""Keytrail watches the KMS keys that seal CloudTrail's log files.

Sigma rules, Elasticsearch queries that are proven to mean the same, and the tools to test, hunt and explain.
"""

__version__ = "0.1.0"
