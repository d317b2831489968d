"""Console bytes made fit to print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v86lab.visible import WIDTH, visible


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", ""),
        (b"\n", ""),
        (b"a\r\nb\r\n", "a\nb"),
        (b"a\n\nb", "a\n\nb"),
        (b"50%\r100%\r\n", "50%␍100%"),
        (b"\x1b[31mred\x07\x00\x7f", "␛[31mred␇␀␡"),
        (b"a\tb", "a␉b"),
        ("caf\u00e9 \u202ekcab \x9b".encode(), "café \\u202ekcab \\x9b"),
        (b"\xff\xe2\x82", "\ufffd\ufffd"),
    ],
)
def test_control_characters_show_as_pictures_or_escapes(data: bytes, shown: str) -> None:
    assert visible(data) == shown


def test_only_the_last_lines_are_kept() -> None:
    assert visible(b"".join(b"%d\n" % n for n in range(100)), lines=3) == "97\n98\n99"


def test_a_long_line_shows_its_end_and_says_that_it_was_cut() -> None:
    assert visible(b"a" * WIDTH) == "a" * WIDTH
    assert visible("é".encode() * 100_000 + b"\n#") == "…" + "é" * WIDTH + "\n#"
    assert visible("𝄞".encode() * (WIDTH + 1)) == "…" + "𝄞" * WIDTH


@given(st.binary())
def test_nothing_that_a_terminal_acts_on_is_left(data: bytes) -> None:
    assert all(line.isprintable() for line in visible(data).split("\n"))
