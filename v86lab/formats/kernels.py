"""Kernels that v86 starts itself, and what goes with them: bzImage, initrd, multiboot 1."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from v86lab.errors import ImageError

from .recognition import SECTOR, Bytes, describe, elf_name, ramdisk_name, refuse_wrapped, truncated, u16, u32, u64
from .sizes import MIB

KERNEL_ADDRESS = MIB  # src/kernel.js, KERNEL_HIGH_ADDRESS
INITRD_MAX = 0x37FFFFFF  # what a header before protocol 2.03 means (boot.rst, initrd_addr_max)
MULTIBOOT_HEADER = b"\x02\xb0\xad\x1b"
MULTIBOOT2_HEADER = b"\xd6\x50\x52\xe8"


@dataclass(frozen=True)
class BzImage:
    """What a bzImage's setup header says (Documentation/arch/x86/boot.rst in Linux).

    Attributes
    ----------
    version : tuple[int, int]
        Boot protocol, such as (2, 15).
    memory : int
        Bytes of memory, from address 0, that the kernel needs to unpack itself.
    cmdline_size : int
        Limit of the command line, its NUL included.
    initrd_max : int
        Highest address that a byte of the initrd may have.
    """

    version: tuple[int, int]
    memory: int
    cmdline_size: int
    initrd_max: int


def bzimage(data: Bytes) -> BzImage:
    """Check that these bytes are a whole i386 Linux bzImage that v86 loads.

    Raises
    ------
    ImageError
        Another format (an ELF vmlinux, a compressed or EFI-only kernel), an x86-64 kernel, too old a boot protocol,
        or a truncated file.

    Examples
    --------
    >>> bzimage(b"\\x7fELF" + bytes(1000))
    Traceback (most recent call last):
    ...
    v86lab.errors.ImageError: cannot use this kernel: expected a Linux bzImage, saw an ELF file. Hint: ...
    """
    expected = "a Linux bzImage"
    refuse_wrapped(data, "kernel", expected)
    header = data[:0x270]
    if header[0x202:0x206] != b"HdrS" or header[0x1FE:0x200] != b"\x55\xaa":
        hint = "a Linux kernel for booting is arch/x86/boot/bzImage of its build tree, /boot/vmlinuz-* of a system"
        if header[:4] == b"\x7fELF":
            hint = "vmlinux is the unpacked kernel: use arch/x86/boot/bzImage (images.multiboot for multiboot kernels)"
        elif header[:2] == b"MZ":
            hint = "EFI programs and unified kernel images need EFI, v86 has a BIOS: use a plain bzImage"
        raise ImageError("cannot use this kernel", expected=expected, seen=describe(data), hint=hint)
    if len(header) < 0x270:
        raise truncated("kernel", 0x270, len(data))
    version = (header[0x207], header[0x206])
    if version < (2, 2):
        raise ImageError(
            "this kernel is too old for v86",
            expected="boot protocol 2.02 or later",
            seen=f"{version[0]}.{version[1]:02}",
            hint="Linux 2.4 and later have it",
        )
    if not header[0x211] & 1:  # LOADED_HIGH
        raise ImageError("cannot use this kernel", expected="a bzImage", seen="a zImage", hint="make bzImage")
    if version >= (2, 12) and u16(header, 0x236) & 1:  # XLF_KERNEL_64
        raise ImageError(
            "v86 has a 32-bit CPU",
            expected="an i386 kernel",
            seen="an x86-64 kernel",
            hint="build with make ARCH=i386, or take a distribution's i686 kernel",
        )
    setup = ((header[0x1F1] or 4) + 1) * SECTOR
    system = (u32(header, 0x1F4) if version >= (2, 4) else u16(header, 0x1F4)) * 16
    if system == 0:
        raise ImageError("cannot use this kernel", expected=expected, seen="a header with no kernel behind it")
    # syssize counts paragraphs of 16 bytes; the last one may be there in part.
    if len(data) <= setup + system - 16:
        raise truncated("kernel", setup + system, len(data))
    needs = KERNEL_ADDRESS + len(data) - setup
    if version >= (2, 10):
        needs = max(needs, u64(header, 0x258) + u32(header, 0x260))  # pref_address + init_size
    return BzImage(
        version=version,
        memory=needs,
        cmdline_size=u32(header, 0x238) if version >= (2, 6) else 255,
        initrd_max=u32(header, 0x22C) if version >= (2, 3) else INITRD_MAX,
    )


def initrd(data: Bytes) -> str:
    """Name the format of an initial ramdisk, one of those a Linux kernel can unpack or mount.

    Returns
    -------
    str
        ``"cpio" "gzip" "xz" "zstd" "lz4" "lzma" "bzip2" "lzo" "ext2" "squashfs" "cramfs" "romfs"``. Whether this
        kernel was built with it, only the kernel knows.

    Examples
    --------
    >>> initrd(b"070701" + bytes(104))
    'cpio'
    """
    # The kernel skips NUL bytes before an archive (init/initramfs.c, unpack_to_rootfs).
    head = data[:4096]
    name = ramdisk_name(head) or ramdisk_name(head.lstrip(b"\x00"))
    if name:
        return name
    hint = "pack a folder: find . | cpio -o -H newc | gzip > initrd.gz"
    if head[:4] == b"\x04\x22\x4d\x18":
        hint = "the kernel reads lz4's legacy format only: lz4 -l"
    elif head[:6] == b"070707" or head[:2] == b"\xc7\x71":
        hint = "the kernel reads cpio's newc format only: cpio -o -H newc"
    raise ImageError(
        "cannot use this initrd",
        expected="a newc cpio archive, plain or compressed, or a ramdisk's file system",
        seen=describe(data),
        hint=hint,
    )


@dataclass(frozen=True)
class Multiboot:
    """What a multiboot (version 1) kernel asks for.

    Attributes
    ----------
    memory : int
        One past the highest physical address it occupies.
    entry : int
        Address it is entered at, as its header gives it.
    wants_video : bool
        It asks for a graphics mode, which v86 does not set.
    """

    memory: int
    entry: int
    wants_video: bool


def multiboot(data: Bytes) -> Multiboot:
    """Check that these bytes are a multiboot 1 kernel that v86 loads: an i386 ELF file, or with an address table.

    Examples
    --------
    >>> multiboot(b"MZ" + bytes(510))
    Traceback (most recent call last):
    ...
    v86lab.errors.ImageError: cannot use this multiboot kernel: expected a multiboot 1 header ...
    """
    expected = "a multiboot 1 header in the first 8192 bytes"
    refuse_wrapped(data, "multiboot kernel", expected)
    head = data[:8192]
    found = _multiboot_header(head)
    if found is None:
        hint = "link the section with 0x1BADB002 first, aligned to 4, its three words adding up to 0"
        if MULTIBOOT2_HEADER in data[:32768]:
            hint = "it has a multiboot 2 header; v86 speaks multiboot 1: magic 0x1BADB002"
        elif head[0x202:0x206] == b"HdrS":
            hint = "this is a Linux kernel: images.kernel"
        raise ImageError("cannot use this multiboot kernel", expected=expected, seen=describe(data), hint=hint)
    offset, flags = found
    if flags & 0xFFF8:  # bits 0 to 15 are demands (multiboot specification, 3.1.2)
        raise ImageError(
            "this multiboot kernel asks for what v86 does not give",
            expected="bits 0, 1, 2 and 16 at most in its flags",
            seen=f"{flags:#x}",
        )
    top, entry = _address_table(data, head, offset) if flags & 0x10000 else _elf_segments(data, head)
    return Multiboot(memory=top, entry=entry, wants_video=bool(flags & 4))


def _multiboot_header(head: bytes) -> tuple[int, int] | None:
    at = head.find(MULTIBOOT_HEADER)
    while at >= 0:
        if at % 4 == 0 and at + 12 <= len(head):
            magic, flags, checksum = struct.unpack_from("<3I", head, at)
            if (magic + flags + checksum) & 0xFFFFFFFF == 0:
                return at, flags
        at = head.find(MULTIBOOT_HEADER, at + 1)
    return None


def _address_table(data: Bytes, head: bytes, offset: int) -> tuple[int, int]:
    """Give top and entry of a kernel that says itself where it goes, whatever format it is in."""
    if offset + 32 > len(head):
        raise truncated("multiboot kernel", offset + 32, len(data))
    header, load, load_end, bss_end, entry = struct.unpack_from("<5I", head, offset + 12)
    start = offset - (header - load)
    end = start + (load_end - load) if load_end else len(data)
    if not 0 <= start <= offset or end < start:
        raise ImageError(
            "this multiboot kernel's address table contradicts itself",
            expected="load address <= header address <= load end",
            seen=f"header {header:#x}, load {load:#x}, load end {load_end:#x}",
        )
    if end > len(data):
        raise truncated("multiboot kernel", end, len(data))
    top = max(load + end - start, bss_end)
    if not load <= entry < top:
        raise ImageError(
            "this multiboot kernel starts outside itself", expected=f"{load:#x} to {top:#x}", seen=f"{entry:#x}"
        )
    return top, entry


def _elf_segments(data: Bytes, head: bytes) -> tuple[int, int]:
    """Give top and entry of an ELF kernel; v86 copies what PT_LOAD says to the physical addresses."""
    if head[:4] != b"\x7fELF":
        raise ImageError(
            "cannot use this multiboot kernel",
            expected="an ELF file, or a header with an address table (flag 16)",
            seen=describe(data),
        )
    if len(head) < 52:
        raise truncated("multiboot kernel", 52, len(data))
    if head[4:6] != b"\x01\x01" or u16(head, 18) != 3:
        raise ImageError(
            "cannot use this multiboot kernel",
            expected="an i386 ELF file",
            seen=f"{elf_name(head)} file",
            hint="compile with gcc -m32 and link with ld -m elf_i386",
        )
    entry, table = struct.unpack_from("<2I", head, 24)
    entry_size, count = struct.unpack_from("<2H", head, 42)
    if count == 0 or entry_size != 32:
        raise ImageError(
            "cannot use this multiboot kernel",
            expected="program headers of 32 bytes",
            seen=f"{count} of {entry_size} bytes",
            hint="an object file must be linked first: ld -m elf_i386 -T linker.ld -o kernel.elf",
        )
    if table + 32 * count > len(data):
        raise truncated("multiboot kernel", table + 32 * count, len(data))
    top, entered = 0, False
    for kind, offset, virtual, physical, in_file, in_memory, _flags, _align in struct.iter_unpack(
        "<8I", data[table : table + 32 * count]
    ):
        if kind != 1:  # PT_LOAD
            continue
        if in_file > in_memory or physical + in_memory > 1 << 32:
            raise ImageError(
                "this multiboot kernel has an impossible segment",
                expected="file size <= memory size, below 4 GiB",
                seen=f"{in_file:#x} bytes in {in_memory:#x} at {physical:#x}",
            )
        if in_file and offset + in_file > len(data):
            raise truncated("multiboot kernel", offset + in_file, len(data))
        top = max(top, physical + in_memory)
        entered = entered or virtual <= entry < virtual + in_memory or physical <= entry < physical + in_memory
    if not entered:
        raise ImageError(
            "this multiboot kernel starts outside its segments",
            expected="an entry point in a PT_LOAD segment",
            seen=f"{entry:#x}",
            hint="name the entry point: ENTRY(_start) in the linker script",
        )
    return top, entry
