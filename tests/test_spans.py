"""Byte positions of matches in text, against the Unicode Standard's own tables."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from v86lab import spans

PIECES = [b"a", b"\n", "é".encode(), "€".encode(), "𝄞".encode(), "\ufffd".encode()]
PIECES += [
    b"\xff",
    b"\xe2\x82",
    b"\x80",
    b"\xf0\x9d",
    b"\xed\xa0\x80",
    b"\xed\xa0",
    b"\xc0\xaf",
    b"\xf4\x90",
    b"\xe0\x9f",
]
console = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=3))).map(b"".join)


# The Unicode Standard, table 3-7: well-formed byte sequences; and what such a sequence can begin with, longest first.
WELL_FORMED = re.compile(
    rb"[\0-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
BEGINNING = re.compile(
    rb"\xe0[\xa0-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]|\xed[\x80-\x9f]|\xf0[\x90-\xbf][\x80-\xbf]?"
    rb"|[\xf1-\xf3][\x80-\xbf]{1,2}|\xf4[\x80-\x8f][\x80-\xbf]?|[\xc2-\xf4]"
)


def characters(data: bytes) -> list[tuple[str, int]]:
    """Each character with its first byte, by the standard's tables; a beginning at the very end is left out."""
    found: list[tuple[str, int]] = []
    at = 0
    while at < len(data):
        if match := WELL_FORMED.match(data, at):
            found.append((match.group().decode(), at))
        elif (match := BEGINNING.match(data, at)) and match.end() == len(data):
            break
        else:
            found.append(("\ufffd", at))
        at = match.end() if match else at + 1
    return found


@given(console)
def test_text_and_positions_are_those_of_the_standards_tables(data: bytes) -> None:
    marked = spans.decode(data)
    expected = characters(data)
    assert spans.plain(marked) == "".join(char for char, _ in expected)
    assert [spans.size(marked[:at]) for at in range(len(marked))] == [start for _, start in expected]


@given(console)
def test_a_complete_text_is_what_bytes_decode_gives(data: bytes) -> None:
    assert spans.plain(spans.decode(data + b"!")) == (data + b"!").decode(errors="replace")
    assert spans.plain(spans.decode(data, final=True)) == data.decode(errors="replace")


def test_a_character_cut_off_at_the_end_is_held_back() -> None:
    for cut in (b"\xc3", b"\xe2\x82", b"\xf0\x9f\x92"):
        assert spans.decode(b"ok" + cut) == "ok"
        assert spans.search(re.compile("k."), b"ok" + cut) is None


@given(console, console)
def test_a_match_is_found_at_its_bytes_and_again_from_there(before: bytes, after: bytes) -> None:
    data = before + b"<" + "é".encode() + b">" + after
    start, end = spans.search(re.compile("<é>"), data) or (0, 0)
    assert data[start:end] == "<é>".encode()
    again = spans.match_at(re.compile("<é>"), data, start)
    assert again is not None
    assert (again[0].group(), again[1]) == ("<é>", end)


def test_a_match_does_not_begin_inside_a_character() -> None:
    assert spans.match_at(re.compile("."), "é!".encode(), 1) is None


def test_patterns_survive_their_description() -> None:
    given_: list[re.Pattern[Any]] = [
        re.compile(r"(?i)é\ud800"),
        re.compile(b"\xff[\x00-\x80]", re.DOTALL),
        re.compile("x", re.VERBOSE),
    ]
    assert spans.restore(spans.describe(given_)) == given_
    assert not spans.restore([["str", "x", re.DEBUG]])[0].flags & re.DEBUG
