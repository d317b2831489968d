"""Sizes as people write them, and the sizes and command lines that a machine can have."""

from __future__ import annotations

import re
import reprlib

from v86lab.errors import ImageError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

MEMORY_STEP = 128 * KIB  # MMAP_BLOCK_SIZE in src/const.js: create_memory rounds up to it
MEMORY_MIN = MIB  # src/cpu.js, create_memory's minimum_size
MEMORY_MAX = 2 * GIB - MEMORY_STEP  # src/cpu.js: (size | 0) < 0 is rounded down to this
INITRD_ADDRESS = 64 * MIB  # src/kernel.js: fixed; with an initrd, create_memory's minimum is this too
VIDEO_MEMORY_MIN = 512 * KIB  # src/rust/cpu/memory.rs wants a multiple of 512 KiB, src/vga.js a power of two
VIDEO_MEMORY_MAX = 256 * MIB  # src/vga.js, VGA_MAX_MEMORY_SIZE

_UNITS = {"": 1, "b": 1, "bytes": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB}
_SIZE = re.compile(r"\s*(\d{1,18})(?:\.(\d{1,18}))?\s*([A-Za-z]*)\s*", re.ASCII)


def quoted(value: object, limit: int = 200) -> str:
    """Write a value for an error message, cut when it is long.

    Examples
    --------
    >>> quoted("disk.img"), quoted("x" * 50, limit=10)
    ("'disk.img'", "'xxxxxxxxxx'...")
    """
    if isinstance(value, str):
        return repr(value) if len(value) <= limit else repr(value[:limit]) + "..."
    return reprlib.repr(value)


def size_text(size: int) -> str:
    """Write a number of bytes as people do, exactly.

    Examples
    --------
    >>> size_text(128 * 1024 * 1024), size_text(1474560), size_text(1000)
    ('128 MiB', '1440 KiB', '1000 bytes')
    """
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"


def parse_size(value: int | str, what: str = "size") -> int:
    """Read a size: a number of bytes, or a text such as ``"128 MiB"``, ``"1.5 GiB"`` or ``"64M"``.

    Parameters
    ----------
    value : int or str
        Bytes, or a number with KiB, MiB, GiB (or QEMU's K, M, G, which mean the same).
    what : str
        What the size is of, for the error.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ImageError
        It is no such thing, or no whole number of bytes. MB and GB are refused: they would be powers of ten.

    Examples
    --------
    >>> parse_size("128 MiB"), parse_size("0.5 GiB") == 512 * 1024 * 1024
    (134217728, True)
    """
    expected = 'bytes as an int, or a text such as "128 MiB"'
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < 1 << 63:
            seen = "less than nothing" if value < 0 else "2**63 or more"
            raise ImageError(f"cannot use this {what}", expected=expected, seen=seen)
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ImageError(f"cannot read this {what}", expected=expected, seen=quoted(value))
    whole, fraction, unit = match[1], match[2] or "", match[3].lower()
    if unit not in _UNITS:
        decimal = unit in ("kb", "mb", "gb")
        hint = f"write {unit[0].upper()}iB, a power of two" if decimal else "the units are KiB, MiB, GiB"
        raise ImageError(f"cannot read this {what}", expected=expected, seen=quoted(value), hint=hint)
    scale: int = 10 ** len(fraction)
    scaled, rest = divmod(int(whole + fraction) * _UNITS[unit], scale)
    if rest:
        raise ImageError(f"cannot use this {what}", expected="a whole number of bytes", seen=quoted(value))
    return scaled


def memory(value: int | str) -> int:
    """Read a guest's memory size and refuse what v86 would round or cannot hold.

    Examples
    --------
    >>> memory("128 MiB")
    134217728
    """
    size = parse_size(value, "memory")
    if not MEMORY_MIN <= size <= MEMORY_MAX:
        raise ImageError(
            "v86 cannot hold this much memory"
            if size > MEMORY_MAX
            else "v86 gives every machine more memory than this",
            expected='"1 MiB" to "2047 MiB"',
            seen=size_text(size),
            hint='"128 MiB" suits most guests',
        )
    if size % MEMORY_STEP:
        nearest = round(size / MEMORY_STEP) * MEMORY_STEP
        raise ImageError(
            "v86 would round this memory size",
            expected="a multiple of 128 KiB",
            seen=size_text(size),
            hint=f'"{size_text(nearest)}" is the nearest',
        )
    return size


def video_memory(value: int | str) -> int:
    """Read the size of the graphics card's memory: a power of two, as v86 would otherwise make it one.

    Examples
    --------
    >>> video_memory("8 MiB")
    8388608
    """
    size = parse_size(value, "video memory")
    if size & (size - 1) or not VIDEO_MEMORY_MIN <= size <= VIDEO_MEMORY_MAX:
        raise ImageError(
            "v86 would round this video memory size",
            expected="a power of two from 512 KiB to 256 MiB",
            seen=size_text(size),
            hint='"8 MiB" is v86\'s own choice',
        )
    return size


def command_line(value: str, limit: int = 2048) -> str:
    """Check a kernel command line: v86 writes one byte per character, so only printable ASCII arrives as written.

    Parameters
    ----------
    value : str
    limit : int
        The kernel's ``cmdline_size``: the text and its final NUL must be shorter (src/kernel.js).

    Examples
    --------
    >>> command_line("console=ttyS0 quiet")
    'console=ttyS0 quiet'
    """
    if not isinstance(value, str):
        raise ImageError("cannot use this kernel command line", expected="a str", seen=quoted(value))
    bad = re.search(r"[^ -~]", value)
    if bad:
        raise ImageError(
            "cannot use this kernel command line",
            expected="printable ASCII on one line",
            seen=f"{bad[0]!a} at position {bad.start()}",
        )
    if len(value) + 1 >= limit:
        raise ImageError(
            "this kernel command line is too long", expected=f"at most {limit - 2} characters", seen=f"{len(value)}"
        )
    return value
