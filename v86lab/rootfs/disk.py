"""A raw disk: an MBR, and one partition with a tree on ext4.

There is no boot loader: the machine is given its kernel directly. The boot sector says so on the screen to whoever
starts the disk from the BIOS.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

from v86lab.atomic import replacing
from v86lab.errors import ImageError, StoreError
from v86lab.formats import DISK_MAX, MIB, SECTOR, quoted, size_text

from .ext4 import Plan
from .ext4.geometry import too_small
from .partitions import ACTIVE, LINUX, MBR_ENTRY, SIGNATURE
from .tree import RootFS

START = MIB
"""Where the partition begins, as every partitioning program of today would place it."""

_SIGNATURE = b"v86l"  # of the disk: PARTUUID is 6c363876-01
_BY_LBA = b"\xfe\xff\xff"  # cylinder 1023, head 254, sector 63: see the sector numbers instead

# The BIOS loads a boot sector to 0:7c00 and jumps there (int 10h, ah=0eh: write a character).
_CODE = bytes.fromhex(
    "31c0"  # 7c00  xor ax, ax
    "8ed8"  # 7c02  mov ds, ax
    "fc"  # 7c04  cld
    "be197c"  # 7c05  mov si, 7c19h       ; the text
    "ac"  # 7c08  lodsb
    "84c0"  # 7c09  test al, al
    "7409"  # 7c0b  jz 7c16h
    "b40e"  # 7c0d  mov ah, 0eh
    "bb0700"  # 7c0f  mov bx, 7           ; page 0, light grey
    "cd10"  # 7c12  int 10h
    "ebf2"  # 7c14  jmp 7c08h
    "f4"  # 7c16  hlt
    "ebfd"  # 7c17  jmp 7c16h
)
_TEXT = b"This disk has no boot loader: start it with its kernel (kernel=, root=/dev/sda1).\r\n\0"


def write_disk(tree: RootFS, target: str | os.PathLike[str] | BinaryIO, size: int | None = None, **options: Any) -> int:
    """Write a tree as a raw disk with one partition; the same bytes every time.

    Parameters
    ----------
    tree : RootFS
    target : path or binary file
        A file is made anew and appears when it is whole; of an open one, which can seek, all is replaced.
    size : int, optional
        Bytes of the disk, whole MiB or at least whole sectors. Default: what the tree needs, and a quarter more, at
        least 64 MiB.
    **options
        ``label``, ``uuid``, ``inodes``, ``journal``: as of `v86lab.rootfs.ext4.write_ext4`.

    Returns
    -------
    int
        The size.

    Raises
    ------
    ImageError
        The tree does not fit, or has what ext4 cannot hold, or the file cannot be written.

    Examples
    --------
    >>> import io
    >>> from v86lab import rootfs
    >>> write_disk(rootfs.of({"/etc/motd": "hello"}), io.BytesIO(), 4 << 20)
    4194304
    """
    plan = Plan(tree, **options)
    size = plan.roomy + START if size is None else size
    if size < plan.least + START:
        raise too_small(tree.name, plan.least + START, size)
    if size > DISK_MAX:
        raise ImageError("this disk is too large for v86", expected=f"at most {DISK_MAX} bytes", seen=size_text(size))
    if size % SECTOR:
        raise ImageError("cannot use this disk size", expected=f"whole sectors of {SECTOR} bytes", seen=str(size))
    if isinstance(target, str | os.PathLike):
        _write_file(plan, Path(target), size)
    else:
        _write(plan, target, size)
    return size


def boot_sector(size: int) -> bytes:
    """The first sector of a disk: code, and a table of one Linux partition from 1 MiB to the end.

    Examples
    --------
    >>> boot_sector(64 << 20)[446:462].hex(" ")
    '80 fe ff ff 83 fe ff ff 00 08 00 00 00 f8 01 00'
    """
    code = (_CODE + _TEXT).ljust(440, b"\0") + _SIGNATURE + bytes(2)
    row = MBR_ENTRY.pack(ACTIVE, _BY_LBA, LINUX, _BY_LBA, START // SECTOR, (size - START) // SECTOR)
    return (code + row).ljust(510, b"\0") + SIGNATURE


def _write(plan: Plan, file: BinaryIO, size: int) -> None:
    file.truncate(0)
    file.seek(0)
    file.write(boot_sector(size))
    plan.write(file, size - START, START)


def _write_file(plan: Plan, path: Path, size: int) -> None:
    try:
        with replacing(path) as file:
            _write(plan, file, size)
    except StoreError:  # of a file's content
        raise
    except OSError as error:
        raise ImageError(
            f"cannot write the disk {quoted(os.fspath(path))}",
            expected="a file one may write, and room for it",
            seen=error.strerror or str(error),
        ) from error
