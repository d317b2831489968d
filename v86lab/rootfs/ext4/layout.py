"""How ext2, ext3 and ext4 lie on a disk: structures, flags, times, numbers of devices, checksums.

From the kernel's Documentation/filesystems/ext4: super.rst, group_descr.rst, inodes.rst (times: "Inode Timestamps"),
ifork.rst (extents, block maps, inline data), directory.rst, journal.rst; names are those of the C structures. All
numbers are little-endian, but the journal's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

SUPERBLOCK_AT, SUPERBLOCK_SIZE = 1024, 1024
MAGIC = 0xEF53
ROOT, JOURNAL, FIRST = 2, 8, 11  # inode numbers; FIRST is the first that is not reserved

SUPERBLOCK = {
    "s_inodes_count": (0x0, "<I"),
    "s_blocks_count_lo": (0x4, "<I"),
    "s_r_blocks_count_lo": (0x8, "<I"),
    "s_free_blocks_count_lo": (0xC, "<I"),
    "s_free_inodes_count": (0x10, "<I"),
    "s_first_data_block": (0x14, "<I"),
    "s_log_block_size": (0x18, "<I"),
    "s_log_cluster_size": (0x1C, "<I"),
    "s_blocks_per_group": (0x20, "<I"),
    "s_clusters_per_group": (0x24, "<I"),
    "s_inodes_per_group": (0x28, "<I"),
    "s_max_mnt_count": (0x36, "<H"),
    "s_magic": (0x38, "<H"),
    "s_state": (0x3A, "<H"),
    "s_errors": (0x3C, "<H"),
    "s_rev_level": (0x4C, "<I"),
    "s_first_ino": (0x54, "<I"),
    "s_inode_size": (0x58, "<H"),
    "s_block_group_nr": (0x5A, "<H"),
    "s_feature_compat": (0x5C, "<I"),
    "s_feature_incompat": (0x60, "<I"),
    "s_feature_ro_compat": (0x64, "<I"),
    "s_uuid": (0x68, "<16s"),
    "s_volume_name": (0x78, "<16s"),
    "s_journal_inum": (0xE0, "<I"),
    "s_hash_seed": (0xEC, "<16s"),
    "s_def_hash_version": (0xFC, "<B"),
    "s_jnl_backup_type": (0xFD, "<B"),
    "s_desc_size": (0xFE, "<H"),
    "s_default_mount_opts": (0x100, "<I"),
    "s_first_meta_bg": (0x104, "<I"),
    "s_jnl_blocks": (0x10C, "<60sII"),
    "s_blocks_count_hi": (0x150, "<I"),
    "s_min_extra_isize": (0x15C, "<H"),
    "s_want_extra_isize": (0x15E, "<H"),
    "s_flags": (0x160, "<I"),
    "s_backup_bgs": (0x24C, "<II"),
}
"""Fields of the superblock that are used here: offset and format."""

VALID_FS, ERROR_FS = 1, 2  # s_state
UNSIGNED_HASH = 2  # s_flags
HASH_TEA = 2  # s_def_hash_version

COMPAT = {"has_journal": 0x4, "ext_attr": 0x8, "dir_index": 0x20, "sparse_super2": 0x200}
INCOMPAT = {
    "compression": 0x1,
    "filetype": 0x2,
    "needs_recovery": 0x4,
    "journal_dev": 0x8,
    "meta_bg": 0x10,
    "extent": 0x40,
    "64bit": 0x80,
    "mmp": 0x100,
    "flex_bg": 0x200,
    "ea_inode": 0x400,
    "dirdata": 0x1000,
    "metadata_csum_seed": 0x2000,
    "large_dir": 0x4000,
    "inline_data": 0x8000,
    "encrypt": 0x10000,
    "casefold": 0x20000,
}
RO_COMPAT = {
    "sparse_super": 0x1,
    "large_file": 0x2,
    "huge_file": 0x8,
    "uninit_bg": 0x10,
    "dir_nlink": 0x20,
    "extra_isize": 0x40,
    "bigalloc": 0x200,
    "shared_blocks": 0x4000,
}

INODE = struct.Struct("<HHIIIIIHHIII60sIIIIHHHHHH")
"""i_mode, i_uid, i_size_lo, i_atime, i_ctime, i_mtime, i_dtime, i_gid, i_links_count, i_blocks_lo, i_flags, i_version,
i_block, i_generation, i_file_acl_lo, i_size_high, i_obso_faddr; l_i_blocks_high, l_i_file_acl_high, l_i_uid_high,
l_i_gid_high, l_i_checksum_lo, l_i_reserved."""
INODE_EXTRA = struct.Struct("<HHIIIIIII")
"""i_extra_isize, i_checksum_hi, i_ctime_extra, i_mtime_extra, i_atime_extra, i_crtime, i_crtime_extra, i_version_hi,
i_projid."""
INDEX_FL, EXTENTS_FL, INLINE_DATA_FL, EA_INODE_FL, HUGE_FILE_FL = 0x1000, 0x80000, 0x10000000, 0x200000, 0x40000
ENCRYPT_FL, VERITY_FL, CASEFOLD_FL, COMPRESSED_FL = 0x800, 0x100000, 0x40000000, 0x4

GROUP = struct.Struct("<IIIHHHHIHHHH")
"""bg_block_bitmap_lo, bg_inode_bitmap_lo, bg_inode_table_lo, bg_free_blocks_count_lo, bg_free_inodes_count_lo,
bg_used_dirs_count_lo, bg_flags, bg_exclude_bitmap_lo, bg_block_bitmap_csum_lo, bg_inode_bitmap_csum_lo,
bg_itable_unused_lo, bg_checksum."""
INODE_UNINIT, BLOCK_UNINIT, INODE_ZEROED = 1, 2, 4  # bg_flags

EXTENT_HEADER = struct.Struct("<HHHHI")
"""eh_magic, eh_entries, eh_max, eh_depth, eh_generation."""
EXTENT = struct.Struct("<IHHI")
"""ee_block, ee_len, ee_start_hi, ee_start_lo."""
EXTENT_INDEX = struct.Struct("<IIHH")
"""ei_block, ei_leaf_lo, ei_leaf_hi, ei_unused."""
EXTENT_MAGIC = 0xF30A
MOST_EXTENT = 32768
"""Blocks of an extent. With a greater ee_len the extent is of ee_len - 32768 blocks and reads as zeros."""
MOST_DEPTH = 5

DIRENT = struct.Struct("<IHBB")
"""inode, rec_len, name_len, file_type; the name follows."""
FILE_TYPES = {0o100000: 1, 0o040000: 2, 0o020000: 3, 0o060000: 4, 0o010000: 5, 0o140000: 6, 0o120000: 7}
"""The file_type of a directory entry, by S_IFMT of the mode."""

JOURNAL_SUPERBLOCK = struct.Struct(">IIIIIIIII12s16sI")
"""h_magic, h_blocktype, h_sequence, s_blocksize, s_maxlen, s_first, s_sequence, s_start, s_errno; features; s_uuid,
s_nr_users."""
JOURNAL_MAGIC, JOURNAL_V2 = 0xC03B3998, 4


def backups(groups: int) -> Iterator[int]:
    """Groups with a copy of the superblock, as sparse_super has it: 1 and the powers of 3, 5 and 7.

    Examples
    --------
    >>> list(backups(50))
    [1, 3, 5, 7, 9, 25, 27, 49]
    """
    found = {1} | {base**power for base in (3, 5, 7) for power in range(1, 30)}
    return iter(sorted(group for group in found if group < groups))


def time_fields(nanoseconds: int) -> tuple[int, int]:
    """A time as its field of 32 bits and its "extra" one: 2 more bits of seconds, 30 of nanoseconds.

    Examples
    --------
    >>> time_fields(5_000_000_007), time_fields(-(10**9))
    ((5, 28), (4294967295, 0))
    """
    seconds, rest = divmod(nanoseconds, 10**9)
    low = seconds & 0xFFFFFFFF
    signed = low - ((low & 0x80000000) << 1)
    return low, (seconds - signed >> 32) & 3 | rest << 2


def time_of(low: int, extra: int) -> int:
    """The nanoseconds since 1970 that these fields say.

    Examples
    --------
    >>> time_of(*time_fields(10**19)) == 10**19
    True
    """
    signed = low - ((low & 0x80000000) << 1)
    return (signed + ((extra & 3) << 32)) * 10**9 + (extra >> 2)


def device_fields(major: int, minor: int) -> tuple[int, int]:
    """A device's number as the first two words of i_block: the old one of 16 bits, or the new one (linux/kdev_t.h).

    Examples
    --------
    >>> device_fields(8, 1), device_fields(259, 4096)
    ((2049, 0), (0, 16843520))
    """
    if major < 256 and minor < 256:
        return major << 8 | minor, 0
    return 0, minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def device_of(old: int, new: int) -> tuple[int, int]:
    """Major and minor number.

    Examples
    --------
    >>> device_of(*device_fields(8, 1)), device_of(*device_fields(4095, 1048575))
    ((8, 1), (4095, 1048575))
    """
    if old:
        return old >> 8 & 0xFF, old & 0xFF
    return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00


def crc16(data: bytes) -> int:
    """The checksum of a group's descriptor: CRC-16 of polynomial 0xA001, from 0xFFFF on (group_descr.rst).

    Examples
    --------
    >>> hex(crc16(b"123456789"))
    '0x4b37'
    """
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
