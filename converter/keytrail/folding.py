"""When two letters are the same letter to Sigma, whose matching ignores case, and how Elasticsearch can be told.

Elasticsearch's ``case_insensitive`` folds the 26 ASCII letters and nothing else; Sigma says only "case-insensitive".
Keytrail's reading: letters are the same when simple Unicode case mapping makes them so, and an ASCII letter is the
same as ASCII letters alone (nobody who writes ``k`` means the Kelvin sign).
"""

from __future__ import annotations

import sys
from functools import lru_cache


def fold(text: str) -> str:
    """Return ``text`` with every letter replaced by the one that stands for all its cases."""
    return text.lower() if text.isascii() else "".join(map(_fold_character, text))


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    if character.isascii():
        return character.lower()
    upper = character.upper()
    folded = upper.lower() if len(upper) == 1 else character.lower()
    return character if len(folded) != 1 or folded.isascii() else folded


def variants(character: str) -> tuple[str, ...]:
    """Return every character that :func:`fold` holds to be the same as ``character``, itself among them."""
    if character.isascii():
        return tuple(sorted({character.lower(), character.upper()}))
    return _classes().get(_fold_character(character), (character,))


def needs_folding(text: str) -> bool:
    """Tell whether ``text`` has a non-ASCII letter with another case, which Elasticsearch does not fold."""
    return not text.isascii() and any(len(variants(character)) > 1 for character in text if not character.isascii())


@lru_cache(maxsize=1)
def _classes() -> dict[str, tuple[str, ...]]:
    """The non-ASCII letters with more than one case, by what they fold to (made once, a tenth of a second)."""
    classes: dict[str, set[str]] = {}
    for code in range(128, sys.maxunicode + 1):
        if 0xD800 <= code <= 0xDFFF:
            continue
        character = chr(code)
        folded = _fold_character.__wrapped__(character)
        if folded != character:
            classes.setdefault(folded, {folded}).add(character)
    return {folded: tuple(sorted(members)) for folded, members in classes.items()}
