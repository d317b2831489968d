"""How a new file system is divided into groups, and how large it must be.

Each group of 32 768 blocks holds, in this order, a copy of superblock and group descriptors (some groups), its two
bitmaps, its part of the inode table, and data. Blocks and inodes are handed out from the front to the back, so that
what is used is known from two numbers.

Left out of what `mke2fs` makes by default: 64bit (for more than 16 TiB), metadata_csum (crc32c of all metadata, too
slow in Python; uninit_bg checks the descriptors), resize_inode (a larger disk is written anew), flex_bg (there are no
heads that would have to move).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from v86lab.errors import ImageError
from v86lab.formats import MIB, size_text

from .layout import FIRST, GROUP, backups

BLOCK = 4096
INODE_SIZE = 256
PER_GROUP = 8 * BLOCK  # blocks, and inodes at most: what a bitmap of one block counts
BYTES_PER_INODE = 16384  # as mke2fs has it
_INODES_PER_BLOCK = BLOCK // INODE_SIZE
_MOST_BLOCKS = (1 << 32) - 1
MOST_BYTES = _MOST_BLOCKS * BLOCK
_LAST_GROUP = 50  # mke2fs: blocks of data without which the last group is left out
# mke2fs (ext2fs_default_journal_size): blocks of the file system below which the journal has so many
_JOURNALS = ((2048, 0), (32768, 1024), (262144, 4096), (524288, 8192), (_MOST_BLOCKS + 1, 16384))


@dataclass(frozen=True)
class Geometry:
    """The division of a file system.

    Attributes
    ----------
    blocks : int
        Of 4096 bytes. Some of those that were offered may be left out at the end, when they make no group.
    inodes_per_group : int
    """

    blocks: int
    inodes_per_group: int

    @classmethod
    def of(cls, blocks: int, inodes: int) -> Geometry:
        """Divide so many blocks, with at least so many inodes for use."""
        groups = -(-blocks // PER_GROUP) or 1
        inodes = max(inodes, blocks * BLOCK // BYTES_PER_INODE)
        all_inodes = inodes + FIRST - 1
        per_group = min(PER_GROUP, -(-all_inodes // groups // _INODES_PER_BLOCK) * _INODES_PER_BLOCK)
        whole = cls(blocks, per_group)
        last = whole.length(groups - 1)
        if groups > 1 and last < whole.overhead(groups - 1) + _LAST_GROUP:
            return cls.of(blocks - last, inodes)
        return whole

    @cached_property
    def groups(self) -> int:
        """Their number."""
        return -(-self.blocks // PER_GROUP)

    @cached_property
    def descriptor_blocks(self) -> int:
        """Blocks of the group descriptors."""
        return -(-self.groups * GROUP.size // BLOCK)

    @property
    def table_blocks(self) -> int:
        """Blocks of a group's inode table."""
        return self.inodes_per_group // _INODES_PER_BLOCK

    @property
    def inodes(self) -> int:
        """All of them, the reserved ones too."""
        return self.groups * self.inodes_per_group

    @cached_property
    def copies(self) -> frozenset[int]:
        """Groups that begin with superblock and descriptors."""
        return frozenset((0, *backups(self.groups)))

    def length(self, group: int) -> int:
        """Blocks of a group."""
        return min(PER_GROUP, self.blocks - group * PER_GROUP)

    def bitmaps(self, group: int) -> int:
        """The first block of the two bitmaps; the inode table follows."""
        return group * PER_GROUP + (1 + self.descriptor_blocks if group in self.copies else 0)

    def overhead(self, group: int) -> int:
        """Blocks of a group that cannot hold data: those at its beginning."""
        return self.bitmaps(group) + 2 + self.table_blocks - group * PER_GROUP

    @cached_property
    def room(self) -> int:
        """Blocks for data."""
        return self.blocks - sum(self.overhead(group) for group in range(self.groups))

    def free(self) -> Iterator[tuple[int, int]]:
        """The runs of blocks for data and journal, each with its end."""
        for group in range(self.groups):
            start = group * PER_GROUP
            yield start + self.overhead(group), start + self.length(group)


def least(data: int, inodes: int) -> int:
    """How many bytes a file system with so many blocks of data and inodes takes, without a journal.

    Examples
    --------
    >>> least(1000, 100), least(0, 0)
    (4182016, 20480)
    """
    blocks = max(data, (inodes + FIRST) // PER_GROUP * PER_GROUP)
    while True:
        geometry = Geometry.of(blocks, inodes)
        lacking = max(data - geometry.room, geometry.inodes < inodes + FIRST - 1)
        if lacking <= 0:
            return blocks * BLOCK
        blocks += lacking


def journal_blocks(geometry: Geometry, data: int) -> int:
    """The length of a journal: as of mke2fs, if it takes no more than half of what the data leaves free."""
    usual = next(size for below, size in _JOURNALS if geometry.blocks < below)
    free = (geometry.room - data) // 2
    return max(size for _, size in _JOURNALS if size <= min(usual, free))


def too_small(what: str, needed: int, size: int) -> ImageError:
    """The error for a disk that a tree does not fit on."""
    rounded = -(-needed // MIB) * MIB
    return ImageError(
        f"{what} does not fit",
        expected=f"at least {size_text(rounded)}",
        seen=size_text(size),
        hint=f'size="{size_text(rounded)}"',
    )
