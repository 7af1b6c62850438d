"""A new rule with its cases, ready to be filled in: no Python and nothing to register."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from uuid import uuid4

from keytrail.errors import UsageError
from keytrail.files import write_text

_RULE = """\
title: {title}
id: {id}
status: experimental
description: What happens, and why it matters to whoever relies on the log.
references:
    - https://docs.aws.amazon.com/kms/latest/developerguide/logging-using-cloudtrail.html
author: Keytrail
date: {date}
tags:
    - attack.impact
logsource:
    product: aws
    service: cloudtrail
detection:
    selection:
        eventSource: kms.amazonaws.com
        eventName: DisableKey
        errorCode: null
    condition: selection
falsepositives:
    - Who does this for a good reason, and how an analyst can tell.
level: medium
keytrail:
    telemetry: [kms-management]
    triage:
        - What to look at first.
        - Whom to ask, and what to undo.
"""
_CASES = """\
cases:
    - name: what the rule is for
      event: disable_key
      match: true
    - name: the same in another case, by somebody else
      event: disable_key
      set: {eventName: disablekey, sourceIPAddress: 198.51.100.7}
      match: true
    - name: the key is looked at, and nothing is changed
      event: disable_key
      set: {eventName: DescribeKey}
      match: false
    - name: the same call, refused
      event: disable_key
      add: {errorCode: AccessDenied}
      match: false
"""


def new_rule(name: str, rules: Path, cases: Path) -> tuple[Path, Path]:
    """Write ``rules/<name>.yml`` and ``cases/<name>.yml``; ``name`` is ``folder/stem``. Returns both paths.

    Raises :class:`UsageError` for a name that is no stem or is taken; nothing is overwritten.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*/[a-z][a-z0-9_]*", name):
        raise UsageError(f"{name!r} is no name for a rule", hint="write folder/stem in small letters: key/key_tagged")
    stem = name.split("/")[1]
    for folder in (rules, cases):
        taken = next(folder.rglob(f"{stem}.yml"), None)
        if taken is not None:
            raise UsageError(f"{taken} is there already", hint="a stem names one rule in the whole pack")
    paths = (rules / f"{name}.yml", cases / f"{name}.yml")
    title = stem.replace("_", " ").capitalize()
    write_text(paths[0], _RULE.format(title=title, id=uuid4(), date=date.today().isoformat()))
    write_text(paths[1], _CASES)
    return paths
