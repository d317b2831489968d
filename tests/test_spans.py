"""Byte positions of matches in text, against a decoder that works one byte at a time."""

from __future__ import annotations

import codecs
import re

from hypothesis import given
from hypothesis import strategies as st

from v86lab import spans

PIECES = [b"a", b"\n", "é".encode(), "€".encode(), "𝄞".encode(), "\ufffd".encode()]
PIECES += [b"\xff", b"\xe2\x82", b"\x80", b"\xf0\x9d", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90", b"\xe0\x9f"]
console = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=3))).map(b"".join)


def characters(data: bytes) -> list[tuple[str, int, int]]:
    """Each character with its first byte and the one after it, by an incremental decoder fed byte by byte."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    found: list[tuple[str, int, int]] = []
    start = 0
    for at in range(len(data)):
        for char in decoder.decode(data[at : at + 1]):
            # What a byte completes ends after it, unless another character follows: then it ends before.
            pending = len(decoder.getstate()[0])
            end = at + 1 - pending
            found.append((char, start, end))
            start = end
        if len(found) > 1 and found[-1][1] == found[-1][2]:  # two at once: the byte is the second
            found[-2:] = [(found[-2][0], found[-2][1], at), (found[-1][0], at, at + 1)]
    return found


@given(console)
def test_the_text_and_every_position_are_those_of_a_decoder_fed_byte_by_byte(data: bytes) -> None:
    marked = spans.decode(data)
    expected = characters(data)
    assert spans.plain(marked) == "".join(char for char, _, _ in expected)
    assert [spans.size(marked[:at]) for at in range(len(marked))] == [start for _, start, _ in expected]


@given(console)
def test_a_complete_text_is_what_bytes_decode_gives(data: bytes) -> None:
    assert spans.plain(spans.decode(data + b"!")) == (data + b"!").decode(errors="replace")


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
    given_ = [re.compile(r"(?i)é\ud800"), re.compile(b"\xff[\x00-\x80]", re.DOTALL), re.compile("x", re.VERBOSE)]
    assert spans.restore(spans.describe(given_)) == given_
    assert not spans.restore([["str", "x", re.DEBUG]])[0].flags & re.DEBUG
