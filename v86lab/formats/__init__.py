"""What boot files look like, and whether v86 can use them.

Everything a user hands over as "a kernel", "a disk" or "an ISO" is looked at here before it reaches the Store. The
rules of this package:

* No I/O. A function gets the bytes (anything with a length that can be sliced: `bytes`, or a file behind a small
  adapter) and answers with a fact or raises `ImageError`. Only the few kilobytes that matter are sliced.
* Any bytes at all lead to an answer or to `ImageError`; no other exception leaves this package.
* What v86 would silently repair, round, cut or ignore is refused, with the command that puts it right.

Limits of v86 were read in its source (release 0.5.462) and are cited beside the constant; the memory limits were also
measured on its wasm.
"""

from __future__ import annotations

from .kernels import BzImage, Multiboot, bzimage, initrd, multiboot
from .media import FLOPPY, Iso, boot_sector, floppy, floppy_geometry, hard_disk, iso9660
from .recognition import CD_SECTOR, DISK_MAX, SECTOR, Bytes, describe, wrapper
from .sizes import (
    GIB,
    INITRD_ADDRESS,
    KIB,
    MIB,
    command_line,
    memory,
    parse_size,
    quoted,
    size_text,
    video_memory,
)

__all__ = [
    "CD_SECTOR",
    "DISK_MAX",
    "FLOPPY",
    "GIB",
    "INITRD_ADDRESS",
    "KIB",
    "MIB",
    "SECTOR",
    "Bytes",
    "BzImage",
    "Iso",
    "Multiboot",
    "boot_sector",
    "bzimage",
    "command_line",
    "describe",
    "floppy",
    "floppy_geometry",
    "hard_disk",
    "initrd",
    "iso9660",
    "memory",
    "multiboot",
    "parse_size",
    "quoted",
    "size_text",
    "video_memory",
    "wrapper",
]
