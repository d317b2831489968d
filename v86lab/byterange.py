"""Which bytes of a representation a conditional or ranged GET is answered with (RFC 9110, §13 and §14).

One function, `decide`, turns the request's header fields into one of six frozen values; the server only writes what
the value says. No I/O happens here. The rules it keeps:

* The representation has a strong validator and no modification date: entity tags are compared, dates never match.
* Preconditions come first, in the order of §13.2.2.
* A range that can be satisfied is always `Partial`, also when it covers everything: a client that asked for a part
  must be able to tell from the status that it was understood (v86 aborts on a 200).
* A field that does not parse is ignored, as §14.2 allows: the answer is `Whole`.
* Ranges that overlap or nearly touch are joined (§15.3.7.2), so an answer is never longer than the representation
  plus what its parts cost. A field with more than `MAX_RANGES` ranges is refused (`Unsatisfiable`; §15.5.17 names
  "an excessive request of small or overlapping ranges"): answering it in full would reward it.

Examples
--------
>>> decide("GET", 1000, '"x"', range="bytes=0-99")
Partial(span=Span(start=0, stop=100))
>>> decide("GET", 1000, '"x"', range="bytes=-1, 0-0")
Multipart(spans=(Span(start=999, stop=1000), Span(start=0, stop=1)))
>>> decide("GET", 1000, '"x"', range="bytes=1000-")
Unsatisfiable()
>>> decide("GET", 1000, '"x"', if_none_match='W/"x", "y"')
NotModified()
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

MAX_RANGES = 64
"""Ranges one request may name. v86 asks for one, PDF viewers and zsync for some tens."""

JOIN_GAP = 128
"""Gaps up to this many bytes are sent rather than left out: one more part of an answer costs about as much."""


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from `start` up to, not including, `stop`; never empty unless the whole representation is."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """Value of Content-Range (§14.4) for this part of `size` bytes.

        Examples
        --------
        >>> Span(0, 100).content_range(1000)
        'bytes 0-99/1000'
        """
        return f"bytes {self.start}-{self.stop - 1}/{size}"


@dataclass(frozen=True, slots=True)
class Whole:
    """200: the whole representation."""


@dataclass(frozen=True, slots=True)
class Partial:
    """206 with one part (§15.3.7.1)."""

    span: Span


@dataclass(frozen=True, slots=True)
class Multipart:
    """206 with several parts (§15.3.7.2), in the order in which they were asked for."""

    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """416 (§15.5.17), to be sent with ``Content-Range: bytes */size``."""


@dataclass(frozen=True, slots=True)
class NotModified:
    """304 (§15.4.5): the client has it already."""


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """412 (§15.5.13): the client wanted another version."""


Decision: TypeAlias = Whole | Partial | Multipart | Unsatisfiable | NotModified | PreconditionFailed

# Elements of a list (§5.6.1): each followed by a comma or the end; empty elements are allowed and skipped (§5.6.1.2).
_RANGE_SPEC = re.compile(r"(?:([0-9]+)-([0-9]*)|-([0-9]+))(?=[ \t]*(?:,|\Z))")
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"(?=[ \t]*(?:,|\Z))')
_LIST_GAP = re.compile(r"[ \t]*(?:,[ \t]*)*")


def decide(
    method: str,
    size: int,
    etag: str,
    *,
    range: str | None = None,
    if_range: str | None = None,
    if_match: str | None = None,
    if_none_match: str | None = None,
) -> Decision:
    """Decide how a GET or HEAD is answered.

    Parameters
    ----------
    method : str
        ``"GET"`` or ``"HEAD"``. Range is defined for GET alone (§14.2).
    size : int
        Length of the representation in bytes.
    etag : str
        Its strong entity tag, quotes included.
    range, if_range, if_match, if_none_match : str, optional
        Values of the header fields, several fields of a name joined with commas; None when absent.

    Returns
    -------
    Whole, Partial, Multipart, Unsatisfiable, NotModified or PreconditionFailed
    """
    if if_match is not None and not _names(if_match, etag, weakly=False):
        return PreconditionFailed()  # §13.1.1
    if if_none_match is not None and _names(if_none_match, etag, weakly=True):
        return NotModified()  # §13.1.2
    if range is None or method != "GET":
        return Whole()
    if if_range is not None and if_range.strip(" \t") != etag:
        return Whole()  # §13.1.5: strong comparison; a date cannot match what has no Last-Modified
    return _resolve(range, size)


def _names(field: str, etag: str, *, weakly: bool) -> bool:
    """Whether an If-Match or If-None-Match field names the entity tag (§8.8.3.2); one that does not parse does not."""
    field = field.strip(" \t")
    if field == "*":
        return True
    position, found = 0, False
    while (position := _after_gap(field, position)) < len(field):
        tag = _ENTITY_TAG.match(field, position)
        if tag is None:
            return False
        found = found or tag[0] == etag or (weakly and tag[0] == "W/" + etag)
        position = tag.end()
    return found


def _resolve(field: str, size: int) -> Decision:
    """Answer a Range field for a representation of `size` bytes (§14.1.2, §14.2)."""
    unit, equals, ranges = field.strip(" \t").partition("=")
    if not equals or unit.lower() != "bytes":
        return Whole()
    spans: list[Span] = []
    position = count = 0
    whole = False
    while (position := _after_gap(ranges, position)) < len(ranges):
        spec = _RANGE_SPEC.match(ranges, position)
        if spec is None:
            return Whole()
        position = spec.end()
        count += 1
        if count > MAX_RANGES:
            return Unsatisfiable()
        first, last, suffix = spec.groups()
        if suffix is not None:
            length = _clamped(suffix, size)
            whole = whole or (size == 0 and suffix.strip("0") != "")
            if length:
                spans.append(Span(size - length, size))
        elif last and _exceeds(first, last):
            return Whole()  # §14.1.1: an invalid range makes the whole set invalid
        else:
            start = _clamped(first, size)
            if start < size:
                spans.append(Span(start, min(_clamped(last, size) + 1, size) if last else size))
    if not count:
        return Whole()
    if whole:
        return Whole()  # a suffix of nothing is satisfiable, yet Content-Range has no way to say "no bytes"
    if not spans:
        return Unsatisfiable()
    joined = _join(spans)
    return Partial(joined[0]) if len(joined) == 1 else Multipart(tuple(joined))


def _join(spans: list[Span]) -> list[Span]:
    """Join spans that overlap or nearly touch; each result stands where the first of its members stood."""
    groups: list[tuple[int, Span]] = []
    for index, span in sorted(enumerate(spans), key=lambda item: item[1].start):
        if groups and span.start <= groups[-1][1].stop + JOIN_GAP:
            place, before = groups[-1]
            groups[-1] = (min(place, index), Span(before.start, max(before.stop, span.stop)))
        else:
            groups.append((index, span))
    return [span for _, span in sorted(groups, key=lambda item: item[0])]


def _after_gap(field: str, position: int) -> int:
    gap = _LIST_GAP.match(field, position)
    return gap.end() if gap else position


def _clamped(digits: str, limit: int) -> int:
    """Value of a digit string, or `limit` when it is larger; of any length (int() refuses more than 4300 digits)."""
    digits = digits.lstrip("0")
    return limit if len(digits) > 20 else min(int(digits or "0"), limit)


def _exceeds(first: str, last: str) -> bool:
    """Whether one digit string is worth more than another, whatever their lengths."""
    first, last = first.lstrip("0"), last.lstrip("0")
    return (len(first), first) > (len(last), last)
