"""Tar archives: read wherever their bytes lie, written to the byte.

Reading: POSIX (ustar and PAX), GNU and old V7 archives, plain or packed by gzip, xz, zstd or bzip2. Names are made
relative as tar does it (``./``, a slash before); one with ``..`` is an `ImageError`, as is everything that is damaged,
cut short or too big. Later entries replace earlier ones; a directory keeps what is in it. Files are not copied: their
contents are extents of the archive. Lost are what a `RootFS` cannot hold: names of owners, access and change times,
POSIX ACLs in text form (``SCHILY.acl``), and labels of volumes.

Writing: PAX, with extended headers only where ustar cannot say it, in the order of `RootFS.entries`. Everything that a
tree holds is kept, except sockets, which tar does not have. A file of more than 1 MiB that has whole MiB of zeros is
written as GNU's sparse format 1.0. Equal trees give equal bytes.
"""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import BinaryIO, NamedTuple, cast

from v86lab.errors import ImageError
from v86lab.formats import MIB, quoted, size_text
from v86lab.store import Store

from . import tar_header
from .archive import HEAD, Archive, Given, Target, write
from .content import PIECE, Content, Extents
from .draft import MAX_BYTES, Draft
from .inode import Inode
from .names import as_text, located
from .tar_header import BLOCK, ZEROS, Header, Malformed, Records
from .tree import Entry, RootFS

_MOST_EXTENDED = 16 * MIB  # one extended header, or map of a sparse file, in memory
_MOST_EXTENTS = 1 << 20
_RECORD = 20 * BLOCK  # what GNU tar pads to

_TYPES = {
    tar_header.LINK: stat.S_IFLNK,
    tar_header.CHARACTER: stat.S_IFCHR,
    tar_header.BLOCK_DEVICE: stat.S_IFBLK,
    tar_header.DIRECTORY: stat.S_IFDIR,
    tar_header.DUMP_DIRECTORY: stat.S_IFDIR,
    tar_header.FIFO: stat.S_IFIFO,
}
_KINDS = {
    stat.S_IFREG: tar_header.FILE,
    stat.S_IFLNK: tar_header.LINK,
    stat.S_IFCHR: tar_header.CHARACTER,
    stat.S_IFBLK: tar_header.BLOCK_DEVICE,
    stat.S_IFDIR: tar_header.DIRECTORY,
    stat.S_IFIFO: tar_header.FIFO,
}


def tar(source: Given, *, store: Store | None = None, name: str | None = None, max_bytes: int = MAX_BYTES) -> RootFS:
    """A tar archive as a tree.

    Parameters
    ----------
    source : path or binary file object
        Plain, or packed by gzip, xz, zstd or bzip2: its content tells. An uncompressed file has to stay as it is for as
        long as the tree is used, since the files' bytes are read from there; anything else goes into the Store first.
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
        It cannot be read, is no tar, is damaged or cut short, leads out of the tree, or is too big.
    StoreFull, StoreReadOnly

    Examples
    --------
    >>> import io
    >>> from v86lab import rootfs
    >>> file = io.BytesIO()
    >>> write_tar(rootfs.of({"/etc/motd": "hello"}), file)
    >>> _ = file.seek(0)
    >>> tar(file).read("/etc/motd")
    b'hello'
    """
    archive = Archive.of(source, "tar", looks_like_tar, store, name, max_bytes)
    draft = Draft(archive.what, max_bytes, hint="give a larger max_bytes if you trust it")
    with closing(members(archive)) as found:
        for member in found:
            if member.inode is None:
                draft.hard_link(member.path, member.target)
            else:
                draft.add(member.path, member.inode)
    return RootFS(draft, archive.name)


class Member(NamedTuple):
    """A member of a tar.

    Attributes
    ----------
    path : bytes
        As it is written there.
    inode : Inode or None
        None for another name of an earlier member.
    target : bytes
        That member's name.
    """

    path: bytes
    inode: Inode | None
    target: bytes = b""


def members(archive: Archive) -> Generator[Member, None, None]:
    """A tar's members in their order.

    Raises
    ------
    ImageError
        The archive is damaged or cut short.
    """
    with archive.source.open() as file, io.BufferedReader(cast("io.RawIOBase", file), 8 * BLOCK) as buffered:
        yield from _Members(archive, buffered).read()


def looks_like_tar(head: bytes) -> bool:
    """Whether a file's first bytes look like a tar's, be it a damaged one."""
    if head[257:262] == b"ustar":
        return True
    if not any(head):  # an empty one is an end mark
        return BLOCK <= len(head) < HEAD
    return len(head) >= BLOCK and tar_header.has_checksum(head[:BLOCK])


class _Members:
    """Where a reader is in a tar."""

    def __init__(self, archive: Archive, file: BinaryIO) -> None:
        self.archive = archive
        self.file = file
        self.at = 0
        self.extents = 0

    def read(self) -> Iterator[Member]:
        """All members up to the end mark."""
        common: dict[bytes, bytes] = {}
        records = Records()
        while (block := self._take(BLOCK)) != ZEROS:
            try:
                header = Header.parse(block)
                if header.type in tar_header.PAX:
                    records.read(self._extended(header))
                elif header.type == tar_header.PAX_GLOBAL:
                    both = Records(common)
                    both.read(self._extended(header))
                elif header.type == tar_header.LONG_NAME:
                    records.values[b"path"] = self._extended(header).partition(b"\0")[0]
                elif header.type == tar_header.LONG_LINK:
                    records.values[b"linkpath"] = self._extended(header).partition(b"\0")[0]
                else:
                    records.values = {**common, **records.values}
                    member = self._member(header, records)
                    records = Records()
                    if member is not None:
                        yield member
            except Malformed as error:
                raise self._damaged("headers as tar writes them", f"{error} before byte {self.at}") from error

    def _take(self, length: int) -> bytes:
        data = b""
        if self.at + length <= self.archive.size:
            self.file.seek(self.at)
            data = self.file.read(length)
        if len(data) < length:
            raise self._damaged("members, and an end mark", f"its end, after {self.archive.size} bytes")
        self.at += length
        return data

    def _extended(self, header: Header) -> bytes:
        if not 0 <= header.size <= _MOST_EXTENDED:
            raise self._damaged(f"extended headers of at most {size_text(_MOST_EXTENDED)}", f"{header.size} bytes")
        return self._take(header.size + -header.size % BLOCK)[: header.size]

    def _member(self, header: Header, records: Records) -> Member | None:
        path = records.get(b"GNU.sparse.name") or records.get(b"path") or header.name
        size = records.number(b"size", header.size)
        kind, content = stat.S_IFREG, None
        if header.type in tar_header.FILES or header.type == tar_header.GNU_SPARSE:
            content = self._content(header, records, size)
            if path.endswith(b"/") and header.type in (tar_header.FILE, b"\0"):  # V7 had no other way
                kind, content = stat.S_IFDIR, None
        elif header.type == tar_header.HARD_LINK:
            return Member(path, None, records.get(b"linkpath") or header.linkname)
        elif header.type in _TYPES:
            kind = _TYPES[header.type]
            if header.type == tar_header.DUMP_DIRECTORY:
                self._skip(size)
        elif header.type == tar_header.VOLUME:
            return None
        else:
            hint = "join its volumes" if header.type == b"M" else None
            error = ImageError("cannot use a member", expected="a known type", seen=f"{header.type!r}", hint=hint)
            raise located(error, path, self.archive.what)
        try:
            inode = Inode(
                kind | header.mode,
                records.number(b"uid", header.uid),
                records.number(b"gid", header.gid),
                records.mtime(header.mtime),
                content or Inode.file().content,
                (records.get(b"linkpath") or header.linkname) if kind == stat.S_IFLNK else b"",
                header.device,
                records.xattrs(),
            )
        except ImageError as error:
            raise located(error, path, self.archive.what) from error
        return Member(path, inode)

    def _content(self, header: Header, records: Records, size: int) -> Content:
        """What a file holds, and on to the next header."""
        stored = size
        pieces: Iterable[tuple[int, int]] = [(0, size)]
        if header.type == tar_header.GNU_SPARSE:
            size = tar_header.old_size(header.block)
            pieces = self._old_map(header.block)
        elif (records.get(b"GNU.sparse.major"), records.get(b"GNU.sparse.minor")) == (b"1", b"0"):
            size = records.number(b"GNU.sparse.realsize", size)
            before = self.at
            pieces = self._map()
            stored -= self.at - before
        elif (text := records.get(b"GNU.sparse.map")) is not None:
            size = records.number(b"GNU.sparse.size", size)
            pieces = tar_header.pairs([tar_header.decimal(number) for number in text.split(b",")])
        elif records.map:
            size = records.number(b"GNU.sparse.size", size)
            pieces = tar_header.pairs(records.map)
        start = self.at
        self._skip(stored)
        extents = []
        inside, outside = 0, start
        for offset, length in pieces:
            if offset < inside or offset + length > size or outside + length > start + stored:
                raise Malformed("a sparse file's map that does not fit")
            if length:
                extents.append((offset, outside, length))
            inside, outside = offset + length, outside + length
        self.extents += len(extents)
        if self.extents > _MOST_EXTENTS:
            raise self._damaged(f"at most {_MOST_EXTENTS} parts of files", "more")
        return Extents(self.archive.source, size, tuple(extents))

    def _skip(self, size: int) -> None:
        if size < 0:
            raise Malformed("a negative size")
        self.at += size + -size % BLOCK
        if self.at > self.archive.size:
            raise self._damaged("members, and an end mark", f"its end, after {self.archive.size} bytes")

    def _old_map(self, block: bytes) -> list[tuple[int, int]]:
        found, more = tar_header.old_map(block, first=True)
        while more:
            part, more = tar_header.old_map(self._take(BLOCK), first=False)
            found += part
            if len(found) > _MOST_EXTENTS:
                raise self._damaged(f"at most {_MOST_EXTENTS} parts of files", "more")
        return found

    def _map(self) -> list[tuple[int, int]]:
        """The map before a file's data, in GNU's sparse format 1.0."""
        numbers = self._lines()
        count = next(numbers)
        if count > _MOST_EXTENTS:
            raise self._damaged(f"at most {_MOST_EXTENTS} parts of files", f"{count}")
        return [(next(numbers), next(numbers)) for _ in range(count)]

    def _lines(self) -> Iterator[int]:
        """Numbers on lines of their own, from blocks that are read as they are needed."""
        rest = b""
        while len(rest) < BLOCK:
            *lines, rest = (rest + self._take(BLOCK)).split(b"\n")
            yield from map(tar_header.decimal, lines)
        raise Malformed("a sparse file's map that is none")

    def _damaged(self, expected: str, seen: str) -> ImageError:
        return ImageError(
            f"{self.archive.what} is damaged or cut short",
            expected=expected,
            seen=seen,
            hint="copy or download it again",
        )


# ---- writing --------------------------------------------------------------------------------------------------------


def write_tar(tree: RootFS, target: Target) -> None:
    """Write a tree as a tar archive.

    Parameters
    ----------
    tree : RootFS
    target : path or binary file object
        A file appears whole or not at all; one that is there is replaced.

    Raises
    ------
    ImageError
        The target cannot be written, or a file of the tree no longer be read.

    Warns
    -----
    UserWarning
        Sockets were left out.

    Examples
    --------
    >>> import io, tarfile
    >>> from v86lab import rootfs
    >>> file = io.BytesIO()
    >>> write_tar(rootfs.of({"/etc/motd": "hello"}), file)
    >>> _ = file.seek(0)
    >>> tarfile.open(fileobj=file).getnames()
    ['.', 'etc', 'etc/motd']
    """
    left_out = [entry for entry in tree.entries() if stat.S_ISSOCK(entry.inode.mode)]
    if left_out:
        names = ", ".join(quoted(as_text(entry.path)) for entry in left_out[:5]) + (
            ", ..." if len(left_out) > 5 else ""
        )
        warnings.warn(f"left out of the tar, which has no sockets: {names}", stacklevel=2)
    write(target, "tar", _parts(tree))


def _parts(tree: RootFS) -> Iterator[bytes]:
    written = 0
    for entry in tree.entries():
        if not stat.S_ISSOCK(entry.inode.mode):
            for part in _member(entry):
                yield part
                written += len(part)
    yield bytes(2 * BLOCK + -(written + 2 * BLOCK) % _RECORD)


def _member(entry: Entry) -> Iterator[bytes]:
    inode = entry.inode
    name = (entry.path or b".") + (b"/" if inode.is_directory else b"")
    if entry.first != entry.path:
        yield tar_header.header(
            tar_header.HARD_LINK, name, mode=stat.S_IMODE(inode.mode), mtime=0, linkname=entry.first
        )
        return
    holes = _holes(inode.content) if inode.is_file else frozenset()
    before, records, size = b"", [], inode.content.size
    if holes:
        before, size = _sparse_map(inode.content.size, holes)
        records = [
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", name),
            (b"GNU.sparse.realsize", b"%d" % inode.content.size),
        ]
        name = b"GNUSparseFile.0/sparse"
    yield tar_header.header(
        _KINDS[stat.S_IFMT(inode.mode)],
        name,
        mode=stat.S_IMODE(inode.mode),
        uid=inode.uid,
        gid=inode.gid,
        size=size if inode.is_file else 0,
        mtime=inode.mtime,
        linkname=inode.target,
        device=inode.device,
        xattrs=inode.xattrs,
        records=records,
    )
    if inode.is_file:
        yield before
        for number, piece in enumerate(inode.content.solid()):
            if number not in holes:
                yield piece
        yield tar_header.padding(size)


def _holes(content: Content) -> frozenset[int]:
    """The pieces of a long file that are zeros, whether its source knows them as holes or not."""
    if content.size <= PIECE:
        return frozenset()
    zeros = bytes(PIECE)
    return frozenset(
        number
        for number, piece in enumerate(content.pieces())
        if piece is None or piece == (zeros if len(piece) == PIECE else zeros[: len(piece)])
    )


def _sparse_map(size: int, holes: frozenset[int]) -> tuple[bytes, int]:
    """The map of a file with holes, and how long map and data are together."""
    runs: list[list[int]] = []
    for number in range(-(-size // PIECE)):
        start, end = number * PIECE, min(size, (number + 1) * PIECE)
        if number in holes:
            continue
        if runs and sum(runs[-1]) == start:
            runs[-1][1] += end - start
        else:
            runs.append([start, end - start])
    if not runs or sum(runs[-1]) < size:
        runs.append([size, 0])  # where the file ends
    data = b"".join(b"%d\n" % number for number in [len(runs), *(number for run in runs for number in run)])
    data += tar_header.padding(len(data))
    return data, len(data) + sum(length for _, length in runs)
