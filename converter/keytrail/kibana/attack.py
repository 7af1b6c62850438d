"""MITRE ATT&CK as Kibana's rules have it, from data that comes with Keytrail: no download, and no pairing by chance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from keytrail.errors import Refused

SITE = "https://attack.mitre.org"


@cache
def known() -> dict[str, Any]:
    """Return what is known of ATT&CK: ``tactics`` and ``techniques`` by their names and numbers."""
    return dict(yaml.safe_load((Path(__file__).parent / "attack.yml").read_text("utf-8")))


def threats(tags: Iterable[str]) -> list[dict[str, Any]]:
    """Return Kibana's ``threat``: one entry for each tactic of a rule, with the techniques that belong to it.

    Parameters: ``tags`` are Sigma's, ``attack.impact`` and ``attack.t1485``. A technique stands under those of its
    tactics that the rule names, or under all of its tactics where the rule names none of them. Raises
    :class:`Refused` for what is not known.
    """
    said = [tag.removeprefix("attack.") for tag in tags if tag.startswith("attack.")]
    techniques = [name.upper() for name in said if name[:1] in "tT" and name[1:2].isdigit()]
    tactics = [name.replace("_", "-") for name in said if name.upper() not in techniques and not _other(name)]
    for name in techniques:
        if name not in known()["techniques"]:
            raise Refused(f"ATT&CK {name} is not among the techniques known here", hint="add it to kibana/attack.yml")
    for name in tactics:
        if name not in known()["tactics"]:
            raise Refused(f"{name!r} is no tactic of ATT&CK {known()['version']}", hint="is it the one's older name?")
    placed: dict[str, list[str]] = {name: [] for name in tactics}
    for name in techniques:
        own = known()["techniques"][name]["tactics"]
        for tactic in [one for one in own if one in tactics] or own:
            placed.setdefault(tactic, []).append(name)
    return [_threat(tactic, found) for tactic, found in sorted(placed.items())]


def _other(name: str) -> bool:
    """Groups (g0007), software (s0154) and campaigns are tags of ATT&CK that no rule of Kibana has a place for."""
    return name[:1] in "gscGSC" and name[1:].isdigit()


def _threat(tactic: str, techniques: list[str]) -> dict[str, Any]:
    number, name = known()["tactics"][tactic]
    made: dict[str, Any] = {
        "framework": "MITRE ATT&CK",
        "tactic": {"id": number, "name": name, "reference": f"{SITE}/tactics/{number}/"},
    }
    if techniques:
        made["technique"] = list(_nested(techniques))
    return made


def _nested(techniques: list[str]) -> Iterator[dict[str, Any]]:
    """The techniques, with their sub-techniques inside."""
    for parent in dict.fromkeys(sorted(name.partition(".")[0] for name in techniques)):
        inner = [_technique(name) for name in sorted(techniques) if name.startswith(f"{parent}.")]
        yield _technique(parent) | ({"subtechnique": inner} if inner else {})


def _technique(name: str) -> dict[str, str]:
    place = name.replace(".", "/")
    return {"id": name, "name": known()["techniques"][name]["name"], "reference": f"{SITE}/techniques/{place}/"}
