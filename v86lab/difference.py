"""Where two machines differ, from what their engines say of them (`describeState` in ``js/src/core/hash.js``).

A description lists sections: the CPU, each device, RAM, disks, files. A section has fields, which are compared value by
value, and blocks, bytes of which a description has only a short hash: a page of RAM is known to differ, but not where.
`Difference.refine` finds the byte by reading both machines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from .errors import EngineError

VERSION = 1
PAGE = 4096
_MOST_TEXT = 60  # characters of a value in a repr
_MOST_SECTIONS = 40  # in a repr
_MOST_REFINED = 16  # pages
_DIGITS = re.compile(r"(\d+)")

Value = int | float | str | None
ReadMemory = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Entry:
    """One place where two machines differ.

    Attributes
    ----------
    section : str
        The part of the machine, such as ``"cpu"``, ``"ram"``, ``"uart0"``, ``"disk hda"``, ``"9p"``.
    place : str
        The register or field; the address of the page; the sector; the file. Empty: one machine has no such section.
    here, there : int, float, str or None
        What each has there; None: nothing. Of pages, sectors and files' contents it is a short hash, and None says
        that a page of memory is all zeros, that a sector was never written, that the file's content is not its own.
    exact : bool
        Whether `here` and `there` are the values themselves, no hashes of them.
    """

    section: str
    place: str
    here: Value
    there: Value
    exact: bool = True

    def __str__(self) -> str:
        if not self.place:
            return f"only {'there' if self.here is None else 'here'}"
        if not self.exact:
            return f"{self.place}{'' if None not in (self.here, self.there) else f' only {self._owner}'}"
        here, there = _shown(self.here, self.there)
        return f"{self.place} is {here} here, {there} there"

    @property
    def _owner(self) -> str:
        return "there" if self.here is None else "here"


@dataclass(frozen=True)
class Difference:
    """What is not the same in two machines: nothing, and then it is false; or entries, section by section.

    Attributes
    ----------
    entries : tuple of Entry
        Every field, page, sector and file that differs, in the order in which the engine describes a machine.

    Examples
    --------
    >>> cpu = {"name": "cpu", "fields": [["eax", "00000001"], ["cr3", "01000000"]], "blocks": {}}
    >>> ram = {"name": "ram", "fields": [["size", 8192]], "blocks": {"0x00001000": "5e1f"}}
    >>> here = {"version": 1, "sections": [cpu, ram]}
    >>> bool(compare(here, here))
    False
    >>> there = {"version": 1, "sections": [cpu | {"fields": [["eax", "00000002"], ["cr3", "01000000"]]},
    ...                                     ram | {"blocks": {"0x00001000": "77aa"}}]}
    >>> compare(here, there)
    2 sections differ:
      cpu: eax is 00000001 here, 00000002 there
      ram: 0x00001000
    >>> [entry.place for entry in compare(here, there)]
    ['eax', '0x00001000']
    """

    entries: tuple[Entry, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __repr__(self) -> str:
        if not self.entries:
            return "no difference"
        lines = []
        for section, found in groupby(self.entries, key=lambda entry: entry.section):
            first, *more = found
            lines.append(f"  {section}: {first}{f', and {len(more)} more' if more else ''}")
        count = len(lines)
        if count > _MOST_SECTIONS:
            lines[_MOST_SECTIONS:] = [f"  and {count - _MOST_SECTIONS} more"]
        return "\n".join([f"{count} section{' differs' if count == 1 else 's differ'}:", *lines])

    @property
    def sections(self) -> tuple[str, ...]:
        """The names of the sections that differ."""
        return tuple(dict.fromkeys(entry.section for entry in self.entries))

    def refine(self, here: ReadMemory, there: ReadMemory) -> Difference:
        """The same with the first byte that differs in place of its page, for the first few pages of RAM.

        Parameters
        ----------
        here, there : callable
            Read physical memory of each machine from ``start`` up to ``end``. Both must still be as they were.

        Examples
        --------
        >>> page = Entry("ram", "0x00001000", "5e1f", "77aa", exact=False)
        >>> Difference((page,)).refine(lambda start, end: bytes(end - start), lambda start, end: bytes(5) + bytes([9]))
        1 section differs:
          ram: 0x00001005 is 00 here, 09 there
        """
        left = _MOST_REFINED
        entries = []
        for entry in self.entries:
            if entry.section == "ram" and not entry.exact and left:
                left -= 1
                entry = _first_byte(entry, here, there)
            entries.append(entry)
        return Difference(tuple(entries))


def compare(here: Mapping[str, Any], there: Mapping[str, Any]) -> Difference:
    """Where the second of two described machines differs from the first.

    Raises
    ------
    EngineError
        If a description is not of the kind that this release reads.
    """
    for one in (here, there):
        if one.get("version") != VERSION:
            raise EngineError(
                "two machines cannot be compared",
                expected=f"descriptions of version {VERSION}",
                seen=str(one.get("version")),
            )
    ours, theirs = ({section["name"]: section for section in one["sections"]} for one in (here, there))
    return Difference(
        tuple(
            entry
            for name in [*ours, *(name for name in theirs if name not in ours)]
            for entry in _section(name, ours.get(name), theirs.get(name))
        )
    )


def _section(name: str, ours: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None) -> Iterator[Entry]:
    if ours is None or theirs is None:
        yield Entry(name, "", here=None if ours is None else "present", there=None if theirs is None else "present")
        return
    for kind in ("fields", "blocks"):
        a, b = dict(ours[kind]), dict(theirs[kind])
        places = [*a, *(place for place in b if place not in a)]
        if kind == "blocks":
            places.sort(key=_by_number)
        yield from (
            Entry(name, place, a.get(place), b.get(place), exact=kind == "fields")
            for place in places
            if a.get(place) != b.get(place) or (place in a) != (place in b)
        )


def _by_number(place: str) -> list[tuple[int, str]]:
    """Sector 9 stands before sector 10."""
    return [(int(part), "") if part.isascii() and part.isdigit() else (0, part) for part in _DIGITS.split(place)]


def _first_byte(entry: Entry, here: ReadMemory, there: ReadMemory) -> Entry:
    start = int(entry.place, 16)
    ours, theirs = (bytes(read(start, start + PAGE)) for read in (here, there))
    at = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if at is None:
        return entry
    return replace(entry, place=f"0x{start + at:08x}", here=f"{ours[at]:02x}", there=f"{theirs[at]:02x}", exact=True)


def _shown(here: Value, there: Value) -> tuple[str, str]:
    """Both values, short; of long texts the part where they begin to differ."""
    if isinstance(here, str) and isinstance(there, str) and max(len(here), len(there)) > _MOST_TEXT:
        same = next((n for n, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), 0)
        start = here.rfind(" ", 0, same) + 1
        here, there = here[start:], there[start:]
    return _short(here), _short(there)


def _short(value: Value) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 1]}…"
