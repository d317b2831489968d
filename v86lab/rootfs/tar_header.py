"""The blocks before a tar member's data: ustar headers, PAX records, GNU's numbers and maps of sparse files.

It reads and writes bytes and does no I/O. What it cannot read is a `Malformed`, and the reader says where that was.

The formats: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar's manual, "Basic Tar
Format" and "Storing Sparse Files".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

BLOCK = 512
ZEROS = bytes(BLOCK)

FILE, HARD_LINK, LINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
FILES = (FILE, b"\0", b"7")  # 7: contiguous, of which nobody knows any more
PAX, PAX_GLOBAL = (b"x", b"X"), b"g"  # X: Solaris' first try
LONG_NAME, LONG_LINK, GNU_SPARSE, DUMP_DIRECTORY, VOLUME = b"L", b"K", b"S", b"D", b"V"

# name mode uid gid size mtime checksum type linkname magic (uname gname) major minor prefix
_LAYOUT = struct.Struct("100s 8s 8s 8s 12s 12s 8s c 100s 8s 64x 8s 8s 155s 12x")
_CHECKSUM = slice(148, 156)
_XATTR = re.compile(rb"SCHILY\.xattr\.(.+)", re.DOTALL)


class Malformed(ValueError):
    """Bytes that no tar has there."""


@dataclass(slots=True)
class Header:
    """A ustar header."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    type: bytes
    linkname: bytes
    device: tuple[int, int]
    block: bytes

    @classmethod
    def parse(cls, block: bytes) -> Header:
        """Read a header.

        Raises
        ------
        Malformed
            A wrong checksum, or a number that is none.
        """
        if not has_checksum(block):
            raise Malformed("a wrong checksum")
        name, mode, uid, gid, size, mtime, _, kind, linkname, magic, major, minor, prefix = _LAYOUT.unpack(block)
        name = _text(name)
        if magic[:6] == b"ustar\0" and prefix[0]:
            name = _text(prefix) + b"/" + name
        return cls(
            name,
            _number(mode) & 0o7777,
            _number(uid),
            _number(gid),
            _number(size),
            _number(mtime),
            kind,
            _text(linkname),
            (_number(major), _number(minor)) if kind in (CHARACTER, BLOCK_DEVICE) else (0, 0),
            block,
        )


def has_checksum(block: bytes) -> bool:
    """Whether a block's checksum is right; old tars added signed bytes."""
    try:
        given = _number(block[_CHECKSUM])
    except Malformed:
        return False
    plain = sum(block) - sum(block[_CHECKSUM]) + 8 * 0x20
    return given == plain or given == plain - 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def _text(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def _number(raw: bytes) -> int:
    """A number: octal, or GNU's base 256."""
    if raw[0] & 0x80:
        if raw[0] not in (0x80, 0xFF):
            raise Malformed("a number in base 256 that is too large")
        return int.from_bytes(raw[1:], "big") - ((raw[0] & 0x7F) and 1 << 8 * (len(raw) - 1))
    digits = raw.strip(b" \0").partition(b"\0")[0]
    if not digits:
        return 0
    if not digits.isdigit():
        raise Malformed("a number that is none")
    try:
        return int(digits, 8)
    except ValueError:
        raise Malformed("a number that is none") from None


# ---- PAX records ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Records:
    """What extended headers say of the member that follows.

    Attributes
    ----------
    values : dict of bytes to bytes
        Empty values take back what a global header said, except of attributes.
    map : list of int
        Offsets and lengths in turn, of GNU's sparse format 0.0.
    """

    values: dict[bytes, bytes] = field(default_factory=dict)
    map: list[int] = field(default_factory=list)

    def read(self, data: bytes) -> None:
        """Read an extended header's data.

        Raises
        ------
        Malformed
        """
        at = 0
        while at < len(data) and data[at]:
            space = data.find(b" ", at, at + 20)
            length = decimal(data[at:space]) if space > 0 else 0
            record = data[space + 1 : at + length]
            key, equals, value = record[:-1].partition(b"=")
            if not equals or record[-1:] != b"\n" or at + length > len(data):
                raise Malformed("an extended header that is none")
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                self.map.append(decimal(value))
            else:
                self.values[key] = value
            at += length

    def get(self, key: bytes) -> bytes | None:
        """A value, if there is one."""
        return self.values.get(key) or None

    def number(self, key: bytes, otherwise: int) -> int:
        """A value that is a number."""
        value = self.get(key)
        return otherwise if value is None else decimal(value)

    def mtime(self, otherwise: int) -> int:
        """The time, in nanoseconds."""
        value = self.get(b"mtime")
        return otherwise * 10**9 if value is None else nanoseconds(value)

    def xattrs(self) -> tuple[tuple[bytes, bytes], ...]:
        """Extended attributes, by name."""
        found = {}
        for key, value in self.values.items():
            if match := _XATTR.fullmatch(key):
                found[match[1].replace(b"%3D", b"=").replace(b"%25", b"%")] = value
        return tuple(sorted(found.items()))


def decimal(text: bytes) -> int:
    """A number in an extended header.

    Raises
    ------
    Malformed
    """
    if not text.isdigit() or len(text) > 20:
        raise Malformed("a number that is none")
    return int(text)


def nanoseconds(text: bytes) -> int:
    """A time in an extended header.

    Examples
    --------
    >>> nanoseconds(b"1.5"), nanoseconds(b"-0.25"), nanoseconds(b"7")
    (1500000000, -250000000, 7000000000)
    """
    sign = -1 if text.startswith(b"-") else 1
    whole, _, part = text.removeprefix(b"-").partition(b".")
    return sign * (decimal(whole or b"0") * 10**9 + decimal(part[:9].ljust(9, b"0")))


def pairs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Offsets and lengths that stand in turn.

    Raises
    ------
    Malformed
        One is left over.
    """
    if len(numbers) % 2:
        raise Malformed("half an entry in a sparse file's map")
    return zip(numbers[::2], numbers[1::2], strict=True)


def old_map(block: bytes, first: bool) -> tuple[list[tuple[int, int]], bool]:
    """The part of a map that is in an old GNU sparse header, or in a block after it, and whether another follows."""
    start, count, more = (386, 4, 482) if first else (0, 21, 504)
    found = []
    for at in range(start, start + 24 * count, 24):
        if not block[at] and not block[at + 12]:
            break
        found.append((_number(block[at : at + 12]), _number(block[at + 12 : at + 24])))
    return found, block[more] not in (0, 0x30)


def old_size(block: bytes) -> int:
    """The size of a file with an old GNU sparse header."""
    return _number(block[483:495])


# ---- writing --------------------------------------------------------------------------------------------------------


def padding(size: int) -> bytes:
    """Zeros up to the next block."""
    return bytes(-size % BLOCK)


def header(
    kind: bytes,
    name: bytes,
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    linkname: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Iterable[tuple[bytes, bytes]] = (),
    records: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """A member's header, with an extended one before it where ustar cannot say all.

    Parameters
    ----------
    kind : bytes
        Its type, as in the header.
    mtime : int
        Nanoseconds.
    records : sequence of (bytes, bytes)
        More for the extended header.

    Examples
    --------
    >>> len(header(FILE, b"etc/motd", size=5)), len(header(FILE, b"etc/motd", size=5, mtime=1))
    (512, 1536)
    """
    extended = [*records]
    for key, value in ((b"path", name), (b"linkpath", linkname)):
        if len(value) > 100 or not value.isascii():
            extended.append((key, value))
    limits = ((b"uid", uid, 7), (b"gid", gid, 7), (b"size", size, 11))
    extended += [(key, b"%d" % value) for key, value, digits in limits if value >= 8**digits]
    seconds, part = divmod(mtime, 10**9)
    if part or not 0 <= seconds < 8**11:
        sign, (whole, rest) = ("-" if mtime < 0 else ""), divmod(abs(mtime), 10**9)
        extended.append((b"mtime", f"{sign}{whole}.{rest:09}".rstrip("0").rstrip(".").encode("ascii")))
    for key, value in xattrs:
        # GNU tar's way of having "=" in a name
        extended.append((b"SCHILY.xattr." + key.replace(b"%", b"%25").replace(b"=", b"%3D"), value))
    before = b""
    if extended:
        data = b"".join(_record(key, value) for key, value in extended)
        before = _ustar(PAX[0], b"././@PaxHeader", 0o644, 0, 0, len(data), 0, b"", (0, 0)) + data + padding(len(data))
    return before + _ustar(kind, name, mode, uid, gid, size, seconds, linkname, device)


def _record(key: bytes, value: bytes) -> bytes:
    """A record, whose length counts itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _ustar(
    kind: bytes,
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    linkname: bytes,
    device: tuple[int, int],
) -> bytes:
    block = _LAYOUT.pack(
        name[:100],
        _octal(mode, 7),
        _octal(uid, 7),
        _octal(gid, 7),
        _octal(size, 11),
        _octal(mtime, 11),
        b" " * 8,
        kind,
        linkname[:100],
        b"ustar\x0000",
        _octal(device[0], 7),
        _octal(device[1], 7),
        b"",
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(number: int, digits: int) -> bytes:
    """Zero for what does not fit: an extended header says it."""
    return b"%0*o\0" % (digits, number if 0 <= number < 8**digits else 0)
