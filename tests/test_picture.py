"""A console's last lines as a terminal of 80 columns would have them, and as a picture."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image

from v86lab import picture
from v86lab.png import png


@pytest.mark.parametrize(
    ("shown", "rows"),
    [
        (b"", [""]),
        (b"one\r\ntwo", ["one", "two"]),
        (b"10%\r100%", ["100%"]),
        (b"abc\b\bX", ["aXc"]),
        (b"a\tb", ["a       b"]),
        (b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07\x1b(Bend", ["red end"]),
        (b"x" * 81, ["x" * 80, "x"]),
        (b"\n".join(b"%d" % n for n in range(40)), [str(n) for n in range(15, 40)]),
        ("grün ✓".encode(), ["grün ✓"]),
        (b"\xff\xfe", ["\N{REPLACEMENT CHARACTER}" * 2]),
        (b"broken \x1b[", ["broken"]),
    ],
)
def test_the_last_lines_are_those_that_a_terminal_shows(shown: bytes, rows: list[str]) -> None:
    assert picture.lines(shown) == rows


@given(st.binary(max_size=5000))
def test_any_bytes_at_all_become_at_most_a_screenful(shown: bytes) -> None:
    rows = picture.lines(shown)
    assert 1 <= len(rows) <= picture.ROWS and max(map(len, rows)) <= picture.COLUMNS
    assert picture.draw(rows).startswith(b"\x89PNG")


def test_the_picture_shows_the_letters_where_they_stand() -> None:
    drawn = image.imread(io.BytesIO(picture.draw(["A", "", " A"])), format="png")
    assert drawn.shape == (48, 640)
    letter = drawn[:16, :8] > 0.5
    assert letter.sum() > 20 and (letter == (drawn[32:, 8:16] > 0.5)).all()
    assert (drawn > 0.5).sum() == 2 * letter.sum()


@pytest.mark.parametrize("samples", [1, 3, 4])
def test_a_png_file_gives_its_pixels_back(samples: int) -> None:
    pixels = bytes(n * 7 % 256 for n in range(5 * 3 * samples))
    seen = image.imread(io.BytesIO(png(5, 3, pixels)), format="png")
    assert (seen * 255).round().astype("uint8").tobytes() == pixels
