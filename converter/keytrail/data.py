"""Where the data that comes with Keytrail lies: in the installed package, or beside it in a checkout."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from keytrail.errors import UsageError

NAMES = ("rules", "fixtures")
_CHECKOUT = Path(__file__).resolve().parents[2]


def packaged(name: str) -> Path:
    """The folder of shipped data, ``rules`` or ``fixtures``.

    Errors: UsageError when there is no such data, or when an installation lacks it.
    """
    if name not in NAMES:
        raise UsageError(f"Keytrail comes with no data called {name!r}", hint=f"one of: {', '.join(NAMES)}")
    for folder in (*_installed(name), _CHECKOUT / name):
        if folder.is_dir():
            return folder
    raise UsageError(f"this installation of Keytrail lacks its {name}", hint="install the whole wheel again")


def _installed(name: str) -> list[Path]:
    """The folders of the package that holds the data; it holds no code, so it need not be imported."""
    spec = find_spec(f"keytrail.{name}")
    if spec is None or spec.submodule_search_locations is None:
        return []
    return [Path(place) for place in spec.submodule_search_locations]
