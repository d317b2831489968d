"""Cpio archives, which initramfs images are: read wherever their bytes lie, written to the byte.

Reading: the formats "newc" and "crc" (magic 070701 and 070702), plain or packed by gzip, xz, zstd or bzip2; also
several archives one after another with zeros between, the last one packed or not, as boot loaders give them to Linux.
Later entries replace earlier ones, and files are not copied, as with `v86lab.rootfs.tar`.

Writing: newc, in the order of `RootFS.entries`. It keeps types, modes, owners, devices, links of both kinds and whole
seconds. Parts of a second are cut off and extended attributes left out, because newc has no place for them; holes
become zeros. A time before 1970 or after 2106, a file of 4 GiB or more, or one named like the end mark is an
`ImageError`.
Names of one inode share a number, and the last of them has the data (as GNU cpio does, and Linux expects it).

The format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst and init/initramfs.c.
"""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from v86lab.errors import ImageError
from v86lab.store import Store

from .archive import Archive, Given, Target, write
from .content import PIECE, Content, Extents
from .draft import MAX_BYTES, Draft
from .inode import Inode
from .names import MOST_PATH, located
from .tree import Entry, RootFS

_NEWC, _CRC = b"070701", b"070702"
_HEADER = 110
_DIGITS = re.compile(rb"[0-9A-Fa-f]{104}")
_END = b"TRAILER!!!"
_BLOCK = 512  # what GNU cpio pads to
_MOST = (1 << 32) - 1


def cpio(source: Given, *, store: Store | None = None, name: str | None = None, max_bytes: int = MAX_BYTES) -> RootFS:
    """A cpio archive as a tree.

    Parameters
    ----------
    source : path or binary file object
        Plain, or packed by gzip, xz, zstd or bzip2: its content tells. An uncompressed file has to stay as it is for as
        long as the tree is used; anything else goes into the Store first.
    store : Store, optional
        Where to unpack to; the default one.
    name : str, optional
        What the tree is called; the archive's own name.
    max_bytes : int
        Bound on the archive when unpacked, and on the sum of the file sizes.

    Returns
    -------
    RootFS

    Raises
    ------
    ImageError
        It cannot be read, is no cpio of these formats, is damaged or cut short, leads out of the tree, or is too big.
    StoreFull, StoreReadOnly

    Examples
    --------
    >>> from v86lab import firmware
    >>> guest = cpio(firmware.path("initramfs"))
    >>> guest["/bin/sh"].target
    b'/bin/busybox'
    """
    archive = Archive.of(source, "cpio", _looks, store, name, max_bytes)
    draft = Draft(archive.what, max_bytes, hint="give a larger max_bytes if you trust it")
    at = _Members(archive, draft).read(0)
    rest = archive.packed_rest(at, _looks, store, max_bytes)
    if rest is not None:
        _Members(rest, draft).read(0)
    elif at < archive.size:
        raise _damaged(archive, "another archive, or nothing", f"something else at byte {at}")
    return RootFS(draft, archive.name)


def _looks(head: bytes) -> bool:
    return head.startswith((_NEWC, _CRC))


@dataclass(frozen=True)
class _Header:
    """A header, and the name after it."""

    magic: bytes
    number: int
    mode: int
    uid: int
    gid: int
    links: int
    mtime: int
    size: int
    on: tuple[int, int]
    device: tuple[int, int]
    name: bytes
    check: int


class _Members:
    """The members of archives that stand one after another, on their way into a draft."""

    def __init__(self, archive: Archive, draft: Draft) -> None:
        self.archive = archive
        self.draft = draft
        self.at = 0
        self.links: dict[tuple[int, tuple[int, int], int], bytes] = {}

    def read(self, at: int) -> int:
        """Read from some place on; give the place of what is neither zeros nor another archive."""
        self.at = at
        with self.archive.source.open() as file:
            while self._magic(file):
                while (header := self._header(file)).name != _END:
                    self._member(file, header)
                self.links.clear()
                self._skip_zeros(file)
        return self.at

    def _magic(self, file: BinaryIO) -> bool:
        file.seek(self.at)
        return _looks(file.read(6))

    def _skip_zeros(self, file: BinaryIO) -> None:
        file.seek(self.at)
        while chunk := file.read(PIECE):
            rest = chunk.lstrip(b"\0")
            self.at += len(chunk) - len(rest)
            if rest:
                return

    def _header(self, file: BinaryIO) -> _Header:
        raw = self._take(file, _HEADER)
        if not _looks(raw):
            raise _damaged(self.archive, "a header of newc or crc", f"{raw[:6]!r} at byte {self.at - _HEADER}")
        digits = raw[6:]
        if not _DIGITS.fullmatch(digits):
            raise _damaged(self.archive, "hex digits", f"{digits[:16]!r} at byte {self.at - _HEADER}")
        fields = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
        number, mode, uid, gid, links, mtime, size, major, minor, device_major, device_minor, length, check = fields
        if not 0 < length <= MOST_PATH + 1:
            raise _damaged(self.archive, f"names of at most {MOST_PATH} bytes", f"{length} at byte {self.at}")
        name = self._take(file, length).rstrip(b"\0")
        self._pad()
        on, device = (major, minor), (device_major, device_minor)
        return _Header(raw[:6], number, mode, uid, gid, links, mtime, size, on, device, name, check)

    def _member(self, file: BinaryIO, header: _Header) -> None:
        kind = stat.S_IFMT(header.mode)
        target, content = b"", Inode.file().content
        start = self.at
        if kind == stat.S_IFLNK:
            if header.size > MOST_PATH:
                raise _damaged(self.archive, f"targets of at most {MOST_PATH} bytes", f"{header.size}")
            target = self._take(file, header.size).rstrip(b"\0")
        else:
            self._skip(header.size)
            if kind == stat.S_IFREG and header.size:
                content = Extents(self.archive.source, header.size, ((0, start, header.size),))
                if header.magic == _CRC:
                    self._verify(content, header)
        self._pad()
        try:
            inode = Inode(
                header.mode,
                header.uid,
                header.gid,
                header.mtime * 10**9,
                content,
                target,
                header.device if kind in (stat.S_IFCHR, stat.S_IFBLK) else (0, 0),
            )
        except ImageError as error:
            raise located(error, header.name, self.draft.what) from error
        self._add(header, inode)

    def _add(self, header: _Header, inode: Inode) -> None:
        key = (header.number, header.on, stat.S_IFMT(header.mode))
        if header.links < 2 or inode.is_directory or key not in self.links:
            self.draft.add(header.name, inode)
            if header.links > 1:
                self.links[key] = header.name
            return
        self.draft.hard_link(header.name, self.links[key])
        if header.size:  # the data comes with one of the names, most often the last
            self.draft.replace(header.name, inode)

    def _verify(self, content: Content, header: _Header) -> None:
        found = sum(map(sum, content.solid())) & _MOST
        if found != header.check:
            error = ImageError(
                "a file is damaged", expected=f"the sum {header.check}", seen=f"{found}", hint="copy it again"
            )
            raise located(error, header.name, self.draft.what)

    def _take(self, file: BinaryIO, length: int) -> bytes:
        start = self.at
        self._skip(length)
        file.seek(start)
        return file.read(length).ljust(length, b"\0")

    def _skip(self, length: int) -> None:
        self.at += length
        if self.at > self.archive.size:
            raise _damaged(self.archive, "members, and an end mark", f"its end, after {self.archive.size} bytes")

    def _pad(self) -> None:
        self.at += -self.at % 4


def _damaged(archive: Archive, expected: str, seen: str) -> ImageError:
    return ImageError(
        f"{archive.what} is damaged or cut short", expected=expected, seen=seen, hint="copy or download it again"
    )


# ---- writing --------------------------------------------------------------------------------------------------------


def write_cpio(tree: RootFS, target: Target) -> None:
    """Write a tree as a cpio archive in the format newc: what Linux unpacks as its initramfs.

    Parameters
    ----------
    tree : RootFS
    target : path or binary file object
        A file appears whole or not at all; one that is there is replaced.

    Raises
    ------
    ImageError
        newc cannot hold the tree, the target cannot be written, or a file of the tree no longer be read.

    Examples
    --------
    >>> import io
    >>> from v86lab import rootfs
    >>> file = io.BytesIO()
    >>> write_cpio(rootfs.of({"/init": "#!/bin/sh\\n"}), file)
    >>> file.getvalue()[:6], len(file.getvalue())
    (b'070701', 512)
    """
    write(target, "cpio", _parts(tree))


def _parts(tree: RootFS) -> Iterator[bytes]:
    links = Counter(entry.number for entry in tree.entries())
    left = links.copy()
    written = 0
    for entry in tree.entries():
        left[entry.number] -= 1
        for part in _member(tree, entry, links[entry.number], last=not left[entry.number]):
            yield part
            written += len(part)
    end = _header(_END, links=1)
    yield end + bytes(-(written + len(end)) % _BLOCK)


def _member(tree: RootFS, entry: Entry, links: int, last: bool) -> Iterator[bytes]:
    inode, name = entry.inode, entry.path or b"."
    seconds = inode.mtime // 10**9
    if name == _END:
        raise _impossible(tree, entry, "no file named like the end mark", "one")
    if not 0 <= seconds <= _MOST:
        raise _impossible(tree, entry, "a time between 1970 and 2106", f"{seconds} seconds since 1970")
    if inode.size > _MOST:
        raise _impossible(tree, entry, "files of less than 4 GiB", f"{inode.size} bytes")
    size = inode.size if last or inode.is_link else 0
    yield _header(name, entry.number + 1, inode.mode, inode.uid, inode.gid, links, seconds, size, inode.device)
    if inode.is_link:
        yield inode.target
    elif size:
        yield from inode.content.solid()
    yield bytes(-size % 4)


def _header(
    name: bytes,
    number: int = 0,
    mode: int = 0,
    uid: int = 0,
    gid: int = 0,
    links: int = 1,
    seconds: int = 0,
    size: int = 0,
    device: tuple[int, int] = (0, 0),
) -> bytes:
    fields = (number, mode, uid, gid, links, seconds, size, 0, 0, *device, len(name) + 1, 0)
    whole = _NEWC + b"".join(b"%08X" % field for field in fields) + name + b"\0"
    return whole + bytes(-len(whole) % 4)


def _impossible(tree: RootFS, entry: Entry, expected: str, seen: str) -> ImageError:
    error = ImageError("cpio cannot hold a file", expected=expected, seen=seen, hint="write a tar instead")
    return located(error, entry.path, tree.name)
