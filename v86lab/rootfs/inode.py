"""An inode: what a file system says of a file besides its names."""

from __future__ import annotations

import stat
from dataclasses import dataclass

from v86lab.errors import ImageError

from .content import Content, Inline

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
_MOST_ID = (1 << 32) - 2  # (uid_t) -1 means "no change" to chown
_MOST_DEVICE = ((1 << 12) - 1, (1 << 20) - 1)  # Linux: 12 bits of major, 20 of minor
_MOST_TARGET = 4095  # Linux: PATH_MAX less the NUL
_MOST_NAME, _MOST_VALUE = 255, 65536  # Linux: XATTR_NAME_MAX, XATTR_SIZE_MAX
_EMPTY = Inline(b"")
_TIMES = (-(1 << 31) * 10**9, ((1 << 34) - (1 << 31)) * 10**9 - 1)  # ext4: 34 bits from 1901


@dataclass(frozen=True, slots=True)
class Inode:
    """A file of any type.

    Attributes
    ----------
    mode : int
        Type and permission bits, as in ``st_mode``.
    uid, gid : int
    mtime : int
        Nanoseconds since 1970.
    content : Content
        Of a regular file.
    target : bytes
        Of a symbolic link.
    device : (int, int)
        Major and minor number of a device.
    xattrs : tuple of (bytes, bytes)
        Extended attributes, name and value, by name.

    Examples
    --------
    >>> Inode.file(b"#!/bin/sh", mode=0o755).type
    'file'
    """

    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    content: Content = _EMPTY
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.mode <= 0o177777 or stat.S_IFMT(self.mode) not in _TYPES:
            raise _unusable("a file's mode", "a type and permission bits", f"{self.mode:#o}")
        kind = stat.S_IFMT(self.mode)
        if not (0 <= self.uid <= _MOST_ID and 0 <= self.gid <= _MOST_ID):
            raise _unusable("a file's owner", f"numbers from 0 to {_MOST_ID}", f"{self.uid}:{self.gid}")
        if not _TIMES[0] <= self.mtime <= _TIMES[1]:
            raise _unusable("a file's time", "a time between 1901 and 2446", f"{self.mtime} ns since 1970")
        if kind == stat.S_IFLNK and not (0 < len(self.target) <= _MOST_TARGET and b"\0" not in self.target):
            raise _unusable("a link's target", f"1 to {_MOST_TARGET} bytes without NUL", f"{self.target[:80]!r}")
        if self.device != (0, 0) and not _is_device(*self.device):
            raise _unusable("a device's number", f"at most {_MOST_DEVICE}", f"{self.device}")
        if not self.xattrs:
            return
        for name, value in self.xattrs:
            if not 0 < len(name) <= _MOST_NAME or b"\0" in name or b"." not in name or len(value) > _MOST_VALUE:
                raise _unusable("an extended attribute", "such as user.name, at most 64 KiB", f"{name[:80]!r}")
        names = [name for name, _ in self.xattrs]
        if names != sorted(set(names)):
            raise _unusable("extended attributes", "each name once, in order", f"{names!r:.80}")

    @classmethod
    def file(cls, data: bytes | Content = b"", mode: int = 0o644, uid: int = 0, gid: int = 0, mtime: int = 0) -> Inode:
        """A regular file."""
        content = Inline(data) if isinstance(data, bytes) else data
        return cls(stat.S_IFREG | mode, uid, gid, mtime, content)

    @classmethod
    def directory(cls, mode: int = 0o755, uid: int = 0, gid: int = 0, mtime: int = 0) -> Inode:
        """A directory."""
        return cls(stat.S_IFDIR | mode, uid, gid, mtime)

    @classmethod
    def link(cls, target: bytes, uid: int = 0, gid: int = 0, mtime: int = 0) -> Inode:
        """A symbolic link."""
        return cls(stat.S_IFLNK | 0o777, uid, gid, mtime, target=target)

    @property
    def type(self) -> str:
        """ "file", "directory", "link", "character device", "block device", "fifo" or "socket"."""
        return _TYPES[stat.S_IFMT(self.mode)]

    @property
    def is_directory(self) -> bool:
        """Whether it can hold others."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_device(self) -> bool:
        """Whether it has a device number."""
        return stat.S_ISCHR(self.mode) or stat.S_ISBLK(self.mode)

    @property
    def size(self) -> int:
        """What ``st_size`` says: bytes of a file or of a link's target, 0 otherwise."""
        return self.content.size if self.is_file else len(self.target)


def _is_device(major: int, minor: int) -> bool:
    return 0 <= major <= _MOST_DEVICE[0] and 0 <= minor <= _MOST_DEVICE[1]


def _unusable(what: str, expected: str, seen: str) -> ImageError:
    return ImageError(f"cannot use {what}", expected=expected, seen=seen)
