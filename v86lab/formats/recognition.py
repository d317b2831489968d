"""What some bytes seem to be: compression, disk containers, kernels, media; and how to say so."""

from __future__ import annotations

import re
from typing import Protocol

from v86lab.errors import ImageError

from .sizes import KIB, size_text

SECTOR = 512
CD_SECTOR = 2048
DISK_MAX = ((1 << 31) - 1) * SECTOR  # src/ide.js keeps the sector count in a signed 32-bit integer


class Bytes(Protocol):
    """Bytes to look at: `bytes`, or a file that answers slices."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> bytes: ...


_QEMU_IMG = "convert it: qemu-img convert -O raw FILE disk.img"
_INSIDE = "unpack it first and use the file inside"

# (offset, magic, what it is, what to do). Negative offsets count from the end.
_WRAPPERS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x1f\x8b", "gzip-compressed data", "decompress it first: gunzip FILE"),
    (0, b"\xfd7zXZ\x00", "xz-compressed data", "decompress it first: unxz FILE"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed data", "decompress it first: unzstd FILE"),
    (0, b"BZh", "bzip2-compressed data", "decompress it first: bunzip2 FILE"),
    (0, b"\x04\x22\x4d\x18", "lz4-compressed data", "decompress it first: unlz4 FILE"),
    (0, b"LZIP", "lzip-compressed data", "decompress it first: lzip -d FILE"),
    (0, b"PK\x03\x04", "a zip archive", _INSIDE),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _INSIDE),
    (0, b"Rar!\x1a\x07", "a rar archive", _INSIDE),
    (0, b"QFI\xfb", "a qcow2 disk image", _QEMU_IMG),
    (0, b"QED\x00", "a QED disk image", _QEMU_IMG),
    (0, b"KDMV", "a VMDK disk image", _QEMU_IMG),
    (0, b"COWD", "a VMDK disk image", _QEMU_IMG),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor", _QEMU_IMG),
    (64, b"\x7f\x10\xda\xbe", "a VDI disk image", _QEMU_IMG),
    (0, b"vhdxfile", "a VHDX disk image", _QEMU_IMG),
    (0, b"conectix", "a dynamic VHD disk image", _QEMU_IMG),
    (-512, b"conectix", "a VHD disk image", "convert it: qemu-img convert -f vpc -O raw FILE disk.img"),
    (0, b"WithoutFreeSpace", "a Parallels disk image", _QEMU_IMG),
    (0, b"WithouFreSpacExt", "a Parallels disk image", _QEMU_IMG),
    (-512, b"koly", "an Apple disk image", _QEMU_IMG),
    (0, b"\x00" + b"\xff" * 10 + b"\x00", "a CD image of raw 2352-byte sectors", "convert it: bchunk CD.bin CD.cue CD"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself: git lfs pull"),
    (0, b"\x76\x86\x76\x86", "a saved state of v86", "a state is no image; a machine is saved with vm.snapshot"),
)
_HTML = re.compile(rb"\s*(?:<!doctype html|<html)", re.IGNORECASE)

# What a kernel unpacks or mounts as its initrd: Linux, lib/decompress.c, init/initramfs.c and init/do_mounts_rd.c.
_RAMDISKS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"070701", "cpio"),
    (0, b"070702", "cpio"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x1f\x9e", "gzip"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"\x02\x21\x4c\x18", "lz4"),
    (0, b"\x5d\x00\x00", "lzma"),
    (0, b"BZh", "bzip2"),
    (0, b"\x89LZO\x00\r\n\x1a\n", "lzo"),
    (1080, b"\x53\xef", "ext2"),
    (0, b"hsqs", "squashfs"),
    (0, b"\x45\x3d\xcd\x28", "cramfs"),
    (0, b"-rom1fs-", "romfs"),
)

_MACHINES = {3: "an i386 ELF", 62: "an x86-64 ELF", 40: "an ARM ELF", 183: "an AArch64 ELF", 243: "a RISC-V ELF"}


def wrapper(data: Bytes) -> tuple[str, str] | None:
    """Name the compression, archive or disk container these bytes are in, if any, and how to get them out.

    Examples
    --------
    >>> wrapper(b"QFI\\xfb" + bytes(508))
    ('a qcow2 disk image', 'convert it: qemu-img convert -O raw FILE disk.img')
    """
    for offset, magic, what, remedy in _WRAPPERS:
        start = offset if offset >= 0 else len(data) + offset
        if start >= 0 and data[start : start + len(magic)] == magic:
            return what, remedy
    if _HTML.match(data[:256]):
        return "an HTML page", "the download was answered with a web page: check the link"
    return None


def ramdisk_name(data: bytes) -> str | None:
    """Name the format of an initrd by its first 4 KiB, or None."""
    return next((name for offset, magic, name in _RAMDISKS if data[offset : offset + len(magic)] == magic), None)


def elf_name(head: bytes) -> str:
    """Say whose an ELF file is, such as "an x86-64 ELF"."""
    if head[5:6] == b"\x01" and u16(head, 18) in _MACHINES:
        return _MACHINES[u16(head, 18)]
    return "a 64-bit ELF" if head[4:5] == b"\x02" else "an ELF"


def has_iso(data: Bytes) -> bool:
    """Tell whether an ISO 9660 volume descriptor is where it must be (ECMA-119, 8.1)."""
    return data[16 * CD_SECTOR + 1 : 16 * CD_SECTOR + 6] == b"CD001"


def describe(data: Bytes) -> str:
    """Say in a few words what these bytes seem to be.

    Examples
    --------
    >>> describe(b"")
    'an empty file'
    >>> describe(b"hello, world\\n" * 50)
    'text, 650 bytes'
    """
    size = len(data)
    if size == 0:
        return "an empty file"
    wrapped = wrapper(data)
    if wrapped:
        return wrapped[0]
    head = data[:4096]
    if head[0x202:0x206] == b"HdrS":
        return "a Linux bzImage"
    if head[:4] == b"\x7fELF":
        return f"{elf_name(head)} file"
    if has_iso(data):
        return "an ISO 9660 image"
    if head[:2] == b"MZ":
        return "a DOS, Windows or EFI program"
    if head[257:262] == b"ustar":
        return "a tar archive"
    ramdisk = ramdisk_name(head)
    if ramdisk:
        return f"{ramdisk} data"
    if head[510:512] == b"\x55\xaa":
        return "a boot sector" if size == SECTOR else f"a disk image, {size_text(size)}"
    text = all(byte in b"\t\n\r\f\x1b" or 32 <= byte < 127 for byte in head[:KIB])
    return f"{'text' if text else 'unknown data'}, {size_text(size)}"


def refuse_wrapped(data: Bytes, what: str, expected: str) -> None:
    """Raise for an empty file, and for bytes that must be unpacked or converted first."""
    if len(data) == 0:
        raise ImageError(f"cannot use this {what}", expected=expected, seen="an empty file")
    wrapped = wrapper(data)
    if wrapped:
        raise ImageError(f"cannot use this {what}", expected=expected, seen=wrapped[0], hint=wrapped[1])


def truncated(what: str, expected: int, seen: int) -> ImageError:
    """Make the error for a file that ends too early."""
    return ImageError(
        f"this {what} is truncated",
        expected=f"at least {expected} bytes",
        seen=f"{seen} bytes",
        hint="copy or download it again",
    )


def u16(data: bytes, at: int) -> int:
    """Read 16 bits, little-endian."""
    return int.from_bytes(data[at : at + 2], "little")


def u32(data: bytes, at: int) -> int:
    """Read 32 bits, little-endian."""
    return int.from_bytes(data[at : at + 4], "little")


def u64(data: bytes, at: int) -> int:
    """Read 64 bits, little-endian."""
    return int.from_bytes(data[at : at + 8], "little")
