"""MITRE ATT&CK as Kibana's rules have it, from data that comes with Keytrail: no download, and no pairing by chance."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

SITE = "https://attack.mitre.org"
_NUMBER = re.compile(r"[tT]\d{4}(\.\d{3})?")


@cache
def known() -> dict[str, Any]:
    """Return what is known of ATT&CK: ``tactics`` and ``techniques`` by name and number, and what was ``renamed``."""
    return dict(yaml.safe_load((Path(__file__).parent / "attack.yml").read_text("utf-8")))


@dataclass(frozen=True)
class Attack:
    """What the tags of a rule say of ATT&CK: tactics by name, techniques by number, and those that are not known."""

    tactics: tuple[str, ...]
    techniques: tuple[str, ...]
    unknown: tuple[str, ...]


def read(tags: Iterable[str]) -> Attack:
    """Return what Sigma's tags, ``attack.impact`` and ``attack.t1485``, say; older names are what they are now.

    The tactic that version 19 split says nothing beside a technique, which has one of its own.
    """
    said = [tag.removeprefix("attack.").replace("_", "-") for tag in tags if tag.startswith("attack.")]
    said = [name for name in said if not _other(name)]
    numbers = [name.upper() for name in said if _NUMBER.fullmatch(name)]
    techniques = dict.fromkeys(known()["renamed"].get(name, name) for name in numbers)
    found = tuple(name for name in techniques if name in known()["techniques"])
    names = dict.fromkeys(name for name in said if not _NUMBER.fullmatch(name))
    tactics = tuple(name for name in names if name in known()["tactics"])
    split = known()["split"] if found else ()
    unknown = [name for name in (*techniques, *names) if name not in (*found, *tactics, *split)]
    return Attack(tactics, found, tuple(unknown))


def threats(tags: Iterable[str]) -> list[dict[str, Any]]:
    """Return Kibana's ``threat``: one entry for each tactic of a rule, with the techniques that belong to it.

    Parameters: ``tags`` are Sigma's. A technique stands under those of its tactics that the rule names, or under all of
    its tactics where the rule names none of them. What is not known is left out: :func:`read` tells it.
    """
    said = read(tags)
    placed: dict[str, list[str]] = {name: [] for name in said.tactics}
    for name in said.techniques:
        own = known()["techniques"][name]["tactics"]
        for tactic in [one for one in own if one in said.tactics] or own:
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
