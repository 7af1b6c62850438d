"""Where Elasticsearch is and who asks: its URL, and credentials from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keytrail.errors import UsageError
from keytrail.files import read_key

CREDENTIALS = (
    "set ELASTICSEARCH_API_KEY (or ELASTICSEARCH_API_KEY_FILE), or ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD"
)


def checked(url: str) -> str:
    """Return the URL with its port. Raises :class:`UsageError`, which does not repeat what may hold a secret."""
    if "@" in url:
        raise UsageError("credentials do not belong into the URL of Elasticsearch", hint=CREDENTIALS)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"{url!r} is no URL", hint="give http(s)://host:port") from None
    if not url.isprintable() or " " in url:
        raise UsageError(f"{url!r} is no URL", hint="give http(s)://host:port")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is no URL of an Elasticsearch", hint="give http(s)://host:port")
    if parts.query or parts.fragment:
        hint = f"leave out all from ? or # on, and {CREDENTIALS}"
        raise UsageError("the URL of Elasticsearch goes on after its path", hint=hint)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"


def _key_in_file() -> str | None:
    """The key in the file that ELASTICSEARCH_API_KEY_FILE names, as secrets are given to containers."""
    path = os.environ.get("ELASTICSEARCH_API_KEY_FILE")
    if not path:
        return None
    key = read_key(Path(path))
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError("holds no API key", path=path, hint="a file with the key alone, as Elasticsearch encodes it")
    return key


def credentials() -> dict[str, Any]:
    """Return what the client needs to log in, as the environment gives it. Raises :class:`UsageError`."""
    key = os.environ.get("ELASTICSEARCH_API_KEY") or _key_in_file()
    user, password = os.environ.get("ELASTICSEARCH_USERNAME"), os.environ.get("ELASTICSEARCH_PASSWORD")
    if key:
        return {"api_key": key}
    if user and password:
        return {"basic_auth": (user, password)}
    if user or password:
        message = "ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD go together"
        raise UsageError(message, hint="set both or neither")
    return {}


def hint() -> str:
    """What to do about a login that failed: nothing was given, or it is wrong."""
    given = [
        name for name in ("API_KEY", "API_KEY_FILE", "USERNAME", "PASSWORD") if os.environ.get(f"ELASTICSEARCH_{name}")
    ]
    used = given[:1] if given[:1] in (["API_KEY"], ["API_KEY_FILE"]) else given
    return f"check {' and '.join(f'ELASTICSEARCH_{name}' for name in used)}" if used else CREDENTIALS
