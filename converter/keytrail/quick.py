"""Which rules match which records of a file, asking as little as can be: most of it is known before a record is read.

A record's key is its eventSource and eventName. For each key, what is left of the rules is found once; mostly that is
nothing. Where rules ask about many records, the members that they ask about are taken out of every record, and become
part of the key: then there is one answer for all records of a key, and no text of a record is needed.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal, Union

from keytrail import scan
from keytrail.parts import Known, Parts
from keytrail.specialise import Left, Specialised, matching

# What was found out is remembered for so many keys, none of which is longer than that.
MOST_KEYS, LONGEST_KEY = 20_000, 300
# Members are taken out of all records where one in so many is asked about them, and they are no more than so many.
BUSY, MOST_MEMBERS = 8, 30

Key = tuple[Any, ...]
# Of the records of a key: nothing can match, these match all of them, or this is left to ask each.
Verdict = Union[Literal[False], tuple[int, ...], Left[int]]
# A record that rules match: its place, theirs, and its JSON where it was read.
Matched = tuple[int, tuple[int, ...], Union[bytes, None]]
_OWN = {"eventSource", "eventName", "eventTime", "eventVersion"}


@dataclass
class Outcome:
    """What was found in a file: what matches, and the first record of each kind that has not been seen."""

    matched: list[Matched]
    firsts: dict[scan.Kind, int]


class _View:
    """What is taken out of each record, and what is known with that."""

    def __init__(self, own: frozenset[str] = frozenset(), dotted: frozenset[str] = frozenset(), *, timed: bool) -> None:
        self.own = own
        self.dotted = dotted
        self.shape = scan.Shape(sorted(own), sorted(dotted), timed=timed)
        self.verdicts: dict[Key, Verdict] = {}

    def tells(self, left: Left[int]) -> bool:
        """Whether a key has all that is left to ask about."""
        return self.own.issuperset(left.own) and self.dotted.issuperset(left.dotted)

    def remember(self, key: Key, verdict: Verdict) -> None:
        if sum(map(len, key)) <= LONGEST_KEY:
            if len(self.verdicts) >= MOST_KEYS:
                self.verdicts.clear()
            self.verdicts[key] = verdict


class Quick:
    """Finds what matches in file after file.

    Parameters: ``taken`` are the places of rules whose matches have to be read in any case, for a correlation.
    """

    def __init__(self, special: Specialised[int], known: Known, taken: frozenset[int], *, timed: bool) -> None:
        self._special = special
        self._known = known
        self._taken = taken
        self._timed = timed
        self._quiet = self._view = _View(timed=timed)

    @property
    def shape(self) -> scan.Shape:
        """What the next file's records are to be scanned for."""
        return self._view.shape

    def search(self, scanned: scan.Scanned, inside: Sequence[bool] | None, seen: Container[scan.Kind]) -> Outcome:
        """Find what matches in a file that was scanned for ``shape``.

        Parameters: ``inside`` tells which records count, None is all; ``seen`` are kinds of calls. Raises
        :class:`scan.NotPlain` where a member that is asked about is beyond the reader's limits.
        """
        view, shape, outlines = self._view, self._view.shape, scanned.outlines
        # Keys with the JSON of members are long, and made once; the short ones are rather made again than kept.
        keys = list(shape.keys(outlines)) if shape.members else None
        verdicts: list[Verdict | None] = list(map(view.verdicts.get, keys or shape.keys(outlines)))
        firsts: dict[scan.Kind, int] = {}
        unknown = self._unknown(verdicts, inside)
        theirs = [keys[place] for place in unknown] if keys else shape.keys([outlines[place] for place in unknown])
        for place, key in zip(unknown, theirs, strict=True):
            if key[:2] not in seen:
                firsts.setdefault((key[0], key[1]), place)
            verdicts[place] = self._verdict(view, key)
        busy = [(place, verdict) for place, verdict in enumerate(verdicts) if verdict]
        if inside is not None:
            busy = [(place, verdict) for place, verdict in busy if inside[place]]
        asked = [(place, left) for place, left in busy if isinstance(left, Left)]
        matched: list[Matched] = [(place, rules, None) for place, rules in busy if isinstance(rules, tuple)]
        matched += self._asked(scanned, asked)
        self._choose([left for _, left in asked], verdicts)
        return Outcome(sorted(matched, key=itemgetter(0)) if asked else matched, firsts)

    def forget(self) -> None:
        """Forget keys: those of a file that is read with care after all have not been seen, and are not to be known."""
        self._view.verdicts.clear()

    @staticmethod
    def _unknown(verdicts: Sequence[Verdict | None], inside: Sequence[bool] | None) -> list[int]:
        if None not in verdicts:
            return []
        return [n for n, one in enumerate(verdicts) if one is None and (inside is None or inside[n])]

    def _verdict(self, view: _View, key: Key) -> Verdict:
        found = view.verdicts.get(key)
        if found is None:
            left = self._special.of(key[0], key[1])
            found = left if left.asks else False
            if left.asks and view.tells(left) and self._few(left):
                raws = {name: raw for name, raw in zip(view.shape.members, key[2:], strict=True) if raw}
                found = left.matching(self._known.some(raws))
            view.remember(key, found)
        return found

    def _few(self, left: Left[int]) -> bool:
        """Whether all that is asked is about a few members, and no match has to be read."""
        return left.few and _OWN.isdisjoint(left.own) and self._taken.isdisjoint(left.subjects)

    def _asked(self, scanned: scan.Scanned, asked: Sequence[tuple[int, Left[int]]]) -> Iterator[Matched]:
        texts = scanned.texts([place for place, _ in asked])
        for (place, left), text in zip(asked, texts, strict=True):
            asks = left.possible(text)
            rules = matching(asks, self._parts(left, text)) if asks else ()
            if rules:
                yield place, rules, text

    def _parts(self, left: Left[int], text: bytes) -> Parts:
        if left.members is None or any(map(text.__contains__, left.strange)):
            return self._known.whole(scan.record(text))
        return self._known.some(scan.picker(left.own)(text))

    def _choose(self, asked: Sequence[Left[int]], verdicts: Sequence[Verdict | None]) -> None:
        """Choose what is to be taken out of the records of the next file."""
        view = self._view
        if len(asked) * BUSY > len(verdicts):
            plain = [left for left in set(asked) if self._few(left)]
            own, dotted = (
                view.own.union(*(left.own for left in plain)),
                view.dotted.union(*(left.dotted for left in plain)),
            )
            if (own, dotted) != (view.own, view.dotted) and len(own) + len(dotted) <= MOST_MEMBERS:
                self._view = _View(own, dotted, timed=self._timed)
        elif view is not self._quiet and (len(verdicts) - verdicts.count(False)) * BUSY < len(verdicts):
            self._view = self._quiet
