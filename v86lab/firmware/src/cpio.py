"""A root file system as a cpio archive ("newc", what Linux takes as an initramfs), the same bytes every time.

The rules: entries are sorted by path, owned by root, one time stamp for all, inode numbers counted from 1; a directory
comes before what lies in it, because it sorts first.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field


@dataclass(frozen=True)
class _Entry:
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


@dataclass
class Archive:
    """Files to be, by path without a leading slash.

    Examples
    --------
    >>> archive = Archive()
    >>> archive.directory("etc")
    >>> archive.file("etc/hostname", b"v86\\n")
    >>> archive.pack(0)[:6]
    b'070701'
    """

    entries: dict[str, _Entry] = field(default_factory=dict)

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory."""
        self.entries[path] = _Entry(stat.S_IFDIR | mode)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self.entries[path] = _Entry(stat.S_IFREG | mode, data)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self.entries[path] = _Entry(stat.S_IFLNK | 0o777, target.encode())

    def device(self, path: str, major: int, minor: int, mode: int) -> None:
        """Add a character device."""
        self.entries[path] = _Entry(stat.S_IFCHR | mode, device=(major, minor))

    def pack(self, date: int) -> bytes:
        """Write the archive; `date` is the time stamp of every entry, in seconds.

        Raises
        ------
        KeyError
            An entry lies in a directory that nobody added.
        """
        out = bytearray()
        for number, (path, entry) in enumerate(sorted(self.entries.items()), 1):
            parent = path.rpartition("/")[0]
            if parent:
                self.entries[parent]
            _append(out, number, path, entry, date)
        _append(out, 0, "TRAILER!!!", _Entry(0), 0)
        return bytes(out)


def _append(out: bytearray, number: int, path: str, entry: _Entry, date: int) -> None:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, date, len(entry.data), 0, 0, *entry.device, len(name), 0)
    out += b"070701" + b"".join(b"%08X" % value for value in fields) + name
    out += bytes(-len(out) % 4)
    out += entry.data
    out += bytes(-len(out) % 4)
