"""Partition tables of raw disks: MBR with logical partitions, and GPT.

What they say may be a stranger's: every partition lies on the disk, chains and tables are bounded, checksums of a GPT
are checked. UEFI specification 2.10, chapter 5; sectors are of 512 bytes.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from v86lab.errors import ImageError
from v86lab.formats import SECTOR, size_text

MBR_ENTRY = struct.Struct("<B3sB3sII")
"""status, first CHS, type, last CHS, first sector, number of sectors."""
MBR_TABLE = 446
SIGNATURE = b"\x55\xaa"
LINUX = 0x83
ACTIVE = 0x80

_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
_GPT = struct.Struct("<8sIIIIQQQQ16sQIII")
"""Signature, revision, header size, its CRC, reserved, own and other LBA, first and last usable, disk, table's LBA,
number of entries, their size, CRC of the table."""
_GPT_ENTRY = struct.Struct("<16s16sQQQ72s")
_MOST_LOGICAL = 256
_MOST_ENTRIES = 1024
_TYPES = {
    "07": "NTFS or exFAT",
    "0b": "FAT32",
    "0c": "FAT32",
    "0e": "FAT16",
    "82": "Linux swap",
    "83": "Linux",
    "8e": "Linux LVM",
    "ef": "EFI system",
    "fd": "Linux RAID",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux",
    "44479540-f297-41b2-9af7-d131d5f0458a": "Linux root (x86)",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Microsoft basic data",
}


@dataclass(frozen=True)
class Partition:
    """A part of a disk.

    Attributes
    ----------
    number : int
        As Linux counts: 1 for ``sda1``.
    type : str
        Its type in hex of an MBR, or the UUID of a GPT's.
    start, size : int
        Bytes.
    active : bool
        What a BIOS's boot code would start.
    """

    number: int
    type: str
    start: int
    size: int
    active: bool = False

    def __str__(self) -> str:
        return f"{self.number}: {_TYPES.get(self.type, self.type)}, {size_text(self.size)}"


def partitions(file: BinaryIO) -> list[Partition]:
    """The partitions of a disk, by number; none when it has no table.

    Parameters
    ----------
    file : binary file
        Of a raw disk.

    Raises
    ------
    ImageError
        The table is damaged.

    Examples
    --------
    >>> import io
    >>> from v86lab.rootfs.disk import boot_sector
    >>> [print(part) for part in partitions(io.BytesIO(boot_sector(3 << 20) + bytes((3 << 20) - 512)))]
    1: Linux, 2 MiB
    [None]
    """
    size = file.seek(0, 2)
    rows = _table(_sectors(file, 0, 1))
    guarded = any(row[2] == _PROTECTIVE for row in rows)
    found = list(_gpt(file) if guarded else _mbr(file, rows))
    for part in found:
        if part.start + part.size > size:
            raise _damaged(f"partition {part.number} ends at {part.start + part.size}, the disk at {size} bytes")
    return found


def _mbr(file: BinaryIO, rows: list[tuple[int, int, int, int, int]]) -> Iterator[Partition]:
    chain = 0
    for number, status, kind, start, count in rows:
        if kind in _EXTENDED and count:
            chain = chain or start
        elif kind and count:
            yield Partition(number, f"{kind:02x}", start * SECTOR, count * SECTOR, status == ACTIVE)
    base, at = chain, chain
    for number in range(5, 5 + _MOST_LOGICAL):
        if not at:
            return
        following = 0
        for _, status, kind, start, count in _table(_sectors(file, at, 1))[:2]:
            if kind in _EXTENDED and count:
                following = base + start
            elif kind and count:
                yield Partition(number, f"{kind:02x}", (at + start) * SECTOR, count * SECTOR, status == ACTIVE)
        at = following
    raise _damaged(f"a chain of more than {_MOST_LOGICAL} logical partitions")


def _table(sector: bytes) -> list[tuple[int, int, int, int, int]]:
    """Number, status, type, first sector and number of sectors of a table's four rows; none without its signature."""
    if sector[510:] != SIGNATURE:
        return []
    rows = []
    for number in range(4):
        status, _, kind, _, start, count = MBR_ENTRY.unpack_from(sector, MBR_TABLE + number * MBR_ENTRY.size)
        if status not in (0, ACTIVE):  # code, or a file system's boot sector, where a table would be
            return []
        rows.append((number + 1, status, kind, start, count))
    return rows


def _gpt(file: BinaryIO) -> Iterator[Partition]:
    header = _sectors(file, 1, 1)
    signature, _, length, check, _, own, *_, at, count, size, table_check = _GPT.unpack_from(header)
    if signature != b"EFI PART" or own != 1 or not _GPT.size <= length <= SECTOR:
        raise _damaged("a protective MBR without a GPT behind it")
    if zlib.crc32(header[:16] + bytes(4) + header[20:length]) != check:
        raise _damaged("a GPT header whose checksum is wrong")
    if not 0 < count <= _MOST_ENTRIES or not _GPT_ENTRY.size <= size <= 4096 or size % 8:
        raise _damaged(f"a GPT of {count} entries of {size} bytes")
    table = _sectors(file, at, -(-count * size // SECTOR))[: count * size]
    if zlib.crc32(table) != table_check:
        raise _damaged("a GPT whose checksum is wrong")
    for number in range(count):
        kind, _, first, last, _, _ = _GPT_ENTRY.unpack_from(table, number * size)
        if any(kind):
            if last < first:
                raise _damaged(f"partition {number + 1} ends before it begins")
            name = str(uuid.UUID(bytes_le=kind))
            yield Partition(number + 1, name, first * SECTOR, (last - first + 1) * SECTOR)


def _sectors(file: BinaryIO, at: int, count: int) -> bytes:
    if at * SECTOR >= 1 << 62:
        raise _damaged(f"a table in sector {at}")
    file.seek(at * SECTOR)
    data = b""
    while len(data) < count * SECTOR:
        part = file.read(count * SECTOR - len(data))
        if not part:
            raise _damaged(f"the end of the disk at a table in sector {at}")
        data += part
    return data


def _damaged(seen: str) -> ImageError:
    return ImageError("the partition table is damaged", expected="partitions that lie on the disk", seen=seen)
