"""Reads ext2, ext3 and ext4 images, bare or in a partition of a raw disk, into trees; the files' bytes stay there.

An empty ``/lost+found`` is the file system's and no part of the tree. A file system that was not shut down cleanly is
refused: what it holds is only known when its journal has been replayed.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from typing import BinaryIO

from v86lab.errors import ImageError
from v86lab.formats import wrapper
from v86lab.rootfs.archive import Archive, Given
from v86lab.rootfs.content import Content, Extents, Inline, Source, Stored
from v86lab.rootfs.draft import MAX_BYTES, MAX_ENTRIES, Draft
from v86lab.rootfs.inode import Inode
from v86lab.rootfs.names import as_text
from v86lab.rootfs.partitions import partitions
from v86lab.rootfs.tree import RootFS
from v86lab.store import Store

from . import attributes, directory, layout
from .volume import Record, Volume

_MAGIC_AT = layout.SUPERBLOCK_AT + layout.SUPERBLOCK["s_magic"][0]
_FAST_LINK = 60
_MOST_TARGET = 4096


def ext4(
    source: Given,
    *,
    partition: int | None = None,
    store: Store | None = None,
    name: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> RootFS:
    """A tree from an ext2, ext3 or ext4 image.

    Parameters
    ----------
    source : path or binary file object
        A file system, or a raw disk with an MBR or a GPT; plain, or packed by gzip, xz, zstd or bzip2. An uncompressed
        file has to stay as it is for as long as the tree is used, since the files' bytes are read from there; anything
        else goes into the Store first.
    partition : int, optional
        Which partition, as Linux counts them: 1 for ``sda1``. Default: the first with such a file system.
    store : Store, optional
        Where to unpack to; the default one.
    name : str, optional
        What the tree is called; the image's own name.
    max_bytes : int
        Bound on the image when unpacked, and on the sum of the file sizes.

    Raises
    ------
    ImageError
        There is no such file system, it is damaged, was not shut down cleanly, or has features that are not known here.
    StoreFull, StoreReadOnly

    Examples
    --------
    >>> import io
    >>> from v86lab import rootfs
    >>> from v86lab.rootfs.ext4 import write_ext4
    >>> file = io.BytesIO()
    >>> _ = write_ext4(rootfs.of({"/etc/motd": "hello"}), file, 1 << 20)
    >>> _ = file.seek(0)
    >>> ext4(file).read("/etc/motd")
    b'hello'
    """
    image = Archive.of(source, "disk image", lambda _: True, store, name, max_bytes)
    with image.source.open() as file:
        start = _place(file, image.size, partition, image.what)
        volume = Volume(file, *start, image.what)
        draft = Draft(image.what, max_bytes, hint="give a larger max_bytes if you trust it")
        _fill(draft, volume, image.source, start[0])
    return RootFS(draft, image.name)


def _place(file: BinaryIO, size: int, partition: int | None, shown: str) -> tuple[int, int]:
    """Where the file system lies: start and size."""
    if partition is None and _has_magic(file, 0, size):
        return 0, size
    found = partitions(file)
    listed = "; ".join(map(str, found)) or "no partitions"
    if partition is not None:
        for part in found:
            if part.number == partition:
                return part.start, part.size
        raise ImageError(f"{shown} has no partition {partition}", expected="one of its partitions", seen=listed)
    for part in found:
        if _has_magic(file, part.start, part.size):
            return part.start, part.size
    file.seek(0)
    wrapped = wrapper(file.read(4096))
    raise ImageError(
        f"cannot read {shown}",
        expected="ext2, ext3 or ext4, bare or in a partition of a raw disk",
        seen=wrapped[0] if wrapped else listed,
        hint=wrapped[1] if wrapped else None,
    )


def _has_magic(file: BinaryIO, start: int, size: int) -> bool:
    if size < layout.SUPERBLOCK_AT + layout.SUPERBLOCK_SIZE:
        return False
    file.seek(start + _MAGIC_AT)
    return file.read(2) == layout.MAGIC.to_bytes(2, "little")


def _fill(draft: Draft, volume: Volume, source: Source | Stored, start: int) -> None:
    places: dict[int, bytes] = {}
    ahead = [(b"", layout.ROOT)]
    while ahead:
        path, number = ahead.pop()
        if number in places:
            if draft.inodes[draft.names[places[number]]].is_directory:
                raise volume.damaged(f"two names: {as_text(places[number])!a} and {as_text(path)!a}", "one directory")
            draft.hard_link(path, places[number])
            continue
        try:
            record = volume.inode(number)
            draft.add(path, _inode(volume, source, start, record))
            room = MAX_ENTRIES - len(draft.names) - len(ahead)
            names = dict(_names(volume, record, room)) if stat.S_ISDIR(record.mode) else {}
        except ImageError as error:
            where = f"{as_text(path)!a}: {error.what}"
            raise ImageError(where, expected=error.expected, seen=error.seen, hint=error.hint) from error
        places[number] = path
        ahead += [(path + b"/" + part if path else part, child) for part, child in names.items()]
    kept = draft.names.get(b"lost+found")
    if kept is not None and draft.inodes[kept].is_directory and not draft.children(b"lost+found"):
        draft.remove(b"lost+found")


def _names(volume: Volume, record: Record, most: int) -> Iterator[tuple[bytes, int]]:
    """What a directory holds; a name that comes twice is damage."""
    seen: set[bytes] = set()
    for block in _blocks(volume, record):
        for name, number in directory.entries(block):
            if name in (b".", b".."):
                continue
            if name in seen:
                raise volume.damaged(f"{name[:80]!r} twice", expected="each name once")
            if len(seen) == most:
                raise ImageError(f"{volume.name} is too big", expected=f"at most {MAX_ENTRIES} entries", seen="more")
            seen.add(name)
            yield name, number


def _blocks(volume: Volume, record: Record) -> Iterator[bytes]:
    """The blocks of a directory; of one inside its inode, its two parts (ifork.rst, "Inline Directories")."""
    if record.flags & layout.INLINE_DATA_FL:
        yield record.block[4:]
        yield volume.raw_attributes(record).get(attributes.INLINE, b"")
        return
    end = -(-record.size // volume.block_size)
    for first, at, count in volume.runs(record):
        for n in range(max(0, min(count, end - first))):
            yield volume.block(at + n)


def _inode(volume: Volume, source: Source | Stored, start: int, record: Record) -> Inode:
    raw = volume.raw_attributes(record)
    if record.flags & layout.INLINE_DATA_FL:
        raw = {key: value for key, value in raw.items() if key != attributes.INLINE}
    kind = stat.S_IFMT(record.mode)
    content: Content = Inline(b"")
    target, device = b"", (0, 0)
    if kind == stat.S_IFREG:
        content = _content(volume, source, start, record)
    elif kind == stat.S_IFLNK:
        fast = record.size < _FAST_LINK and not record.flags & (layout.INLINE_DATA_FL | layout.EXTENTS_FL)
        target = record.block[: record.size] if fast else volume.data(record, _MOST_TARGET)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        device = layout.device_of(*struct.unpack_from("<II", record.block))
    xattrs = attributes.from_disk(raw)
    return Inode(record.mode, record.uid, record.gid, record.mtime, content, target, device, xattrs)


def _content(volume: Volume, source: Source | Stored, start: int, record: Record) -> Content:
    if record.flags & layout.INLINE_DATA_FL:
        return Inline(volume.inline(record))
    each = volume.block_size
    extents = []
    for first, at, count in volume.runs(record):
        length = min(count * each, record.size - first * each)
        if length > 0:
            extents.append((first * each, start + at * each, length))
    return Extents(source, record.size, tuple(extents))
