"""Where the data that comes with Keytrail lies: in the installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

from keytrail.errors import UsageError

NAMES = ("rules", "exclusions", "fixtures")
_HERE = Path(__file__).resolve().parent


def packaged(name: str) -> Path:
    """The folder of shipped data: ``rules``, ``exclusions`` or ``fixtures``.

    Errors: UsageError when there is no such data, or when an installation lacks it.
    """
    if name not in NAMES:
        raise UsageError(f"Keytrail comes with no data called {name!r}", hint=f"one of: {', '.join(NAMES)}")
    # In a wheel they lie in this package, so no module of it can be called like one of them.
    for folder in (_HERE / name, _HERE.parents[1] / name):
        if folder.is_dir():
            return folder
    raise UsageError(f"this installation of Keytrail lacks its {name}", hint="install the whole wheel again")
