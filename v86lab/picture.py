"""What a console shows, as a picture: for a saved notebook, where nothing runs any more.

The letters are the VGA BIOS's own (8 by 16 pixels, code page 437): no font is needed and the picture is the same
everywhere.
"""

from __future__ import annotations

import re
from functools import cache

from . import firmware
from .png import png

COLUMNS, ROWS = 80, 25
_WIDTH, _HEIGHT = 8, 16
_A = bytes.fromhex("000010386cc6c6fec6c6c6c600000000")  # how the font begins its "A"
_INK, _PAPER = 0xD0, 0x11
# ECMA-48: control sequences, and the commands that end with BEL or ST
_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")


def lines(shown: bytes) -> list[str]:
    r"""The last lines that a console showed, as a terminal of 80 columns would have them.

    Examples
    --------
    >>> lines(b"loading 1%\rloading 100%\x1b[0m\r\nlogin: ")
    ['loading 100%', 'login:']
    """
    text = _ESCAPES.sub(b"", shown[-COLUMNS * ROWS * 8 :]).decode("utf-8", "replace")
    rows: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        row: list[str] = []
        at = 0
        for character in line:
            if character == "\r":
                at = 0
            elif character == "\b":
                at = max(0, at - 1)
            elif character == "\t":
                at = (at // 8 + 1) * 8
            elif character >= " ":
                row += " " * (at + 1 - len(row))
                row[at] = character
                at += 1
        whole = "".join(row).rstrip()
        rows += [whole[start : start + COLUMNS] for start in range(0, max(1, len(whole)), COLUMNS)]
    return rows[-ROWS:]


def draw(rows: list[str]) -> bytes:
    """A PNG of some lines of text, at least one.

    Examples
    --------
    >>> draw(["hello"])[:4]
    b'\\x89PNG'
    """
    font = _font()
    width, height = COLUMNS * _WIDTH, len(rows) * _HEIGHT
    grey = bytearray([_PAPER]) * (width * height)
    for y, row in enumerate(rows):
        for x, character in enumerate(row.encode("cp437", "replace")):
            for line, bits in enumerate(font[character * _HEIGHT : (character + 1) * _HEIGHT]):
                start = (y * _HEIGHT + line) * width + x * _WIDTH
                grey[start : start + _WIDTH] = _PIXELS[bits]
    return png(width, height, bytes(grey))


_PIXELS = [bytes(_INK if bits & 0x80 >> n else _PAPER for n in range(_WIDTH)) for bits in range(256)]


@cache
def _font() -> bytes:
    bios = firmware.path("vgabios.bin").read_bytes()
    start = bios.index(_A) - ord("A") * _HEIGHT
    return bios[start : start + 256 * _HEIGHT]
