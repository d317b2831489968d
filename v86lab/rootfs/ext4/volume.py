"""An ext2, ext3 or ext4 file system that is there: its superblock, inodes, and where their blocks are.

It may be a stranger's. Every place is checked against the file system's bounds, and no block belongs to two files: what
is read can therefore never be more than the file system holds, whatever its trees of extents and block maps say.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from v86lab.errors import ImageError
from v86lab.formats import size_text

from . import attributes, layout
from .layout import COMPAT, EXTENT_HEADER, INCOMPAT, RO_COMPAT

_RECOVER = "start it once and shut it down, or repair it: e2fsck -f IMAGE"
_REFUSED = {
    "compression": "compressed files",
    "journal_dev": "a journal without a file system",
    "dirdata": "Lustre's directories",
}
_REFUSED_RO = {"bigalloc": "clusters of blocks (bigalloc)", "shared_blocks": "blocks that several files share"}
_REFUSED_FLAGS = {
    layout.ENCRYPT_FL: "is encrypted",
    layout.CASEFOLD_FL: "is a directory that takes upper and lower case for the same",
    layout.VERITY_FL: "is sealed by fs-verity",
}
_DIRECT = 12
_CACHED = 256  # blocks of the inode table


@dataclass(frozen=True, slots=True)
class Record:
    """An inode as it lies on the disk.

    Attributes
    ----------
    block : bytes
        i_block, 60 bytes.
    attributes : int
        The block of its extended attributes, or 0.
    spare : bytes
        What follows its fields: more extended attributes.
    """

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    flags: int
    block: bytes
    attributes: int
    spare: bytes


class Volume:
    """A file system in a file.

    Parameters
    ----------
    file : binary file
    start, size : int
        Where it lies in the file, and how many bytes there are for it.
    name : str
        For errors.

    Attributes
    ----------
    block_size : int

    Raises
    ------
    ImageError
        It is none, is damaged, was not shut down cleanly, or has features that are not known here.
    """

    def __init__(self, file: BinaryIO, start: int, size: int, name: str) -> None:
        self.name = name
        self._file = file
        self._start = start
        self._size = size
        raw = self._bytes(layout.SUPERBLOCK_AT, layout.SUPERBLOCK_SIZE)
        self._fields = {
            field: struct.unpack_from(form, raw, at)[0]
            for field, (at, form) in layout.SUPERBLOCK.items()
            if field not in ("s_jnl_blocks", "s_backup_bgs")
        }
        self._backups = struct.unpack_from("<II", raw, layout.SUPERBLOCK["s_backup_bgs"][0])
        if self["s_magic"] != layout.MAGIC:
            raise ImageError(f"{name} is no ext2, ext3 or ext4", expected="magic ef53", seen=f"{self['s_magic']:04x}")
        self._check_features()
        self._divide()
        self._left = self._blocks
        self._values: dict[int, bytes] = {}
        self._table = lru_cache(_CACHED)(self.block)

    def __getitem__(self, field: str) -> int:
        value: int = self._fields[field]
        return value

    def block(self, number: int) -> bytes:
        """A block."""
        if not 0 < number < self._blocks:
            raise self.damaged(f"block {number} of {self._blocks}")
        return self._bytes(number * self.block_size, self.block_size)

    def inode(self, number: int) -> Record:
        """An inode."""
        if not 0 < number <= self["s_inodes_count"]:
            raise self.damaged(f"inode {number} of {self['s_inodes_count']}")
        group, index = divmod(number - 1, self["s_inodes_per_group"])
        at = index * self._inode_size
        table = self._inode_table(group) + at // self.block_size
        at %= self.block_size
        return self._record(number, self._table(table)[at : at + self._inode_size])

    def runs(self, record: Record) -> list[tuple[int, int, int]]:
        """Where an inode's blocks lie: first one, its place, number. What is not there reads as zeros."""
        found = self._extents(record) if record.flags & layout.EXTENTS_FL else self._mapped(record)
        merged: list[tuple[int, int, int]] = []
        for first, at, count in found:
            if merged:
                before = merged[-1]
                if before[0] + before[2] == first and before[1] + before[2] == at:
                    merged[-1] = (*before[:2], before[2] + count)
                    continue
            merged.append((first, at, count))
        return merged

    def data(self, record: Record, most: int) -> bytes:
        """The bytes of a link's target or an attribute's value."""
        if record.size > most:
            raise self.damaged(f"{record.size} bytes", expected=f"at most {most} bytes in inode {record.number}")
        if record.flags & layout.INLINE_DATA_FL:
            return self.inline(record)
        data = bytearray(-(-record.size // self.block_size) * self.block_size)
        for first, at, count in self.runs(record):
            for n in range(count):
                start = (first + n) * self.block_size
                if start < len(data):
                    data[start : start + self.block_size] = self.block(at + n)
        return bytes(data[: record.size])

    def inline(self, record: Record) -> bytes:
        """The bytes of an inode that holds its data itself."""
        data = record.block + self.raw_attributes(record).get(attributes.INLINE, b"")
        if record.size > len(data):
            raise self.damaged(f"{len(data)} bytes", expected=f"{record.size} bytes in inode {record.number}")
        return data[: record.size]

    def raw_attributes(self, record: Record) -> attributes.Raw:
        """An inode's extended attributes: its own, and those of its block."""
        own = attributes.read_inode(record.spare, self._value)
        if record.attributes:
            own = attributes.read_block(self.block(record.attributes), self._value) | own
        return own

    def damaged(self, seen: str, expected: str = "numbers within the file system") -> ImageError:
        """The error for what cannot be."""
        return ImageError(f"{self.name} is damaged", expected=expected, seen=seen, hint="e2fsck -f IMAGE may repair it")

    # ---- the whole ----

    def _check_features(self) -> None:
        incompat, ro_compat = self["s_feature_incompat"], self["s_feature_ro_compat"]
        refused = [text for feature, text in _REFUSED.items() if incompat & INCOMPAT[feature]]
        refused += [text for feature, text in _REFUSED_RO.items() if ro_compat & RO_COMPAT[feature]]
        unknown = incompat & ~sum(INCOMPAT.values())
        if unknown:
            refused.append(f"features {unknown:#x}")
        if refused:
            raise ImageError(
                f"cannot read {self.name}", expected="ext2, ext3 or ext4 as Linux makes it", seen=", ".join(refused)
            )
        seen = None
        if incompat & INCOMPAT["needs_recovery"]:
            seen = "a journal with changes that are still to be made"
        elif not self["s_state"] & layout.VALID_FS:
            seen = "one that is, or was when it ended, in use"
        elif self["s_state"] & layout.ERROR_FS:
            seen = "one in which Linux found errors"
        if seen is not None:
            raise ImageError(
                f"{self.name} was not shut down cleanly", expected="a clean file system", seen=seen, hint=_RECOVER
            )

    def _divide(self) -> None:
        if self["s_log_block_size"] > 6:
            raise self.damaged(f"blocks of 2**{self['s_log_block_size'] + 10} bytes", expected="blocks of 1 to 64 KiB")
        self.block_size = 1024 << self["s_log_block_size"]
        wide = self["s_feature_incompat"] & INCOMPAT["64bit"]
        self._blocks = self["s_blocks_count_lo"] | (self["s_blocks_count_hi"] << 32 if wide else 0)
        self._inode_size = self["s_inode_size"] if self["s_rev_level"] else 128
        self._descriptor_size = self["s_desc_size"] if wide else layout.GROUP.size
        bits = 8 * self.block_size
        sound = (
            self._blocks > self["s_first_data_block"]
            and 0 < self["s_blocks_per_group"] <= bits
            and 0 < self["s_inodes_per_group"] <= bits
            and self["s_first_data_block"] <= 1
            and self._inode_size in (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
            and self._inode_size <= self.block_size
            and self._descriptor_size in ((64, 128, 256, 512, 1024) if wide else (32,))
        )
        groups = -(-(self._blocks - self["s_first_data_block"]) // self["s_blocks_per_group"]) if sound else 0
        if not sound or self["s_inodes_count"] > groups * self["s_inodes_per_group"]:
            raise self.damaged("a superblock whose numbers do not go together")
        if self._blocks * self.block_size > self._size:
            expected = f"{size_text(self._blocks * self.block_size)}, as its superblock says"
            raise ImageError(f"{self.name} is cut short", expected=expected, seen=size_text(self._size))

    def _inode_table(self, group: int) -> int:
        """The first block of a group's inode table."""
        each = self.block_size // self._descriptor_size
        number, index = divmod(group, each)
        meta = self["s_feature_incompat"] & INCOMPAT["meta_bg"] and number >= self["s_first_meta_bg"]
        if meta:  # group_descr.rst and super.rst, "Meta Block Groups"
            first = number * each
            at = self["s_first_data_block"] + first * self["s_blocks_per_group"] + self._begins_with_copy(first)
        else:
            at = self["s_first_data_block"] + 1 + number
        raw = self._table(at)[index * self._descriptor_size :]
        low = int(layout.GROUP.unpack_from(raw)[2])
        high = int.from_bytes(raw[0x28:0x2C], "little") if self._descriptor_size >= 64 else 0
        return low | high << 32

    def _begins_with_copy(self, group: int) -> bool:
        if self["s_feature_compat"] & COMPAT["sparse_super2"]:
            return group in (0, *self._backups)
        if self["s_feature_ro_compat"] & RO_COMPAT["sparse_super"]:
            return group in (0, *layout.backups(group + 1))
        return True

    # ---- an inode ----

    def _record(self, number: int, raw: bytes) -> Record:
        fields = layout.INODE.unpack_from(raw)
        mode, uid, size, _, _, mtime, _, gid, _, _, flags, _, block, _, attributes_at, high, _ = fields[:17]
        _, attributes_high, uid_high, gid_high, _, _ = fields[17:]
        regular = mode & 0o170000 == 0o100000
        large_directory = mode & 0o170000 == 0o040000 and self["s_feature_incompat"] & INCOMPAT["large_dir"]
        extra = int.from_bytes(raw[128:130], "little") if len(raw) > 128 else 0
        if extra % 4 or 128 + extra > len(raw):
            raise self.damaged(f"{extra} more bytes", expected=f"inode {number} of {len(raw)} bytes")
        mtime_extra = int.from_bytes(raw[136:140], "little") if extra >= 12 else 0
        for flag, what in _REFUSED_FLAGS.items():
            if flags & flag:
                raise ImageError(f"inode {number} of {self.name} {what}", expected="a plain file", seen="its flag")
        return Record(
            number,
            mode,
            uid | uid_high << 16,
            gid | gid_high << 16,
            size | (high << 32 if regular or large_directory else 0),
            layout.time_of(mtime, mtime_extra),
            flags,
            block,
            attributes_at | attributes_high << 32,
            raw[128 + extra :] if extra else b"",
        )

    def _value(self, number: int, size: int) -> bytes:
        """An extended attribute's value that is an inode of its own; several files may have it."""
        if number not in self._values:
            record = self.inode(number)
            if not record.flags & layout.EA_INODE_FL:
                raise self.damaged("another file", expected=f"an attribute's value in inode {number}")
            self._values[number] = self.data(record, most=65536)
        if len(self._values[number]) != size:
            raise self.damaged(f"{len(self._values[number])} bytes", expected=f"a value of {size} bytes")
        return self._values[number]

    def _extents(self, record: Record) -> Iterator[tuple[int, int, int]]:
        ahead: list[tuple[bytes, int | None]] = [(record.block, None)]
        last = 0
        while ahead:
            node, depth = ahead.pop()
            magic, entries, _, level, _ = EXTENT_HEADER.unpack_from(node)
            room = (len(node) - EXTENT_HEADER.size) // layout.EXTENT.size
            wrong_depth = level > layout.MOST_DEPTH if depth is None else level != depth
            if magic != layout.EXTENT_MAGIC or entries > room or wrong_depth:
                raise self.damaged(f"{node[:8].hex(' ')}", expected=f"a node of the extents of inode {record.number}")
            rows = range(EXTENT_HEADER.size, EXTENT_HEADER.size + entries * layout.EXTENT.size, layout.EXTENT.size)
            if level:
                below = []
                for row in rows:
                    _, low, high, _ = layout.EXTENT_INDEX.unpack_from(node, row)
                    self._spend(1)
                    below.append((self.block(low | high << 32), level - 1))
                ahead += reversed(below)
                continue
            for row in rows:
                first, count, high, low = layout.EXTENT.unpack_from(node, row)
                written = count <= layout.MOST_EXTENT
                count -= 0 if written else layout.MOST_EXTENT
                at = low | high << 32
                self._spend(count)
                if first < last or not count or not 0 < at <= self._blocks - count:
                    raise self.damaged(f"{count} blocks at {at}", expected=f"blocks of inode {record.number} in order")
                last = first + count
                if written:
                    yield first, at, count

    def _mapped(self, record: Record) -> Iterator[tuple[int, int, int]]:
        """The blocks of a block map (ifork.rst): twelve, and three trees of pointers."""
        each = self.block_size // 4
        pointers = struct.unpack("<15I", record.block)
        ahead: list[tuple[int, int, int]] = []  # first block of the file, its pointer, levels of pointers below
        first = 0
        for number, pointer in enumerate(pointers):
            level = max(0, number - _DIRECT + 1)
            ahead.append((first, pointer, level))
            first += each**level
        ahead.reverse()
        while ahead:
            first, pointer, level = ahead.pop()
            if not pointer:
                continue
            self._spend(1)
            if level:
                step = each ** (level - 1)
                below = struct.unpack(f"<{each}I", self.block(pointer))
                ahead += [(first + n * step, below[n], level - 1) for n in range(each - 1, -1, -1) if below[n]]
                continue
            if pointer >= self._blocks:
                raise self.damaged(f"block {pointer} of {self._blocks}")
            yield first, pointer, 1

    def _spend(self, blocks: int) -> None:
        self._left -= blocks
        if self._left < 0:
            raise self.damaged("more", expected=f"files of at most {self._blocks} blocks together")

    def _bytes(self, at: int, length: int) -> bytes:
        if at + length > self._size:
            raise ImageError(f"{self.name} is cut short", expected=f"{at + length} bytes", seen=f"{self._size}")
        self._file.seek(self._start + at)
        data = b""
        while len(data) < length:
            part = self._file.read(length - len(data))
            if not part:
                raise ImageError(f"{self.name} is cut short", expected=f"{at + length} bytes", seen="its end")
            data += part
        return data
