"""Writes a tree as an ext4 file system: the same bytes for the same tree, in one pass over its contents.

The rules:

* Everything is placed before the first byte is written, from sizes and holes alone; what does not fit is refused then.
* Inodes are numbered in the order of the tree. Blocks are given out from the front: directories first, since every
  path goes through them, then the files in the order of the tree, each in one piece; the journal comes last.
* Identity (UUID, hash seed) is a digest of what the tree says but for the files' bytes, which would have to be read
  twice. Times are the tree's; those of the file system itself are 0.
* A hole stays one, in the file system and in the file that it is written to.
* Features are those that every Linux since 2.6.28 has: see `geometry` for what is left out.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO
from uuid import UUID

from v86lab.errors import ImageError
from v86lab.formats import size_text
from v86lab.rootfs.content import PIECE, Content
from v86lab.rootfs.inode import Inode
from v86lab.rootfs.names import as_bytes, as_text
from v86lab.rootfs.tree import RootFS

from . import attributes, directory, layout
from .geometry import BLOCK, INODE_SIZE, MOST_BYTES, PER_GROUP, Geometry, journal_blocks, least, too_small
from .layout import COMPAT, FIRST, INCOMPAT, JOURNAL, RO_COMPAT, ROOT

LOST_FOUND = b"lost+found"
_EXTRA = layout.INODE_EXTRA.size
_ROOM = INODE_SIZE - layout.INODE.size - _EXTRA  # for extended attributes in an inode
_FAST_LINK = 60
_MOST_LINKS = 65000
_IN_INODE, _IN_BLOCK = 4, (BLOCK - layout.EXTENT_HEADER.size) // layout.EXTENT.size  # extents
_RO_FEATURES = ("sparse_super", "large_file", "uninit_bg", "dir_nlink", "extra_isize")
_ZEROS = bytes(BLOCK)
_JOURNAL_INODE = Inode.file(b"", 0o600)


@dataclass(slots=True)
class _Node:
    """An inode on its way to the disk.

    Attributes
    ----------
    ranges : list of (int, int)
        Blocks of the file that are no holes: first one and number.
    extents : list of (int, int, int)
        Where they are: first one, its place, number.
    index : list of (int, bytes)
        Blocks of the extent tree, and their places.
    root : bytes
        i_block.
    """

    number: int
    inode: Inode
    path: bytes
    links: int = 0
    above: int = ROOT
    body: Content | bytes | None = None
    size: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)
    extents: list[tuple[int, int, int]] = field(default_factory=list)
    index: list[tuple[int, bytes]] = field(default_factory=list)
    root: bytes = b""
    spare: bytes = b""
    attributes: bytes = b""
    attributes_at: int = 0

    @property
    def data(self) -> int:
        """Blocks of the body."""
        return sum(count for _, count in self.ranges)

    @property
    def most_blocks(self) -> int:
        """Blocks that it takes at most, wherever its data has to be cut."""
        cuts = 2 * (self.data // layout.MOST_EXTENT) + 1
        return self.data + _tree_blocks(len(self.ranges) + cuts) + bool(self.attributes)


def write_ext4(
    tree: RootFS,
    file: BinaryIO,
    size: int | None = None,
    *,
    offset: int = 0,
    label: str = "",
    uuid: UUID | None = None,
    inodes: int = 0,
    journal: bool = True,
) -> int:
    """Write a tree as an ext4 file system.

    Parameters
    ----------
    tree : RootFS
    file : binary file
        Seekable. What it holds from `offset` on is replaced.
    size : int, optional
        Bytes of the file system. Default: what the tree needs, and a quarter more, at least 64 MiB.
    offset : int
        Where it begins in the file.
    label : str
        At most 16 bytes of UTF-8.
    uuid : UUID, optional
        Default: from what the tree says of its files.
    inodes : int
        At least so many inodes besides the tree's; by default one for each 16 KiB, and a quarter more than the tree's.
    journal : bool
        With one, a guest that is killed leaves a file system that the next one mounts as it was some seconds before. It
        takes 4 to 64 MiB, as mke2fs decides, or less where that is more than half of what is free.

    Returns
    -------
    int
        The size.

    Raises
    ------
    ImageError
        The tree does not fit, or has what ext4 cannot hold: more than 4 KiB of a file's extended attributes, more than
        65 000 names of a file.

    Notes
    -----
    Times up to 2446 are right to Linux; e2fsck takes those after April 2310 for mistakes.

    Examples
    --------
    >>> import io
    >>> from v86lab import rootfs
    >>> file = io.BytesIO()
    >>> write_ext4(rootfs.of({"/etc/motd": "hello"}), file, 1 << 20, label="example")
    1048576
    """
    plan = Plan(tree, label=label, uuid=uuid, inodes=inodes, journal=journal)
    size = plan.roomy if size is None else size
    plan.write(file, size, offset)
    return size


class Plan:
    """All of a file system but where things lie; parameters are `write_ext4`'s.

    Attributes
    ----------
    least : int
        Bytes that it takes at least.
    roomy : int
        Bytes with some room to work in, in whole MiB.
    """

    def __init__(
        self, tree: RootFS, *, label: str = "", uuid: UUID | None = None, inodes: int = 0, journal: bool = True
    ) -> None:
        self.name = tree.name
        self._label = as_bytes(label)
        if len(self._label) > 16:
            raise ImageError("the label is too long", expected="at most 16 bytes", seen=f"{len(self._label)}")
        self._journal = journal
        digest = hashlib.sha256()
        self._nodes, children = _nodes(tree, digest)
        self._uuid = UUID(bytes=digest.digest()[:16], version=4) if uuid is None else uuid
        self._seed = digest.digest()[16:]
        used = len(self._nodes)
        self._inodes = used + max(inodes, used // 4 + 64)
        for node in self._nodes:
            _fill(node, children, self._seed)
        self._data = sum(node.most_blocks for node in self._nodes)
        self.least = least(self._data, self._inodes)
        self.roomy = -(-max(self.least * 5 // 4, self.least + (64 << 20)) >> 20) << 20

    def write(self, file: BinaryIO, size: int, offset: int = 0) -> None:
        """Write it; see `write_ext4`."""
        if size < self.least:
            raise too_small(self.name, self.least, size)
        if size > MOST_BYTES:
            raise ImageError("this is too large for ext4", expected=size_text(MOST_BYTES), seen=size_text(size))
        geometry = Geometry.of(size // BLOCK, self._inodes)
        if geometry.room < self._data:  # the last blocks made a group, which costs more than it brings
            geometry = Geometry.of(self.least // BLOCK, self._inodes)
        order = sorted(self._nodes, key=lambda node: not node.inode.is_directory)
        journal = journal_blocks(geometry, self._data) if self._journal else 0
        if journal:
            order.append(_journal(journal, self._uuid))
        space = _Space(geometry)
        for node in order:
            space.place(node)
        file.truncate(offset)
        file.truncate(offset + size)
        if file.seek(0, os.SEEK_END) < offset + size:  # as of a BytesIO
            file.seek(offset + size - 1)
            file.write(b"\0")
        sink = _Sink(file, offset)
        for node in order:
            _write_body(sink, node)
        order.sort(key=lambda node: node.number)
        groups = list(_groups(geometry, space.used, order, self._uuid))
        descriptors = b"".join(group.descriptor for group in groups)
        for number, group in enumerate(groups):
            if number in geometry.copies:
                start = number * PER_GROUP
                fields = self._superblock(geometry, groups, order, number)
                sink.put(start, (_ZEROS[:1024] if not number else b"") + fields)
                sink.put(start + 1, descriptors)
            group.write(sink, geometry.bitmaps(number))
        sink.flush()

    def _superblock(self, geometry: Geometry, groups: Sequence[_Group], nodes: Sequence[_Node], number: int) -> bytes:
        journal = next((node for node in nodes if node.number == JOURNAL), None)
        free = sum(group.free_blocks for group in groups)
        values: dict[str, tuple[int | bytes, ...]] = {
            "s_inodes_count": (geometry.inodes,),
            "s_blocks_count_lo": (geometry.blocks,),
            "s_r_blocks_count_lo": (min(free, geometry.blocks // 100),),
            "s_free_blocks_count_lo": (free,),
            "s_free_inodes_count": (sum(group.free_inodes for group in groups),),
            "s_log_block_size": (2,),
            "s_log_cluster_size": (2,),
            "s_blocks_per_group": (PER_GROUP,),
            "s_clusters_per_group": (PER_GROUP,),
            "s_inodes_per_group": (geometry.inodes_per_group,),
            "s_max_mnt_count": (0xFFFF,),  # never checked only because it was mounted often
            "s_magic": (layout.MAGIC,),
            "s_state": (layout.VALID_FS,),
            "s_errors": (1,),  # go on
            "s_rev_level": (1,),
            "s_first_ino": (FIRST,),
            "s_inode_size": (INODE_SIZE,),
            "s_block_group_nr": (number,),
            "s_feature_compat": (_flags(COMPAT, "ext_attr", "dir_index", *(["has_journal"] if journal else [])),),
            "s_feature_incompat": (_flags(INCOMPAT, "filetype", "extent"),),
            "s_feature_ro_compat": (_flags(RO_COMPAT, *_RO_FEATURES),),
            "s_uuid": (self._uuid.bytes,),
            "s_volume_name": (self._label,),
            "s_hash_seed": (self._seed,),
            "s_def_hash_version": (layout.HASH_TEA,),
            "s_default_mount_opts": (0xC,),  # user_xattr, acl
            "s_min_extra_isize": (_EXTRA,),
            "s_want_extra_isize": (_EXTRA,),
            "s_flags": (layout.UNSIGNED_HASH,),
        }
        if journal is not None:
            values |= {
                "s_journal_inum": (JOURNAL,),
                "s_jnl_backup_type": (1,),
                "s_jnl_blocks": (journal.root, journal.size >> 32, journal.size & 0xFFFFFFFF),
            }
        block = bytearray(layout.SUPERBLOCK_SIZE)
        for name, value in values.items():
            at, form = layout.SUPERBLOCK[name]
            struct.pack_into(form, block, at, *value)
        return bytes(block)


class _Space:
    """Gives out blocks, from the front to the back.

    Attributes
    ----------
    used : int
        All that could be given out before this one is.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._runs = geometry.free()
        self.used, self._end = next(self._runs)

    def place(self, node: _Node) -> None:
        """Find places for all blocks of an inode."""
        if node.attributes:
            node.attributes_at = self._block()
        for first, count in node.ranges:
            while count:
                at, taken = self._take(min(count, layout.MOST_EXTENT))
                node.extents.append((first, at, taken))
                first, count = first + taken, count - taken
        if node.body is None:
            return
        rows = [(first, layout.EXTENT.pack(first, count, 0, at)) for first, at, count in node.extents]
        depth = 0
        while len(rows) > _IN_INODE:
            above = []
            for start in range(0, len(rows), _IN_BLOCK):
                part = rows[start : start + _IN_BLOCK]
                at = self._block()
                node.index.append((at, _extent_node(part, _IN_BLOCK, depth)))
                above.append((part[0][0], layout.EXTENT_INDEX.pack(part[0][0], at, 0, 0)))
            rows, depth = above, depth + 1
        node.root = _extent_node(rows, _IN_INODE, depth)

    def _block(self) -> int:
        return self._take(1)[0]

    def _take(self, most: int) -> tuple[int, int]:
        if self.used == self._end:
            self.used, self._end = next(self._runs)
        at, taken = self.used, min(most, self._end - self.used)
        self.used += taken
        return at, taken


class _Sink:
    """Writes blocks, neighbours together."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file = file
        self._offset = offset
        self._parts: list[bytes] = []
        self._start = self._next = 0

    def put(self, block: int, data: bytes) -> None:
        """Write from a block on; the rest of the last one is zeros."""
        if block != self._next or self._next - self._start >= PIECE // BLOCK:
            self.flush()
            self._start = self._next = block
        self._parts.append(data)
        rest = -len(data) % BLOCK
        if rest:
            self._parts.append(_ZEROS[:rest])
        self._next += (len(data) + rest) // BLOCK

    def flush(self) -> None:
        """Write what waits."""
        data = memoryview(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))
        self._parts.clear()
        if data:
            self._file.seek(self._offset + self._start * BLOCK)
        while data:
            data = data[self._file.write(data) :]


@dataclass(frozen=True)
class _Group:
    """A group's own blocks, as far as they are not zeros."""

    descriptor: bytes
    free_blocks: int
    free_inodes: int
    block_bitmap: bytes
    inode_bitmap: bytes
    nodes: Sequence[_Node]
    first: int  # inode number

    def write(self, sink: _Sink, at: int) -> None:
        """Write them from a block on."""
        if self.block_bitmap:
            sink.put(at, self.block_bitmap)
        if self.inode_bitmap:
            sink.put(at + 1, self.inode_bitmap)
        if self.nodes:
            table = bytearray((self.nodes[-1].number - self.first + 1) * INODE_SIZE)
            for node in self.nodes:
                start = (node.number - self.first) * INODE_SIZE
                table[start : start + INODE_SIZE] = _record(node)
            sink.put(at + 2, bytes(table))


def _groups(geometry: Geometry, used: int, nodes: Sequence[_Node], uuid: UUID) -> Iterator[_Group]:
    """The groups of a file system whose blocks are used up to a place and whose inodes are these, by number."""
    per_group = geometry.inodes_per_group
    at = 0
    for group in range(geometry.groups):
        start, length = group * PER_GROUP, geometry.length(group)
        taken = max(geometry.overhead(group), min(length, used - start))
        first = group * per_group + 1
        inodes = max(0, min(per_group, nodes[-1].number - first + 1))
        end = at
        while end < len(nodes) and nodes[end].number < first + per_group:
            end += 1
        own, at = nodes[at:end], end
        flags = layout.INODE_ZEROED
        flags |= 0 if inodes else layout.INODE_UNINIT
        untouched = not inodes and taken == geometry.overhead(group) and group not in (0, geometry.groups - 1)
        flags |= layout.BLOCK_UNINIT if untouched else 0
        bitmaps = geometry.bitmaps(group)
        counts = (length - taken, per_group - inodes, sum(node.inode.is_directory for node in own), flags, 0, 0, 0)
        head = layout.GROUP.pack(bitmaps, bitmaps + 1, bitmaps + 2, *counts, per_group - inodes, 0)[:-2]
        check = layout.crc16(uuid.bytes + group.to_bytes(4, "little") + head)
        yield _Group(
            head + check.to_bytes(2, "little"),
            length - taken,
            per_group - inodes,
            b"" if untouched else _bitmap(taken, length),
            _bitmap(inodes, per_group) if inodes else b"",
            own,
            first,
        )


def _bitmap(used: int, there: int) -> bytes:
    """A block of bits: the used ones, and those that stand for nothing."""
    bits = (1 << used) - 1 | ((1 << PER_GROUP) - 1) ^ ((1 << there) - 1)
    return bits.to_bytes(BLOCK, "little")


def _nodes(tree: RootFS, digest: hashlib._Hash) -> tuple[list[_Node], dict[int, list[directory.Name]]]:
    """The tree's inodes in the order of their numbers, and what its directories hold; `digest` is told all of it."""
    nodes: list[_Node] = []
    numbers: dict[bytes, _Node] = {}
    children: dict[int, list[directory.Name]] = {}
    following = FIRST + 1
    for entry in tree.entries():
        inode = entry.inode
        if entry.number == len(nodes):
            number = ROOT if not nodes else FIRST if entry.path == LOST_FOUND else following
            following += number == following
            nodes.append(_Node(number, inode, entry.path))
            facts = (
                inode.mode,
                inode.uid,
                inode.gid,
                inode.mtime,
                inode.size,
                inode.target,
                inode.device,
                inode.xattrs,
            )
            digest.update(repr((entry.path, *facts)).encode())
        else:
            digest.update(repr((entry.path, entry.first)).encode())
        node = nodes[entry.number]
        if inode.is_directory:
            numbers[entry.path] = node
            children[node.number] = []
        if entry.path:
            _enter(node, numbers, children, entry.path)
    kept = next((number for name, number, _ in children[ROOT] if name == LOST_FOUND), None)
    if kept is None:
        nodes.append(_Node(FIRST, Inode.directory(0o700, mtime=nodes[0].inode.mtime), LOST_FOUND))
        children[FIRST] = []
        _enter(nodes[-1], numbers, children, LOST_FOUND)
    elif kept not in children:
        raise ImageError("ext4 keeps what it repairs in /lost+found", expected="a directory there", seen="a file")
    nodes[0].links += 2  # it is its own "." and ".."
    return nodes, children


def _enter(node: _Node, numbers: dict[bytes, _Node], children: dict[int, list[directory.Name]], path: bytes) -> None:
    """Give an inode a name in a directory."""
    above, _, name = path.rpartition(b"/")
    folder = numbers[above]
    children[folder.number].append((name, node.number, layout.FILE_TYPES[stat.S_IFMT(node.inode.mode)]))
    node.links += 1
    node.above = folder.number
    if node.inode.is_directory:
        node.links += 1
        folder.links += 1


def _fill(node: _Node, children: dict[int, list[directory.Name]], seed: bytes) -> None:
    """Find out what an inode's blocks hold."""
    inode = node.inode
    if inode.is_directory:
        node.body = b"".join(directory.pack(children.pop(node.number), node.number, node.above, seed, BLOCK))
        if node.links > _MOST_LINKS:
            node.links = 1  # dir_nlink
    elif inode.is_file:
        node.body = inode.content
    elif inode.is_link and len(inode.target) >= _FAST_LINK:
        node.body = inode.target
    if node.links > _MOST_LINKS:
        raise ImageError(
            f"{as_text(node.path)!a} has too many names for ext4", expected=str(_MOST_LINKS), seen=str(node.links)
        )
    node.size = len(node.body) if isinstance(node.body, bytes) else inode.size
    spans = inode.content.spans() if isinstance(node.body, Content) else [(0, node.size)] if node.body else []
    for start, length in spans:
        first, end = start // BLOCK, -(-(start + length) // BLOCK)
        if node.ranges and sum(node.ranges[-1]) >= first:
            first = node.ranges.pop()[0]
        node.ranges.append((first, end - first))
    if inode.xattrs:
        rows = attributes.to_disk(inode.xattrs)
        spare = attributes.in_inode(rows, _ROOM)
        if spare is None:
            node.attributes = attributes.in_block(rows, BLOCK, ascii(as_text(node.path)))
        else:
            node.spare = spare


def _journal(blocks: int, uuid: UUID) -> _Node:
    """The journal, empty: a superblock of its own, and zeros."""
    head = (layout.JOURNAL_MAGIC, layout.JOURNAL_V2, 0, BLOCK, blocks, 1, 1, 0, 0)
    body = layout.JOURNAL_SUPERBLOCK.pack(*head, bytes(12), uuid.bytes, 1)
    return _Node(JOURNAL, _JOURNAL_INODE, b"", links=1, body=body, size=blocks * BLOCK, ranges=[(0, blocks)])


def _write_body(sink: _Sink, node: _Node) -> None:
    if node.attributes:
        sink.put(node.attributes_at, node.attributes)
    if isinstance(node.body, Content):
        _copy(sink, node.body, node.extents)
    elif node.body is not None:
        for first, at, count in node.extents:
            part = node.body[first * BLOCK : (first + count) * BLOCK]
            if part:  # nothing is written of a journal but its beginning
                sink.put(at, part)
    for at, block in node.index:
        sink.put(at, block)


def _copy(sink: _Sink, content: Content, extents: Sequence[tuple[int, int, int]]) -> None:
    n = 0
    for number, piece in enumerate(content.pieces()):
        if piece is None:
            continue
        low = number * PIECE // BLOCK
        high = low + -(-len(piece) // BLOCK)
        while n < len(extents) and extents[n][0] + extents[n][2] <= low:
            n += 1
        for first, at, count in extents[n:]:
            if first >= high:
                break
            start, end = max(low, first), min(high, first + count)
            sink.put(at + start - first, piece[(start - low) * BLOCK : (end - low) * BLOCK])


def _record(node: _Node) -> bytes:
    """The inode as it lies in the table."""
    inode = node.inode
    time, time_extra = layout.time_fields(inode.mtime)
    flags = 0 if node.body is None else layout.EXTENTS_FL
    if inode.is_directory and node.size > BLOCK:
        flags |= layout.INDEX_FL
    block = node.root
    if node.body is None:
        block = struct.pack("<II", *layout.device_fields(*inode.device)) if inode.is_device else inode.target
    sectors = (node.data + len(node.index) + bool(node.attributes)) * (BLOCK // 512)
    size = node.size
    fixed = layout.INODE.pack(
        *(inode.mode, inode.uid & 0xFFFF, size & 0xFFFFFFFF, time, time, time, 0, inode.gid & 0xFFFF, node.links),
        *(sectors, flags, 0, block, 0, node.attributes_at, size >> 32, 0),
        *(0, 0, inode.uid >> 16, inode.gid >> 16, 0, 0),
    )
    extra = layout.INODE_EXTRA.pack(_EXTRA, 0, time_extra, time_extra, time_extra, time, time_extra, 0, 0)
    return (fixed + extra + node.spare).ljust(INODE_SIZE, b"\0")


def _extent_node(rows: Sequence[tuple[int, bytes]], most: int, depth: int) -> bytes:
    return layout.EXTENT_HEADER.pack(layout.EXTENT_MAGIC, len(rows), most, depth, 0) + b"".join(row for _, row in rows)


def _tree_blocks(extents: int) -> int:
    """Blocks of the tree of so many extents."""
    total = 0
    while extents > _IN_INODE:
        extents = -(-extents // _IN_BLOCK)
        total += extents
    return total


def _flags(bits: dict[str, int], *names: str) -> int:
    return sum(bits[name] for name in names)
