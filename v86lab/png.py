"""Pictures as PNG files (W3C PNG, third edition): 8 bits a sample, no filter; the same pixels give the same bytes."""

from __future__ import annotations

import struct
import zlib

_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # by samples a pixel: grey, RGB, RGBA


def png(width: int, height: int, pixels: bytes) -> bytes:
    """Make a PNG file.

    Parameters
    ----------
    width, height : int
        Pixels.
    pixels : bytes
        Row by row, 1 (grey), 3 (RGB) or 4 (RGBA) bytes each.

    Examples
    --------
    >>> len(png(2, 1, b"\\x00\\xff"))
    68
    """
    samples = len(pixels) // (width * height)
    step = width * samples
    rows = b"".join(b"\0" + pixels[at : at + step] for at in range(0, len(pixels), step))
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[samples], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
